"""Waiting for tasks of ranges: who is told, and when."""

from __future__ import annotations

import gc
import threading

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


class Meeting:
    """A range that has ended, and that two threads look at in the same moment."""

    n = 1

    def __init__(self):
        self.status = bytearray(1)
        self.watchers = []
        self._both = threading.Barrier(2)

    @property
    def pending(self):
        if not self.watchers:
            return 1
        try:
            self._both.wait(0.2)
        except threading.BrokenBarrierError:
            return 0
        return 0


def test_the_end_of_a_range_that_two_threads_see_counts_once():
    meeting, other = Meeting(), Range(0, 1, "f", None)
    fired = []
    countdown = Countdown(lambda: fired.append(True))
    countdown.add(other, [0])
    see = threading.Thread(target=lambda: meeting.watchers[0](meeting, 0, 1))

    class Watchers(list):
        def append(self, watcher):
            super().append(watcher)
            see.start()

    meeting.watchers = Watchers()
    countdown.add(meeting, [0])
    see.join()
    countdown.armed()
    assert not fired
    other.finish(0, Pack.of([b"x"]))
    assert fired == [True]


def test_who_waits_for_one_task_is_woken_by_its_end_and_no_other():
    wish = Range(0, 3, "f", None)
    end = End(wish, 1)
    wish.finish(0, Pack.of([b"x"]))
    assert not end.wait(0.0)
    wish.finish(1, Pack.of([b"x"]))
    assert end.wait(0.0)
    end.stop()
    assert not wish.watchers


def test_an_end_that_has_come_already_is_not_waited_for():
    wish = Range(0, 2, "f", None)
    wish.finish(0, Pack.of([b"x"]))
    end = End(wish, 0)
    assert end.wait(0.0)
    end.stop()
    assert not wish.watchers


def test_an_end_that_two_threads_see_counts_once():
    wish = Range(0, 2, "f", None)
    end = End(wish, 0)
    (see,) = wish.watchers
    wish.finish(0, Pack.of([b"x"]))
    see(wish, 0, 1)
    assert end.wait(0.0)
    # All of the range ends, which forgets who watches it.
    wish.finish(1, Pack.of([b"x"]))
    end.stop()
