"""The far end of the data plane: a worker lends and sends what is on its shelf."""

from __future__ import annotations

import asyncio
import contextlib
from bisect import bisect_right
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any, Final

from covey.errors import CoveyError, Disconnected, RemoteProtocolError
from covey.ids import TaskId, client_of
from covey.net import codecs
from covey.net.addresses import Address, is_wildcard, own_host
from covey.net.arrivals import Arrival, receive
from covey.net.asking import UNLIMITED
from covey.net.blocks import Blocks, pays, send_blocks
from covey.net.codecs import Codec
from covey.net.connect import open_link
from covey.net.link import Link, by_scheduler
from covey.net.listen import Listener, listen
from covey.net.tls import Certificate
from covey.payload import Pack
from covey.store.segments import Garbled, Segment
from covey.wire.base import Extent
from covey.wire.data_link import (
    Block,
    Borrow,
    Borrowed,
    FromAsker,
    Get,
    GetDone,
    GiveBack,
    Lent,
    Patience,
    PutLarge,
    PutSegment,
    Raw,
    Taken,
    Unwrapped,
    Values,
    are_raw_bytes_behind,
)
from covey.wire.framing import BATCH_BYTES
from covey.wire.introductions import AskerIntroduction, Met
from covey.wire.keys import Keys, Role
from covey.worker.bundles import BUNDLE_BYTES, Bundles
from covey.worker.core.orders import CallIn
from covey.worker.credit import Asked, Granted
from covey.worker.own_memory import OwnMemory
from covey.worker.storage import Promise, Storage

#: Who brings a value tells the scheduler right afterwards, or, if that has to be found
#: again first, within this time.
ORPHAN_SECONDS: Final = 150.0

#: Whoever waits while the disk is read is told that often.
PATIENCE_SECONDS: Final = 5.0

#: So many values are lent before it is seen to that the other side takes them.
_LENT_AT_ONCE: Final = 256

#: So many values of a link are remembered before it is asked which are still here.
_BROUGHT_MIN: Final = 64


class _Brought:
    """The large values that came over one link, as far as they are still here.

    What was dropped is forgotten when as much again has come, so that a link that
    lives long does not remember everything.
    """

    __slots__ = ("_look_at", "tasks")

    def __init__(self) -> None:
        self.tasks: set[TaskId] = set()
        self._look_at = _BROUGHT_MIN

    def add(self, task: TaskId, storage: Storage) -> None:
        """One more has come, and is in the store."""
        self.tasks.add(task)
        if len(self.tasks) >= self._look_at:
            here = storage.shelf.at
            self.tasks = {task for task in self.tasks if here(task) is not None}
            self._look_at = max(_BROUGHT_MIN, 2 * len(self.tasks))


class DataServer:
    """Serves a store to clients and to other workers.

    Args:
        storage: what is served, and where values go that are brought.
        keys: what links prove that they know.
        version: of covey.
        room_for: waits until so many bytes fit, or tells why they never will.
        on_garbled: told of a value that the disk did not give back as it was, and why.
        on_orphans: told of what somebody has brought who is gone since: perhaps
            before the scheduler heard of it.
    """

    def __init__(
        self,
        storage: Storage,
        keys: Keys,
        version: str,
        room_for: Callable[[int], Awaitable[str]],
        on_orphans: Callable[[set[TaskId]], None] = lambda _: None,
        on_garbled: Callable[[TaskId, str], None] = lambda _task, _why: None,
    ) -> None:
        self._storage = storage
        self._room_for = room_for
        self._on_orphans = on_orphans
        self._on_garbled = on_garbled
        self._keys = keys
        self._version = version
        self._listeners: list[Listener] = []
        self._links: set[Link] = set()
        self._serving: dict[Link, asyncio.Queue[Any]] = {}
        self._asked: dict[Link, Asked] = {}
        self._tasks: dict[Link, asyncio.Task[None]] = {}
        self._lending: set[asyncio.Task[None]] = set()
        #: What has been brought over each link.
        self._brought: dict[Link, _Brought] = {}
        #: Memory for what is brought, by the number of the request for it.
        self._loans: dict[Link, dict[int, Segment | Promise]] = {}
        self._own = OwnMemory(storage)
        #: Values that come in blocks, by the number of the request.
        self._coming: dict[Link, dict[int, Blocks]] = {}
        #: By what each link's peer lets values be compressed.
        self._codecs: dict[Link, list[Codec]] = {}
        self._bundles = Bundles(storage)
        #: Where the scheduler is now, if it can be called there.
        self._scheduler: Callable[[], Address | None] = lambda: None
        self._closed = False
        self.bytes_sent = 0
        #: Bytes of values that were not sent, because these were compressed.
        self.bytes_saved = 0
        #: Links whose peer broke the rules, and callers who never got in.
        self.protocol_errors = 0
        self.strangers_turned_away = 0

    async def listen(
        self, address: Address, certificate: Certificate | None = None
    ) -> Address:
        """Listen at one more address; return it as others can reach it.

        Raises:
            OSError: the address cannot be bound.
            UsageError: it is on a network, and there is no certificate.
        """
        listener = await listen(
            address,
            FromAsker | AskerIntroduction,
            role=Role.KEEPER,
            keys=self._keys,
            version=self._version,
            on_open=self._on_open,
            on_messages=self._on_messages,
            on_lost=self._on_lost,
            on_turned_away=self._on_turned_away,
            certificate=certificate,
        )
        self._listeners.append(listener)
        bound = listener.address
        if bound.path or not is_wildcard(bound.host):
            return bound
        return bound._replace(host=own_host())

    def call_scheduler_at(self, where: Callable[[], Address | None]) -> None:
        """Call the scheduler, of which *where* tells, for those who cannot call here."""
        self._scheduler = where

    def call_in(self, order: CallIn) -> None:
        """Serve somebody who cannot call here, by way of the scheduler."""
        self._start(self._call_in(order.ticket, order.client))

    async def _call_in(self, ticket: int, client: int) -> None:
        # If the scheduler is not reached, it has forgotten the ticket before long.
        where = self._scheduler()
        if where is None:
            return
        try:
            link = await open_link(
                where,
                FromAsker | AskerIntroduction,
                role=Role.KEEPER,
                keys=self._keys,
                version=self._version,
                on_messages=self._on_messages,
                on_lost=self._on_lost,
                timeout_seconds=0.0,
            )
        except CoveyError:
            return
        if not link.lost:
            link.passed_on, link.other_number = True, client
            self._on_open(link)
            link.send(Met(ticket))

    def links(self) -> dict[str, int]:
        """Return how many bytes were sent on each open link, by who asks there."""
        sent: dict[str, int] = {}
        for link in self._links:
            name = f"to {link.peer or 'somebody'}{by_scheduler(link)}"
            sent[name] = sent.get(name, 0) + link.bytes_sent
        return sent

    async def close(self) -> None:
        """Stop serving."""
        self._closed = True
        for listener in self._listeners:
            await listener.close()
        for link in list(self._links):
            link.abort()
        for task in [*self._tasks.values(), *self._lending]:
            task.cancel()

    def _on_turned_away(self) -> None:
        self.strangers_turned_away += 1

    def _on_open(self, link: Link) -> None:
        if self._closed:
            link.abort()
            return
        self._links.add(link)
        self._serving[link] = asyncio.Queue()
        self._asked[link] = Asked()
        self._loans[link] = {}
        self._coming[link] = {}
        self._own.opened(link)
        self._brought[link] = _Brought()
        self._tasks[link] = asyncio.get_running_loop().create_task(self._serve(link))

    def _on_lost(self, link: Link, error: Exception | None) -> None:
        if link in self._links and isinstance(error, RemoteProtocolError):
            self.protocol_errors += 1
        self._links.discard(link)
        self._serving.pop(link, None)
        self._asked.pop(link, None)
        brought = self._brought.pop(link, None)
        if brought is not None and brought.tasks and not self._closed:
            loop = asyncio.get_running_loop()
            loop.call_later(ORPHAN_SECONDS, self._on_orphans, brought.tasks)
        for loan in self._loans.pop(link, {}).values():
            # Whoever borrowed it may be writing still: it lingers until then.
            self._give_back(link, loan)
        self._own.lost(link)
        for blocks in self._coming.pop(link, {}).values():
            blocks.give_up()
        self._codecs.pop(link, None)
        self._bundles.lost(link)
        task = self._tasks.pop(link, None)
        if task is not None:
            task.cancel()

    def _on_messages(self, link: Link, batch: list[Any]) -> None:
        for message in batch:
            if type(message) is Get:
                if link in self._serving:
                    self._asked[link].take(len(message.extents))
                    self._check_tokens(link, message)
                    self._serving[link].put_nowait(message)
                continue
            if isinstance(message, AskerIntroduction):
                link.peer = message.name
                self._codecs[link] = codecs.common(message.codecs)
                continue
            if isinstance(message, PutLarge | Block):
                if message is not batch[-1] and are_raw_bytes_behind(message):
                    raise RemoteProtocolError("raw bytes must end their batch")
                self._receive(link, message)
            elif isinstance(message, Borrow):
                self._asked[link].take(1)
                self._start(self._lend(link, message))
            elif isinstance(message, PutSegment):
                link.send(self._take_over(link, message))
            elif isinstance(message, GiveBack):
                loan = self._loan(link, message.loan)
                if isinstance(loan, Promise):
                    self._storage.redeem(loan)
                else:
                    self._storage.take_back(loan)
            elif isinstance(message, Unwrapped):
                self._bundles.unwrapped(link, message.bundle)

    def _check_tokens(self, link: Link, message: Get) -> None:
        """A client may have what it made, and what it shows the tokens of."""
        number = link.other_number
        if not number:
            return  # It is a worker, which may have to run anybody's tasks.
        tokens = iter(message.tokens)
        for base, n in message.extents:
            if client_of(base) == number == client_of(base + n - 1):
                continue
            for task in range(base, base + n):
                if not self._keys.fits(task, next(tokens, b"")):
                    raise RemoteProtocolError(
                        "a client asked for the values of another one"
                    )

    def _check_own(self, link: Link, task: TaskId) -> None:
        """A client may bring values of its own only."""
        if link.other_number and client_of(task) != link.other_number:
            raise RemoteProtocolError("a client brought the value of another one")

    def _receive(self, link: Link, message: PutLarge | Block) -> None:
        if isinstance(message, Block):
            blocks = self._coming[link].get(message.request)
            if blocks is None:
                raise RemoteProtocolError("a block came of nothing that was announced")
            if blocks.expect(link, message):
                del self._coming[link][message.request]
            return
        self._check_own(link, message.task)
        granted = self._loan(link, message.loan)
        if isinstance(granted, Promise):
            self._storage.redeem(granted)
            raise RemoteProtocolError("a value was sent that was to be written")

        def arrived(segment: Segment) -> None:
            self._keep(link, message.task, segment)
            link.send(Taken(message.request))

        def failed(problem: str) -> None:
            link.send(Taken(message.request, problem))

        if granted.size != message.nbytes:
            self._storage.take_back(granted)
            raise RemoteProtocolError("another value came than there was room for")
        memory = Granted(self._storage, granted)

        def garbled() -> None:
            failed("it did not come as it was sent; its checksum is another one")

        check = garbled if message.checked else None
        if not message.in_blocks:
            receive(link, Arrival(message.nbytes, memory, arrived, failed, check))
        elif self._coming[link].get(message.request) is None:
            blocks = Blocks(message.nbytes, memory, arrived, failed, check)
            self._coming[link][message.request] = blocks
        else:
            self._storage.take_back(granted)
            raise RemoteProtocolError("two values came as one")

    async def _lend(self, link: Link, message: Borrow) -> None:
        problem = await self._room_for(message.nbytes)
        if link.lost:
            return
        if problem:
            link.send(Borrowed(message.request, "", problem))
        else:
            try:
                link.send(self._loan_for(link, message))
            except (OSError, OverflowError) as error:
                problem = (
                    f"a value of {message.nbytes:,} bytes cannot be held here: {error}"
                )
                link.send(Borrowed(message.request, "", problem))
        with contextlib.suppress(Disconnected):
            await link.drain()
            self._asked[link].answered(1)

    def _loan_for(self, link: Link, message: Borrow) -> Borrowed:
        """Set memory aside for a value, and say where it is."""
        loans, number = self._loans[link], message.request
        if not message.same_host:
            loans[number] = self._storage.lend(message.nbytes)
            return Borrowed(number, "", codecs=codecs.numbers())
        if message.makes:
            lent = self._own.lend_back(link, message.nbytes)
            if lent is not None:
                own, loans[number] = lent
                return Borrowed(number, "", own=own)
        offered = self._storage.offer_warm(message.nbytes)
        if offered is None and message.makes:
            promise = self._own.promise(link, message.nbytes)
            if promise is not None:
                loans[number] = promise
                return Borrowed(number, "")
        loans[number], place = offered or self._storage.offer(message.nbytes)
        return Borrowed(number, place)

    def _give_back(self, link: Link, loan: Segment | Promise) -> None:
        """Nothing was written there, or nobody says so any more."""
        if isinstance(loan, Promise):
            self._storage.redeem(loan)
        else:
            self._own.take_back(link, loan)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._lending.add(task)
        task.add_done_callback(self._lending.discard)

    def _loan(self, link: Link, number: int) -> Segment | Promise:
        loan = self._loans[link].pop(number, None)
        if loan is None:
            raise RemoteProtocolError("a segment was returned that was never lent")
        return loan

    def _take_over(self, link: Link, message: PutSegment) -> Taken:
        self._check_own(link, message.task)
        loan = self._loan(link, message.loan)
        try:
            segment = (
                self._own.adopt(link, message, loan)
                if isinstance(loan, Promise)
                else loan
            )
        except (OSError, ValueError) as error:
            return Taken(message.request, f"what was made cannot be used: {error}")
        try:
            segment.filled(message.nbytes)
        except ValueError as error:
            self._storage.take_back(segment)
            return Taken(message.request, f"it does not fit what it asked for: {error}")
        self._keep(link, message.task, segment)
        return Taken(message.request)

    def _keep(self, link: Link, task: TaskId, segment: Segment) -> None:
        self._storage.keep(task, segment)
        self._brought[link].add(task, self._storage)

    async def _serve(self, link: Link) -> None:
        """Answer the requests of one link, one after the other."""
        queue = self._serving[link]
        try:
            while True:
                message: Get = await queue.get()
                link.send(await self._answer(link, message))
                # Who does not read what he asked for is answered nothing more.
                await link.drain()
                self._asked[link].answered(len(message.extents))
        except Disconnected:
            return  # Whoever asked is gone.
        except Exception:
            # A link that is cut is an error at the other end; silence would not be.
            link.abort()
            raise

    async def _answer(self, link: Link, message: Get) -> GetDone:
        """Send what is asked for, as far as the budget goes."""
        lacking: list[Extent] = []
        todo = deque(message.extents)
        left = message.budget or UNLIMITED
        # Workers keep what they get: their values come as they are to stay.
        small = _Small(bundled=message.same_host and bool(link.other_number))
        while todo and left > 0:
            base, n = todo.popleft()
            # Looked up anew each time: it may change while something is sent.
            found = next(self._storage.find(base, n), None)
            if found is None:
                lacking.append((base, n))
                continue
            start, count, stretch = found
            if start > base:
                lacking.append((base, start - base))
            if start + count < base + n:
                todo.appendleft((start + count, base + n - start - count))
            if stretch.segment is not None:
                try:
                    left -= await self._send_segment(
                        link, message, start, stretch.segment
                    )
                except Garbled as error:
                    self._on_garbled(start, str(error))
                    lacking.append((start, 1))
                continue
            pack = stretch.look(start, count)
            file = stretch.unwritten
            if file is not None and file.in_doubt() and not file.is_intact():
                self._storage.rescue.lose([file])
                lacking.append((start, count))
                continue
            small.add(start, pack)
            if small.is_full:
                await self._send_small(link, message.request, small)
        if small.parts:
            await self._send_small(link, message.request, small)
        return GetDone(message.request, tuple(lacking), tuple(todo))

    async def _send_segment(
        self, link: Link, message: Get, task: TaskId, segment: Segment
    ) -> int:
        """Lend or send a large value; return how many bytes went out."""
        # What is lent is read later, and may be something else by then.
        if message.same_host and not segment.in_doubt():
            link.send(Lent(message.request, task, segment.place, segment.size))
            if link.queued >= _LENT_AT_ONCE:
                await link.drain()
            return 0
        if not segment.on_disk:
            await self._send_large(link, message.request, task, segment)
            return segment.size
        copy = await self._from_disk(link, message.request, segment)
        try:
            await self._send_large(link, message.request, task, copy)
        finally:
            self._storage.take_back(copy)
        return copy.size

    async def _from_disk(self, link: Link, request: int, segment: Segment) -> Segment:
        """Return a spilled value in memory, lent to the caller."""
        # Mapped, it would hold up everything else while the disk is read.
        reading = asyncio.ensure_future(self._storage.in_memory(segment))
        try:
            while not (await asyncio.wait({reading}, timeout=PATIENCE_SECONDS))[0]:
                link.send(Patience(request))
        except BaseException:
            reading.cancel()
            reading.add_done_callback(self._nobody_wants)
            raise
        return await reading

    def _nobody_wants(self, reading: asyncio.Future[Segment]) -> None:
        if not reading.cancelled() and reading.exception() is None:
            self._storage.take_back(reading.result())

    async def _send_large(
        self, link: Link, request: int, task: TaskId, segment: Segment
    ) -> None:
        self.bytes_sent += segment.size
        checked = not link.guarded
        value = segment.map().view
        usable = self._codecs.get(link, [])
        if pays(link, usable, segment.size):
            link.send(Raw(request, task, segment.size, checked, in_blocks=True))
            self.bytes_saved += await send_blocks(
                link, request, [value], usable, checked=checked
            )
        else:
            head = Raw(request, task, segment.size, checked)
            await link.send_bulk(head, value, checked=checked)

    async def _send_small(self, link: Link, request: int, small: _Small) -> None:
        """Send the small values that were found, in one way or the other."""
        parts, small.parts = small.parts, []
        self.bytes_sent += sum(pack.nbytes for _, pack in parts)
        if small.bundled:
            bundle = await self._bundles.wrap(link, request, parts)
            if bundle is not None:
                link.send(bundle)
                return
        for base, pack in parts:
            for start, part in _cut(base, pack):
                data = bytes(part.data)
                link.send(Values(request, start, len(part), part.sizes_bytes(), data))
                await link.drain()


class _Small:
    """Small values that were found, and are to be sent.

    Attributes:
        parts: ``(base, pack)``.
        bundled: they may be lent together.
    """

    __slots__ = ("bundled", "parts")

    def __init__(self, *, bundled: bool) -> None:
        self.parts: list[tuple[TaskId, Pack]] = []
        self.bundled = bundled

    def add(self, base: TaskId, pack: Pack) -> None:
        """Some more were found."""
        self.parts.append((base, pack))

    @property
    def is_full(self) -> bool:
        """Whether no more should be gathered."""
        nbytes = sum(pack.nbytes for _, pack in self.parts)
        return not self.bundled or nbytes >= BUNDLE_BYTES


def _cut(base: TaskId, pack: Pack) -> Iterator[tuple[TaskId, Pack]]:
    """Yield what a pack holds in parts of a moderate size, ``(base, pack)``."""
    ends = pack.ends()
    at = 0
    while at < len(pack):
        limit = (ends[at - 1] if at else 0) + BATCH_BYTES
        stop = max(at + 1, bisect_right(ends, limit, at))
        yield base + at, pack.cut(at, stop)
        at = stop
