"""What workers answer to those who ask them for values, or bring some.

Each request is known by a number; whatever way it ends, the memory that came for it is
kept by somebody or given back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from covey.errors import ClusterError, RemoteProtocolError
from covey.ids import TaskId
from covey.net.arrivals import Arrival, Memory, receive
from covey.net.blocks import Blocks
from covey.net.link import Link, disconnected
from covey.payload import Pack, read_layout
from covey.store.own import Made
from covey.store.segments import Segment, open_segment
from covey.wire.base import Extent
from covey.wire.data_link import (
    Block,
    Borrowed,
    Bundle,
    ForgetOwn,
    GetDone,
    GiveBack,
    Lent,
    Raw,
    Taken,
    Unwrapped,
    Values,
    are_raw_bytes_behind,
)

#: So many requests of ours wait for one keeper; it takes a few times as many.
AT_ONCE: Final = 256

#: A worker from which nothing comes for so long, though it is to answer, is stopped or
#: stuck.  The kernel of its machine would say for ever that all is well.
SILENCE_SECONDS = 20.0


@dataclass
class Loot:
    """What a request brought.

    Attributes:
        packs: small values, ``(base, pack)``.
        lent: large values on this host: ``(task, place, nbytes)``.
        segments: large values that were sent: ``(task, segment)``.
        lacking: what the keeper did not have, and what was garbled on its way.
        rest: what did not fit into the budget.
        garbled: how many values were.
        memory: where the segments come from.
    """

    memory: Memory
    packs: list[tuple[TaskId, Pack]] = field(default_factory=list)
    lent: list[tuple[TaskId, str, int]] = field(default_factory=list)
    segments: list[tuple[TaskId, Segment]] = field(default_factory=list)
    lacking: tuple[Extent, ...] = ()
    rest: tuple[Extent, ...] = ()
    garbled: int = 0

    def discard(self) -> None:
        """Give the memory back: nobody wants these values any more."""
        for _, segment in self.segments:
            self.memory.take_back(segment)
        self.segments.clear()


class Request:
    """Something that was asked of a keeper, and what has come of it so far."""

    def __init__(self, memory: Memory) -> None:
        self.done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.loot = Loot(memory)
        #: So many raw bytes may still begin to come; the last value goes beyond it.
        self.left = 0
        #: The value that comes in blocks just now.
        self.blocks: Blocks | None = None
        self._watch: asyncio.TimerHandle | None = None
        #: Told of the answer, if whoever waits for that was stopped.
        self._left: Callable[[Any], None] | None = None

    def watch(self, link: Link, seen: int = -1) -> None:
        """Give the link up if nothing comes on it for long."""
        if link.bytes_received == seen:
            link.fail(
                disconnected(
                    "a worker's data plane",
                    TimeoutError(f"nothing has come for {SILENCE_SECONDS:g} s"),
                )
            )
            return
        self._watch = asyncio.get_running_loop().call_later(
            SILENCE_SECONDS, self.watch, link, link.bytes_received
        )

    async def answer(self) -> Any:
        """Wait until it has been answered.

        Raises:
            ClusterError: it was not.
        """
        try:
            return await self.done
        finally:
            if self._watch is not None:
                self._watch.cancel()

    async def answer_or(self, left: Callable[[Any], None]) -> Any:
        """Wait until it has been answered; if that is stopped, *left* gets the answer.

        Raises:
            ClusterError: it was not.
        """
        self._left = left
        try:
            return await self.answer()
        except asyncio.CancelledError:
            if self.had_come:
                left(self.done.result())
            raise

    @property
    def had_come(self) -> bool:
        """Whether the answer was about to be taken, when whoever waits was stopped."""
        done = self.done
        return done.done() and not done.cancelled() and done.exception() is None

    def settle(self, result: Any) -> None:
        """It has been answered."""
        if self.done.done():
            # It has failed already, or whoever waited for it was cancelled.
            self.loot.discard()
            if self._left is not None and self.done.cancelled():
                self._left(result)
        else:
            self.done.set_result(result)

    def fail(self, error: Exception) -> None:
        """It will not be answered."""
        if self.blocks is not None:
            self.blocks.give_up()
        self.loot.discard()
        if not self.done.done():
            self.done.set_exception(error)


class Keeper:
    """A connection to one worker's data plane."""

    def __init__(self) -> None:
        self.link: Link | None = None
        self.requests: dict[int, Request] = {}
        self.turn = asyncio.Semaphore(AT_ONCE)
        #: Memory that was made here for this worker.
        self.made = Made()
        #: How many requests are made, or wait to be.
        self.users = 0
        #: And how many ever were.
        self.uses = 0
        #: Whether the scheduler passes on what is said, and whether it need not any more.
        self.passage = False
        self.outdated = False


def on_messages(keeper: Keeper, memory: Memory, link: Link, batch: list[Any]) -> None:
    """Take in what the keeper has to say."""
    for message in batch:
        request = keeper.requests.get(message.request)
        if type(message) is Lent and request is not None:
            request.loot.lent.append((message.task, message.place, message.nbytes))
        elif type(message) is GetDone and request is not None:
            _end(link, message, request)
            del keeper.requests[message.request]
        elif isinstance(message, ForgetOwn):
            keeper.made.forget(message.request)
        elif isinstance(message, Raw | Block):
            if message is not batch[-1] and are_raw_bytes_behind(message):
                raise RemoteProtocolError("raw bytes must end their batch")
            if isinstance(message, Raw):
                _receive_raw(link, message, request, memory)
            else:
                _receive_block(link, message, request)
        elif request is None:
            continue
        elif isinstance(message, Values):
            pack = Pack.from_wire(message.sizes, message.data)
            request.loot.packs.append((message.base, pack))
        elif isinstance(message, Bundle):
            _unwrap(link, message, request)
        elif isinstance(message, Taken | Borrowed):
            _end(link, message, request)
            del keeper.requests[message.request]


def _end(link: Link, message: GetDone | Taken | Borrowed, request: Request) -> None:
    """A request has been answered."""
    if isinstance(message, GetDone):
        if request.blocks is not None:
            raise RemoteProtocolError("a value ended before it was whole")
        request.loot.lacking += message.lacking
        request.loot.rest = message.rest
        request.settle(None)
    elif isinstance(message, Taken):
        request.settle(message.problem)
    else:
        if request.done.done() and not message.problem:
            # Whoever wanted to bring something has gone meanwhile.
            link.send(GiveBack(message.request))
        request.settle(message)


def _unwrap(link: Link, message: Bundle, request: Request) -> None:
    """Map a bundle: its values are views, and keep it mapped while they are used."""
    try:
        frames = read_layout(open_segment(message.place, message.nbytes).view)
    except OSError as error:
        link.send(Unwrapped(message.bundle))
        request.fail(ClusterError(f"small values could not be mapped: {error}"))
        return
    except ValueError as error:
        raise RemoteProtocolError(f"a bundle is none: {error}") from error
    link.send(Unwrapped(message.bundle))
    if len(frames) != len(message.stretches):
        raise RemoteProtocolError("a bundle does not hold what it was said to hold")
    for frame, (base, sizes) in zip(frames, message.stretches, strict=True):
        request.loot.packs.append((base, Pack.from_wire(sizes, frame)))


def _receive_raw(
    link: Link, message: Raw, request: Request | None, memory: Memory
) -> None:
    if request is None or request.left <= 0:
        raise RemoteProtocolError("a value came that nobody had asked for")
    request.left -= message.nbytes

    def garbled() -> None:
        request.loot.lacking += ((message.task, 1),)
        request.loot.garbled += 1

    def arrived(segment: Segment) -> None:
        if request.done.done():
            memory.take_back(segment)
        else:
            request.loot.segments.append((message.task, segment))

    def failed(problem: str) -> None:
        request.fail(ClusterError(problem))

    check = garbled if message.checked else None
    if message.in_blocks:
        if request.blocks is not None:
            raise RemoteProtocolError("a value came before the one before was whole")
        request.blocks = Blocks(message.nbytes, memory, arrived, failed, check)
    else:
        receive(link, Arrival(message.nbytes, memory, arrived, failed, check))


def _receive_block(link: Link, message: Block, request: Request | None) -> None:
    if request is None or request.blocks is None:
        raise RemoteProtocolError("a block came of nothing that was announced")
    if request.blocks.expect(link, message):
        request.blocks = None
