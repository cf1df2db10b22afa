"""Large results on their way into the store: what is lent, and what becomes of it."""

from __future__ import annotations

import errno
import os

import pytest

from covey.payload import Pack
from covey.store import segments
from covey.store.digests import of_pack
from covey.store.segments import fill
from covey.wire.worker_link import Ran, RanNodes, RanStored
from covey.worker.core import orders
from covey.worker.results import Results
from covey.worker.storage import Storage

MIB = 1 << 20


class Link:
    """Hears what a runner would be told."""

    def __init__(self):
        self.told = []

    def tell(self, operation, *_):
        self.told.append(operation)


@pytest.fixture
def storage():
    made = Storage(1 << 30)
    yield made
    made.shelf.clear()
    made.pool.clear()


def lend(storage, results):
    """Have warm memory lent to a runner; return where it may write."""
    warm = storage.lend(MIB)
    storage.keep(1, warm)
    storage.drop(1, 1)
    link = Link()
    results._lend(0, MIB, link)
    ((_, _, place),) = link.told
    return place


def test_what_could_not_be_written_is_given_back(storage, monkeypatch):
    results = Results(storage, "w")
    place = lend(storage, results)
    assert storage.lent_bytes == MIB
    write = os.pwrite

    def full(fd, data, offset):
        if offset:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data[:100], offset)

    with monkeypatch.context() as patched:
        patched.setattr(segments.os, "pwrite", full)
        with pytest.raises(OSError, match="No space"):
            fill(place, [b"head", bytes(MIB // 2)])
    results.revoke(unused_seconds=0.0)
    assert storage.lent_bytes == 0
    assert not results._loans
    # Who comes late finds nothing to write into.
    with pytest.raises(FileNotFoundError):
        fill(place, [b"head", bytes(9)])


def test_what_was_written_is_not_taken_back_before_it_is_told_of(storage):
    results = Results(storage, "w")
    fill(lend(storage, results), [b"head", bytes(9)])
    results.revoke(unused_seconds=0.0)
    assert storage.lent_bytes == MIB
    results.runner_ended(0)
    assert storage.lent_bytes == 0


def test_a_large_copy_stays_where_a_small_result_comes(storage):
    """It was on its way here when its only holder died, and was made again."""
    results = Results(storage, "w")
    copy = storage.lend(5_000)
    copy.write_frames([b"x" * 4_000])
    storage.keep(7, copy)
    results.bring_pack(6, Pack.of([b"one", b"two", b"three"]))
    results.stow(6, 3)
    told = list(results.messages(orders.Report(4, 6, 3, 0.3, 2)))
    assert [type(m) for m in told] == [Ran, RanStored, Ran]
    assert [(m.run, m.base, m.n, m.slot) for m in told] == [
        (4, 6, 1, 2),
        (4, 7, 1, 2),
        (4, 8, 1, 2),
    ]
    assert (told[0].data, told[1].nbytes, told[2].data) == (b"one", copy.size, b"three")
    storage.drop(6, 3)


def test_of_single_tasks_only_a_large_copy_is_told_of_by_itself(storage):
    results = Results(storage, "w")
    copy = storage.lend(5_000)
    copy.write_frames([b"x" * 4_000])
    storage.keep(7, copy)
    results.bring_nodes((6, 7, 9), Pack.of([b"one", b"two", b"three"]))
    results.stow_nodes(orders.StowNodes([0, 1, 2]))
    order = orders.ReportNodes((1, 2, 3), (6, 7, 9), (0.1, 0.2, 0.3), (3, 3, 5), 4)
    large, small = results.messages(order)
    assert (large.run, large.base, large.n, large.slot) == (2, 7, 1, 4)
    known = of_pack(Pack.of([b"one", b"three"]))
    assert small == RanNodes((1, 3), (6, 9), (0.1, 0.3), (3, 5), 4, known)
    storage.drop(6, 4)


def test_memory_that_is_used_again_counts_with_all_its_pages(storage):
    """A value of half its length keeps the whole of it."""
    for task in range(4):
        segment = storage.lend(MIB)
        os.pwrite(segment.fd, b"x" * MIB, 0)
        storage.keep(task, segment)
    storage.drop(0, 4)
    held = []
    for task in range(4):
        segment = storage.lend(530_000)
        os.pwrite(segment.fd, b"y" * 530_000, 0)
        storage.keep(task, segment)
        held.append(os.fstat(segment.fd).st_blocks * 512)
    assert sum(held) == 4 * MIB
    assert storage.shared_bytes == 4 * MIB
    storage.drop(0, 4)
    assert storage.shared_bytes == 0
    assert storage.pool.free_bytes == 4 * MIB
