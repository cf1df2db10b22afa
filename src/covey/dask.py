"""``covey.dask``: run a dask graph on a cluster, as in 2015.

::

    from covey.dask import get

    get("host", 8786, dsk, "total")
"""

from __future__ import annotations

from typing import Any

from covey.errors import UsageError
from covey.interop import dask as _dask
from covey.interop.pool import client_at


def get(*where_and_what: Any, **options: Any) -> Any:
    """Run a graph and return the values of some of its keys.

    Called as ``get(host, port, dsk, keys)``, or as ``get(target, dsk, keys)`` with
    an address, a cluster or a client.

    Args:
        *where_and_what: see above; ``dsk`` is a dict or a dask expression, ``keys``
            one key or nested lists of keys.
        **options: of ``Client.submit``: ``priority``, ``retries``, ...

    Raises:
        UsageError: there are more or fewer arguments than that.
    """
    if len(where_and_what) == 4:
        host, port, dsk, keys = where_and_what
        target: Any = (host, port)
    elif len(where_and_what) == 3:
        target, dsk, keys = where_and_what
    else:
        raise UsageError(
            f"get takes (host, port, dsk, keys) or (target, dsk, keys), not "
            f"{len(where_and_what)} arguments"
        )
    return _dask.get(client_at(target), dsk, keys, **options)
