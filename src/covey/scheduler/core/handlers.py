"""A table of handlers, one for each message that a peer may send."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, get_args

from covey.scheduler.core.state import SchedulerState
from covey.wire.base import Message

P = TypeVar("P")
M = TypeVar("M", bound=Message)


class Handlers(Generic[P]):
    """Maps the type of a message to the function that handles it."""

    def __init__(self, more: Handlers[P] | None = None) -> None:
        #: What handles what.
        self.table: dict[type[Message], Callable[[SchedulerState, P, Any], None]] = (
            dict(more.table) if more is not None else {}
        )

    def add(
        self, *message_types: type[M]
    ) -> Callable[
        [Callable[[SchedulerState, P, M], None]],
        Callable[[SchedulerState, P, M], None],
    ]:
        """Register the decorated function for *message_types*."""

        def register(
            handler: Callable[[SchedulerState, P, M], None],
        ) -> Callable[[SchedulerState, P, M], None]:
            for message_type in message_types:
                self.table[message_type] = handler
            return handler

        return register

    def handle(self, state: SchedulerState, peer: P, message: Message) -> None:
        """Let the right function handle *message*."""
        self.table[type(message)](state, peer, message)

    def must_cover(self, union: Any) -> None:
        """Check, once and at import, that every arm of *union* has its handler."""
        assert set(self.table) == set(get_args(union)), set(self.table) ^ set(
            get_args(union)
        )
