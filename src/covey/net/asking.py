"""Asking workers for values, and bringing them some: the near end of the data plane.

Clients and workers use it alike.  There is one connection per keeper; requests
on it are answered one after the other::

    Get(extents)      ─────►
                      ◄─────  Values | Lent | Raw + bytes | Bundle ... GetDone
    Unwrapped         ─────►                                  same host
    Borrow            ─────►
                      ◄─────  Borrowed            there is room
    PutSegment        ─────►                      written there: the same host
    PutLarge + bytes  ─────►                      or sent
                      ◄─────  Taken

Whatever way a request ends, the memory that came for it is kept by somebody or
given back.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from covey.errors import ClusterError, Disconnected, RemoteProtocolError
from covey.ids import TaskId
from covey.net import codecs
from covey.net.addresses import Address, host_identity, parse_address
from covey.net.arrivals import Arrival, FreshMemory, Memory, receive
from covey.net.blocks import Blocks, pays, send_blocks
from covey.net.connect import open_link
from covey.net.link import Link, disconnected
from covey.payload import Buffer, Pack, layout_parts, read_layout
from covey.store.own import Kept, Made
from covey.store.segments import Segment, fill, new_stamp, open_segment, payload_size
from covey.wire.base import Extent
from covey.wire.data_link import (
    Block,
    Borrow,
    Borrowed,
    Bundle,
    ForgetOwn,
    FromKeeper,
    Get,
    GetDone,
    GiveBack,
    Lent,
    PutLarge,
    PutSegment,
    Raw,
    Taken,
    Unwrapped,
    Values,
    are_raw_bytes_behind,
)
from covey.wire.introductions import AskerIntroduction
from covey.wire.keys import Keys, Role

#: So many requests of ours wait for one keeper; it takes a few times as many.
AT_ONCE: Final = 256

#: A budget that is none.
UNLIMITED: Final = 1 << 62

#: How long a worker's port is tried; its socket file answers at once or never.
_TCP_SECONDS: Final = 5.0

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


class _Request:
    def __init__(self, memory: Memory) -> None:
        self.done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.loot = Loot(memory)
        #: So many raw bytes may still begin to come; the last value goes beyond it.
        self.left = 0
        #: The value that comes in blocks just now.
        self.blocks: Blocks | None = None
        self._watch: asyncio.TimerHandle | None = None

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

    def settle(self, result: Any) -> None:
        if self.done.done():
            # It has failed already, or whoever waited for it was cancelled.
            self.loot.discard()
        else:
            self.done.set_result(result)

    def fail(self, error: Exception) -> None:
        if self.blocks is not None:
            self.blocks.give_up()
        self.loot.discard()
        if not self.done.done():
            self.done.set_exception(error)


class _Keeper:
    """A connection to one worker's data plane."""

    def __init__(self) -> None:
        self.link: Link | None = None
        self.requests: dict[int, _Request] = {}
        self.turn = asyncio.Semaphore(AT_ONCE)
        #: Memory that was made here for this worker.
        self.made = Made()


def _memory_for(
    made: Made, answer: Borrowed, nbytes: int
) -> tuple[int, Callable[[list[Buffer]], str]]:
    """Return the memory to write into: how it is called, if made here; how to write.

    Raises:
        OSError: it cannot be made.
        RemoteProtocolError: the worker lends what was never made.
    """
    if answer.place:
        return 0, functools.partial(fill, answer.place)
    if not answer.own:
        number, segment = made.make(nbytes)
        return number, segment.fill
    known = made.again(answer.own)
    if known is None:
        raise RemoteProtocolError("a worker has lent what was not made here")
    return answer.own, known.fill


class Asker:
    """Fetches values from workers, and brings values to them.

    Args:
        keys: what the process knows.
        version: its version of covey.
        name: how it is called.
        number: the client it speaks for, or 0 for a worker.
        memory: where large values go that come from another host.
    """

    def __init__(
        self,
        keys: Keys,
        version: str,
        name: str,
        number: int = 0,
        memory: Memory | None = None,
    ) -> None:
        self._keys = keys
        self._number = number
        self._version = version
        self._name = name
        self._memory = memory or FreshMemory()
        self._host = host_identity()
        self._keepers: dict[tuple[str, ...], _Keeper] = {}
        self._opening: dict[tuple[str, ...], asyncio.Lock] = {}
        self._last_request = 0
        #: Values that did not come as they were sent.
        self.garbled = 0
        #: What is sent in blocks, until it is.
        self._sending: set[asyncio.Task[int]] = set()
        #: Which values are worth keeping when their worker is gone, and those.
        self.is_wanted: Callable[[TaskId], bool] = lambda _: False
        self._left: dict[TaskId, Kept] = {}
        #: On links that are gone.
        self._received_before = 0
        self._closed = False

    async def get(
        self,
        addresses: tuple[str, ...],
        extents: tuple[Extent, ...],
        host: str,
        tokens: tuple[bytes, ...] = (),
        budget: int = 0,
    ) -> Loot:
        """Fetch values from the worker at *addresses*, on *host*.

        A client shows *tokens* for those that it has not made itself.  Large values
        come up to *budget* bytes, the last one beyond it; the others are the
        ``rest``.  0 brings all.

        Raises:
            ClusterError: the worker cannot be reached, or the connection broke.
        """
        keeper = await self._keeper(addresses, host)
        async with keeper.turn:
            number, request, link = self._new_request(keeper)
            request.left = budget or UNLIMITED
            link.send(Get(number, extents, host == self._host, tokens, budget))
            request.watch(link)
            await request.answer()
        self.garbled += request.loot.garbled
        return request.loot

    async def put(
        self, addresses: tuple[str, ...], task: TaskId, frames: list[Buffer], host: str
    ) -> bool:
        """Bring one large value to the worker at *addresses*.

        Returns:
            Whether this process keeps it, and could bring it again.

        Raises:
            ClusterError: it cannot be reached, or could not take the value.
        """
        keeper = await self._keeper(addresses, host)
        async with keeper.turn:
            if host == self._host:
                problem = await self._put_here(keeper, task, frames)
            else:
                problem = await self._put_there(keeper, task, frames)
        if problem:
            raise ClusterError(f"the worker could not take the value: {problem}")
        return any(kept.task == task for kept in keeper.made.kept())

    async def _put_here(
        self, keeper: _Keeper, task: TaskId, frames: list[Buffer]
    ) -> str:
        """Write a value, once, into memory that the worker has, or is to have."""
        nbytes = payload_size(frames)
        made = keeper.made
        makes = made.able and self._number > 0
        loan, request, link = self._new_request(keeper)
        link.send(Borrow(loan, nbytes, makes=makes))
        answer: Borrowed = await request.answer()
        if answer.problem:
            return answer.problem
        try:
            own, write = _memory_for(made, answer, nbytes)
        except OSError as error:
            link.send(GiveBack(loan))
            return f"no memory can be had for it: {error}"

        def give_back(_: object) -> None:
            if not answer.own:
                made.forget(own)
            link.send(GiveBack(loan))

        writing = asyncio.ensure_future(asyncio.to_thread(write, frames))
        try:
            place = await asyncio.shield(writing)
        except BaseException as error:
            # The thread writes on, whoever stops to wait for it.
            writing.add_done_callback(give_back)
            if not isinstance(error, OSError | ValueError):
                raise
            return f"its segment could not be written: {error}"
        number, request, link = self._new_request(keeper)
        if own and not answer.own:
            link.send(PutSegment(number, task, loan, nbytes, place, own))
        else:
            link.send(PutSegment(number, task, loan, nbytes))
        problem = str(await request.answer())
        if own and not problem:
            made.keep(own, task, str(place), nbytes)
        if problem and not answer.place:
            # The worker may not be able to look into this process: as it did before.
            made.able = False
            made.forget(own)
            return await self._put_here(keeper, task, frames)
        return problem

    async def _put_there(
        self, keeper: _Keeper, task: TaskId, frames: list[Buffer]
    ) -> str:
        """Send a value straight from where it lies, when there is room for it."""
        parts = layout_parts(frames, new_stamp())
        nbytes = sum(map(len, parts))
        loan, request, link = self._new_request(keeper)
        link.send(Borrow(loan, nbytes, same_host=False))
        answer: Borrowed = await request.answer()
        if answer.problem:
            return answer.problem
        number, request, link = self._new_request(keeper)
        # The answer, or the end of the link, tells how it went.
        checked = not link.guarded
        views = [memoryview(part) for part in parts]
        usable = codecs.common(answer.codecs)
        if pays(link, usable, nbytes):
            link.send(PutLarge(number, task, loan, nbytes, checked, in_blocks=True))
            # Whoever stops to wait stops nothing: half a value would be left there.
            self._start(link, send_blocks(link, number, views, usable, checked=checked))
        else:
            head = PutLarge(number, task, loan, nbytes, checked)
            _ = link.send_bulk(head, *views, checked=checked)
        return str(await request.answer())

    def _start(self, link: Link, sending: Coroutine[Any, Any, int]) -> None:
        task = asyncio.get_running_loop().create_task(sending)
        self._sending.add(task)

        def ended(task: asyncio.Task[int]) -> None:
            self._sending.discard(task)
            if task.cancelled() or task.exception() is not None:
                link.abort()

        task.add_done_callback(ended)

    def kept(self, task: TaskId) -> list[memoryview] | None:
        """Return a value that was brought once, if its memory is still here."""
        made = (kept for k in self._keepers.values() for kept in k.made.kept())
        for kept in (*self._left.values(), *made):
            if kept.task == task:
                return kept.frames()
        return None

    def tidy(self) -> None:
        """Let go of what gone workers have left, if nobody wants it any more."""
        if self._left:
            for task in [task for task in self._left if not self.is_wanted(task)]:
                self.let_go(task)

    def let_go(self, task: TaskId) -> None:
        """Let go of what a gone worker has left of one value."""
        kept = self._left.pop(task, None)
        if kept is not None:
            kept.segment.close()

    def _lost(
        self,
        addresses: tuple[str, ...],
        keeper: _Keeper,
        link: Link,
        error: Exception | None,
    ) -> None:
        self._received_before += link.bytes_received
        if self._keepers.get(addresses) is keeper:
            del self._keepers[addresses]
        lock = self._opening.get(addresses)
        if lock is not None and not lock.locked():
            del self._opening[addresses]
        for kept in keeper.made.part(self.is_wanted):
            self._left[kept.task] = kept
        requests, keeper.requests = keeper.requests, {}
        for request in requests.values():
            request.fail(disconnected("a worker's data plane", error))

    @property
    def bytes_received(self) -> int:
        """How many bytes have come from workers."""
        return self._received_before + sum(self.links().values())

    def links(self) -> dict[str, int]:
        """Return how many bytes have come on each open link, by the worker's address."""
        return {
            f"from {addresses[-1]}": keeper.link.bytes_received
            for addresses, keeper in self._keepers.items()
            if keeper.link is not None and not keeper.link.lost
        }

    def close(self) -> None:
        """Close all connections."""
        self._closed = True
        self.is_wanted = lambda _: False
        self.tidy()
        for keeper in list(self._keepers.values()):
            keeper.made.part(self.is_wanted)
            if keeper.link is not None:
                keeper.link.close()
        self._keepers.clear()

    def _new_request(self, keeper: _Keeper) -> tuple[int, _Request, Link]:
        link = keeper.link
        if link is None or link.lost:
            raise disconnected("a worker's data plane", None)
        self._last_request += 1
        request = keeper.requests[self._last_request] = _Request(self._memory)
        return self._last_request, request, link

    async def _keeper(self, addresses: tuple[str, ...], host: str) -> _Keeper:
        lock = self._opening.setdefault(addresses, asyncio.Lock())
        async with lock:
            keeper = self._keepers.get(addresses)
            if keeper is None or keeper.link is None or keeper.link.lost:
                keeper = await self._open(addresses, host)
                self._keepers[addresses] = keeper
        return keeper

    async def _open(self, addresses: tuple[str, ...], host: str) -> _Keeper:
        problem: Exception | None = None
        for address in _reachable(addresses, host == self._host):
            keeper = _Keeper()
            try:
                keeper.link = await open_link(
                    address,
                    FromKeeper,
                    role=Role.ASKER,
                    keys=self._keys,
                    number=self._number,
                    version=self._version,
                    on_messages=functools.partial(_on_messages, keeper, self._memory),
                    on_lost=functools.partial(self._lost, addresses, keeper),
                    timeout_seconds=0.0 if address.path else _TCP_SECONDS,
                    what="worker's data plane",
                )
            except (OSError, ClusterError) as error:
                problem = error
                continue
            if self._closed:
                keeper.link.close()
                break
            introduction = AskerIntroduction(self._name, self._host, codecs.numbers())
            keeper.link.send(introduction)
            return keeper
        raise Disconnected(
            f"the data plane of a worker cannot be reached at any of "
            f"{', '.join(addresses)}: {problem}"
        ) from problem


def _reachable(addresses: tuple[str, ...], same_host: bool) -> list[Address]:
    """Return the addresses worth trying: a socket file only on its own host."""
    known = [parse_address(text) for text in addresses]
    return [a for a in known if a.path and same_host] + [a for a in known if not a.path]


def _on_messages(keeper: _Keeper, memory: Memory, link: Link, batch: list[Any]) -> None:
    for message in batch:
        if isinstance(message, ForgetOwn):
            keeper.made.forget(message.request)
            continue
        request = keeper.requests.get(message.request)
        if isinstance(message, Raw | Block):
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
        elif isinstance(message, Lent):
            request.loot.lent.append((message.task, message.place, message.nbytes))
        elif isinstance(message, GetDone | Taken | Borrowed):
            _end(link, message, request)
            del keeper.requests[message.request]


def _end(link: Link, message: GetDone | Taken | Borrowed, request: _Request) -> None:
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


def _unwrap(link: Link, message: Bundle, request: _Request) -> None:
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
    link: Link, message: Raw, request: _Request | None, memory: Memory
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


def _receive_block(link: Link, message: Block, request: _Request | None) -> None:
    if request is None or request.blocks is None:
        raise RemoteProtocolError("a block came of nothing that was announced")
    if request.blocks.expect(link, message):
        request.blocks = None
