"""What a client has asked its scheduler, and was not answered yet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from covey.errors import UsageError
from covey.wire.base import Message
from covey.wire.client_link import Answer, Ask


class Questions:
    """Questions by number, and who waits for their answers.

    Used in the client's loop only.

    Args:
        post: sends a message to the scheduler.
    """

    def __init__(self, post: Callable[[Message], None]) -> None:
        self._post = post
        self._asked: dict[int, Ask] = {}
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._last = 0

    async def ask(self, topic: str, **fields: Any) -> Any:
        """Ask, and return the answer.

        Raises:
            UsageError: the scheduler says why there is none.
        """
        self._last += 1
        number = self._last
        answer = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        question = self._asked[number] = Ask(number, topic, **fields)
        self._post(question)
        try:
            return await answer
        finally:
            del self._asked[number]

    def open(self) -> list[Message]:
        """Return the questions that are to be asked once more after a break."""
        return list(self._asked.values())

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
