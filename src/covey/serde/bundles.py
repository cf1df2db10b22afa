"""Modules that came along with a function, because its author's machine alone has them.

A *bundle* is one top-level module or package: its files, compressed, under the hash
of them.  It is imported from memory; nothing is written to disk, and so nothing is
left behind by a runner that is killed::

    head: {"modules": [["helpers", digest, size]]} | bundle | function

The bundle of the function that was loaded last decides what ``import helpers`` gives.
When its author has changed the code, the hash is another one: the modules are
imported anew, and functions that were loaded before keep what they have.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import sys
import threading
import zlib
from collections.abc import Collection, Sequence
from types import ModuleType
from typing import Any, Final

_PLACE: Final = "<sent with a task>"

_lock: Final = threading.RLock()


def pack(files: dict[str, bytes]) -> bytes:
    """Return the files of a bundle, by their path, as bytes."""
    texts = {path: data.decode("latin-1") for path, data in sorted(files.items())}
    return zlib.compress(json.dumps(texts).encode(), 6)


def unpack(data: bytes) -> dict[str, bytes]:
    """Return the files of a bundle."""
    texts: dict[str, str] = json.loads(zlib.decompress(data))
    return {path: text.encode("latin-1") for path, text in texts.items()}


class _Loader(importlib.abc.InspectLoader):
    """Loads one module of a bundle."""

    def __init__(self, files: dict[str, bytes], path: str) -> None:
        self._files = files
        self._path = path

    def get_source(self, fullname: str) -> str:
        """Return the text of a module; tracebacks ask for it, too."""
        import importlib.util

        del fullname
        return importlib.util.decode_source(self._files.get(self._path, b""))

    def get_code(self, fullname: str) -> Any:
        """Compile the text of a module."""
        return compile(
            self.get_source(fullname), self.get_filename(fullname), "exec", 0, True
        )

    def is_package(self, fullname: str) -> bool:
        """Say whether the module has others inside."""
        del fullname
        return self._path.endswith("__init__.py")

    def get_filename(self, fullname: str) -> str:
        """Return where the module says that it is."""
        del fullname
        return f"{_PLACE}/{self._path}"

    def get_data(self, path: str) -> bytes:
        """Return a file of the bundle, for ``pkgutil.get_data``."""
        try:
            return self._files[path.removeprefix(_PLACE + "/")]
        except KeyError:
            raise OSError(f"{path} did not come along with the task") from None


class _Finder(importlib.abc.MetaPathFinder):
    """Finds modules in the bundles that were installed last."""

    def __init__(self) -> None:
        #: By the name of the top-level module: digest and files.
        self.installed: dict[str, tuple[str, dict[str, bytes]]] = {}

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> importlib.machinery.ModuleSpec | None:
        """Return where a module is, if it came in a bundle."""
        del path, target
        found = self.installed.get(fullname.partition(".")[0])
        if found is None:
            return None
        files = found[1]
        base = fullname.replace(".", "/")
        for place in (f"{base}/__init__.py", f"{base}.py"):
            if place in files:
                package = place.endswith("__init__.py")
                return self._spec(fullname, _Loader(files, place), place, package)
        if any(name.startswith(base + "/") for name in files):
            return self._spec(fullname, None, base, True)
        return None

    def _spec(
        self, name: str, loader: _Loader | None, place: str, package: bool
    ) -> importlib.machinery.ModuleSpec:
        origin = f"{_PLACE}/{place}"
        spec = importlib.machinery.ModuleSpec(
            name, loader, origin=origin, is_package=package
        )
        spec.has_location = loader is not None
        if package:
            spec.submodule_search_locations = [origin.removesuffix("/__init__.py")]
        return spec


_finder: Final = _Finder()

#: What this process has packed itself: its own modules are the originals.
_packed_here: Final[set[str]] = set()


def packed_here(digest: str) -> None:
    """Say that the files of a bundle were read by this process, as its own modules."""
    _packed_here.add(digest)


def install(found: Sequence[tuple[str, str, bytes]]) -> None:
    """Let ``import`` find the bundles of one function from now on.

    A runner that is a thread of its client's process has the originals already.
    Importing them anew would give their classes and functions a second time.

    Args:
        found: name, digest and bytes (what ``pack`` returned) of each.
    """
    with _lock:
        found = [bundle for bundle in found if not _is_original(bundle[0], bundle[1])]
        fresh = [b for b in found if _finder.installed.get(b[0], ("",))[0] != b[1]]
        if not fresh:
            return
        for name, digest, data in fresh:
            _finder.installed[name] = (digest, unpack(data))
        if _finder not in sys.meta_path:
            sys.meta_path.insert(0, _finder)
        # The others may hold what the changed ones had before.
        _drop({name for name, _, _ in found})


def forget(names: Collection[str]) -> None:
    """Have these modules imported anew, from where they lie if they do."""
    with _lock:
        for name in names:
            _finder.installed.pop(name, None)
        _drop(names)


def _drop(tops: Collection[str]) -> None:
    for module in list(sys.modules):
        if module.partition(".")[0] in tops:
            sys.modules.pop(module, None)


def _is_original(name: str, digest: str) -> bool:
    """Say whether a module is here already, as that of which the bundle was made."""
    return (
        digest in _packed_here and name in sys.modules and name not in _finder.installed
    )
