"""Who is joined with whom, when the scheduler passes something on."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from covey.net import routes
from covey.net.routes import AGAIN_SECONDS, Routes
from covey.scheduler.core.passages import (
    IDLE_SECONDS,
    LINE_SECONDS,
    MEET_SECONDS,
    Passages,
)

AT_ONCE = 3


def joined(passages, asker, keeper, now=0.0):
    ticket = 1000 + len(passages)
    assert passages.asked(asker, 7, now)
    assert passages.call(ticket, now) == (asker, 7)
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
    for number, asker in enumerate("ab", start=1):
        passages.asked(asker, 7, number)
        passages.call(number, number)
    assert not passages.late(0.9 + MEET_SECONDS)
    assert passages.late(1.0 + MEET_SECONDS) == ["a"]
    assert passages.waits
    # The worker comes too late, and finds nobody.
    assert passages.met(1, "k", 9.0) is None
    assert not passages.knows("k")


def test_a_passage_on_which_nothing_is_said_makes_room_if_others_wait():
    passages = Passages(AT_ONCE)
    for number, (asker, keeper) in enumerate(["ak", "bl", "cm"]):
        joined(passages, asker, keeper, float(number))
    passages.said("k", 3.0)  # So that "b" is the quietest.
    assert passages.idle(1e6) is None
    assert passages.asked("d", 9, 4.0)
    assert passages.call(1, 4.0) is None
    assert passages.idle(IDLE_SECONDS + 0.9) is None
    assert passages.idle(IDLE_SECONDS + 1.0) == "b"
    assert not passages.knows("l")
    assert passages.call(1, 12.0) == ("d", 9)
    assert len(passages) == AT_ONCE


def test_who_stands_in_line_for_too_long_has_to_go(monkeypatch):
    passages = Passages(1)
    joined(passages, "a", "k")
    passages.asked("b", 7, 0.0)
    passages.asked("c", 7, 1.0)
    assert passages.late(LINE_SECONDS) == ["b"]
    passages.lost("a")
    assert passages.call(2, LINE_SECONDS) == ("c", 7)
    monkeypatch.setattr("covey.scheduler.core.passages.LINE_MAX", 1)
    assert passages.asked("d", 7, 0.0)
    assert not passages.asked("e", 7, 0.0)


class Story(RuleBasedStateMachine):
    """Any order of coming and going leaves the tables in order."""

    def __init__(self):
        super().__init__()
        self.passages = Passages(AT_ONCE)
        self.now = 0.0
        self.last = 0
        self.line = []
        self.waiting = {}
        self.pairs = {}

    @property
    def busy(self):
        return len(self.waiting) + len(self.pairs) // 2

    @rule(seconds=st.sampled_from([0.5, MEET_SECONDS, IDLE_SECONDS]))
    def wait(self, seconds):
        self.now += seconds

    @rule()
    def ask(self):
        self.last += 1
        asker = f"asker {self.last}"
        assert self.passages.asked(asker, self.last, self.now)
        self.line.append(asker)

    @rule()
    def make_room(self):
        idle = self.passages.idle(self.now)
        if idle is not None:
            assert self.line and self.busy >= AT_ONCE
            del self.pairs[self.pairs.pop(idle)]

    @rule()
    def admit(self):
        self.last += 1
        found = self.passages.call(self.last, self.now)
        assert (found is not None) == (bool(self.line) and self.busy < AT_ONCE)
        if found is not None:
            asker, worker = found
            assert asker == self.line.pop(0) == f"asker {worker}"
            self.waiting[self.last] = asker

    @rule(back=st.integers(0, 9))
    def meet(self, back):
        ticket = self.last - back
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

    @precondition(lambda self: self.pairs or self.waiting or self.line)
    @rule(data=st.data())
    def lose(self, data):
        ends = sorted([*self.pairs, *self.waiting.values(), *self.line])
        end = data.draw(st.sampled_from(ends))
        other = self.pairs.pop(end, None)
        assert self.passages.lost(end) == other
        if other is not None:
            del self.pairs[other]
        self._gone(end)

    def _gone(self, end):
        self.line = [asker for asker in self.line if asker != end]
        self.waiting = {t: a for t, a in self.waiting.items() if a != end}

    @rule()
    def look(self):
        for asker in self.passages.late(self.now):
            assert asker in self.line or asker in self.waiting.values()
            self._gone(asker)

    @invariant()
    def nothing_is_left_over(self):
        passages = self.passages
        known = {*self.pairs, *self.waiting.values(), *self.line}
        assert set(passages.ends()) == known
        assert all(map(passages.knows, known))
        assert len(passages) == self.busy <= AT_ONCE
        assert passages.waits == bool(self.waiting or self.line)
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
