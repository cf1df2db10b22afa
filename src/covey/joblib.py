"""``covey.joblib``: ``joblib`` and whatever rests on it, on a cluster.

::

    import covey.joblib
    import joblib

    with joblib.parallel_config("covey"):
        joblib.Parallel()(joblib.delayed(f)(x) for x in data)

``parallel_config("covey", client=client, priority=1)`` names the client, and options of
its ``submit``.  Without a client the default one is used, and if there is none, a
cluster of this machine's cores is started.
"""

from __future__ import annotations

from covey.interop.joblib import CoveyBackend, register

__all__ = ["CoveyBackend", "register"]

register()
