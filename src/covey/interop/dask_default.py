"""Being dask's default scheduler, or one that may be chosen, without importing dask.

dask asks its configuration first which scheduler to use.  While a default client
is alive, that setting is the client.  If dask is imported already, the setting
is made at once; if not, it is made at the moment dask has been imported
(``on_import``).

While any client is open, default or not, the functions of dask and xarray that choose by the
scheduler ask whether that is a client of covey.
"""

from __future__ import annotations

import sys
from typing import Any

from covey.interop import exchanges, held_futures, write_locks
from covey.interop.on_import import OnImport

_open: list[Any] = []
#: Those that became the default, the newest last.
_clients: list[Any] = []
#: What a setting was, and what we made of it.
_ours: dict[str, tuple[Any, Any]] = {}
_MISSING = object()

_SCHEDULER = "scheduler"
#: Beside the scheduler itself: without dask.distributed, dask would shuffle data
#: frames over one machine's disk, which is wrong on two.
_SHUFFLE = "dataframe.shuffle.method"


def begin(client: Any) -> None:
    """*client* has been opened: somebody may choose it as dask's scheduler."""
    _open.append(client)
    write_locks.begin()
    exchanges.begin()
    held_futures.begin()


def end(client: Any) -> None:
    """*client* is closing."""
    if client not in _open:
        return
    _open.remove(client)
    if not _open:
        write_locks.end()
        exchanges.end()
        held_futures.end()


def set_default(client: Any) -> None:
    """Make *client* dask's default scheduler, now or when dask is imported."""
    _clients.append(client)
    _finder.begin()


def unset_default(client: Any) -> None:
    """*client* is closing: dask goes back to the one before, or to its own ways."""
    if client not in _clients:
        return
    _clients.remove(client)
    if not _clients:
        _finder.end()
    if "dask" in sys.modules:
        _apply()


def _apply() -> None:
    """Bring dask's configuration into line with the clients that are alive."""
    _put(_SCHEDULER, _clients[-1] if _clients else _MISSING)
    _put(_SHUFFLE, "tasks" if _clients else _MISSING, if_unset=True)


def _put(key: str, wanted: Any, *, if_unset: bool = False) -> None:
    """Make a setting ours, or (without *wanted*) what it would be without us."""
    from dask import config

    now = config.get(key, _MISSING)
    if key in _ours:
        before, ours = _ours.pop(key)
        if now is ours or now == ours:
            now = before
        elif wanted is _MISSING:
            return  # Somebody has chosen something else since: not ours to undo.
    elif wanted is _MISSING:
        return
    if wanted is _MISSING or (if_unset and now is not _MISSING and now is not None):
        config.set({key: None if now is _MISSING else now})
        return
    _ours[key] = (now, wanted)
    config.set({key: wanted})


_finder = OnImport("dask", _apply)
