"""The first messages on a fresh link: who is there, and the welcome.

A peer that was there before takes up its session, or, where that is not known any
more, presents itself again and tells what it has and wants::

    edge                                    scheduler
      | Resume(session, received)              |
      |--------------------------------------->|
      |                    Resumed(received)   |   both go on where they were
      |<---------------------------------------|
      |                    or: Gone(epoch)     |   a new life, or too late
      |<---------------------------------------|
      | Introduction(..., epoch)               |
      |--------------------------------------->|
      |                    Welcome(session)    |   then a report, in full
      |<---------------------------------------|

An asker who cannot reach a worker asks the scheduler to pass on what the two say.  It has
the worker call, so that it need reach nobody itself, and joins both connections: what
comes on the one goes out on the other, unread::

    asker                    scheduler                    worker
      | PassOn(worker, name)     |                           |
      |------------------------->| Meet(ticket, client)      |   on its session
      |                          |-------------------------->|
      |                          |              Met(ticket)  |   a connection of its own
      |                PassedOn  |<--------------------------|
      |<-------------------------|                           |
      |<~~~~~~~~~ the data plane, as if they had met ~~~~~~~>|

An **epoch** is one life of a scheduler; it only grows.  An edge never goes back to
a lower one than it has seen, and a scheduler that a client tells of a higher one
ends.  A worker may end no scheduler, so it is only sent away.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

from covey.ids import CLIENT_BITS
from covey.wire.base import Amount, Bytes, Id, Message


class ClientIntroduction(Message, frozen=True, tag=100):
    """A client presents itself; ``client`` is the number in its task ids.

    ``epoch`` is the highest that it has seen; above 0, a report follows the welcome.
    """

    client: Annotated[int, msgspec.Meta(ge=1, lt=1 << CLIENT_BITS)]
    name: str
    version: str
    python: str
    host: str
    epoch: Id = 0


class WorkerIntroduction(Message, frozen=True, tag=101):
    """A worker presents itself: what it offers and where it serves data.

    One that was there before says which ``number`` it had, and keeps it: others know
    its data by it.  ``epoch`` as for a client.
    """

    name: str
    slots: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]
    resources: dict[str, Amount]
    addresses: tuple[str, ...]
    host: str
    memory_limit_bytes: Bytes
    version: str
    python: str
    pid: Id
    #: The Python that its runners have, unless somebody asks for another one.
    runner_python: str = ""
    epoch: Id = 0
    number: Id = 0
    #: The minor versions of Python that its runners can have; empty: not known.
    pythons: tuple[str, ...] = ()
    #: The version of cloudpickle that its runners have; empty: not known.
    cloudpickle: str = ""


class Resume(Message, frozen=True, tag=103):
    """A peer takes up its session; so many frames of it have come there."""

    session: Id
    received: Id


class AskerIntroduction(Message, frozen=True, tag=102):
    """Somebody who wants values from a worker's data plane.

    They may be compressed by ``codecs``.
    """

    name: str
    host: str
    codecs: tuple[Id, ...] = ()


class PassOn(Message, frozen=True, tag=104):
    """An asker wants to speak with that worker, and cannot reach it.

    ``name`` is what people call who asks.
    """

    worker: Id
    name: str = ""


class Met(Message, frozen=True, tag=105):
    """A worker has called, as it was told to."""

    ticket: Id


class Welcome(Message, frozen=True, tag=110):
    """The scheduler (or, on the data plane, the worker) takes the peer in.

    ``peer`` is the number that the peer has from now on, ``epoch`` names this
    life of the scheduler, ``workers`` says how many workers a client is told of
    right after this.  ``session`` is what the peer resumes when the connection
    breaks; 0 on the data plane, where nothing is resumed.
    """

    peer: Id
    cluster: str
    epoch: Id
    version: str
    workers: Id = 0
    session: Id = 0


class Refusal(Message, frozen=True, tag=111):
    """The peer is turned away for good; ``reason`` is for a human."""

    reason: str


class Resumed(Message, frozen=True, tag=112):
    """The session goes on; so many frames of the peer have come here."""

    received: Id


class Gone(Message, frozen=True, tag=113):
    """The session is not known here; this is life ``epoch`` of the scheduler."""

    epoch: Id


class PassedOn(Message, frozen=True, tag=114):
    """The worker is there: it hears all that is said from now on."""


Introduction: TypeAlias = (
    ClientIntroduction | WorkerIntroduction | AskerIntroduction | Resume | PassOn | Met
)
Reception: TypeAlias = Welcome | Refusal | Resumed | Gone
