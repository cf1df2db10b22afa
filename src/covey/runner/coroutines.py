"""Async tasks of one thread, each run to its end."""

from __future__ import annotations

from functools import partial
from types import CoroutineType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio


class Rest(partial[Any]):
    """What is left to call of a task, returned by a coroutine in the midst of it.

    It is called when no event loop runs any more, as what follows is mostly no coroutine,
    and may use an event loop of its own.
    """


class Coroutines:
    """Runs coroutines on an event loop that stays from one to the next."""

    __slots__ = ("_runner",)

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None

    def run(self, coroutine: CoroutineType[Any, Any, Any]) -> Any:
        """Run one to its end, and what it leaves to be called.

        Raises:
            BaseException: what it raised.
        """
        value = self._wait(coroutine)
        while type(value) is Rest:
            value = value()
            if type(value) is CoroutineType:
                value = self._wait(value)
        return value

    def _wait(self, coroutine: CoroutineType[Any, Any, Any]) -> Any:
        """Return what a coroutine returns."""
        import asyncio

        if self._runner is None:
            self._runner = asyncio.Runner()
        try:
            return self._runner.run(coroutine)
        except Exception:
            raise
        except BaseException:
            # The event loop was left in the middle of something.
            self.close()
            raise

    def close(self) -> None:
        """Close the event loop, if there is one."""
        runner, self._runner = self._runner, None
        if runner is not None:
            runner.close()
