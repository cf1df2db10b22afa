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
from typing import Any, Final

from covey import clock
from covey.errors import (
    ClusterError,
    CoveyError,
    Disconnected,
    RemoteProtocolError,
)
from covey.ids import TaskId
from covey.net import codecs
from covey.net.addresses import Address, host_identity
from covey.net.answers import Keeper, Loot, Request, on_messages
from covey.net.arrivals import FreshMemory, Memory
from covey.net.blocks import pays, send_blocks
from covey.net.link import Link, by_scheduler, disconnected
from covey.net.reaching import Reach, Whom
from covey.payload import Buffer, layout_parts
from covey.store.files import new_stamp
from covey.store.own import Kept, Made
from covey.store.segments import fill, payload_size
from covey.wire.base import Extent
from covey.wire.data_link import (
    Borrow,
    Borrowed,
    Get,
    GiveBack,
    PutLarge,
    PutSegment,
)
from covey.wire.introductions import AskerIntroduction
from covey.wire.keys import Keys

#: A budget that is none.
UNLIMITED: Final = 1 << 62

#: With so many workers at a time it is spoken by way of the scheduler, and for so long
#: after the last word it may be gone on.
PASSAGES_AT_ONCE: Final = 16
PASSAGE_SECONDS: Final = 5.0


#: What is written sooner than a thread that writes it is woken.
WRITTEN_HERE_BYTES: Final = 1 << 20


async def _borrowed(request: Request, link: Link, loan: int) -> Borrowed:
    """Wait for memory; give it back if whoever waits is stopped when it has just come.

    What comes after that is given back where it is read: see ``answers``.

    Raises:
        ClusterError: there was no answer.
    """
    try:
        answer: Borrowed = await request.answer()
    except asyncio.CancelledError:
        if request.had_come and not request.done.result().problem:
            link.send(GiveBack(loan))
        raise
    return answer


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


async def _written(
    write: Callable[[list[Buffer]], str],
    frames: list[Buffer],
    nbytes: int,
    give_back: Callable[[object], None],
) -> str:
    """Write a value; return where it is, or give the memory back.

    Raises:
        OSError: there is no memory left.
        ValueError: it does not fit.
    """
    if nbytes <= WRITTEN_HERE_BYTES:
        try:
            return write(frames)
        except BaseException as error:
            give_back(error)
            raise
    writing = asyncio.ensure_future(asyncio.to_thread(write, frames))
    try:
        return await asyncio.shield(writing)
    except BaseException:
        # The thread writes on, whoever stops to wait for it.
        writing.add_done_callback(give_back)
        raise


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
        self._number = number
        self._name = name
        self._memory = memory or FreshMemory()
        self._host = host_identity()
        self._reach = Reach(keys, version, name, number, self._host)
        #: Each by way of the scheduler, and how many wait to be one of them.
        self._passages = asyncio.Semaphore(PASSAGES_AT_ONCE)
        self._crowd = 0
        self._keepers: dict[tuple[str, ...], Keeper] = {}
        self._opening: dict[tuple[str, ...], asyncio.Lock] = {}
        self._last_request = 0
        #: Values that did not come as they were sent.
        self.garbled = 0
        #: What is sent in blocks, until it is.
        self._tasks: set[asyncio.Task[Any]] = set()
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
        worker: int = 0,
    ) -> Loot:
        """Fetch values from the worker at *addresses*, on *host*.

        By way of the scheduler, if that knows it by the number *worker*, where there is
        no other.

        A client shows *tokens* for those that it has not made itself.  Large values
        come up to *budget* bytes, the last one beyond it; the others are the
        ``rest``.  0 brings all.

        Raises:
            ClusterError: the worker cannot be reached, or the connection broke.
        """
        keeper = await self._turn_with(Whom(addresses, host, worker))
        try:
            number, request, link = self._new_request(keeper)
            request.left = budget or UNLIMITED
            same_host = self._shares_memory(keeper, host)
            link.send(Get(number, extents, same_host, tokens, budget))
            request.watch(link)
            await request.answer()
        finally:
            self._turn_ends(keeper)
        self.garbled += request.loot.garbled
        return request.loot

    def _shares_memory(self, keeper: Keeper, host: str) -> bool:
        """Whether a worker could map memory of ours, and we its."""
        return host == self._host and not keeper.passage

    async def put(
        self,
        addresses: tuple[str, ...],
        task: TaskId,
        frames: list[Buffer],
        host: str,
        worker: int = 0,
        on_left: Callable[[], None] = lambda: None,
    ) -> bool:
        """Bring one large value to the worker at *addresses*; *worker* as in ``get``.

        Whoever stops to wait when it is under way has it there all the same: *on_left*
        is told when it is.

        Returns:
            Whether this process keeps it, and could bring it again.

        Raises:
            ClusterError: it cannot be reached, or could not take the value.
        """

        def left(problem: str) -> None:
            if not problem:
                on_left()

        keeper = await self._turn_with(Whom(addresses, host, worker))
        try:
            if self._shares_memory(keeper, host):
                problem = await self._put_here(keeper, task, frames, left)
            else:
                problem = await self._put_there(keeper, task, frames, left)
        finally:
            self._turn_ends(keeper)
        if problem:
            raise ClusterError(f"the worker could not take the value: {problem}")
        return any(kept.task == task for kept in keeper.made.kept())

    async def _put_here(
        self,
        keeper: Keeper,
        task: TaskId,
        frames: list[Buffer],
        left: Callable[[str], None],
    ) -> str:
        """Write a value, once, into memory that the worker has, or is to have."""
        nbytes = payload_size(frames)
        made = keeper.made
        makes = made.able and self._number > 0
        loan, request, link = self._new_request(keeper)
        link.send(Borrow(loan, nbytes, makes=makes))
        answer = await _borrowed(request, link, loan)
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

        try:
            place = await _written(write, frames, nbytes, give_back)
        except (OSError, ValueError) as error:
            return f"its segment could not be written: {error}"
        number, request, link = self._new_request(keeper)
        if own and not answer.own:
            link.send(PutSegment(number, task, loan, nbytes, place, own))
        else:
            link.send(PutSegment(number, task, loan, nbytes))
        problem = str(await request.answer_or(left))
        if own and not problem:
            made.keep(own, task, str(place), nbytes)
        if problem and not answer.place:
            # The worker may not be able to look into this process: as it did before.
            made.able = False
            made.forget(own)
            return await self._put_here(keeper, task, frames, left)
        return problem

    async def _put_there(
        self,
        keeper: Keeper,
        task: TaskId,
        frames: list[Buffer],
        left: Callable[[str], None],
    ) -> str:
        """Send a value straight from where it lies, when there is room for it."""
        parts = layout_parts(frames, new_stamp())
        nbytes = sum(map(len, parts))
        loan, request, link = self._new_request(keeper)
        link.send(Borrow(loan, nbytes, same_host=False))
        answer = await _borrowed(request, link, loan)
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
            self._start(
                send_blocks(link, number, views, usable, checked=checked), link.abort
            )
        else:
            head = PutLarge(number, task, loan, nbytes, checked)
            _ = link.send_bulk(head, *views, checked=checked)
        return str(await request.answer_or(left))

    def _start(
        self,
        work: Coroutine[Any, Any, object],
        on_failed: Callable[[], None] = lambda: None,
    ) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)

        def ended(task: asyncio.Task[Any]) -> None:
            self._tasks.discard(task)
            if task.cancelled() or task.exception() is not None:
                on_failed()

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
        keeper: Keeper,
        link: Link,
        error: Exception | None,
    ) -> None:
        self._received_before += link.bytes_received
        if keeper.passage:
            self._passages.release()
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
            f"from {addresses[-1]}{by_scheduler(keeper.link)}": keeper.link.bytes_received
            for addresses, keeper in self._keepers.items()
            if keeper.link is not None and not keeper.link.lost
        }

    def call_scheduler_at(self, where: Callable[[], Address | None]) -> None:
        """Have the scheduler, which *where* tells of, pass on what cannot be said else."""
        self._reach.scheduler = where

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
        for task in self._tasks:
            task.cancel()

    def _new_request(self, keeper: Keeper) -> tuple[int, Request, Link]:
        link = keeper.link
        if link is None or link.lost:
            raise disconnected("a worker's data plane", None)
        self._last_request += 1
        request = keeper.requests[self._last_request] = Request(self._memory)
        return self._last_request, request, link

    async def _turn_with(self, whom: Whom) -> Keeper:
        """Wait for a turn to ask a worker, until ``_turn_ends``."""
        keeper = self._keepers.get(whom.addresses)
        link = keeper.link if keeper is not None else None
        if keeper is None or link is None or link.lost or keeper.passage:
            keeper = await self._keeper(whom)
        keeper.users += 1
        keeper.uses += 1
        try:
            await keeper.turn.acquire()
        except BaseException:
            self._used(keeper)
            raise
        return keeper

    def _turn_ends(self, keeper: Keeper) -> None:
        keeper.turn.release()
        self._used(keeper)

    def _used(self, keeper: Keeper) -> None:
        """One user less: nobody may be left who speaks by way of the scheduler."""
        keeper.users -= 1
        if keeper.passage and not keeper.users:
            loop = asyncio.get_running_loop()
            wait = 0.0 if keeper.outdated or self._crowd else PASSAGE_SECONDS
            loop.call_later(wait, _end_idle, keeper, keeper.uses)

    async def _keeper(self, whom: Whom) -> Keeper:
        addresses = whom.addresses
        lock = self._opening.setdefault(addresses, asyncio.Lock())
        async with lock:
            keeper = self._keepers.get(addresses)
            if keeper is None or keeper.link is None or keeper.link.lost:
                keeper = await self._open(whom)
                self._keepers[addresses] = keeper
            elif keeper.passage and self._reach.routes.is_due(
                addresses, clock.monotonic()
            ):
                self._start(self._look_again(whom))
        return keeper

    async def _open(self, whom: Whom) -> Keeper:
        routes, detour = self._reach.routes, self._reach.has_detour(whom)
        if not (detour and routes.is_blocked(whom.addresses)):
            try:
                return await self._open_straight(whom)
            except Disconnected as error:
                if not detour:
                    raise
                problem = error
        else:
            problem = None
        try:
            return await self._open_passage(whom)
        except CoveyError as error:
            first = f"{problem}; " if problem is not None else ""
            raise Disconnected(
                f"{first}nor does the scheduler pass on what is said to it: {error}"
            ) from error

    async def _open_straight(self, whom: Whom) -> Keeper:
        keeper = Keeper()
        keeper.link = await self._reach.straight(whom, *self._ears(whom, keeper))
        return self._introduced(keeper, whom)

    async def _open_passage(self, whom: Whom) -> Keeper:
        """Speak with a worker by way of the scheduler, when not too many are already."""
        keeper = Keeper()
        self._crowd += 1
        try:
            if self._passages.locked():
                idle = (k for k in self._keepers.values() if k.passage and not k.users)
                _end_passage(next(idle, None))
            await self._passages.acquire()
        finally:
            self._crowd -= 1
        try:
            link = await self._reach.by_scheduler(whom, *self._ears(whom, keeper))
        except BaseException:
            self._passages.release()
            raise
        keeper.link, keeper.passage = link, True
        if link.lost:
            self._passages.release()
        return self._introduced(keeper, whom)

    async def _look_again(self, whom: Whom) -> None:
        """Speak straight with a worker that could not be reached, if it can by now."""
        try:
            keeper = await self._open_straight(whom)
        except Disconnected:
            return
        old = self._keepers.get(whom.addresses)
        if old is not None and not old.passage:
            # It was lost meanwhile, and the way was found by somebody else.
            assert keeper.link is not None
            keeper.link.abort()
            return
        self._keepers[whom.addresses] = keeper
        if old is not None:
            old.outdated = True
            if not old.users:
                _end_passage(old)

    def _ears(
        self, whom: Whom, keeper: Keeper
    ) -> tuple[
        Callable[[Link, list[Any]], None], Callable[[Link, Exception | None], None]
    ]:
        """Return what hears the messages of a link, and of its end."""
        heard = functools.partial(on_messages, keeper, self._memory)
        return heard, functools.partial(self._lost, whom.addresses, keeper)

    def _introduced(self, keeper: Keeper, whom: Whom) -> Keeper:
        link = keeper.link
        assert link is not None
        if self._closed:
            link.close()
            raise Disconnected("nobody asks for values here any more")
        # Where values are mapped none is compressed, and to load what does that takes a
        # while on both sides.
        maps = self._shares_memory(keeper, whom.host)
        usable = () if maps else codecs.numbers()
        link.send(AskerIntroduction(self._name, self._host, usable))
        return keeper


def _end_idle(keeper: Keeper, uses: int) -> None:
    """Hang up if nothing was asked since."""
    if not keeper.users and keeper.uses == uses:
        _end_passage(keeper)


def _end_passage(keeper: Keeper | None) -> None:
    """Hang up where the scheduler passes on what is said, for nobody says anything."""
    if keeper is not None and keeper.passage and keeper.link is not None:
        keeper.link.abort()
