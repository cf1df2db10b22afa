"""A large value that goes to another machine in blocks, each compressed if that pays.

::

    value   ├──── stretch ────┼──── stretch ────┼─ ... ┤
               in a thread:        meanwhile on
               looked at, packed   the wire
            Block ▒▒  Block ▒▒  Block ▒▒▒▒  ...

How fast a link is shows only when something is sent: the first stretch goes as it is.
The other side unpacks block by block, into memory that was set aside before; no block
is larger than it has announced, so that a few bytes cannot become many.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from covey import clock
from covey.errors import RemoteProtocolError
from covey.net import codecs, savings
from covey.net.arrivals import Arrival, Memory
from covey.net.codecs import Codec
from covey.net.link import Link
from covey.net.savings import Looking
from covey.payload import Buffer
from covey.store.checksum import crc32
from covey.store.segments import Segment
from covey.wire.data_link import Block

#: So many bytes are compressed at a time.
BLOCK_BYTES: Final = 512 << 10

#: So many are looked at, and sent, at a time.  A link looks quicker than it is until the
#: buffers of the kernel are full: it is looked at often.
_STRETCH_BYTES: Final = 1 << 20

#: So many, where the link has turned out to be too quick for any of this.
_LONG_BYTES: Final = 8 << 20

#: What is less is not worth a look while nothing is known of the link.
_WORTH_BYTES: Final = 4 << 20


def pays(link: Link, theirs: Sequence[Codec], nbytes: int) -> bool:
    """Whether to send a value in blocks, so that they may be compressed."""
    if not theirs:
        return False
    speed = link.speed.per_second(clock.monotonic())
    return savings.is_slow(speed) if speed else nbytes >= _WORTH_BYTES


class _Packed(NamedTuple):
    """A block that is ready to be sent."""

    codec: int
    plain_bytes: int
    data: Buffer
    checksum: int


class _Stretch(NamedTuple):
    """Blocks that were made in one go.

    Attributes:
        blocks: those.
        cpu_seconds: what they took to make, in CPU time.
        seconds: and by the clock.
    """

    blocks: list[_Packed]
    cpu_seconds: float
    seconds: float

    def beside(self, link: Link, seconds: float) -> float:
        """Return how long compressing has held it up that took *seconds* to send."""
        if not any(block.codec for block in self.blocks):
            return self.seconds
        speed = link.speed.per_second(clock.monotonic())
        wire = sum(len(block.data) for block in self.blocks) / speed if speed else 0.0
        return max(self.cpu_seconds, seconds - wire)


async def send_blocks(
    link: Link,
    request: int,
    parts: Sequence[memoryview],
    usable: Sequence[Codec],
    *,
    checked: bool,
) -> int:
    """Send what has been announced as the value of *request*, block by block.

    Args:
        link: where to.
        request: of the announcement.
        parts: the value.
        usable: the codecs that both sides have.
        checked: each block has a checksum.

    Returns:
        How many bytes less went out than the value has.

    Raises:
        Disconnected: the connection ended meanwhile.
    """
    saved = 0
    stretches = _stretches(link, parts)
    looking = Looking()

    def prepare() -> asyncio.Task[_Stretch] | None:
        stretch = next(stretches, None)
        if stretch is None:
            return None
        speed = link.speed.per_second(clock.monotonic())
        busy = link.crowding.factor
        work = asyncio.to_thread(
            _pack, stretch, usable, speed, busy, looking, checked=checked
        )
        return asyncio.get_running_loop().create_task(work)

    coming = prepare()
    since = time.perf_counter()
    try:
        while coming is not None:
            stretch = await coming
            # While these are on their way, the next ones are made.
            coming = prepare()
            for block in stretch.blocks:
                head = Block(
                    request,
                    block.codec,
                    block.plain_bytes,
                    len(block.data),
                    block.checksum,
                )
                saved += block.plain_bytes - len(block.data)
                await link.send_bulk(head, memoryview(block.data))
            # The last of them is written; that the kernel has taken it shows how fast
            # the link is.
            await link.drain()
            now = time.perf_counter()
            link.crowding.saw(stretch.cpu_seconds, stretch.beside(link, now - since))
            since = now
    finally:
        if coming is not None:
            coming.cancel()
    return saved


def _stretches(link: Link, parts: Sequence[memoryview]) -> Iterator[memoryview]:
    """Cut a value into what is looked at together; small parts are joined first."""
    for part in _joined(parts):
        at = 0
        while at < len(part):
            speed = link.speed.per_second(clock.monotonic())
            quick = speed and not savings.is_slow(speed)
            size = _LONG_BYTES if quick else _STRETCH_BYTES
            yield part[at : at + size]
            at += size


def _joined(parts: Sequence[memoryview]) -> Iterator[memoryview]:
    small = bytearray()
    for part in parts:
        if len(small) + len(part) <= _STRETCH_BYTES:
            small += part
            continue
        if small:
            yield memoryview(small)
            small = bytearray()
        yield part
    if small:
        yield memoryview(small)


def _pack(
    stretch: memoryview,
    usable: Sequence[Codec],
    speed: float,
    busy: float,
    looking: Looking,
    *,
    checked: bool,
) -> _Stretch:
    """Make the blocks of a stretch.  For a thread."""
    began, used = time.perf_counter(), time.thread_time()
    number = 0
    able = [codec for codec in usable if savings.is_slow(speed, codec.least_cost)]
    if able and looking.is_due():
        found = codecs.samples(able, stretch)
        number = savings.choose(found, speed, busy)
        looking.found(number)
    chosen = next((codec for codec in usable if codec.number == number), None)
    size = len(stretch) if chosen is None else BLOCK_BYTES
    blocks = []
    for at in range(0, len(stretch), size):
        plain = stretch[at : at + size]
        checksum = crc32(plain) if checked else 0
        data: Buffer = plain if chosen is None else chosen.pack(plain)
        if len(data) < len(plain):
            blocks.append(_Packed(number, len(plain), data, checksum))
        else:
            blocks.append(_Packed(0, len(plain), plain, checksum))
    return _Stretch(blocks, time.thread_time() - used, time.perf_counter() - began)


class Blocks:
    """A value that comes in blocks.

    Args:
        nbytes: its length.
        memory: where it goes.
        arrived: called with the segment when it is whole.
        failed: called with the reason when there is no room for it.
        garbled: called when what has come is not what was sent; without it, there are
            no checksums.

    Attributes:
        garbled: something has come that was not sent.
    """

    def __init__(
        self,
        nbytes: int,
        memory: Memory,
        arrived: Callable[[Segment], None],
        failed: Callable[[str], None],
        garbled: Callable[[], None] | None,
    ) -> None:
        if not nbytes:
            raise RemoteProtocolError("a value of no bytes was announced")
        self._memory = memory
        self._arrived = arrived
        self._on_garbled = garbled
        self.garbled = False
        self._left = nbytes
        self._arrival = Arrival(nbytes, memory, self._whole, failed)

    def expect(self, link: Link, block: Block) -> bool:
        """Take in a block, whose bytes follow on *link*; return whether it is the last.

        Raises:
            RemoteProtocolError: it is not as blocks are.
        """
        plain, packed = block.plain_bytes, block.packed_bytes
        fits = packed < plain <= BLOCK_BYTES if block.codec else packed == plain
        if not fits or plain > self._left:
            raise RemoteProtocolError(
                f"a block of {packed:,} bytes was announced that would become "
                f"{plain:,}, where {self._left:,} are missing"
            )
        self._left -= plain
        link.expect_raw(packed, _Coming(self, block))
        return not self._left

    @property
    def checked(self) -> bool:
        """Whether blocks have checksums."""
        return self._on_garbled is not None

    def take(self, data: Buffer) -> None:
        """Take the next bytes of the value."""
        self._arrival.take(data)

    def damaged(self, block: Block, error: ValueError) -> None:
        """A block cannot be unpacked.

        Raises:
            RemoteProtocolError: it has come as it was sent.
        """
        if not self.checked:
            raise RemoteProtocolError(f"a block cannot be unpacked: {error}") from error
        self.garbled = True
        self._arrival.take(bytes(block.plain_bytes))

    def _whole(self, segment: Segment) -> None:
        if self.garbled and self._on_garbled is not None:
            self._memory.take_back(segment)
            self._on_garbled()
        else:
            self._arrived(segment)

    def give_up(self) -> None:
        """The rest will not come."""
        self._arrival.give_up()


class _Coming:
    """The bytes of one block."""

    def __init__(self, blocks: Blocks, block: Block) -> None:
        self._blocks = blocks
        self._block = block
        self._left = block.packed_bytes
        self._packed = bytearray()
        self._checksum = 0

    def take(self, data: Buffer) -> None:
        """Take the next bytes."""
        self._left -= len(data)
        if not self._block.codec:
            self._take_plain(data)
            return
        if self._left or self._packed:
            self._packed += data
            data = self._packed
        if not self._left:
            block = self._block
            try:
                plain = codecs.unpack(block.codec, data, block.plain_bytes)
            except ValueError as error:
                self._blocks.damaged(block, error)
                return
            self._take_plain(plain)

    def _take_plain(self, data: Buffer) -> None:
        if self._blocks.checked:
            self._checksum = crc32(data, self._checksum)
            if not self._left and self._checksum != self._block.checksum:
                self._blocks.garbled = True
        self._blocks.take(data)

    def give_up(self) -> None:
        """The connection ended before all bytes had come."""
        self._blocks.give_up()
