"""The Pythons that runners may be started with.

A runner speaks to its agent in JSON over sockets, so it may be of any version from
3.11 on.  What it needs of ours is pure Python: the package itself, and
cloudpickle.  Another interpreter than the agent's finds the two through links in a folder of
their own, and nothing else that is installed for the agent::

    agent: 3.11                                 runner: 3.13
    site-packages/  numpy  msgspec              its own site-packages
                    covey  cloudpickle ◄─────── links/  covey  cloudpickle
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

from covey import plugins
from covey.errors import UsageError
from covey.worker import launching

#: The oldest Python that a runner can have.
OLDEST: Final = (3, 11)

#: So far it is looked for newer ones.
_NEWEST: Final = 20

#: An interpreter that does not tell its version within this time is none.
_PROBE_SECONDS: Final = 30.0

_PROBE: Final = """\
import json, platform, sys
import covey.runner.loop
from covey.plugins import serializers
print(json.dumps([platform.python_version(), sys.executable, serializers()]))
"""


class Interpreter(NamedTuple):
    """A Python for runners.

    Attributes:
        executable: the program.
        version: such as ``3.12.1``.
        path: the folder where it finds covey.
        own: whether it is the one that the agent itself runs in.
        serializers: what packages that are installed for it offer.
    """

    executable: str
    version: str
    path: str
    own: bool = False
    serializers: tuple[str, ...] = ()

    def environment(self, setup: dict[str, Any]) -> dict[str, str]:
        """Return the environment of a runner: ours, without secrets."""
        return launching.environment(self.path, setup, own=self.own)

    def setup(self, setup: dict[str, Any]) -> dict[str, Any]:
        """Return what a runner is told first, without paths that are not for it."""
        paths = setup.get("sys_path") or ()
        if not self.own:
            paths = [path for path in paths if not _is_ours(path)]
        return {**setup, "sys_path": paths, "serializers": self.serializers}


def own() -> Interpreter:
    """Return the interpreter that this process runs in."""
    path = launching.package_path()
    version = ".".join(map(str, sys.version_info[:3]))
    offered = plugins.serializers()
    return Interpreter(sys.executable, version, path, own=True, serializers=offered)


def _is_ours(entry: str) -> bool:
    """Say whether a folder holds what was installed for one Python only."""
    path = Path(entry)
    if {"site-packages", "dist-packages"} & set(path.parts):
        return True
    known = sysconfig.get_paths()
    own_folders = {known[name] for name in ("stdlib", "platstdlib")}
    return path.suffix == ".zip" or any(
        path.is_relative_to(folder) for folder in own_folders
    )


def link_folder(folder: Path) -> Path:
    """Make *folder* the place where other interpreters find covey; return it."""
    folder.mkdir(mode=0o700, exist_ok=True)
    places = {"covey": Path(__file__).parent.parent}
    spec = find_spec("cloudpickle")
    if spec is not None and spec.submodule_search_locations:
        places["cloudpickle"] = Path(spec.submodule_search_locations[0])
    for name, place in places.items():
        link = folder / name
        if not link.is_symlink():
            link.symlink_to(place, target_is_directory=True)
    return folder


def _is_own(executable: str) -> bool:
    if executable == sys.executable:
        return True
    import shutil  # Seldom needed, and a start would wait for it.

    found = shutil.which(executable) or executable
    # Not resolved: the same program in another environment is another interpreter.
    return os.path.abspath(found) == os.path.abspath(sys.executable)  # noqa: PTH100


def minor_of(version: str) -> str:
    """Return ``3.12`` of ``3.12.1``."""
    return ".".join(version.split(".")[:2])


def candidates(minor: str, named: Sequence[str] = ()) -> Iterator[str]:
    """Yield programs that may be Python *minor* (``3.12``), the likeliest first.

    Looked for among those *named*, this one, ``$PATH``, and what pyenv and uv have
    installed for this user.
    """
    yield from named
    if ".".join(map(str, sys.version_info[:2])) == minor:
        yield sys.executable
    import shutil  # As above.

    found = shutil.which(f"python{minor}")
    if found is not None:
        yield found
    home = Path.home()
    pyenv = Path(os.environ.get("PYENV_ROOT") or home / ".pyenv")
    uv = Path(
        os.environ.get("UV_PYTHON_INSTALL_DIR")
        or Path(os.environ.get("XDG_DATA_HOME") or home / ".local/share") / "uv/python"
    )
    for folder, pattern in ((pyenv / "versions", minor), (uv, f"cpython-{minor}")):
        for place in sorted(folder.glob(f"{pattern}.*"), reverse=True):
            program = place / "bin" / f"python{minor}"
            if program.exists():
                yield str(program)


def minors() -> list[str]:
    """Return the minor versions (``3.12``) that runners may have on this machine.

    A program of that name is taken for one; whether it starts is seen when it is
    asked for.
    """
    known = (f"{OLDEST[0]}.{minor}" for minor in range(OLDEST[1], _NEWEST))
    return [minor for minor in known if next(candidates(minor), None) is not None]


async def find(wanted: str, links: Path, named: Sequence[str] = ()) -> Interpreter:
    """Return an interpreter of version *wanted*: ``3.12``, or exactly ``3.12.1``.

    Raises:
        UsageError: there is none on this machine; tells where it was looked for.
    """
    minor = minor_of(wanted)
    tried = []
    for program in dict.fromkeys(candidates(minor, named)):
        try:
            found = await probe(program, links)
        except UsageError as error:
            tried.append(str(error))
            continue
        if found.version == wanted or found.version.startswith(wanted + "."):
            return found
        tried.append(f"{program} is Python {found.version}")
    raise UsageError(
        f"there is no Python {wanted} for runners on this machine: it is neither on "
        f"$PATH nor among those of pyenv and uv, and `covey worker --python` names "
        f"none{''.join(f'; {text}' for text in tried)}"
    )


async def probe(executable: str, links: Path) -> Interpreter:
    """Find out what an interpreter is, and whether a runner starts in it.

    Args:
        executable: a path, or the name of a program.
        links: the folder that ``link_folder`` made.

    Raises:
        UsageError: it is no Python, too old, or cannot import the runner.
    """
    if _is_own(executable):
        return own()
    interpreter = Interpreter(executable, "", str(links))
    try:
        process = await asyncio.create_subprocess_exec(
            executable,
            "-c",
            _PROBE,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=interpreter.environment({}),
        )
    except OSError as error:
        raise UsageError(f"{executable} cannot be started: {error}") from None
    try:
        out, err = await asyncio.wait_for(process.communicate(), _PROBE_SECONDS)
    except TimeoutError:
        raise UsageError(
            f"{executable} has not told its version within {_PROBE_SECONDS:g} s"
        ) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        version, executable, offered = json.loads(out.splitlines()[-1])
    except (ValueError, IndexError):
        last = err.decode(errors="replace").strip().splitlines()[-1:] or [
            "it is silent"
        ]
        raise UsageError(
            f"a runner cannot start in {executable}: {last[0]}. Runners need Python "
            f"{OLDEST[0]}.{OLDEST[1]} or later"
        ) from None
    return Interpreter(executable, version, str(links), serializers=tuple(offered))
