"""What is done now and then is done in few wake-ups, counted on virtual time."""

from __future__ import annotations

import heapq

import pytest

from covey.net import together


class Loop:
    """An event loop as far as timers go; its time passes when it is told to."""

    def __init__(self):
        self.now = 100.0
        self.wake_ups = 0
        self._timers = []
        self._count = 0

    def time(self):
        return self.now

    def call_at(self, when, call, *args):
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, call, args))

    def call_later(self, seconds, call, *args):
        self.call_at(self.now + seconds, call, *args)

    def call_soon(self, call, *args):
        call(*args)

    def run(self, until):
        while self._timers and self._timers[0][0] <= until:
            self.now = max(self.now, self._timers[0][0])
            self.wake_ups += 1
            while self._timers and self._timers[0][0] <= self.now:
                _, _, call, args = heapq.heappop(self._timers)
                call(*args)
        self.now = until


@pytest.fixture
def loop(monkeypatch):
    loop = Loop()
    monkeypatch.setattr(together.asyncio, "get_running_loop", lambda: loop)
    return loop


def every(loop, seconds, done):
    def go():
        done.append(loop.now)
        loop.now += 0.0003  # What is done takes a while.
        together.call_later(seconds, go)

    together.call_later(seconds, go)


def test_what_falls_together_wakes_the_loop_once(loop):
    beats, looks, tells = [], [], []
    every(loop, 1.0, beats)
    loop.run(100.3)
    every(loop, 1.0, looks)
    loop.run(100.6)
    every(loop, 2.0, tells)
    loop.run(120.5)
    assert (len(beats), len(looks), len(tells)) == (20, 20, 10)
    assert loop.wake_ups == 20


def test_nothing_comes_later_than_it_was_asked_for(loop):
    for tenth in range(1, 30):
        loop.run(100 + tenth / 10)
        for seconds in (1.0, 1.5, 2.0):
            due = together.call_later(seconds, list)
            assert seconds - 1.0 < due.when() - loop.now <= seconds + 1e-9


def test_a_timer_that_is_a_little_early_is_not_followed_by_another_one(loop):
    together.call_later(1.0, list)
    loop.run(100.999)
    assert together.call_later(1.0, list).when() == pytest.approx(102.0)


def test_what_is_cancelled_is_not_done_and_takes_no_other_along(loop):
    done = []
    first = together.call_later(1.0, lambda: done.append(1))
    together.call_later(1.0, lambda: done.append(2))
    first.cancel()
    loop.run(103.0)
    assert done == [2]


def test_what_is_due_within_a_second_has_a_timer_of_its_own(loop):
    done = []
    together.call_later(0.25, lambda: done.append(loop.now))
    loop.run(101.0)
    assert done == [100.25]
