"""How much of what is kept goes into one answer.

No message is longer than a frame may be: a client that asked for more than fits would be
taken for one that cannot be told what it wants to know.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar

import msgspec

#: What an answer may hold at most; well below the limit of a frame.
ANSWER_BYTES_MAX: Final = 4 << 20

T = TypeVar("T")

_encode: Final = msgspec.msgpack.Encoder().encode


def first_that_fit(events: Sequence[T]) -> Sequence[T]:
    """Return the first of *events* that fit into an answer: at least one, if any."""
    return events[: _how_many_fit(events)]


def last_that_fit(events: Sequence[T]) -> Sequence[T]:
    """Return the last of *events* that fit into an answer: at least one, if any."""
    return events[len(events) - _how_many_fit(reversed(events)) :]


def _how_many_fit(events: Iterable[Any]) -> int:
    n = size = 0
    for event in events:
        size += len(_encode(event))
        if n and size > ANSWER_BYTES_MAX:
            break
        n += 1
    return n


def whole_or_why_not(body: Any) -> Any:
    """Return *body*, if it fits into an answer; otherwise an answer that says so."""
    size = len(_encode(body))
    if size <= ANSWER_BYTES_MAX:
        return body
    return {
        "error": f"the answer would have {size:,} bytes, where {ANSWER_BYTES_MAX:,} fit "
        "into a message; ask for less at a time"
    }
