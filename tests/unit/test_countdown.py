"""Waiting for tasks of ranges: who is told, and when."""

from __future__ import annotations

import gc
import threading

import pytest

from covey.client.core.ranges import Range
from covey.client.countdown import Countdown, End
from covey.payload import Pack


def test_a_task_that_is_named_twice_is_waited_for_once():
    wish = Range(0, 2, "f", None)
    fired = []
    countdown = Countdown(lambda: fired.append(True))
    countdown.add(wish, [0, 0])
    countdown.armed()
    wish.finish(0, Pack.of([b"x"]))
    assert fired == [True]


def test_ranges_of_one_are_waited_for_together():
    wishes = [Range(number, 1, "f", None) for number in range(3)]
    wishes[0].finish(0, Pack.of([b"x"]))
    fired = []
    countdown = Countdown(lambda: fired.append(True))
    countdown.add_single(wishes)
    countdown.armed()
    (see,) = wishes[1].watchers
    wishes[1].finish(0, Pack.of([b"x"]))
    # Another thread that sees the same end says nothing of it.
    see(wishes[1], 0, 1)
    assert not fired
    wishes[2].finish(0, Pack.of([b"x"]))
    assert fired == [True]


def test_what_ends_just_when_it_comes_to_be_watched_is_not_waited_for():
    class Watchers(list):
        def append(self, watcher):
            del watcher  # The other thread has gone through them just before.
            wish.status[0] = 1

    wish = Range(0, 1, "f", None)
    wish.watchers = Watchers()
    fired = []
    countdown = Countdown(lambda: fired.append(True))
    countdown.add_single([wish])
    countdown.armed()
    assert fired == [True]


def test_many_ranges_of_one_cost_no_object_each():
    wishes = [Range(number, 1, "f", None) for number in range(100)]
    countdown = Countdown(lambda: None)
    gc.collect()
    gc.disable()
    try:
        before = gc.get_count()[0]
        countdown.add_single(wishes)
        assert gc.get_count()[0] - before < 20
    finally:
        gc.enable()
    countdown.stop()
    assert not any(wish.watchers for wish in wishes)


class Meeting(Range):
    """A range of which two threads see the end in the same moment."""

    def __init__(self):
        super().__init__(0, 2, "f", None)
        self.status = self
        self._both = threading.Barrier(2)
        self._seen = 0
        self.told = None

    def watch(self, index, watcher):
        self.told = threading.Thread(target=lambda: watcher(self, index, 1))
        self.told.start()

    def __getitem__(self, index):
        if self.told is None:
            return 0
        if threading.current_thread() is not self.told:
            self._seen += 1
            if self._seen == 1:
                return 1  # Who came to watch looks whether it has ended.
        # Then both go on, and look for the next one.
        try:
            self._both.wait(0.2)
        except threading.BrokenBarrierError:
            return 1
        return 1


def test_the_end_of_a_range_that_two_threads_see_counts_once():
    meeting, other = Meeting(), Range(0, 1, "f", None)
    fired = []
    countdown = Countdown(lambda: fired.append(True))
    countdown.add_single([other])
    countdown.add(meeting, [0])
    meeting.told.join()
    countdown.armed()
    assert not fired
    other.finish(0, Pack.of([b"x"]))
    assert fired == [True]


def test_many_who_wait_for_tasks_of_one_range_are_told_of_their_own_only():
    """Each watches one task at a time, and a stretch finds those that watch it."""

    class Told(Range):
        calls = 0

        def _watchers_of(self, lo, n):
            found = super()._watchers_of(lo, n)
            self.calls += len(found)
            return found

    n = 500
    wish = Told(0, n, "f", None)
    fired = []
    countdowns = []
    for index in range(n):
        countdown = Countdown(lambda index=index: fired.append(index))
        countdown.add(wish, [index, (index + 1) % n])
        countdown.armed()
        countdowns.append(countdown)
    assert not wish.watchers
    for index in range(n):
        wish.finish(index, Pack.of([b"x"]))
    assert sorted(fired) == list(range(n))
    assert wish.calls <= 2 * n


@pytest.mark.parametrize("order", [1, -1])
def test_a_whole_range_is_gone_through_with_it(order):
    wish = Range(0, 50, "f", None)
    fired = []
    countdown = Countdown(lambda: fired.append(True))
    countdown.add(wish, range(50))
    countdown.armed()
    for index in range(50)[::order]:
        assert not fired
        wish.finish(index, Pack.of([b"x"]))
    assert fired == [True]
    assert not wish.watched


def test_what_is_pending_again_is_waited_for_with_its_range():
    wish = Range(0, 3, "f", None)
    fired = []
    countdown = Countdown(lambda: fired.append(True))
    countdown.add(wish, [0, 1, 2, 0])
    countdown.armed()
    wish.finish(0, Pack.of([b"x"] * 2))
    wish.revert(0, 1)
    wish.finish(2, Pack.of([b"x"]))
    assert not fired
    wish.finish(0, Pack.of([b"x"]))
    assert fired == [True]


def test_who_stops_waiting_for_tasks_of_a_range_is_forgotten():
    wish = Range(0, 3, "f", None)
    fired = []
    countdown = Countdown(lambda: fired.append(True))
    countdown.add(wish, [1, 2])
    countdown.armed()
    wish.finish(1, Pack.of([b"x"]))
    countdown.stop()
    assert not wish.watched
    wish.finish(2, Pack.of([b"x"]))
    assert not fired


def test_who_waits_for_one_task_is_woken_by_its_end_and_no_other():
    wish = Range(0, 3, "f", None)
    end = End(wish, 1)
    wish.finish(0, Pack.of([b"x"]))
    assert not end.wait(0.0)
    wish.finish(1, Pack.of([b"x"]))
    assert end.wait(0.0)
    end.stop()
    assert not wish.watched


def test_an_end_that_has_come_already_is_not_waited_for():
    wish = Range(0, 2, "f", None)
    wish.finish(0, Pack.of([b"x"]))
    end = End(wish, 0)
    assert end.wait(0.0)
    end.stop()
    assert not wish.watched


def test_an_end_that_two_threads_see_counts_once():
    wish = Range(0, 2, "f", None)
    end = End(wish, 0)
    wish.finish(0, Pack.of([b"x"]))
    end(wish, 0, 1)
    assert end.wait(0.0)
    # All of the range ends, which forgets who watches it.
    wish.finish(1, Pack.of([b"x"]))
    end.stop()
