"""The ledger against a plain model: whatever happens, the accounts are exact."""

from __future__ import annotations

from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from covey.store.ledger import LOOKS, Ledger

tasks = st.integers(0, 12)


class LedgerMachine(RuleBasedStateMachine):
    """Values put, used, pinned, dropped, spilled, in any order, and a crash."""

    def __init__(self):
        super().__init__()
        self.ledger = Ledger()
        #: task -> [bytes, place]
        self.model = {}
        self.pinned = set()

    @rule(task=tasks, nbytes=st.integers(1, 1000))
    def put(self, task, nbytes):
        if task not in self.model:
            self.ledger.put(task, nbytes)
            self.model[task] = [nbytes, "memory"]

    @rule(task=tasks)
    def touch(self, task):
        self.ledger.touch(task)

    @rule(task=tasks)
    def pin(self, task):
        self.pinned ^= {task}

    @rule(task=tasks)
    def drop(self, task):
        assume(task in self.model)
        self.ledger.drop(task)
        del self.model[task]

    @rule(nbytes=st.integers(0, 3000))
    def choose(self, nbytes):
        chosen = self.ledger.choose(nbytes, self.pinned.__contains__)
        assert len(set(chosen)) == len(chosen)
        freed = 0
        for task in chosen:
            assert freed < nbytes
            assert self.model[task][1] == "memory"
            assert task not in self.pinned
            self.model[task][1] = "leaving"
            freed += self.model[task][0]
        if freed < nbytes:
            stay = [t for t, (_, place) in self.model.items() if place == "memory"]
            assert set(stay) <= self.pinned
            assert self.ledger.aside_bytes == self.bytes_in("memory")

    @rule(data=st.data(), works=st.booleans())
    def end_of_a_write(self, data, works):
        leaving = [t for t, (_, place) in self.model.items() if place == "leaving"]
        assume(leaving)
        task = data.draw(st.sampled_from(leaving))
        if works:
            # On disk it has its own length, without what it kept in memory beside it.
            self.model[task][0] -= self.model[task][0] // 3
            self.ledger.left(task, self.model[task][0])
        else:
            self.ledger.stays(task)
        self.model[task][1] = "disk" if works else "memory"

    @rule()
    def look_again(self):
        self.ledger.look_again(self.pinned.__contains__)
        aside = sum(n for t, (n, place) in self.model.items() if self.is_aside(t))
        assert self.ledger.aside_bytes == aside
        for task in self.model:
            assert not self.is_aside(task) or task in self.pinned

    def is_aside(self, task):
        return task in self.ledger._aside

    @rule()
    def crash(self):
        self.ledger.clear()
        self.model.clear()

    def bytes_in(self, *places):
        return sum(n for n, place in self.model.values() if place in places)

    @invariant()
    def every_byte_is_in_one_account(self):
        assert self.ledger.memory_bytes == self.bytes_in("memory", "leaving")
        assert self.ledger.leaving_bytes == self.bytes_in("leaving")
        assert self.ledger.disk_bytes == self.bytes_in("disk")
        assert 0 <= self.ledger.aside_bytes <= self.bytes_in("memory")
        assert len(self.ledger) == len(self.model)
        assert len(self.ledger._ranks) <= 65 + 4 * max(len(self.model), 13)


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(
    derandomize=True, deadline=None, max_examples=80, stateful_step_count=40
)


def never(_):
    return False


def test_what_was_used_last_stays_longest():
    ledger = Ledger()
    for task in range(4):
        ledger.put(task, 1000)
    assert ledger.choose(1, never) == [0]
    ledger.touch(1)
    assert ledger.choose(2001, never) == [2, 3, 1]


def test_large_values_go_before_small_ones():
    ledger = Ledger()
    ledger.put(1, 100_000)
    ledger.put(2, 50_000_000)
    assert ledger.choose(1, never) == [2]


def test_however_many_are_mapped_few_are_looked_at():
    ledger = Ledger()
    mapped = 20 * LOOKS
    for task in range(mapped + 1):
        ledger.put(task, 1000)
    looks = []

    def is_mapped(task):
        looks.append(task)
        return task < mapped

    chosen, calls = [], 0
    while not chosen:
        chosen = ledger.choose(1, is_mapped)
        calls += 1
        assert len(looks) <= 2 * LOOKS * calls
    # Nobody is passed over for ever, and what is mapped is known to be.
    assert chosen == [mapped]
    assert ledger.aside_bytes == 1000 * mapped
    # As soon as they are let go, they are found, those looked at longest ago first.
    mapped = 0
    assert len(ledger.choose(1 << 60, is_mapped)) == LOOKS


def test_small_values_that_nobody_uses_go_in_the_end():
    ledger = Ledger()
    ledger.put(0, 100_000)
    for task in range(1, 200):
        ledger.put(task, 10_000_000)
        (chosen,) = ledger.choose(1, never)
        ledger.left(chosen, 10_000)
        if not chosen:
            break
    assert not chosen
    assert task > 5
