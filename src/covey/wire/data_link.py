"""What is said on the data plane: who asks a worker for values, and who brings some.

The asking side is a client or another worker.  Small values come in packs; many of
them are lent to a client on the same host together, as a bundle in one segment.
A large value is either lent, as the place of a memory segment that the asker
maps, when both are on one host; or sent, as a head message followed by that
many raw bytes on the same connection.

Who brings a value borrows memory of the worker first, and is lent some when there is
room.  On the same host he writes into it himself; from elsewhere he sends the bytes.
So nobody can make a worker take in more than it has agreed to.
"""

from __future__ import annotations

from typing import TypeAlias

from covey.wire.base import Bytes, Count, Extent, Id, Message


class Get(Message, frozen=True, tag=80):
    """Ask for values.  ``same_host`` lets the worker lend segments by path.

    A client shows ``tokens``, in turn, for those that it has not made itself.

    When large values of ``budget`` bytes have been sent, the rest is to be asked for
    again; one value is always sent.  0 means that there is room for all.
    """

    request: Id
    extents: tuple[Extent, ...]
    same_host: bool = False
    tokens: tuple[bytes, ...] = ()
    budget: Bytes = 0


class PutLarge(Message, frozen=True, tag=81):
    """Bring one large value; ``nbytes`` raw bytes follow, for the memory of ``loan``.

    If it is ``checked``, four more bytes follow: their CRC-32, little-endian.  What is
    sent ``in_blocks`` comes as ``Block`` messages instead.
    """

    request: Id
    task: Id
    loan: Id
    nbytes: Bytes
    checked: bool = False
    in_blocks: bool = False


class PutSegment(Message, frozen=True, tag=82):
    """A large value stands in the segment that was lent; ``loan`` asked for it.

    If none was, it stands at ``place``, in memory that the sender has made and calls
    ``own``.
    """

    request: Id
    task: Id
    loan: Id
    nbytes: Bytes
    place: str = ""
    own: Id = 0


class Borrow(Message, frozen=True, tag=83):
    """Ask for memory for a value: on the same host, for a segment to write into.

    Whoever ``makes`` segments himself may be lent one of those, or told to make one.
    """

    request: Id
    nbytes: Bytes
    same_host: bool = True
    makes: bool = False


class GiveBack(Message, frozen=True, tag=84):
    """Memory that was lent is not needed after all."""

    loan: Id


class Unwrapped(Message, frozen=True, tag=85):
    """The segment of a bundle is mapped, and need not be lent any more."""

    bundle: Id


class Block(Message, frozen=True, tag=98):
    """The next part of a value that comes in blocks; ``packed_bytes`` raw bytes follow.

    ``codec`` says what they are compressed by, 0 is by nothing; ``checksum`` is the
    CRC-32 of what becomes of them, if the value is ``checked``.
    """

    request: Id
    codec: Id
    plain_bytes: Count
    packed_bytes: Count
    checksum: Id = 0


class Values(Message, frozen=True, tag=90):
    """Small values, as a pack."""

    request: Id
    base: Id
    n: Count
    sizes: bytes
    data: bytes


class Bundle(Message, frozen=True, tag=96):
    """Many small values, lent for a moment as one payload at this place.

    Its frames are packs; ``stretches`` tells, frame by frame, the first task and the
    sizes of the values.  Answered by ``Unwrapped``.
    """

    request: Id
    bundle: Id
    place: str
    nbytes: Id
    stretches: tuple[tuple[Id, bytes], ...]


class Lent(Message, frozen=True, tag=91):
    """A large value that may be mapped from this place."""

    request: Id
    task: Id
    place: str
    nbytes: Bytes


class Patience(Message, frozen=True, tag=97):
    """Nothing comes for a while, because the disk is being read."""

    request: Id


class Raw(Message, frozen=True, tag=92):
    """A large value: ``nbytes`` raw bytes follow the frame, as in ``PutLarge``."""

    request: Id
    task: Id
    nbytes: Bytes
    checked: bool = False
    in_blocks: bool = False


class GetDone(Message, frozen=True, tag=93):
    """Everything asked for has been sent, but for ``lacking``, and ``rest``.

    ``lacking`` is not there; ``rest`` went beyond the budget.
    """

    request: Id
    lacking: tuple[Extent, ...] = ()
    rest: tuple[Extent, ...] = ()


class Taken(Message, frozen=True, tag=94):
    """A value that was brought is in the store."""

    request: Id
    problem: str = ""


class Borrowed(Message, frozen=True, tag=95):
    """There is memory, on the same host at this place; or why there is none.

    What is sent may be compressed by ``codecs``.  ``own`` is what the asker calls that
    memory, if he has made it; without that, and without a place, he may make some.
    """

    request: Id
    place: str
    problem: str = ""
    codecs: tuple[Id, ...] = ()
    own: Id = 0


class ForgetOwn(Message, frozen=True, tag=99):
    """Memory that the asker has made is not used any more; ``request`` is its name."""

    request: Id


FromAsker: TypeAlias = (
    Get | PutLarge | PutSegment | Borrow | GiveBack | Unwrapped | Block
)
FromKeeper: TypeAlias = (
    Values
    | Bundle
    | Lent
    | Patience
    | Raw
    | Block
    | GetDone
    | Taken
    | Borrowed
    | ForgetOwn
)


def are_raw_bytes_behind(message: Raw | PutLarge | Block) -> bool:
    """Whether raw bytes follow this message."""
    return isinstance(message, Block) or not message.in_blocks
