"""Who is joined with whom, when the scheduler passes something on."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from covey.net import routes
from covey.net.routes import AGAIN_SECONDS, Routes
from covey.scheduler.core.passages import IDLE_SECONDS, MEET_SECONDS, Passages

AT_ONCE = 3


def joined(passages, asker, keeper, now=0.0):
    ticket = 1000 + len(passages)
    assert passages.asked(asker, ticket, now) == (True, None)
    assert passages.met(ticket, keeper, now) == asker


def test_one_end_takes_the_other_along():
    passages = Passages()
    joined(passages, "a", "k")
    assert len(passages) == 1
    assert passages.lost("k") == "a"
    assert passages.lost("a") is None
    assert not len(passages)


def test_who_has_waited_for_too_long_waits_no_more():
    passages = Passages()
    passages.asked("a", 1, 0.0)
    passages.asked("b", 2, 1.0)
    assert not passages.late(MEET_SECONDS - 0.1)
    assert passages.late(MEET_SECONDS) == ["a"]
    assert passages.waits
    # The worker comes too late, and finds nobody.
    assert passages.met(1, "k", MEET_SECONDS) is None
    assert not passages.knows("k")


def test_a_passage_on_which_nothing_is_said_makes_room():
    passages = Passages(AT_ONCE)
    for number, (asker, keeper) in enumerate(["ak", "bl", "cm"]):
        joined(passages, asker, keeper, float(number))
    passages.said("k", 3.0)  # So that "b" is the quietest.
    assert passages.asked("d", 1, 4.0) == (False, None)
    assert passages.asked("d", 1, IDLE_SECONDS + 0.9) == (False, None)
    assert passages.asked("d", 1, IDLE_SECONDS + 1.0) == (True, "b")
    assert not passages.knows("l")
    assert len(passages) == AT_ONCE


def test_those_who_wait_do_not_make_room():
    passages = Passages(1)
    passages.asked("a", 1, 0.0)
    assert passages.asked("b", 2, 1e6) == (False, None)


class Story(RuleBasedStateMachine):
    """Any order of coming and going leaves the tables in order."""

    def __init__(self):
        super().__init__()
        self.passages = Passages(AT_ONCE)
        self.now = 0.0
        self.last = 0
        self.waiting = {}
        self.pairs = {}

    @rule(seconds=st.sampled_from([0.5, MEET_SECONDS, IDLE_SECONDS]))
    def wait(self, seconds):
        self.now += seconds

    @rule()
    def ask(self):
        self.last += 1
        asker = f"asker {self.last}"
        full = len(self.waiting) + len(self.pairs) // 2 >= AT_ONCE
        has_room, idle = self.passages.asked(asker, self.last, self.now)
        if idle is not None:
            assert full
            assert idle.startswith("asker")
            del self.pairs[self.pairs.pop(idle)]
        assert has_room or full
        if has_room:
            self.waiting[self.last] = asker

    @rule(ticket=st.integers(1, 40))
    def call(self, ticket):
        self.last += 1
        keeper = f"keeper {self.last}"
        asker = self.passages.met(ticket, keeper, self.now)
        assert asker == self.waiting.pop(ticket, None)
        if asker is not None:
            self.pairs[asker], self.pairs[keeper] = keeper, asker

    @precondition(lambda self: self.pairs)
    @rule(data=st.data())
    def speak(self, data):
        end = data.draw(st.sampled_from(sorted(self.pairs)))
        self.passages.said(end, self.now)

    @precondition(lambda self: self.pairs or self.waiting)
    @rule(data=st.data())
    def lose(self, data):
        ends = sorted([*self.pairs, *self.waiting.values()])
        end = data.draw(st.sampled_from(ends))
        other = self.pairs.pop(end, None)
        assert self.passages.lost(end) == other
        if other is not None:
            del self.pairs[other]
        self.waiting = {t: a for t, a in self.waiting.items() if a != end}

    @rule()
    def look(self):
        for asker in self.passages.late(self.now):
            (ticket,) = [t for t, a in self.waiting.items() if a == asker]
            del self.waiting[ticket]

    @invariant()
    def nothing_is_left_over(self):
        passages = self.passages
        known = {*self.pairs, *self.waiting.values()}
        assert set(passages.ends()) == known
        assert all(map(passages.knows, known))
        assert len(passages) == len(self.waiting) + len(self.pairs) // 2 <= AT_ONCE
        assert passages.waits == bool(self.waiting)
        assert len(passages._said) == len(self.pairs) // 2
        times = list(passages._said.values())
        assert times == sorted(times)


TestStory = Story.TestCase
TestStory.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)


def test_a_worker_that_was_not_reached_is_tried_now_and_then():
    ways = Routes()
    assert not ways.is_blocked(("w",))
    assert not ways.is_due(("w",), 0.0)
    ways.failed(("w",), 0.0)
    assert ways.is_blocked(("w",))
    assert not ways.is_due(("w",), AGAIN_SECONDS - 1)
    assert ways.is_due(("w",), AGAIN_SECONDS)
    # Whoever was told to try does so, and nobody else beside him.
    assert not ways.is_due(("w",), AGAIN_SECONDS)
    assert ways.is_due(("w",), 2 * AGAIN_SECONDS)
    ways.forget(("w",))
    assert not ways.is_blocked(("w",))
    ways.forget(("w",))


def test_not_all_workers_that_ever_were_are_remembered(monkeypatch):
    monkeypatch.setattr(routes, "_KNOWN_MAX", 2)
    ways = Routes()
    for name in "abac":
        ways.failed((name,), 0.0)
    assert [name for name in "abc" if ways.is_blocked((name,))] == ["a", "c"]
