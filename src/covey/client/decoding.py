"""From payloads that a client has fetched to values, and what stands for them."""

from __future__ import annotations

from typing import Any

from covey.client.core.ranges import Range
from covey.errors import TaskUnreadable
from covey.payload import Buffer
from covey.serde.mapped import open_value, value_of
from covey.serde.packing import loads_pack
from covey.serde.values import loads_inline, refuse_pickle


class Lazy:
    """A payload that was fetched and not looked at yet."""

    __slots__ = ("payload",)

    def __init__(self, payload: Buffer) -> None:
        self.payload = payload


class Unreadable:
    """Stands for a value that cannot be had."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _unreadable(key: str, error: BaseException) -> Unreadable:
    return Unreadable(
        TaskUnreadable(
            f"{key}: the task returned, but its value cannot be unpickled here: "
            f"{type(error).__name__}: {error}. Is everything that it is made of "
            f"importable in this process, in the same version?"
        )
    )


def decode(payload: Any, wish: Range, index: int, plain: bool) -> Any:
    """Return the value of *payload*, that of a task of a range, or ``Unreadable``."""
    try:
        if plain:
            refuse_pickle(payload)
        return loads_inline(payload)
    except Exception as error:
        return _unreadable(wish.key(index), error)


def attempt(place: str, size: int, plain: bool) -> Any:
    """Return the value in a segment, or ``Unreadable``.

    Raises:
        FileNotFoundError: it has moved since it was lent.
    """
    try:
        frames = open_value(place, size)
    except FileNotFoundError:
        raise
    except OSError as error:
        # None of its own code has run: what it is made of has no part in this.
        return Unreadable(
            TaskUnreadable(
                f"value: the task returned, but where its value lies it cannot be opened "
                f"by this process: {error.strerror or error}"
            )
        )
    except Exception as error:
        return _unreadable("value", error)
    try:
        return value_of(frames, plain=plain)
    except Exception as error:
        # Whatever it is: what its own code cannot find would not be there next time.
        return _unreadable("value", error)


def decode_all(wish: Range, plain: bool) -> list[Any] | None:
    """Decode a whole range, pack by pack; ``None`` if some of it was let go of meanwhile.

    Raises:
        TaskUnreadable: one of the values cannot be read here.
    """
    values: list[Any] = []
    for lo, pack in wish.packs():
        if lo != len(values):
            return None
        try:
            decoded = list(loads_pack(pack, plain=plain))
        except Exception:
            decoded = [
                decode(payload, wish, lo + i, plain) for i, payload in enumerate(pack)
            ]
            for value in decoded:
                if isinstance(value, Unreadable):
                    raise value.error from None
        values += decoded
    if len(values) < wish.n:
        return None
    # Who has asked for one before is given the same object again.
    for index, value in list(wish.values.items()):
        if not isinstance(value, Lazy | Unreadable):
            values[index] = value
    return values
