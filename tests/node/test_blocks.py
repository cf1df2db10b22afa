"""Large values that go to another machine compressed, where a sample says it pays."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time

import pytest

from covey.errors import ClusterError
from covey.net import blocks, codecs, savings
from covey.net.addresses import Address, host_identity
from covey.net.asking import Asker
from covey.net.blocks import BLOCK_BYTES, Blocks
from covey.net.link import Link
from covey.payload import PAGE_BYTES, read_layout
from covey.secret import Secret
from covey.store.segments import Segment, open_segment
from covey.wire.data_link import Block, Borrow, Borrowed, PutLarge
from covey.wire.keys import Keys
from covey.worker.serving import DataServer
from covey.worker.storage import Storage

pytest.importorskip("lz4")
pytest.importorskip("zstandard")

KEYS = Keys.of_client(Secret(b"s" * 32))
ELSEWHERE = "another machine"
SLOW, FAST = 1e6, 5e9

#: Bytes of which not much is left, and bytes of which all is.
PATTERN = bytes(range(256)) * 4096 * 6
NOISE = os.urandom(6 << 20)


@pytest.fixture
def speed(monkeypatch):
    """Let links be as fast as is said."""

    def set_to(per_second):
        monkeypatch.setattr(savings.Speed, "per_second", lambda *_: per_second)

    # Nor shall anything depend on how busy this machine is.
    monkeypatch.setattr(savings.Crowding, "factor", 1.0)
    set_to(SLOW)
    return set_to


@contextlib.asynccontextmanager
async def keeper():
    """Yield a store, who serves it and where, and somebody who asks for what is there."""

    async def always_room(_):
        return ""

    storage, arriving = Storage(1 << 30), Storage(1 << 30)
    server = DataServer(storage, KEYS, "1", always_room)
    asker = Asker(KEYS, "1", "somebody", memory=arriving)
    address = str(await server.listen(Address("127.0.0.1", 0, "")))
    try:
        yield storage, server, (address,), asker
    finally:
        asker.close()
        await server.close()
        # Both ends learn of it in the next turns.
        for _ in range(5):
            await asyncio.sleep(0)
        assert storage.lent_bytes == arriving.lent_bytes == 0
        await storage.close()
        await arriving.close()


def put_large(storage, task, value):
    made = Segment.of([b"head", value])
    storage.adopt(task, made.place, made.size)
    made.close()


def content(segment):
    _, value = read_layout(open_segment(segment.place, segment.size).view)
    return bytes(value)


async def fetched(asker, addresses, task=1):
    """Return a value, and how many bytes went over the wire for it."""
    before = asker.bytes_received
    loot = await asker.get(addresses, ((task, 1),), ELSEWHERE)
    ((got, segment),) = loot.segments
    assert got == task
    value = content(segment)
    loot.discard()
    return value, asker.bytes_received - before


async def brought(storage, server, addresses, asker, value):
    """Bring a value; return what has come, and how many bytes that took."""
    before = sum(link.bytes_received for link in server._links)
    await asker.put(addresses, 1, [b"head", value], ELSEWHERE)
    after = sum(link.bytes_received for link in server._links)
    return content(storage.shelf.segment(1)), after - before


@pytest.mark.parametrize("guarded", [False, True], ids=["checked", "guarded"])
@pytest.mark.parametrize("which", ["lz4", "zstd", "both"])
def test_little_goes_over_a_slow_link(run, speed, monkeypatch, which, guarded):
    monkeypatch.setattr(Link, "guarded", guarded)
    if which != "both":
        number = {"lz4": 1, "zstd": 2}[which]
        only = {number: codecs.installed()[number]}
        monkeypatch.setattr(codecs, "installed", lambda: only)

    async def story():
        async with keeper() as (storage, server, addresses, asker):
            put_large(storage, 1, PATTERN)
            value, nbytes = await fetched(asker, addresses)
            assert value == PATTERN
            assert nbytes < len(PATTERN) / 5
            assert len(PATTERN) / 5 < server.bytes_saved < len(PATTERN) + PAGE_BYTES
            storage.drop(1, 1)
            value, nbytes = await brought(storage, server, addresses, asker, PATTERN)
            assert value == PATTERN
            assert nbytes < len(PATTERN) / 5

    run(story())


def test_little_is_compressed_where_every_core_is_busy(run, monkeypatch):
    """It would pay on this wire, if anybody had time for it."""
    monkeypatch.setattr(savings.Speed, "per_second", lambda *_: 100e6)
    clock = time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: 50 * clock())

    async def story():
        async with keeper() as (storage, server, addresses, asker):
            put_large(storage, 1, 2 * PATTERN)
            for _ in range(3):
                value, _ = await fetched(asker, addresses)
                assert value == 2 * PATTERN
            # The first part, before anything was known, and perhaps another one.
            assert server.bytes_saved < 2 << 20

    run(story())


def test_each_part_of_a_value_is_looked_at_by_itself(run, speed):
    whole = NOISE + PATTERN + NOISE[:100_000] + b"end"

    async def story():
        async with keeper() as (storage, server, addresses, asker):
            put_large(storage, 1, whole)
            value, nbytes = await fetched(asker, addresses)
            assert value == whole
            assert len(NOISE) < nbytes < len(NOISE) + len(PATTERN)
            storage.drop(1, 1)
            value, nbytes = await brought(storage, server, addresses, asker, whole)
            assert value == whole
            assert len(NOISE) < nbytes < len(NOISE) + len(PATTERN)

    run(story())


def test_what_cannot_be_compressed_goes_as_it_is(run, speed):
    async def story():
        async with keeper() as (storage, server, addresses, asker):
            put_large(storage, 1, NOISE)
            value, nbytes = await fetched(asker, addresses)
            assert value == NOISE
            # What lies between the head of the value and its first page is nothing but
            # zeros: they go along, or are compressed if the codec seems quick enough.
            padded = nbytes + server.bytes_saved
            assert len(NOISE) < padded < len(NOISE) + PAGE_BYTES + 2000
            assert server.bytes_saved < PAGE_BYTES

    run(story())


@pytest.mark.parametrize("why", ["fast", "no codec there", "no codec here", "here"])
def test_nothing_is_compressed_where_there_is_no_point(run, speed, monkeypatch, why):
    async def never(*_, **__):
        raise AssertionError

    monkeypatch.setattr(blocks, "_pack", never)
    host = ELSEWHERE
    if why == "fast":
        speed(FAST)
    elif why == "no codec there":
        monkeypatch.setattr(codecs, "numbers", lambda: ())
    elif why == "no codec here":
        monkeypatch.setattr(codecs, "common", lambda _: [])
    else:
        host = host_identity()

    async def story():
        async with keeper() as (storage, server, addresses, asker):
            await asker.put(addresses, 1, [b"head", PATTERN], host)
            assert content(storage.shelf.segment(1)) == PATTERN
            loot = await asker.get(addresses, ((1, 1),), host)
            assert bool(loot.lent) == (host != ELSEWHERE)
            if loot.segments:
                assert content(loot.segments[0][1]) == PATTERN
            loot.discard()
            assert server.bytes_saved == 0

    run(story())


def test_a_link_that_is_not_known_is_found_out_about_first(run, monkeypatch):
    speeds = []
    pack = blocks._pack

    def noted(stretch, usable, per_second, *args, checked):
        speeds.append((len(stretch), per_second))
        return pack(stretch, usable, per_second, *args, checked=checked)

    monkeypatch.setattr(blocks, "_pack", noted)

    async def story():
        async with keeper() as (storage, _, addresses, asker):
            put_large(storage, 1, PATTERN)
            value, _ = await fetched(asker, addresses)
            assert value == PATTERN
        # A MiB, without a look at what it is.
        assert speeds[0] == (1 << 20, 0)

    run(story())


def garble(monkeypatch):
    """Flip one bit of the next block that is compressed."""
    take = blocks._Coming.take
    flipped = []

    def garbled(coming, data):
        if coming._block.codec and len(data) > 50 and not flipped:
            data = bytearray(data)
            data[40] ^= 4
            flipped.append(data)
        take(coming, data)

    monkeypatch.setattr(blocks._Coming, "take", garbled)


def test_what_is_garbled_on_its_way_is_lacking_and_counted(run, speed, monkeypatch):
    async def story():
        async with keeper() as (storage, _, addresses, asker):
            put_large(storage, 1, PATTERN)
            put_large(storage, 2, PATTERN)
            garble(monkeypatch)
            loot = await asker.get(addresses, ((1, 2),), ELSEWHERE)
            assert loot.lacking == ((1, 1),)
            assert [task for task, _ in loot.segments] == [2]
            assert content(loot.segments[0][1]) == PATTERN
            loot.discard()
            assert asker.garbled == 1
            assert (await fetched(asker, addresses))[0] == PATTERN

    run(story())


def test_what_is_garbled_while_it_is_brought_is_refused(run, speed, monkeypatch):
    async def story():
        async with keeper() as (storage, server, addresses, asker):
            garble(monkeypatch)
            with pytest.raises(ClusterError, match="checksum"):
                await asker.put(addresses, 1, [b"head", PATTERN], ELSEWHERE)
            assert storage.shelf.segment(1) is None
            found = await brought(storage, server, addresses, asker, PATTERN)
            assert found[0] == PATTERN

    run(story())


@pytest.mark.parametrize("end", ["keeper", "asker"])
def test_a_loss_in_the_middle_gives_the_memory_back(run, speed, monkeypatch, end):
    expect = Blocks.expect

    async def story():
        async with keeper() as (storage, server, addresses, asker):

            def broken(self, link, block):
                last = expect(self, link, block)
                for here in list(server._links):
                    here.abort()
                return last

            put_large(storage, 1, NOISE + PATTERN)
            with monkeypatch.context() as breaking:
                breaking.setattr(Blocks, "expect", broken)
                work = (
                    asker.get(addresses, ((1, 1),), ELSEWHERE)
                    if end == "keeper"
                    else asker.put(addresses, 2, [b"head", PATTERN], ELSEWHERE)
                )
                with pytest.raises(ClusterError):
                    await work
            assert (await fetched(asker, addresses))[0] == NOISE + PATTERN

    run(story())


def test_whoever_stops_bringing_a_value_spoils_nothing(run, speed):
    async def story():
        async with keeper() as (storage, _, addresses, asker):
            bringing = asyncio.ensure_future(
                asker.put(addresses, 1, [b"head", PATTERN], ELSEWHERE)
            )
            while not asker._tasks:  # noqa: ASYNC110  (it tells nobody)
                await asyncio.sleep(0)
            bringing.cancel()
            await asker.put(addresses, 2, [b"head", NOISE], ELSEWHERE)
            while storage.shelf.segment(1) is None:  # noqa: ASYNC110  (nobody waits)
                await asyncio.sleep(0)
            assert content(storage.shelf.segment(1)) == PATTERN
            assert content(storage.shelf.segment(2)) == NOISE

    run(story())


def zeros(nbytes):
    """Return so many zeros, compressed: next to nothing."""
    return codecs.installed()[1].pack(bytes(nbytes))


@pytest.mark.parametrize(
    "said",
    [
        Block(9, 1, BLOCK_BYTES, len(zeros(BLOCK_BYTES))),
        Block(1, 1, BLOCK_BYTES + 1, 100),
        Block(1, 1, 100, 100),
        Block(1, 0, 100, 99),
        Block(1, 0, 3 << 20, 3 << 20),
        Block(1, 99, 1000, 10),
        Block(1, 1, 1000, len(zeros(1 << 20))),
    ],
    ids=[
        "of nothing announced",
        "larger than blocks are",
        "no smaller for it",
        "not as long as it is",
        "beyond the value",
        "by a codec never named",
        "of more bytes than announced",
    ],
)
def test_blocks_keep_to_what_was_agreed(run, monkeypatch, said):
    monkeypatch.setattr(Link, "guarded", True)

    async def story():
        async with keeper() as (storage, server, addresses, asker):
            await asker.get(addresses, ((5, 1),), ELSEWHERE)
            ((other,),) = ([k.link for k in asker._keepers.values()],)
            heard = []
            other._on_messages = lambda _, batch: heard.extend(batch)
            other.send(Borrow(1, 2 << 20, same_host=False))
            while not heard:  # noqa: ASYNC110  (nobody is told)
                await asyncio.sleep(0)
            assert isinstance(heard[0], Borrowed) and not heard[0].problem
            other.send(PutLarge(1, 7, 1, 2 << 20, checked=False, in_blocks=True))
            packed = zeros(1 << 20)[: said.packed_bytes]
            data = packed + bytes(said.packed_bytes - len(packed))
            sending = other.send_bulk(said, memoryview(data))
            while not other.lost:  # noqa: ASYNC110  (nobody is told)
                await asyncio.sleep(0)
            await asyncio.wait([sending])
            assert server.protocol_errors == 1
            assert storage.shelf.segment(7) is None

    run(story())
