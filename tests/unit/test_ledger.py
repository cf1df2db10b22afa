"""The ledger against a plain model: whatever happens, the accounts are exact."""

from __future__ import annotations

from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from covey.store.ledger import Ledger

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

    @rule(data=st.data(), works=st.booleans())
    def end_of_a_write(self, data, works):
        leaving = [t for t, (_, place) in self.model.items() if place == "leaving"]
        assume(leaving)
        task = data.draw(st.sampled_from(leaving))
        if works:
            self.ledger.left(task)
        else:
            self.ledger.stays(task)
        self.model[task][1] = "disk" if works else "memory"

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


def test_small_values_that_nobody_uses_go_in_the_end():
    ledger = Ledger()
    ledger.put(0, 100_000)
    for task in range(1, 200):
        ledger.put(task, 10_000_000)
        (chosen,) = ledger.choose(1, never)
        ledger.left(chosen)
        if not chosen:
            break
    assert not chosen
    assert task > 5
