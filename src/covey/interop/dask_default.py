"""Being dask's default scheduler, without importing dask.

dask asks its configuration first which scheduler to use.  While a default client
is alive, that setting is the client.  If dask is imported already, the setting
is made at once; if not, it is made at the moment dask has been imported: a
finder at the front of ``sys.meta_path`` waits for that one name.

The finder stays until dask has really been loaded: many a library only looks
whether dask is there (``importlib.util.find_spec``) and imports nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_clients: list[Any] = []
#: What a setting was, and what we made of it.
_ours: dict[str, tuple[Any, Any]] = {}
_MISSING = object()

_SCHEDULER = "scheduler"
#: Beside the scheduler itself: without dask.distributed, dask would shuffle data
#: frames over one machine's disk, which is wrong on two.
_SHUFFLE = "dataframe.shuffle.method"


class _WhenDaskComes(MetaPathFinder):
    """Notices the import of dask."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Let the others find dask, and do our part once it is loaded."""
        if fullname != "dask":
            return None
        for finder in list(sys.meta_path):
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(fullname, path, target) if find else None
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _ThenApply(spec.loader)
                return spec
        return None


class _ThenApply(Loader):
    """Loads a module as another loader does, then makes the setting."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Create the module as it would be."""
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, then become its default."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        _stop_waiting()
        _apply()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


_finder = _WhenDaskComes()


def _stop_waiting() -> None:
    try:
        sys.meta_path.remove(_finder)
    except ValueError:
        return  # It was not there, or another thread was faster.


def set_default(client: Any) -> None:
    """Make *client* dask's default scheduler, now or when dask is imported."""
    _clients.append(client)
    if "dask" in sys.modules:
        _apply()
    elif _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


def unset_default(client: Any) -> None:
    """*client* is closing: dask goes back to the one before, or to its own ways."""
    if client not in _clients:
        return
    _clients.remove(client)
    if not _clients:
        _stop_waiting()
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
