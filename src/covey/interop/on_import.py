"""Doing something right after another library's module has been imported.

A finder at the front of ``sys.meta_path`` waits for one name, lets the others find the
module, and goes on once it has been loaded.  Looking whether a library is there
(``importlib.util.find_spec``), as many do, imports nothing and changes nothing.

What is done then is mostly to be asked before one of its functions (``put_in_front``),
where dask would run tasks on a client of covey (``scheduling_client``).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import wraps
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import FunctionType, ModuleType
from typing import Any

from covey.client.base import BaseClient


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


def put_in_front(
    package: str, name: str, ours: Callable[[Any], Any], home: str = ""
) -> None:
    """Put ours in front of a function, wherever *package* has imported it by name.

    Args:
        package: whose modules are looked through, as far as they are imported.
        name: of the function.
        ours: returns what is to be called instead of the function it is given.
        home: the module that defines it, if another one has a function of that name.
    """
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").partition(".")[0] != package:
            continue
        theirs = vars(module).get(name)
        if home and getattr(theirs, "__module__", home) != home:
            continue
        if type(theirs) is FunctionType and not hasattr(theirs, "__wrapped__"):
            setattr(module, name, wraps(theirs)(ours(theirs)))


def scheduling_client(**chosen: Any) -> BaseClient | None:
    """Return the client that dask would run tasks on, if it is one of covey's.

    Args:
        **chosen: what dask's ``get_scheduler`` takes, such as ``scheduler=``.
    """
    from dask.base import get_scheduler

    owner = getattr(get_scheduler(**chosen), "__self__", None)
    return owner if isinstance(owner, BaseClient) else None
