"""Doing something right after another library's module has been imported.

A finder at the front of ``sys.meta_path`` waits for one name, lets the others find the
module, and goes on once it has been loaded.  Looking whether a library is there
(``importlib.util.find_spec``), as many do, imports nothing and changes nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class OnImport(MetaPathFinder):
    """Calls something when a module is imported, or at once if it is there already.

    Args:
        name: of the module.
        then: is called once the module has run, before whoever imports it goes on.
    """

    def __init__(self, name: str, then: Callable[[], None]) -> None:
        self._name = name
        self._then = then

    def begin(self) -> None:
        """Wait for the module from now on; if it has been imported, it is time now."""
        if self._name in sys.modules:
            self._then()
        elif self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def end(self) -> None:
        """Wait no longer."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Let the others find the module, and do our part once it is loaded."""
        if fullname != self._name:
            return None
        for finder in list(sys.meta_path):
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(fullname, path, target) if find else None
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _ThenGoOn(spec.loader, self._loaded)
                return spec
        return None

    def _loaded(self) -> None:
        self.end()
        self._then()


class _ThenGoOn(Loader):
    """Loads a module as another loader does, and goes on from there."""

    def __init__(self, loader: Any, then: Callable[[], None]) -> None:
        self._loader = loader
        self._then = then

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Create the module as it would be."""
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, then do what was waiting for it."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._then()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
