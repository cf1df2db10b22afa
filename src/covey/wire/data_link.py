"""What is said on the data plane: who asks a worker for values, and who brings some.

The asking side is a client or another worker.  Small values come in packs; many of
them are lent to a client on the same host together, as a bundle in one segment.
A large value is either lent, as the place of a memory segment that the asker
maps, when both are on one host; or sent, as a head message followed by that
many raw bytes on the same connection.  Who brings one on the same host borrows a
segment of the worker and writes into that.
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
    """Bring one large value; ``nbytes`` raw bytes follow the frame."""

    request: Id
    task: Id
    nbytes: Bytes


class PutSegment(Message, frozen=True, tag=82):
    """A large value stands in the segment that was lent; ``loan`` asked for it."""

    request: Id
    task: Id
    loan: Id
    nbytes: Bytes


class Borrow(Message, frozen=True, tag=83):
    """Ask for a segment on the same host, to write a value into."""

    request: Id
    nbytes: Bytes


class GiveBack(Message, frozen=True, tag=84):
    """A segment that was lent is not needed after all."""

    loan: Id


class Unwrapped(Message, frozen=True, tag=85):
    """The segment of a bundle is mapped, and need not be lent any more."""

    bundle: Id


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
    """A large value: ``nbytes`` raw bytes follow the frame."""

    request: Id
    task: Id
    nbytes: Bytes


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
    """A segment to write into, at this place; or why there is none."""

    request: Id
    place: str
    problem: str = ""


FromAsker: TypeAlias = Get | PutLarge | PutSegment | Borrow | GiveBack | Unwrapped
FromKeeper: TypeAlias = (
    Values | Bundle | Lent | Patience | Raw | GetDone | Taken | Borrowed
)
