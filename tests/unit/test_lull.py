"""The lull after news: what the I/O thread does then, and what may wait for it."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from covey.client.core.ranges import FEW, Range, Wishes
from covey.client.engine import Engine


class Line:
    def __init__(self):
        self.session = SimpleNamespace(received=0)
        self.is_heard = False
        self.looks = 0

    def look(self):
        self.looks += 1


@pytest.fixture
def engine():
    engine = Engine.__new__(Engine)
    engine.timers, engine.caught_up = [], []
    engine.loop = SimpleNamespace(call_later=lambda _, call: engine.timers.append(call))
    engine.outbox = SimpleNamespace(catch_up=lambda: engine.caught_up.append(1))
    engine.lull_is_coming, engine._received = False, -1
    engine.line, engine.wishes = Line(), Wishes()
    engine._questions = SimpleNamespace(asked={}, waiting=[])
    engine._worker_watchers = []
    return engine


def lulls(engine, times):
    """Let time pass; return how many lulls there were."""
    before = len(engine.caught_up)
    for _ in range(times):
        timers, engine.timers[:] = engine.timers[:], []
        for timer in timers:
            timer()
    return len(engine.caught_up) - before


def test_the_lull_comes_once_and_has_news_read(engine):
    engine.expect_lull()
    engine.expect_lull()
    assert lulls(engine, 3) == 1
    assert engine.line.looks == 1 and not engine.lull_is_coming


def test_it_comes_again_by_itself_while_results_are_asked_for_in_a_row(engine):
    """Else each lull would take two turns of the I/O thread."""
    engine.line.is_heard = True
    engine.expect_lull()
    for received in range(1, 5):
        engine.line.session.received = received
        assert lulls(engine, 1) == 1 and engine.lull_is_coming
    # One waits for something long.
    assert lulls(engine, 100) == 1
    assert not engine.lull_is_coming


def test_before_there_is_a_line_nobody_reads(engine):
    engine.line = None
    engine.expect_lull()
    assert lulls(engine, 2) == 1
    engine.look()


def wish(engine, task):
    wish = Range(task, 1, "f", None)
    engine.wishes.add(wish)
    return wish


def test_news_may_wait_for_the_lull_where_nobody_waits_for_any(engine):
    wish(engine, 7).finish_one(b"x")
    assert not engine.has_time(), "it would be for ever"
    engine.lull_is_coming = True
    assert engine.has_time()


@pytest.mark.parametrize("who", ["pending", "question", "will ask", "workers", "many"])
def test_news_that_somebody_may_wait_for_do_not_wait(engine, who):
    engine.lull_is_coming = True
    wish(engine, 7).finish_one(b"x")
    if who == "pending":
        wish(engine, 8)
    elif who == "question":
        engine._questions.asked[1] = "info"
    elif who == "will ask":
        engine._questions.waiting.append("me")
    elif who == "workers":
        engine._worker_watchers.append(print)
    else:
        for task in range(8, 8 + FEW):
            wish(engine, task).finish_one(b"x")
    assert not engine.has_time()


def test_who_waits_for_workers_has_news_read(engine):
    engine.broken, engine.workers = None, {}

    async def waits():
        joined = asyncio.ensure_future(engine._workers_until(lambda: engine.workers, 5))
        await asyncio.sleep(0)
        assert engine.line.looks == 1 and not engine.has_time()
        engine.workers[1] = "here"
        engine._tell_worker_watchers()
        await joined

    asyncio.run(waits())
    assert not engine._worker_watchers
