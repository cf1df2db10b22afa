"""The first messages on a fresh link: who is there, and the welcome."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

from covey.ids import CLIENT_BITS
from covey.wire.base import Id, Message


class ClientIntroduction(Message, frozen=True, tag=100):
    """A client presents itself; ``client`` is the number in its task ids."""

    client: Annotated[int, msgspec.Meta(ge=1, lt=1 << CLIENT_BITS)]
    name: str
    version: str
    python: str
    host: str


class WorkerIntroduction(Message, frozen=True, tag=101):
    """A worker presents itself: what it offers and where it serves data."""

    name: str
    slots: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]
    resources: dict[str, Annotated[float, msgspec.Meta(ge=0, le=1e15)]]
    addresses: tuple[str, ...]
    host: str
    memory_limit_bytes: int
    version: str
    python: str
    pid: int
    #: The Python that its runners have, unless somebody asks for another one.
    runner_python: str = ""


class AskerIntroduction(Message, frozen=True, tag=102):
    """Somebody who wants values from a worker's data plane."""

    name: str
    host: str


class Welcome(Message, frozen=True, tag=110):
    """The scheduler (or, on the data plane, the worker) takes the peer in.

    ``peer`` is the number that the peer has from now on, ``epoch`` names this
    life of the scheduler, ``workers`` says how many workers a client is told of
    right after this.
    """

    peer: Id
    cluster: str
    epoch: int
    version: str
    workers: int = 0


class Refusal(Message, frozen=True, tag=111):
    """The peer is turned away for good; ``reason`` is for a human."""

    reason: str


Introduction: TypeAlias = ClientIntroduction | WorkerIntroduction | AskerIntroduction
Reception: TypeAlias = Welcome | Refusal
