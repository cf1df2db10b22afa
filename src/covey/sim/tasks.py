"""What simulated tasks compute.

The arguments of a task are its **recipe**, and its value is a hash of them and
of the values that it takes.  So one wrong, old or mixed-up byte anywhere shows
in everything that is made of it.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Final, Literal, TypeAlias

import msgspec

from covey.ids import TaskId
from covey.payload import LAYOUT_BYTE

Kind: TypeAlias = Literal[
    "plain",  # returns
    "large",  # returns more than rides along with an outcome
    "blocking",  # gives its slot away for a while
    "raises",  # raises, every time
    "flaky",  # raises the first time
    "crashes",  # takes its process down, every time
    "crashes-once",  # takes its process down the first time
    "hangs",  # never ends, and hears no interrupt
    "drifts",  # returns something else each time
    "long",  # takes very much longer than the others
]


#: How large values are that ride along with an outcome.
SMALL_BYTES: Final = 16


class Recipe(msgspec.Struct, frozen=True, array_like=True):
    """The arguments of a simulated task.

    Attributes:
        number: sets it apart from others.
        kind: how it behaves.
        seconds: how long it runs.
        inputs: the tasks whose values it takes, as its client calls them.
    """

    number: int
    kind: Kind = "plain"
    seconds: float = 0.0
    inputs: tuple[TaskId, ...] = ()

    @property
    def nbytes(self) -> int:
        """How large the value is taken to be."""
        large = self.kind == "large" or (self.kind == "drifts" and self.number % 2)
        return 200_000 if large else SMALL_BYTES


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(Recipe)


def encode(recipe: Recipe) -> bytes:
    """Return the arguments that a recipe is on the wire."""
    return _encoder.encode(recipe)


def decode(payload: bytes) -> Recipe:
    """Read a recipe."""
    return _decoder.decode(payload)


def value_of(payload: bytes, inputs: list[bytes], salt: bytes = b"") -> bytes:
    """Return what a task with these arguments and inputs returns."""
    digest = blake2b(payload, digest_size=16, salt=salt)
    for value in inputs:
        digest.update(value)
    return as_small(digest.digest())


def as_small(value: bytes) -> bytes:
    """Return a value that does not begin as only a large one does.

    Those have digests of another kind, which depend on whether they come alone.
    """
    return b"\0" + value[1:] if value[0] == LAYOUT_BYTE else value
