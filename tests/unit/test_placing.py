"""Into which messages values go that a client scatters."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest

from covey.client.choices import Where
from covey.client.placing import (
    BATCH_TASKS,
    CHUNK_BYTES,
    CHUNK_TASKS,
    FIRST_CHUNK_TASKS,
    Placer,
)
from covey.payload import Pack
from covey.serde.packing import LIMIT_BYTES, Packer, loads_pack
from covey.serde.values import loads
from covey.wire.client_link import Scatter
from covey.wire.framing import FRAME_BYTES_MAX

LARGE = b"x" * (1 << 20)


class Desk(Placer):
    """A placer that keeps what it would send, and notes what it pickled by itself."""

    def __init__(self):
        self.posted = []
        engine = SimpleNamespace(
            post=self.posted.append, check=lambda: None, new_tasks=lambda n: 1000
        )
        session = SimpleNamespace(
            engine=engine,
            enter=lambda wish: None,
            drop_in_order=lambda made, items: None,
            let_go=self._let_go,
        )
        form = SimpleNamespace(packer=lambda: Noting(self))
        writing = SimpleNamespace(form=lambda name: form, chosen=contextlib.nullcontext)
        self.released = []
        self.brought = []
        self.alone = 0
        super().__init__(session, writing)

    def _let_go(self, handles):
        self.released += [(wish.base, index, n) for wish, index, n in handles]

    def bring_all(self, cargo, where=None):
        self.posted += [(task, loads(frames)) for task, frames in cargo.values]
        self.brought.append(len(cargo.values))
        cargo.clear()

    def scattered(self):
        """Return values by task, as they were sent."""
        found = {}
        for message in self.posted:
            if isinstance(message, Scatter):
                pack = Pack.from_wire(message.sizes, message.data)
                assert len(pack) == message.n
                found |= enumerate(loads_pack(pack), message.base)
            else:
                found |= [message]
        return dict(sorted(found.items()))

    def sizes(self):
        return [message.n for message in self.posted if isinstance(message, Scatter)]


class Noting(Packer):
    """Notes what was added by itself."""

    def __init__(self, desk):
        super().__init__()
        self._desk = desk

    def add(self, value, name="value"):
        self._desk.alone += 1
        return super().add(value, name)


@pytest.fixture
def desk():
    return Desk()


def test_many_small_values_are_pickled_together(desk):
    values = [(float(i), -float(i)) for i in range(10_000)]
    desk.scatter(values, Where())
    assert desk.scattered() == {1000 + i: value for i, value in enumerate(values)}
    assert desk.alone == 0
    # As a map cuts what it takes of them, one for one.
    assert desk.sizes()[:2] == [FIRST_CHUNK_TASKS, CHUNK_TASKS]
    assert len(desk.posted) == 1 + -(-(10_000 - FIRST_CHUNK_TASKS) // CHUNK_TASKS)


def test_medium_values_fill_no_message_by_more_than_a_batch(desk):
    values = [bytes(4096) + bytes([i % 256]) for i in range(200)]
    desk.scatter(values, Where())
    assert list(desk.scattered().values()) == values
    most = CHUNK_BYTES + BATCH_TASKS * 5000
    assert max(len(message.data) for message in desk.posted) < most


def test_medium_values_behind_tiny_ones_still_fit_into_a_frame(desk):
    values = [*range(1000), *([bytes(LIMIT_BYTES - 100)] * 1000)]
    desk.scatter(values, Where())
    assert list(desk.scattered().values()) == values
    assert desk.alone == 0
    assert max(len(message.data) for message in desk.posted) < FRAME_BYTES_MAX // 2 + 1


@pytest.mark.parametrize("where", [(0,), (1,), (40,), (3, 4), (99,), range(100)])
def test_large_values_among_small_ones_keep_their_places(desk, where):
    values = [LARGE if i in where else i for i in range(100)]
    desk.scatter(values, Where())
    assert list(desk.scattered().values()) == values
    assert list(desk.scattered()) == list(range(1000, 1100))


def test_few_large_values_are_not_all_pickled_at_once(desk):
    seen = []
    add_all = Noting.add_all

    class Watching(Noting):
        def add_all(self, values, before=b""):
            seen.append(len(values))
            return add_all(self, values, before)

    desk.writing.form = lambda name: SimpleNamespace(packer=lambda: Watching(desk))
    desk.scatter([[0] * 100_000 for _ in range(20)], Where())
    assert seen == [1]
    assert desk.alone == 20


def test_what_cannot_be_pickled_is_named_by_its_place(desk):
    values = [*range(50), (i for i in range(3)), *range(50)]
    with pytest.raises(TypeError) as failed:
        desk.scatter(values, Where())
    assert "item 50 of what was to be scattered" in failed.value.__notes__
    assert desk.released == [(1000, 0, 101)]


@pytest.mark.parametrize("where", [(0,), (0, 40), (1,), (5000, 5001)])
def test_small_values_behind_a_large_one_are_pickled_together_again(desk, where):
    values = [LARGE if i in where else float(i) for i in range(20_000)]
    desk.scatter(values, Where())
    assert desk.scattered() == {1000 + i: value for i, value in enumerate(values)}
    assert desk.alone < 400
    # A message ends at a large value, and else when it is full.
    assert len(desk.posted) < 20_000 / CHUNK_TASKS + 3 + 2 * len(where)


def test_large_values_are_tried_with_others_no_more_than_once(desk, monkeypatch):
    tried, add_all = [], Noting.add_all
    monkeypatch.setattr(
        Noting, "add_all", lambda self, some: tried.append(1) or add_all(self, some)
    )
    desk.scatter([LARGE] * 200, Where())
    assert len(tried) == 1
