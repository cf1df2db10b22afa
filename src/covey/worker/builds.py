"""Building an environment: one installer after the other, in a folder, under a lock.

Whoever waits for a build may leave, and then what was begun ends with it: an
installer is a process group of its own, and is killed as one::

    lock ──► folder is complete? ──► done
       └───► venv ──► install ──► mark as complete
                └─────────┴── cancelled, too slow: the group is killed

A folder without its mark was left by somebody who did not get so far, and is made
anew.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import subprocess
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from covey import clock
from covey.errors import UsageError
from covey.net.scheme import is_join_string
from covey.worker.interpreters import Interpreter

#: How much of what an installer wrote is passed on.
_LINES_TOLD: Final = 15

#: Installing may take long; beyond this it hangs.
_BUILD_SECONDS: Final = 1800.0

#: How often it is looked whether another process has built what we want.
_LOCK_SECONDS: Final = 0.2

_COMPLETE: Final = "covey-complete"


async def build(
    folder: Path, python: Interpreter, requirements: str, tell: Callable[[str], None]
) -> None:
    """Build the environment in *folder*, unless it is there.

    Args:
        folder: where to; its parent is this user's alone.
        python: what the environment is made with.
        requirements: the lines of a requirements file.
        tell: takes a line when a build begins, and when it ends.

    Raises:
        UsageError: an installer failed; with its own last words.
        OSError: the folder cannot be written.
    """
    import shutil  # Seldom needed, and a start would wait for it.

    async with _lock(folder.parent / f"{folder.name}.lock"):
        if (folder / _COMPLETE).exists():
            return
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        begun = clock.monotonic()
        tell(f"building an environment of Python {python.version}: {folder}")
        listed = folder.parent / f"{folder.name}.txt"
        listed.write_text(requirements)
        for command in _commands(folder, python.executable, listed):
            await run(command)
        (folder / _COMPLETE).touch()
        tell(f"built in {clock.monotonic() - begun:.0f} s: {folder}")


@asynccontextmanager
async def _lock(path: Path) -> AsyncIterator[None]:
    """Hold the lock on *path*.

    A thread that waits in ``flock`` could not be told to stop, so it is looked at
    now and then.
    """
    with path.open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(_LOCK_SECONDS)
        yield


def _commands(folder: Path, python: str, listed: Path) -> list[list[str]]:
    """Return what builds an environment: with uv where it is, with pip elsewhere."""
    import shutil  # As above.

    uv = shutil.which("uv")
    inside = str(folder / "bin" / "python")
    if uv is not None:
        return [
            [uv, "venv", "--python", python, str(folder)],
            [uv, "pip", "install", "--python", inside, "--requirement", str(listed)],
        ]
    pip = [inside, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    return [
        [python, "-m", "venv", str(folder)],
        [*pip, "install", "--requirement", str(listed)],
    ]


async def run(command: list[str]) -> None:
    """Run one step of a build; whoever is cancelled here has it killed.

    Raises:
        UsageError: it failed; with its own last words.
    """
    clean = {
        name: value
        for name, value in os.environ.items()
        # What a package does while it is built is not ours to know: no secrets.
        if name not in ("PYTHONPATH", "PYTHONHOME") and not is_join_string(value)
    }
    try:
        process = await _start(command, clean)
    except OSError as error:
        raise UsageError(
            f"{command[0]} could not build an environment: {error}"
        ) from None
    try:
        async with asyncio.timeout(_BUILD_SECONDS):
            said, _ = await process.communicate()
    except TimeoutError:
        raise UsageError(
            f"{command[0]} has not built an environment within {_BUILD_SECONDS:g} s"
        ) from None
    finally:
        await _end(process)
    if process.returncode:
        lines = said.decode(errors="replace").strip().splitlines()
        told = "\n  ".join(lines[-_LINES_TOLD:])
        raise UsageError(
            f"the environment that was asked for could not be built; {command[0]} says:\n"
            f"  {told}"
        )


async def _start(command: list[str], environment: dict[str, str]) -> Process:
    """Start a command in a group of its own.

    Raises:
        OSError: it cannot be started.
    """
    starting = asyncio.ensure_future(
        asyncio.create_subprocess_exec(
            *command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    )
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        # It may be at work already.
        await _end(await starting)
        raise


async def _end(process: Process) -> None:
    """Kill a command that has not ended, with all that it has started."""
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
