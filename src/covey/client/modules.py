"""The user's own modules, on their way to runners that do not have them.

Own is what is neither part of Python nor installed: a script's neighbours, a package
that is being developed.  When the bytes of a function or of arguments name such a module, its
files go along with the function, with all own modules that they import.

Files are read again when their time or size has changed.  Since a bundle is known by the hash
of its files, a function whose modules were edited becomes another function.
"""

from __future__ import annotations

import ast
import hashlib
import os
import site
import sys
import sysconfig
import zipfile
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final, NamedTuple

from covey import clock
from covey.errors import UsageError
from covey.serde import bundles

#: A package with more than this does not go along unless its user says so.
AUTO_BYTES_MAX: Final = 4 << 20
AUTO_FILES_MAX: Final = 500

#: Files are looked at again when so much time has passed.
FRESH_SECONDS: Final = 0.5

#: So long a package that was too large is taken to be so: it takes long to look at.
TOO_LARGE_SECONDS: Final = 30.0

#: For so many sets of names it is kept what they need.
_READY_MAX: Final = 256

#: What is never part of a package.
_SKIPPED: Final = frozenset({"__pycache__", ".git", ".venv", "node_modules"})


class Bundle(NamedTuple):
    """One top-level module or package, ready to go.

    Attributes:
        name: its name.
        digest: the hash of its files.
        data: its files.
        imports: the top-level modules that its files import.
    """

    name: str
    digest: str
    data: bytes
    imports: frozenset[str]


class OwnModules:
    """Knows which modules are the user's own, and makes bundles of them.

    Args:
        auto: whether modules go along without being asked for.
    """

    def __init__(self, *, auto: bool) -> None:
        self._auto = auto
        #: Whether there is nothing to look for, ever.
        self.idle = not auto
        self._forced: dict[str, Path] = {}
        self._cache: dict[tuple[str, Path], tuple[Any, Bundle]] = {}
        #: Until when packages are too large to go along unasked.
        self._too_large: dict[tuple[str, Path], float] = {}
        self._installed = installed_folders()
        self._own: dict[str, Path | None] = {}
        #: The own ones among them, with their names as they stand in bytes.
        self._marks: tuple[tuple[str, bytes], ...] = ()
        self._seen = 0
        self._checked: dict[tuple[str, Path], float] = {}
        #: Until when bundles are what those names need, by names.
        self._ready: dict[tuple[str, ...], tuple[float, tuple[Bundle, ...]]] = {}

    def add(self, what: ModuleType | str | os.PathLike[str]) -> None:
        """Let a module, package or file go along with every function from now on.

        Raises:
            UsageError: there is no Python code there.
        """
        if isinstance(what, ModuleType):
            place = place_of(what)
            name = what.__name__.partition(".")[0]
            if place is None:
                raise UsageError(f"the module {name} has no Python files to upload")
        else:
            place = Path(what).expanduser().absolute()
            name = place.stem if place.is_file() else place.name
            known = place.is_dir() or place.suffix in (".py", ".zip")
            if not place.exists() or not known:
                raise UsageError(
                    f"{place} is neither a package (a folder), nor a .py or .zip file"
                )
        for part in _names_in_zip(place) if place.suffix == ".zip" else (name,):
            self._forced[part] = place
            self.idle = False
            # Whoever says so has just changed it: its files are read again.
            self._checked.pop((part, place), None)
        self._ready.clear()

    def needed(self, *payloads: bytes) -> tuple[Bundle, ...]:
        """Return bundles of the own modules that these bytes name, and of their own."""
        waiting = list(self._forced)
        for payload in payloads:
            waiting += self.named_in(payload)
        if not waiting:
            return ()
        names = tuple(waiting)
        until, ready = self._ready.get(names, (0.0, ()))
        if clock.monotonic() < until:
            return ready
        found: dict[str, Bundle] = {}
        until = clock.monotonic() + FRESH_SECONDS
        while waiting:
            name = waiting.pop()
            place = self._forced.get(name) or self._own.get(name)
            if name in found or place is None:
                continue
            bundle = self._bundle(name, place, forced=name in self._forced)
            if bundle is not None:
                found[name] = bundle
                waiting += bundle.imports
                checked = self._checked.get((name, place), 0.0)
                until = min(until, checked + FRESH_SECONDS)
        if len(self._ready) >= _READY_MAX:
            self._ready.clear()
        ready = tuple(found[name] for name in sorted(found))
        self._ready[names] = until, ready
        return ready

    def named_in(self, payload: bytes) -> list[str]:
        """Return which own modules these bytes name, that go along for that."""
        if not self._auto:
            return []
        if len(sys.modules) != self._seen:
            seen = len(sys.modules)
            for name in [n for n in sys.modules if "." not in n]:
                if name not in self._own:
                    self._own[name] = self._look_at(name)
            own = [name for name, place in self._own.items() if place is not None]
            self._marks = tuple((name, name.encode()) for name in own)
            self._ready.clear()
            # Not before: another thread, or an interrupt, may come in between.
            self._seen = seen
        return [name for name, mark in self._marks if mark in payload]

    def _look_at(self, name: str) -> Path | None:
        if name in sys.stdlib_module_names or name in ("__main__", "covey"):
            return None
        module = sys.modules.get(name)
        place = place_of(module) if module is not None else None
        if place is None or any(place.is_relative_to(f) for f in self._installed):
            return None
        return place

    def _bundle(self, name: str, place: Path, *, forced: bool) -> Bundle | None:
        known = self._cache.get((name, place))
        now = clock.monotonic()
        if not forced and now < self._too_large.get((name, place), now):
            return None
        checked = self._checked.get((name, place))
        if known and checked is not None and now - checked < FRESH_SECONDS:
            return known[1]
        self._checked[name, place] = now
        files = _files_of(place)
        stats = [(path, path.stat()) for path in files]
        version = [(path, s.st_mtime_ns, s.st_size) for path, s in stats]
        if not forced and not _is_modest(files, sum(s.st_size for _, s in stats)):
            self._too_large[name, place] = clock.monotonic() + TOO_LARGE_SECONDS
            return None
        if known is not None and known[0] == version:
            return known[1]
        contents = _contents(name, place, files)
        data = bundles.pack(contents)
        digest = hashlib.blake2b(data, digest_size=16).hexdigest()
        bundles.packed_here(digest)
        bundle = Bundle(name, digest, data, _imports(contents) - {name})
        self._cache[name, place] = (version, bundle)
        return bundle


@lru_cache(maxsize=1)
def installed_folders() -> list[Path]:
    """Return where Python and what was installed for it lie."""
    paths = sysconfig.get_paths()
    folders = [paths["stdlib"], paths["platstdlib"], *site.getsitepackages()]
    folders.append(site.getusersitepackages())
    return [Path(folder).resolve() for folder in folders]


def place_of(module: ModuleType) -> Path | None:
    """Return the file, or the folder, of a top-level module."""
    top = sys.modules.get(module.__name__.partition(".")[0], module)
    file = getattr(top, "__file__", None)
    if file is None:
        # A folder without __init__.py: it has one place, or it is none of one's own.
        places = list(getattr(top, "__path__", ()))
        return Path(places[0]).resolve() if len(places) == 1 else None
    path = Path(file).resolve()
    if path.suffix != ".py" or not path.exists():
        return None
    return path.parent if path.name == "__init__.py" else path


def _files_of(place: Path) -> list[Path]:
    if place.is_file():
        return [place]
    return sorted(
        path
        for path in place.rglob("*")
        if path.is_file() and not _SKIPPED & set(path.relative_to(place).parts)
    )


def _is_modest(files: list[Path], nbytes: int) -> bool:
    """Say whether a package may go along unasked: small, and all of it Python."""
    return (
        nbytes <= AUTO_BYTES_MAX
        and len(files) <= AUTO_FILES_MAX
        and not any(path.suffix in (".so", ".pyd", ".dylib") for path in files)
    )


def _contents(name: str, place: Path, files: list[Path]) -> dict[str, bytes]:
    if place.suffix == ".zip":
        with zipfile.ZipFile(place) as archive:
            ours = [n for n in archive.namelist() if _top(n) == name and n[-1] != "/"]
            return {n: archive.read(n) for n in ours}
    return {p.relative_to(place.parent).as_posix(): p.read_bytes() for p in files}


def _names_in_zip(place: Path) -> set[str]:
    with zipfile.ZipFile(place) as archive:
        return {_top(name) for name in archive.namelist()}


def _top(name: str) -> str:
    return name.partition("/")[0].removesuffix(".py")


def _imports(contents: dict[str, bytes]) -> frozenset[str]:
    """Return the top-level modules that these files import, wherever they do."""
    found: set[str] = set()
    for path, data in contents.items():
        if not path.endswith(".py"):
            continue
        try:
            tree = ast.parse(data)
        except (SyntaxError, ValueError):
            continue  # Whoever imports it will be told.
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return frozenset(found)
