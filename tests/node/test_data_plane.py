"""The data plane: a worker's shelf, and those who ask it for values."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
import threading
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import covey
from covey.errors import ClusterError, Disconnected
from covey.ids import first_task_id
from covey.net import answers, asking, reaching
from covey.net.addresses import Address, host_identity
from covey.net.arrivals import Arrival
from covey.net.asking import Asker
from covey.payload import Pack, read_layout
from covey.secret import Secret
from covey.store.segments import Segment, open_segment
from covey.wire.data_link import Borrowed, Patience
from covey.wire.keys import Keys
from covey.worker import serving
from covey.worker.core import orders
from covey.worker.core.extents import Extents
from covey.worker.core.state import WorkerState
from covey.worker.serving import DataServer
from covey.worker.storage import Storage
from covey.worker.transfers import Transfers
from covey.worker.turns import Turns

KEYS = Keys.of_client(Secret(b"s" * 32))
ELSEWHERE = "another machine"
SOURCE = str(Path(covey.__file__).parent)
PATIENCE_SECONDS = 30


async def always_room(_):
    return ""


@contextlib.asynccontextmanager
async def keeper(
    room_for=always_room, on_orphans=lambda _: None, on_garbled=lambda _: None
):
    """Yield a store, its addresses, and somebody who may ask for what is on it."""
    storage = Storage(1 << 30)
    server = DataServer(storage, KEYS, "1", room_for, on_orphans, on_garbled)
    asker = Asker(KEYS, "1", "somebody")
    with tempfile.TemporaryDirectory(prefix="cd-") as folder:
        places = [Address("", 0, f"{folder}/d"), Address("127.0.0.1", 0, "")]
        addresses = tuple([str(await server.listen(place)) for place in places])
        try:
            yield storage, addresses, asker
        finally:
            asker.close()
            await server.close()
            await storage.close()
            # Both ends learn of it in the next turns.
            for _ in range(5):
                await asyncio.sleep(0)


def big(number, mebibytes):
    return [b"head", bytes([number % 256]) * (mebibytes << 20)]


def put_large(storage, task, frames):
    made = Segment.of(frames)
    storage.adopt(task, made.place, made.size)
    made.close()


def content(segment):
    frames = read_layout(open_segment(segment.place, segment.size).view)
    return [bytes(frame) for frame in frames]


async def moved(asker, nbytes, way="bytes_received"):
    """Wait until so many bytes have come, or gone, on the links of *asker*."""
    while not any(  # noqa: ASYNC110  (a link tells nobody how far it is)
        keeper.link is not None and getattr(keeper.link, way) >= nbytes
        for keeper in asker._keepers.values()
    ):
        await asyncio.sleep(0)


def small(*values):
    return Pack.of(list(values))


@pytest.mark.parametrize("host", [host_identity(), ELSEWHERE], ids=["here", "there"])
def test_what_compresses_is_loaded_for_other_machines_only(run, host, monkeypatch):
    """It takes some milliseconds on each side, before the first value comes."""
    loads = []

    def load():
        loads.append(host)
        return {}

    monkeypatch.setattr("covey.net.codecs.installed", load)

    async def story():
        async with keeper() as (storage, addresses, asker):
            put_large(storage, 20, big(1, 9))
            loot = await asker.get(addresses, ((20, 1),), host)
            assert len(loot.lent) + len(loot.segments) == 1
            loot.discard()
            assert not await asker.put(addresses, 21, big(2, 9), host)
            assert storage.shelf.at(21) is not None

    run(story())
    assert bool(loads) == (host == ELSEWHERE)


def test_what_is_lent_takes_few_calls(run):
    """All of them are cold where a user has just worked with large arrays."""
    calls = []

    def note(frame, event, _):
        name = frame.f_code.co_filename
        if event == "call" and (SOURCE in name or "contextlib" in name):
            calls.append(f"{name.rpartition('/')[2]}:{frame.f_code.co_name}")

    async def story():
        async with keeper() as (storage, addresses, asker):
            tasks = asyncio.all_tasks()
            for task in (20, 21, 22):
                put_large(storage, task, big(1, 1))
                if task == 22:
                    sys.setprofile(note)
                try:
                    loot = await asker.get(addresses, ((task, 1),), host_identity())
                finally:
                    sys.setprofile(None)
                assert len(loot.lent) == 1
            # That of the server's end of the link, which was made for the first one.
            assert len(asyncio.all_tasks() - tasks) == 1

    run(story())
    assert not [name for name in calls if name.startswith("contextlib")]
    # On both sides together, with the coroutines that go on where they have waited.
    assert len(calls) <= 65, calls


@pytest.mark.parametrize("host", [host_identity(), ELSEWHERE], ids=["here", "there"])
def test_values_small_and_large(run, host):
    async def story():
        async with keeper() as (storage, addresses, asker):
            storage.put(10, small(b"a", b"b", b"c"))
            put_large(storage, 20, big(1, 9))
            loot = await asker.get(addresses, ((9, 5), (20, 1), (30, 2)), host)
            ((base, pack),) = loot.packs
            assert (base, len(pack)) == (10, 3)
            assert set(loot.lacking) == {(9, 1), (13, 1), (30, 2)}
            if host == ELSEWHERE:
                ((task, segment),) = loot.segments
                assert content(segment) == big(1, 9)
                assert not loot.lent
            else:
                ((task, path, nbytes),) = loot.lent
                frames = read_layout(open_segment(path, nbytes).view)
                assert [bytes(f) for f in frames] == big(1, 9)
                assert not loot.segments
            assert task == 20
            loot.discard()

    run(story())


@pytest.mark.parametrize("host", [host_identity(), ELSEWHERE], ids=["here", "there"])
def test_bringing_and_asking_at_once(run, host):
    """All over one connection: values of one must not land among another's."""

    async def story():
        async with keeper() as (storage, addresses, asker):
            for task in range(4):
                put_large(storage, task, big(task, 6))
            storage.put(50, small(*(bytes([n]) * 100 for n in range(200))))

            async def ask(task):
                loot = await asker.get(addresses, ((task, 1), (50, 200)), host)
                for _, segment in loot.segments:
                    assert content(segment) == big(task, 6)
                for _, path, nbytes in loot.lent:
                    frames = read_layout(open_segment(path, nbytes).view)
                    assert [bytes(f) for f in frames] == big(task, 6)
                assert len(loot.segments) + len(loot.lent) == 1
                loot.discard()

            async def bring(task):
                await asker.put(addresses, task, big(task, 5), host)
                (found,) = storage.find(task, 1)
                assert content(found[2].segment) == big(task, 5)

            await asyncio.gather(
                *(ask(n) for n in range(4)),
                *(bring(300 + n) for n in range(4)),
                *(ask(n) for n in range(4)),
            )

    run(story())


def test_a_value_that_goes_while_others_are_sent_is_lacking(run):
    async def story():
        async with keeper() as (storage, addresses, asker):
            for task in range(3):
                put_large(storage, task, big(task, 30))
            asking_all = asyncio.ensure_future(
                asker.get(addresses, ((0, 3),), ELSEWHERE)
            )
            await moved(asker, 1 << 20)
            storage.drop(2, 1)
            # Its number is free now; another value may take it.
            put_large(storage, 9, big(9, 30))
            loot = await asking_all
            assert loot.lacking == ((2, 1),)
            assert [task for task, _ in loot.segments] == [0, 1]
            for task, segment in loot.segments:
                assert content(segment) == big(task, 30)
            loot.discard()

    run(story())


def links_of(asker):
    return [keeper.link for keeper in asker._keepers.values() if keeper.link]


def test_a_cancelled_request_spoils_no_other(run):
    async def story():
        async with keeper() as (storage, addresses, asker):
            put_large(storage, 1, big(1, 20))
            put_large(storage, 2, big(2, 20))
            one = asyncio.ensure_future(asker.get(addresses, ((1, 1),), ELSEWHERE))
            await moved(asker, 1 << 20)
            one.cancel()
            bringing = asyncio.ensure_future(
                asker.put(addresses, 3, big(3, 20), ELSEWHERE)
            )
            await moved(asker, 1 << 20, "bytes_sent")
            bringing.cancel()
            loot = await asker.get(addresses, ((2, 1),), ELSEWHERE)
            assert content(loot.segments[0][1]) == big(2, 20)
            loot.discard()
            for future in (one, bringing):
                with pytest.raises(asyncio.CancelledError):
                    await future

    run(story())


@pytest.mark.parametrize("host", [host_identity(), ELSEWHERE], ids=["here", "there"])
@pytest.mark.parametrize("stopped", ["before", "with"])
def test_who_stops_to_wait_for_what_is_under_way_is_told_of_it(
    run, monkeypatch, host, stopped
):
    """The value is at the worker then, and somebody has to say that nobody wants it."""

    async def story():
        async with keeper() as (storage, addresses, asker):
            here, left = [], []
            coming = asyncio.ensure_future(
                asker.put(addresses, 1, big(1, 2), host, on_left=lambda: left.append(1))
            )
            keep, settle = DataServer._keep, answers.Request.settle

            def kept(*args):
                here.append(1)
                keep(*args)
                if stopped == "before":
                    coming.cancel()

            def settled(request, result):
                settle(request, result)
                if here and stopped == "with":
                    coming.cancel()

            monkeypatch.setattr(DataServer, "_keep", kept)
            monkeypatch.setattr(answers.Request, "settle", settled)
            with pytest.raises(asyncio.CancelledError):
                await coming
            # Answers come in the order of what was asked.
            await asker.get(addresses, ((1, 1),), host_identity())
            assert left == [1]
            assert [task for task, _, _ in storage.held()] == [1]

    run(story())


@pytest.mark.parametrize("host", [host_identity(), ELSEWHERE], ids=["here", "there"])
def test_who_stops_to_wait_as_memory_is_lent_gives_it_back(run, monkeypatch, host):
    async def story():
        async with keeper() as (storage, addresses, asker):
            coming = asyncio.ensure_future(asker.put(addresses, 1, big(1, 2), host))
            settle = answers.Request.settle

            def settled(request, result):
                settle(request, result)
                if isinstance(result, Borrowed):
                    coming.cancel()

            monkeypatch.setattr(answers.Request, "settle", settled)
            with pytest.raises(asyncio.CancelledError):
                await coming
            monkeypatch.undo()
            # Answers come in the order of what was asked.
            await asker.get(addresses, ((1, 1),), host_identity())
            assert storage.lent_bytes == 0 and not [*storage.held()]

    run(story())


def test_nothing_stays_of_a_worker_that_is_gone_but_the_count_of_its_bytes(run):
    async def story():
        async with keeper() as (storage, addresses, asker):
            put_large(storage, 1, big(1, 1))
            for came in (1, 2):
                loot = await asker.get(addresses, ((1, 1),), ELSEWHERE)
                loot.discard()
                assert set(asker.links()) == {f"from {addresses[-1]}"}
                (link,) = links_of(asker)
                link.abort()
                while not link.lost:  # noqa: ASYNC110  (the link tells the asker)
                    await asyncio.sleep(0)
                assert asker.links() == {}
                assert not asker._keepers
                assert not asker._opening
                assert asker.bytes_received > came << 20

    run(story())


def test_a_keeper_that_goes_in_the_middle_is_an_error(run):
    async def story():
        async with keeper() as (storage, addresses, asker):
            put_large(storage, 1, big(1, 60))
            getting = asyncio.ensure_future(asker.get(addresses, ((1, 1),), ELSEWHERE))
            putting = asyncio.ensure_future(
                asker.put(addresses, 2, big(2, 60), ELSEWHERE)
            )
            await moved(asker, 1 << 20)
            for link in links_of(asker):
                link.abort()
            for future in (getting, putting):
                with pytest.raises(Disconnected):
                    await future
            # A new connection is opened for who asks again.
            loot = await asker.get(addresses, ((1, 1),), ELSEWHERE)
            assert content(loot.segments[0][1]) == big(1, 60)
            loot.discard()

    run(story())


def test_a_keeper_without_room_says_so(run, monkeypatch):
    async def story():
        async with keeper() as (storage, addresses, asker):

            def full(*_):
                raise OSError(28, "No space left on device")

            put_large(storage, 2, big(2, 5))
            monkeypatch.setattr(os, "pwrite", full)
            for host in (ELSEWHERE, host_identity()):
                with pytest.raises(ClusterError, match="could not take.*No space"):
                    await asker.put(addresses, 1, big(1, 5), host)
            assert len(storage.shelf) == 1
            while storage.lent_bytes:  # noqa: ASYNC110  (what was lent comes back)
                await asyncio.sleep(0)
            with pytest.raises(ClusterError, match="No space"):
                await asker.get(addresses, ((2, 1),), ELSEWHERE)
            monkeypatch.undo()
            await asker.put(addresses, 1, big(1, 5), ELSEWHERE)
            assert len(storage.shelf) == 2

    run(story())


def test_a_server_that_breaks_cuts_the_link(run, monkeypatch):
    async def story():
        async with keeper() as (storage, addresses, asker):
            put_large(storage, 1, big(1, 1))

            def broken(_):
                raise OSError(24, "Too many open files")

            monkeypatch.setattr(Segment, "map", broken)
            with pytest.raises(Disconnected):
                await asker.get(addresses, ((1, 1),), ELSEWHERE)

    run(story())


def test_nobody_there(run, monkeypatch):
    async def story():
        asker = Asker(KEYS, "1", "somebody")
        addresses = ("unix:/nowhere/at/all", "tcp://127.0.0.1:1")
        with pytest.raises(Disconnected, match="cannot be reached at any of"):
            await asker.get(addresses, ((1, 1),), host_identity())
        asker.close()

    monkeypatch.setattr(reaching, "_TCP_SECONDS", 0.0)
    run(story())


def test_no_more_comes_at_once_than_there_is_room_for(run):
    async def story():
        async with keeper() as (storage, addresses, asker):
            for task in range(5):
                put_large(storage, task, big(task, 2))
            storage.put(50, small(b"a", b"b"))
            wanted = ((0, 5), (7, 1), (50, 2))
            rounds = []
            while wanted:
                loot = await asker.get(addresses, wanted, ELSEWHERE, budget=3 << 20)
                rounds.append([task for task, _ in loot.segments])
                for task, segment in loot.segments:
                    assert content(segment) == big(task, 2)
                assert loot.lacking == (((7, 1),) if len(rounds) == 3 else ())
                wanted = loot.rest
                loot.discard()
            assert rounds == [[0, 1], [2, 3], [4]]
            # What is lent takes no room.
            loot = await asker.get(addresses, ((0, 5),), host_identity(), budget=1)
            assert len(loot.lent) == 5
            assert not loot.rest

    run(story())


@pytest.mark.parametrize("host", [host_identity(), ELSEWHERE], ids=["here", "there"])
def test_who_brings_a_value_waits_for_room_or_is_told_why_not(run, host):
    async def story():
        answers = asyncio.Queue()

        async def room_for(nbytes):
            assert nbytes > 5 << 20
            return await answers.get()

        async with keeper(room_for) as (storage, addresses, asker):
            first, second = (
                asyncio.ensure_future(asker.put(addresses, n, big(n, 5), host))
                for n in range(2)
            )
            answers.put_nowait("")
            await first
            assert not second.done()
            assert len(storage.shelf) == 1
            # Nothing is sent that was not agreed to.
            assert all(link.bytes_sent < 6 << 20 for link in links_of(asker))
            answers.put_nowait("it is full")
            with pytest.raises(ClusterError, match="could not take.*it is full"):
                await second
            assert storage.lent_bytes == 0

    run(story())


def test_what_was_brought_by_somebody_who_is_gone_is_asked_about(run, monkeypatch):
    monkeypatch.setattr(serving, "ORPHAN_SECONDS", 0.01)

    async def story():
        orphans = asyncio.Queue()
        async with keeper(on_orphans=orphans.put_nowait) as (_, addresses, asker):
            await asker.put(addresses, 1, big(1, 1), host_identity())
            await asker.put(addresses, 2, big(2, 1), ELSEWHERE)
            assert orphans.empty()
            for link in links_of(asker):
                link.abort()
            assert await orphans.get() == {1, 2}

    run(story())


def test_many_small_values_come_in_few_frames(run):
    values = [bytes([n % 251]) * (500 + 37 * (n % 100)) for n in range(1500)]

    async def story():
        async with keeper() as (storage, addresses, asker):
            storage.put(100, small(*values))
            storage.drop(400, 1)
            storage.put(5000, small(b"x" * 3_000_000, b"y"))
            loot = await asker.get(addresses, ((100, 1500), (5000, 2)), host_identity())
            assert loot.lacking == ((400, 1),)
            found = {}
            for base, pack in loot.packs:
                found |= {base + at: bytes(value) for at, value in enumerate(pack)}
            expected = dict(enumerate(values, 100)) | {
                5000: b"x" * 3_000_000,
                5001: b"y",
            }
            del expected[400]
            assert found == expected
            # Frames of about half a megabyte each, and one for what is larger.
            assert len(loot.packs) < sum(map(len, values)) / 400_000 + 5

    run(story())


@contextlib.asynccontextmanager
async def asker_of(number=7):
    """Yield an asker that speaks for a client, and the id of its first task."""
    asker = Asker(KEYS, "1", "client", number)
    try:
        yield asker, first_task_id(number)
    finally:
        asker.close()


def bundles_of(loot):
    return [base for base, pack in loot.packs if isinstance(pack.data, memoryview)]


def test_many_small_values_are_lent_together_to_a_client_of_this_machine(run):
    values = [bytes([n % 251]) * 10_000 for n in range(4000)]

    async def story():
        async with keeper() as kept, asker_of() as (asker, base):
            storage, addresses, _ = kept
            for at in range(0, 4000, 500):
                storage.put(base + at, small(*values[at : at + 500]))
            loot = await asker.get(addresses, ((base, 4001),), host_identity())
            assert loot.lacking == ((base + 4000, 1),)
            assert len(bundles_of(loot)) == len(loot.packs) == 8
            # The values themselves went past the connection.
            assert asker.bytes_received < 100_000
            found = {}
            for first, pack in loot.packs:
                found |= {first + at: bytes(v) for at, v in enumerate(pack)}
            assert found == dict(enumerate(values, base))
            # What is being read counts as memory, and is free again afterwards.
            assert storage.lent_bytes + storage.pool.lingering_bytes > 40_000_000
            del loot, pack
            while storage.lent_bytes:  # noqa: ASYNC110  (a link tells nobody)
                await asyncio.sleep(0)
            storage.sweep()
            assert storage.pool.lingering_bytes == 0

    run(story())


@pytest.mark.parametrize("why", ["few", "elsewhere", "a worker", "no memory"])
def test_small_values_come_in_messages_where_they_cannot_be_lent(run, why, monkeypatch):
    count = 50 if why == "few" else 500
    values = [bytes([n % 251]) * 10_000 for n in range(count)]
    number = 0 if why == "a worker" else 7
    host = ELSEWHERE if why == "elsewhere" else host_identity()

    async def story():
        async with keeper() as kept, asker_of(number) as (asker, base):
            storage, addresses, _ = kept
            storage.put(base, small(*values))
            if why == "no memory":
                storage.limit_bytes = 10_000_000
            loot = await asker.get(addresses, ((base, count),), host)
            assert not bundles_of(loot)
            found = [bytes(v) for _, pack in loot.packs for v in pack]
            assert found == values
            assert storage.lent_bytes == 0

    run(story())


def test_a_bundle_that_is_never_opened_comes_back_with_the_end_of_the_link(
    run, monkeypatch
):
    monkeypatch.setattr(answers, "_unwrap", lambda *_: None)

    async def story():
        async with keeper() as kept, asker_of() as (asker, base):
            storage, addresses, _ = kept
            storage.put(base, small(*[bytes(10_000)] * 500))
            await asker.get(addresses, ((base, 500),), host_identity())
            assert storage.lent_bytes > 5_000_000
            asker.close()
            while storage.lent_bytes:  # noqa: ASYNC110  (a link tells nobody)
                await asyncio.sleep(0)
            assert storage.pool.lingering_bytes == 0

    run(story())


def test_whoever_stops_waiting_for_a_thread_that_writes_frees_nothing_under_it(run):
    async def story():
        storage = Storage(1 << 30)
        began, go_on = threading.Event(), threading.Event()

        class Slow(Segment):
            def write_frames(self, frames):
                began.set()
                go_on.wait(PATIENCE_SECONDS)
                super().write_frames(frames)

        storage._warm = Slow.create
        work = asyncio.ensure_future(storage.write_new(1 << 20, big(1, 0)))
        await asyncio.to_thread(began.wait, PATIENCE_SECONDS)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert storage.lent_bytes == 1 << 20
        go_on.set()
        await storage.close()
        assert storage.lent_bytes == 0

    run(story())


@pytest.mark.parametrize("host", [host_identity(), ELSEWHERE], ids=["here", "there"])
def test_what_came_of_a_fetch_that_failed_does_not_stay(run, host):
    async def story():
        state, events = WorkerState(1, 1), []

        def step(event):
            events.append(event)
            if isinstance(event, orders.Fetched):
                state.copies.add(*event.extent)

        async with keeper() as (there, addresses, _):
            there.put(10, small(b"a", b"b", b"c", b"d"))
            put_large(there, 20, big(1, 1))
            put_large(there, 30, big(2, 1))
            put_large(there, 40, big(3, 1))
            here = Storage(1 << 30)
            here.put(11, small(b"b"))
            state.made.add(11, 1)
            put_large(here, 40, big(3, 1))
            tasks = []
            fetcher = Asker(KEYS, "1", "another worker", memory=here)
            transfers = Transfers(
                here,
                fetcher,
                step,
                lambda work: tasks.append(asyncio.ensure_future(work)),
                always_room,
                state,
            )
            transfers.know_peer(orders.KnowPeer(7, addresses, host))
            # Of the first and the last of these, something is lacking.
            for extent in [(10, 8), (30, 1), (20, 21)]:
                transfers.fetch(orders.FetchFrom(7, extent))
            await asyncio.sleep(0)
            await asyncio.gather(*tasks)
            failed = [e for e in events if isinstance(e, orders.FetchFailed)]
            assert {event.extent for event in failed} == {(10, 8), (20, 21)}
            # What was made here stays, what came whole, and what a client has put.
            held = {base for base, _, _ in here.held()}
            assert held == {11, 30, 40}
            fetcher.close()
            await here.close()

    run(story())


@contextlib.asynccontextmanager
async def fetching(holders):
    """Yield transfers that know *holders*, ``{number: addresses}``, and their events."""
    here = Storage(64 << 20)
    state, events, tasks = WorkerState(1, 1), [], []
    asker = Asker(KEYS, "1", "another worker", memory=here)
    transfers = Transfers(
        here,
        asker,
        events.append,
        lambda work: tasks.append(asyncio.ensure_future(work)),
        always_room,
        state,
    )
    for number, addresses in holders.items():
        transfers.know_peer(orders.KnowPeer(number, addresses, ELSEWHERE))

    async def done():
        await asyncio.sleep(0)
        while tasks:
            await tasks.pop()
        return events

    try:
        yield transfers, done
    finally:
        asker.close()
        await here.close()


def test_the_most_urgent_comes_first_and_is_told_before_the_rest_has_come(run):
    async def story():
        async with keeper() as (there, addresses, _):
            for task in range(4):
                put_large(there, task, big(task, 3))
            there.put(50, small(b"a"))
            async with fetching({7: addresses}) as (transfers, done):
                ranks = {(0, 1): (), (1, 1): (0, 9, 0), (2, 1): (0, 1, 0), (3, 1): (5,)}
                for extent, rank in ranks.items():
                    transfers.fetch(orders.FetchFrom(7, extent, rank))
                transfers.fetch(orders.FetchFrom(7, (50, 1), (9,)))
                parts = []
                tell = transfers._tell
                transfers._tell = lambda e, whole, failed: (
                    parts.append(whole),
                    tell(e, whole, failed),
                )
                events = await done()
            told = [event.extent for event in events]
            assert told == [(2, 1), (1, 1), (3, 1), (50, 1), (0, 1)]
            # 2 MiB of credit each time: what has come is not held up by the rest.
            assert [len(part) for part in parts] == [1, 1, 1, 2, 0]

    run(story())


def test_what_a_holder_lacks_fails_and_the_rest_does_not(run):
    async def story():
        async with keeper() as (there, addresses, _):
            put_large(there, 1, big(1, 3))
            there.put(10, small(b"a", b"b"))
            async with fetching({7: addresses, 8: ("127.0.0.1:1",)}) as (
                transfers,
                done,
            ):
                for extent in [(1, 2), (10, 2), (20, 1)]:
                    transfers.fetch(orders.FetchFrom(7, extent))
                events = await done()
            ends = {event.extent: type(event) for event in events}
            assert ends == {
                (1, 2): orders.FetchFailed,
                (10, 2): orders.Fetched,
                (20, 1): orders.FetchFailed,
            }

    run(story())


def test_a_holder_that_says_nothing_any_more_is_given_up(run, monkeypatch):
    monkeypatch.setattr(answers, "SILENCE_SECONDS", 0.05)

    async def never(*_):
        await asyncio.get_running_loop().create_future()

    async def story():
        async with keeper() as (storage, addresses, asker):
            storage.put(1, small(b"a"))
            with monkeypatch.context() as stuck:
                stuck.setattr(DataServer, "_answer", never)
                with pytest.raises(Disconnected, match="nothing has come for"):
                    await asker.get(addresses, ((1, 1),), ELSEWHERE)
            # Whoever answers is asked again.
            loot = await asker.get(addresses, ((1, 1),), ELSEWHERE)
            assert [base for base, _ in loot.packs] == [1]

    run(story())


def test_a_holder_that_reads_from_disk_asks_for_patience(run, monkeypatch):
    monkeypatch.setattr(serving, "PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(answers, "SILENCE_SECONDS", 2.0)
    said = asyncio.Event()
    on_messages = asking.on_messages

    def listen(keeper, memory, link, batch):
        if any(isinstance(message, Patience) for message in batch):
            said.set()
        on_messages(keeper, memory, link, batch)

    monkeypatch.setattr(asking, "on_messages", listen)

    async def story():
        async with keeper() as (storage, addresses, asker):
            put_large(storage, 1, big(1, 1))
            storage.shelf.segment(1).on_disk = True
            in_memory = storage.in_memory

            async def slow(segment):
                await said.wait()
                return await in_memory(segment)

            storage.in_memory = slow
            loot = await asker.get(addresses, ((1, 1),), ELSEWHERE)
            assert content(loot.segments[0][1]) == big(1, 1)
            loot.discard()
            storage.shelf.segment(1).on_disk = False
            assert storage.lent_bytes == 0

    run(story())


def garble(monkeypatch):
    """Flip one bit of the next large value on its way."""
    take = Arrival.take
    flipped = []

    def garbled(arrival, data):
        if len(data) > 1000 and not flipped:
            data = bytearray(data)
            data[500] ^= 4
            flipped.append(data)
        take(arrival, data)

    monkeypatch.setattr(Arrival, "take", garbled)


def test_what_is_garbled_on_its_way_is_lacking_and_counted(run, monkeypatch):
    async def story():
        async with keeper() as (storage, addresses, asker):
            put_large(storage, 1, big(1, 1))
            put_large(storage, 2, big(2, 1))
            garble(monkeypatch)
            loot = await asker.get(addresses, ((1, 2), (3, 1)), ELSEWHERE)
            assert loot.lacking == ((1, 1), (3, 1))
            assert [task for task, _ in loot.segments] == [2]
            assert content(loot.segments[0][1]) == big(2, 1)
            loot.discard()
            assert asker.garbled == 1
            loot = await asker.get(addresses, ((1, 1),), ELSEWHERE)
            assert content(loot.segments[0][1]) == big(1, 1)
            loot.discard()

    run(story())


def test_what_is_garbled_while_it_is_brought_is_refused(run, monkeypatch):
    async def story():
        async with keeper() as (storage, addresses, asker):
            garble(monkeypatch)
            with pytest.raises(ClusterError, match="checksum"):
                await asker.put(addresses, 1, big(1, 1), ELSEWHERE)
            assert storage.shelf.segment(1) is None
            assert storage.lent_bytes == 0
            await asker.put(addresses, 1, big(1, 1), ELSEWHERE)
            assert content(storage.shelf.segment(1)) == big(1, 1)

    run(story())


def test_what_the_disk_garbles_is_lacking_and_told(run):
    async def story():
        lost = []

        def on_garbled(task, why):
            lost.append(task)
            assert "that are not those written" in why

        async with keeper(on_garbled=on_garbled) as (storage, addresses, asker):
            for task in (1, 2):
                put_large(storage, task, big(task, 1))
            storage.release(4 << 20)
            while storage._spills:
                await asyncio.wait(storage._spills)
            segment = storage.shelf.segment(1)
            assert segment.on_disk
            os.pwrite(segment.fd, b"x", 500_000)
            loot = await asker.get(addresses, ((1, 2),), ELSEWHERE)
            assert loot.lacking == ((1, 1),)
            assert content(loot.segments[0][1]) == big(2, 1)
            loot.discard()
            assert lost == [1]
            assert storage.lent_bytes == 0

    run(story())


def test_turns_go_to_the_most_urgent_and_one_to_a_holder():
    async def story():
        turns, began, go_on = Turns(2), [], {}

        async def work(name, holder, urgency):
            async with turns.turn(holder, urgency):
                began.append(name)
                await go_on.setdefault(name, asyncio.Event()).wait()

        async def settle():
            for _ in range(5):
                await asyncio.sleep(0)

        tasks = {}
        wishes = [("a", 1, (5,)), ("b", 1, (0,)), ("c", 2, (9,)), ("d", 3, (1,))]
        for name, holder, urgency in wishes:
            tasks[name] = asyncio.ensure_future(work(name, holder, urgency))
        await settle()
        # Who comes first is served at once; of one holder there is one at a time.
        assert began == ["a", "c"]
        tasks["e"] = asyncio.ensure_future(work("e", 4, (0,)))
        await settle()
        tasks["e"].cancel()
        go_on["c"].set()
        await settle()
        assert began == ["a", "c", "d"]
        tasks["a"].cancel()
        await settle()
        assert began == ["a", "c", "d", "b"]
        go_on["b"].set()
        go_on["d"].set()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
        async with turns.turn(1, ()), turns.turn(2, ()):
            pass

    asyncio.run(story())


@given(
    there=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 6)), max_size=6),
    asked=st.tuples(st.integers(0, 30), st.integers(1, 12)),
)
def test_gaps_are_what_is_not_there(there, asked):
    extents = Extents()
    for extent in there:
        extents.add(*extent)
    held = {task for base, n in there for task in range(base, base + n)}
    base, n = asked
    gaps = list(extents.gaps(base, n))
    lacking = [task for start, count in gaps for task in range(start, start + count)]
    assert lacking == [task for task in range(base, base + n) if task not in held]
    assert all(a + m < b for (a, m), (b, _) in pairwise(gaps))
    assert {task for b, m in extents for task in range(b, b + m)} == held


@pytest.mark.parametrize("host", [host_identity(), ELSEWHERE], ids=["here", "there"])
def test_a_link_that_lives_long_does_not_remember_what_was_dropped(
    run, host, monkeypatch
):
    monkeypatch.setattr(serving, "ORPHAN_SECONDS", 0.01)

    async def story():
        orphans = asyncio.Queue()
        async with keeper(on_orphans=orphans.put_nowait) as (storage, addresses, asker):
            for task in range(200):
                await asker.put(addresses, task, [bytes(70_000)], host)
                if task >= 3:
                    storage.drop(task, 1)
            for link in links_of(asker):
                link.abort()
            remembered = await orphans.get()
            assert {0, 1, 2} <= remembered
            assert len(remembered) <= serving._BROUGHT_MIN

    run(story())
