"""The keywords of ``compute``, ``persist`` and ``get``: ours, others', and slips.

dask hands a scheduler whatever keywords it does not know itself, and libraries give some
that are meant for another scheduler, or for nobody (xarray's ``flush=``).  So what is
nearly one of ours is refused, for it is a slip and would be lost; what dask's own
schedulers and ``distributed`` take is passed over in silence; of anything else it is
said that it means nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Final

from covey.client.options import ANNOTATIONS
from covey.client.warn import warn
from covey.errors import UsageError

#: Those that ``compute`` may give.
OPTIONS: Final = ANNOTATIONS | {"timeout"}

#: Those of dask's own ``compute``, and of ours.
_OF_COMPUTE: Final = frozenset({"optimize_graph", "traverse", "sync"})

#: What the client of ``distributed`` takes besides, and xarray gives.
_OF_OTHERS: Final = frozenset(
    {"actors", "asynchronous", "direct", "fifo_timeout", "flush"}
)


def check_keywords(keywords: Iterable[str]) -> None:
    """See to it that no keyword is lost that was meant for us.

    Raises:
        UsageError: one is nearly the name of an option; says of which.
    """
    unknown = set(keywords) - OPTIONS - _OF_COMPUTE - _OF_OTHERS
    if not unknown:
        return
    for name in sorted(unknown - _of_schedulers()):
        import difflib

        near = difflib.get_close_matches(name, sorted(OPTIONS | _OF_COMPUTE), 1)
        if near:
            raise UsageError(
                f"{name}= is no keyword of compute, persist or get: did you mean "
                f"{near[0]}=?"
            )
        warn(
            f"{name}= means nothing to covey and is ignored: compute, persist and get "
            f"take {', '.join(sorted(OPTIONS))}"
        )


def _of_schedulers() -> set[str]:
    """Return what dask's own schedulers take: scripts are tried with them."""
    from dask import local, multiprocessing, threaded

    names: set[str] = set()
    for get in (local.get_async, multiprocessing.get, threaded.get):
        names.update(inspect.signature(get).parameters)
    return names
