"""``record``: keep what happens on a cluster in a file, to be looked at later."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from covey import clock
from covey.client.current import get_client
from covey.client.engine import Engine
from covey.errors import CoveyError
from covey.recording import Writer
from covey.snapshots import PROFILE_SECONDS, Question, Snapshots

#: How long the last events are waited for when a recording is closed.
_LAST_SECONDS: Final = 2.0


class Recording:
    """A file that is being written, until it is closed or the client is.

    Attributes:
        path: where it is.
    """

    def __init__(self, engine: Engine, path: str | Path) -> None:
        self._engine = engine
        overview: dict[str, Any] = engine.call(engine.ask("overview"))
        self._writer = Writer(path)
        self._writer.head(clock.wall(), overview)
        #: By how much the scheduler's clock is ahead of ours.
        self._ahead: float = overview["now"] - clock.monotonic()
        self._snapshots = Snapshots(self._writer, self._now)
        self._next: int = overview["next"]
        #: The event that ends it, once it is to end.
        self._last: float = float("inf")
        self._closed = False
        self._work = engine.start(self._follow())
        self._looking = engine.start(self._look())

    @property
    def path(self) -> Path:
        """Where the recording is written."""
        return self._writer.path

    @property
    def _now(self) -> float:
        return clock.monotonic() + self._ahead

    async def _follow(self) -> None:
        while self._next < self._last:
            answer = await self._engine.ask("watch", number=self._next)
            first, n, dropped, data, now = answer
            self._writer.batch(first, n, dropped, data, now)
            self._next = first + n
            self._ahead = now - clock.monotonic()
            await self._ask(self._snapshots.failures(data))

    async def _look(self) -> None:
        """Ask now and then what no event tells."""
        while True:
            await self._ask(self._snapshots.due(self._now))
            await asyncio.sleep(PROFILE_SECONDS)

    async def _ask(self, questions: list[Question]) -> None:
        for question in questions:
            names = (question.key,) if question.key else ()
            answer = await self._engine.ask(
                question.topic, number=question.number, names=names
            )
            self._snapshots.answered(question, self._now, answer)

    def close(self) -> None:
        """Write what has happened until now, and close the file."""
        if self._closed:
            return
        self._closed = True
        try:
            self._engine.call(self._finish(), _LAST_SECONDS)
        except (CoveyError, TimeoutError, RuntimeError):
            pass  # The cluster is gone; what was written until then is there.
        self._writer.close()

    async def _finish(self) -> None:
        """Follow up to what has happened by now, then stop."""
        overview = await self._engine.ask("overview")
        self._last = overview["next"]
        if self._next < self._last and not self._work.done():
            await asyncio.wrap_future(self._work)
        self._work.cancel()
        self._looking.cancel()
        await self._ask(self._snapshots.last())
        self._snapshots.write_profile(self._now)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        self.close()


def record(path: str | Path, client: Any = None) -> Recording:
    """Write down what happens on a cluster, best in a ``with`` block.

    Look at it with ``covey dashboard --replay run.covey``, or make a page of it with
    ``covey report run.covey``.

    Args:
        path: the file to write; one that is there is replaced.
        client: whose cluster; the current client if none is given.

    Raises:
        UsageError: there is no client, or the file cannot be written.
    """
    chosen = get_client() if client is None else client
    return Recording(chosen.session.engine, path)
