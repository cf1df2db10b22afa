"""To look again and again is done where it helps, and hardly ever where it does not."""

from __future__ import annotations

import pytest

from covey import clock
from covey.net import spin
from covey.net.spin import LOST_SECONDS, PAUSE_MOST, PAUSE_SHARED, SPIN_SECONDS, Spin

STEP = SPIN_SECONDS / 10


def worth_it():
    it = Spin()
    it.is_worth_it = True
    return it


class Poll:
    """Something comes after so many looks, or as one sleeps."""

    def __init__(self, after=None):
        self.after = after
        self.looks = self.sleeps = 0

    def poll(self, milliseconds):
        if milliseconds:
            self.sleeps += 1
            return [(3, 1)]
        self.looks += 1
        return [(3, 1)] if self.looks == self.after else []


@pytest.fixture(autouse=True)
def time(monkeypatch):
    """The clock moves on with each look at it; return the step."""
    now, step = [0.0], [STEP]

    def monotonic():
        now[0] += step[0]
        return now[0]

    monkeypatch.setattr(clock, "monotonic", monotonic)
    return step


@pytest.fixture
def yields(monkeypatch):
    """How often the processor was offered to others."""
    yielded = []
    monkeypatch.setattr(spin.os, "sched_yield", lambda: yielded.append(1))
    return yielded


@pytest.mark.parametrize("after", [1, 2, 7])
def test_what_comes_soon_is_had_without_sleep(after, yields):
    it, poll = worth_it(), Poll(after)
    assert it.poll(poll, 1000.0) == [(3, 1)]
    assert (poll.looks, poll.sleeps, it.slept) == (after, 0, False)
    assert len(yields) == after - 1, "others may run between two looks"


def test_what_takes_longer_is_slept_for():
    it, poll = worth_it(), Poll()
    assert it.poll(poll, 1000.0) == [(3, 1)]
    assert poll.sleeps == 1 and 9 <= poll.looks <= 12 and it.slept


def vain(it, times):
    """How often it was looked for again, of so many times in vain."""
    looked = 0
    for _ in range(times):
        poll = Poll()
        it.poll(poll, 1000.0)
        looked += poll.looks > 1
        assert poll.sleeps == 1
    return looked


def test_who_waits_for_less_than_that_sleeps_at_once():
    it, poll = worth_it(), Poll()
    it.poll(poll, 900.0 * SPIN_SECONDS)
    assert (poll.looks, poll.sleeps) == (1, 1)
    it.poll(poll, 0.0)
    assert poll.looks == 3
    assert vain(it, 1) == 1, "that says nothing about those who wait for longer"


def test_where_it_is_in_vain_it_is_rarely_done():
    it = worth_it()
    assert vain(it, 2) == 1
    assert vain(it, 1000) <= 6 + 1000 // PAUSE_MOST


def test_what_is_there_already_says_nothing_of_what_is_to_come():
    it = worth_it()
    vain(it, 500)
    looked = 0
    for _ in range(500):
        assert it.poll(Poll(1), 1000.0)
        looked += vain(it, 1)
    assert looked <= 1 + 500 // PAUSE_MOST


def test_a_pause_begins_anew_where_it_was_of_use():
    it = worth_it()
    vain(it, 200)
    it.pause = 0  # Who waits says so, if he had no sleep.
    while not vain(it, 1):
        pass
    assert it.pause == 1
    assert vain(it, 2) == 1


def test_where_the_processor_is_shared_it_is_left_for_long(time):
    it = worth_it()
    time[0] = 2 * LOST_SECONDS
    assert vain(it, 1) == 1
    time[0] = STEP
    assert vain(it, PAUSE_SHARED) == 0
    assert vain(it, 1) == 1


def test_where_it_is_not_worth_it_one_sleeps_at_once():
    poll = Poll()
    Spin().poll(poll, 1000.0)
    assert (poll.looks, poll.sleeps) == (1, 1)
