"""The families of serializers, by name: how values become bytes.

==========  ==========================================================  ===========
``pickle``  any Python object                                           the default
``msgpack`` plain data, as MessagePack                                  needs msgspec
``json``    plain data, as JSON
``arrow``   plain data with arrays and tables inside                    needs both,
                                                                        pyarrow too
==========  ==========================================================  ===========

A client chooses one for its arguments, and the results of its tasks come back in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from covey.errors import UsageError
from covey.payload import Buffer
from covey.serde import values
from covey.serde.packing import LIMIT_BYTES, Packer

NAMES: Final = ("pickle", "msgpack", "json", "arrow")


class Format(Protocol):
    """One way of writing values.  Reading needs none: bytes say what they are."""

    name: str

    def dumps(self, value: Any, name: str = "value") -> list[Buffer]:
        """Return the frames of *value*.

        Raises:
            NotPicklable: it cannot be written; the message names the culprit.
        """
        ...

    def packer(self, limit_bytes: int = LIMIT_BYTES) -> Packer:
        """Return a packer for small values."""
        ...


class PickleFormat:
    """Pickle, with all that ``values`` knows."""

    name = "pickle"

    def dumps(self, value: Any, name: str = "value") -> list[Buffer]:
        """Return the frames of *value*."""
        return values.dumps(value, name)

    def packer(self, limit_bytes: int = LIMIT_BYTES) -> Packer:
        """Return a packer for small values."""
        return Packer(limit_bytes)


PICKLE: Final = PickleFormat()


class _Refusal(Packer):
    """Stands for the packer of a family that cannot be had here: refuses all values."""

    __slots__ = ("_error",)

    def __init__(self, error: UsageError) -> None:
        super().__init__()
        self._error = error

    def add_all(self, values: Sequence[Any], before: bytes = b"") -> int:
        """Add nothing: each value is looked at by itself."""
        del values, before
        return -1

    def add_numbers(self, numbers: Sequence[Any]) -> bool:
        """Add nothing, as well."""
        del numbers
        return False

    def add(self, value: Any, name: str = "value") -> list[Buffer] | None:
        """Refuse."""
        del value, name
        raise self._error.with_traceback(None)


def packer_of(name: str, limit_bytes: int) -> Packer:
    """Return a packer of the family *name*; one that refuses, if it cannot be had."""
    try:
        return format_named(name).packer(limit_bytes)
    except UsageError as error:
        return _Refusal(error)


def format_named(name: str) -> Format:
    """Return the family *name*.

    Raises:
        UsageError: there is no such family.
    """
    if name == "pickle":
        return PICKLE
    if name not in NAMES:
        raise UsageError(
            f"serializer= takes {', '.join(map(repr, NAMES))}, not {name!r}"
        )
    from covey.serde import plain

    return plain.format_named(name)
