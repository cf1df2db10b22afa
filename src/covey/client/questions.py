"""What a client has asked its scheduler, and was not answered yet."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, Final

from covey.client.core.ranges import Wishes
from covey.errors import UsageError
from covey.wire.base import Message
from covey.wire.client_link import Answer, Ask

#: Who leaves waits so long for the scheduler to tell of what runners have told of.
SETTLE_SECONDS: Final = 0.1


class Questions:
    """Questions by number, and who waits for their answers.

    Used in the client's loop only.

    Args:
        post: sends a message to the scheduler.
        wishes: what was wished for.
        loop: the client's loop.
        look: called when news are waited for that no question asks for.

    Attributes:
        asked: what was not answered, by number.
        waiting: who asks when the scheduler has told of all that has ended.
    """

    def __init__(
        self,
        post: Callable[[Message], None],
        wishes: Wishes,
        loop: asyncio.AbstractEventLoop,
        look: Callable[[], None],
    ) -> None:
        self._look = look
        self._post = post
        self._wishes = wishes
        self._loop = loop
        self.waiting: list[asyncio.Future[None]] = []
        wishes.when_all_told = self._all_told
        self.asked: dict[int, Ask] = {}
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._last = 0

    async def ask(self, topic: str, **fields: Any) -> Any:
        """Ask, and return the answer.

        Raises:
            UsageError: the scheduler says why there is none.
        """
        await self._after_the_news()
        self._last += 1
        number = self._last
        answer = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        question = self.asked[number] = Ask(number, topic, **fields)
        self._post(question)
        try:
            return await answer
        finally:
            del self.asked[number]

    async def _after_the_news(self) -> None:
        """Wait until the scheduler has told of all that has ended.

        Who has a result in hand by an early word, and asks about its task, would be told
        how it stood before.
        """
        while self._wishes.untold:
            told = self._loop.create_future()
            self.waiting.append(told)
            self._look()
            # Another thread may have been told of the last one just now.
            if self._wishes.untold:
                await told

    async def settle(self) -> None:
        """Give the scheduler a moment to tell of what has ended: who leaves cancels."""
        if self._wishes.untold:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_SECONDS):
                    await self._after_the_news()

    def _all_told(self) -> None:
        """The scheduler has; any thread may call."""
        if self.waiting:
            with contextlib.suppress(RuntimeError):  # The loop has ended.
                self._loop.call_soon_threadsafe(self._go_on)

    def _go_on(self) -> None:
        waiting, self.waiting = self.waiting, []
        for told in waiting:
            if not told.done():
                told.set_result(None)

    def open(self) -> list[Message]:
        """Return the questions that are to be asked once more after a break."""
        return list(self.asked.values())

    def answered(self, message: Answer) -> None:
        """An answer has come, perhaps to somebody who waits no more."""
        answer = self._answers.pop(message.request, None)
        if answer is None or answer.done():
            return
        body = message.body
        if isinstance(body, dict) and body.keys() == {"error"}:
            answer.set_exception(UsageError(body["error"]))
        else:
            answer.set_result(body)

    def end(self, error: Exception) -> None:
        """No more answers come, and why; so all who wait are told."""
        answers = [each for each in self._answers.values() if not each.done()]
        self._answers.clear()
        for answer in answers:
            answer.set_exception(error)
        for told in self.waiting:
            if not told.done():
                told.set_exception(error)
        self.waiting.clear()
