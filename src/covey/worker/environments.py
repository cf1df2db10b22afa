"""Environments that clients ask for: a version of Python, and packages.

What is asked for is plain data, and the hash of it names a folder in the user's cache, so
that one is built once, however many runners, workers and clients want it::

    {"python": "3.13", "packages": ["numpy>=2"]}
        ──► find Python 3.13, make an environment, install   (uv, or venv and pip)
        ──► ~/.cache/covey/environments/<hash>/bin/python

The folder is this user's alone.  How it is filled is the subject of ``builds``.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from covey import clock
from covey.errors import UsageError
from covey.worker import builds, interpreters
from covey.worker.interpreters import Interpreter

#: What could not be built is tried again after this time.
_RETRY_SECONDS: Final = 30.0


class Environments:
    """Finds and builds environments for the runners of one worker.

    Args:
        directory: a private folder of this process; ``None`` if none are offered.
        usual: the interpreter for tasks that ask for nothing; ours, by default.
        named: Pythons that ``covey worker --python`` named.
        tell: takes a line about a build that takes a while.
        named_minors: the versions of these.
    """

    def __init__(
        self,
        directory: Path | None = None,
        usual: Interpreter | None = None,
        named: Sequence[str] = (),
        tell: Callable[[str], None] = lambda _: None,
        named_minors: Iterable[str] = (),
    ) -> None:
        self.usual = usual or interpreters.own()
        self._directory = directory
        self._named = tuple(named)
        self._named_minors = tuple(named_minors)
        self._tell = tell
        self._found: dict[str, asyncio.Future[Interpreter]] = {}
        self._failed: dict[str, float] = {}

    def pythons(self) -> tuple[str, ...]:
        """Return the minor versions of Python that runners can have here."""
        found = {interpreters.minor_of(self.usual.version), *self._named_minors}
        if self._directory is not None:
            found.update(interpreters.minors())
        return tuple(sorted(found))

    async def prepare(self, wanted: str) -> Interpreter:
        """Return an interpreter as *wanted*, building its environment if need be.

        Args:
            wanted: what a client asked for; empty for the usual one.

        Raises:
            UsageError: it cannot be had here; tells what the installer said.
        """
        if not wanted:
            return self.usual
        known = self._found.get(wanted)
        failed_at = self._failed.get(wanted)
        if failed_at is not None and clock.monotonic() - failed_at > _RETRY_SECONDS:
            known = None
        if known is None:
            self._failed.pop(wanted, None)
            known = asyncio.ensure_future(self._try_to(wanted))
            self._found[wanted] = known
        try:
            # Several runners wait for the same one.
            return await asyncio.shield(known)
        except UsageError:
            self._failed.setdefault(wanted, clock.monotonic())
            raise

    def forget(self, wanted: str) -> None:
        """Prepare it again when it is next asked for: what was built is broken."""
        if wanted not in self._failed:
            self._found.pop(wanted, None)

    async def close(self) -> None:
        """End what is being looked for or built: nobody waits for it any more."""
        found = list(self._found.values())
        for one in found:
            one.cancel()
        await asyncio.gather(*found, return_exceptions=True)

    async def _try_to(self, wanted: str) -> Interpreter:
        try:
            return await self._prepare(wanted)
        except OSError as error:
            raise UsageError(
                f"the environment that was asked for could not be built: {error}"
            ) from None

    def _links(self) -> Path:
        if self._directory is None:
            raise UsageError(
                "this worker has its runners in threads of its own process, and they "
                "can have no other Python or environment"
            )
        return interpreters.link_folder(self._directory / "python")

    async def _prepare(self, wanted: str) -> Interpreter:
        spec = _parse(wanted)
        version, python = spec["python"], self.usual
        if version and not f"{python.version}.".startswith(version + "."):
            python = await interpreters.find(version, self._links(), self._named)
        if not spec["requirements"]:
            return python
        text = json.dumps([python.version, python.executable, spec["requirements"]])
        name = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        folder = cache_folder() / name
        await builds.build(folder, python, spec["requirements"], self._tell)
        return await interpreters.probe(str(folder / "bin" / "python"), self._links())


async def from_plan(directory: Path, named: Sequence[str]) -> Environments:
    """Return what a worker has whose user named these Pythons.

    Raises:
        UsageError: one of them cannot run any.
    """
    found = []
    if named:
        links = interpreters.link_folder(directory / "python")
        found = [await interpreters.probe(program, links) for program in named]
    minors = [interpreters.minor_of(python.version) for python in found]
    usual = found[0] if found else None
    return Environments(directory, usual, named, on_stderr, minors)


def _parse(wanted: str) -> dict[str, str]:
    """Read what a client asked for.

    Raises:
        UsageError: it is no such thing.
    """
    try:
        spec: Any = json.loads(wanted)
        python, requirements = spec.get("python", ""), spec.get("requirements", "")
    except (ValueError, AttributeError):
        python = requirements = None
    # It becomes part of paths: nothing but a version may.
    fine = isinstance(python, str) and re.fullmatch(r"(\d+\.\d+(\.\d+)?)?", python)
    if not fine or not isinstance(requirements, str):
        raise UsageError(f"a client asked for an environment in no known way: {wanted}")
    return {"python": python, "requirements": requirements}


def cache_folder() -> Path:
    """Return where environments are kept, private to this user."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "covey" / "environments"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.lstat().st_uid != os.getuid():
        # Somebody else could put programs there, which we would start.
        raise PermissionError(f"{folder} belongs to another user")
    folder.chmod(0o700)
    return folder


def on_stderr(text: str) -> None:
    """Tell the people who look at a worker's standard error."""
    print(f"covey: {text}", file=sys.stderr, flush=True)  # noqa: T201  # as it says
