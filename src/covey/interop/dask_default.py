"""Being dask's default scheduler, without importing dask.

dask asks its configuration first which scheduler to use.  While a default client
is alive, that setting is the client.  If dask is imported already, the setting
is made at once; if not, it is made at the moment dask has been imported: a
finder at the front of ``sys.meta_path`` waits for that one name and then goes.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_clients: list[Any] = []
_before: dict[str, Any] = {}
_MISSING = object()

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
        del path, target
        if fullname != "dask":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("dask")
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenApply(spec.loader)
        return spec


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
        self._loader.exec_module(module)
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        _apply()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


_finder = _WhenDaskComes()


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
    if not _clients and _finder in sys.meta_path:
        sys.meta_path.remove(_finder)
    if "dask" in sys.modules:
        _apply()


def _apply() -> None:
    """Bring dask's configuration into line with the clients that are alive."""
    from dask import config

    if _clients:
        for key in ("scheduler", _SHUFFLE):
            _before.setdefault(key, config.get(key, _MISSING))
        config.set({"scheduler": _clients[-1]})
        if _before[_SHUFFLE] in {None, _MISSING}:
            config.set({_SHUFFLE: "tasks"})
        return
    for key, value in _before.items():
        config.set({key: None if value is _MISSING else value})
    _before.clear()
