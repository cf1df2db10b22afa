"""Async tasks of one thread, each run to its end."""

from __future__ import annotations

from types import CoroutineType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio


class Coroutines:
    """Runs coroutines on an event loop that stays from one to the next."""

    __slots__ = ("_runner",)

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None

    def run(self, coroutine: CoroutineType[Any, Any, Any]) -> Any:
        """Run one to its end.

        Raises:
            BaseException: what it raised.
        """
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
