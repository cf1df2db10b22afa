"""What is said on the data plane: who asks a worker for values, and who brings some.

The asking side is a client or another worker.  Small values come in packs.
A large value is either lent, as the path of a memory segment that the asker
maps, when both are on one host; or sent, as a head message followed by that
many raw bytes on the same connection.
"""

from __future__ import annotations

from typing import TypeAlias

from covey.wire.base import Count, Extent, Id, Message


class Get(Message, frozen=True, tag=80):
    """Ask for values.  ``same_host`` lets the worker lend segments by path."""

    request: Id
    extents: tuple[Extent, ...]
    same_host: bool = False


class PutLarge(Message, frozen=True, tag=81):
    """Bring one large value; ``nbytes`` raw bytes follow the frame."""

    request: Id
    task: Id
    nbytes: Id


class PutSegment(Message, frozen=True, tag=82):
    """Bring one large value in a segment on the same host, to be taken over."""

    request: Id
    task: Id
    path: str
    nbytes: Id


class Values(Message, frozen=True, tag=90):
    """Small values, as a pack."""

    request: Id
    base: Id
    n: Count
    sizes: bytes
    data: bytes


class Lent(Message, frozen=True, tag=91):
    """A large value that may be mapped from this path."""

    request: Id
    task: Id
    path: str
    nbytes: Id


class Raw(Message, frozen=True, tag=92):
    """A large value: ``nbytes`` raw bytes follow the frame."""

    request: Id
    task: Id
    nbytes: Id


class GetDone(Message, frozen=True, tag=93):
    """Everything asked for has been sent, but for ``lacking``."""

    request: Id
    lacking: tuple[Extent, ...] = ()


class Taken(Message, frozen=True, tag=94):
    """A value that was brought is in the store."""

    request: Id
    problem: str = ""


FromAsker: TypeAlias = Get | PutLarge | PutSegment
FromKeeper: TypeAlias = Values | Lent | Raw | GetDone | Taken
