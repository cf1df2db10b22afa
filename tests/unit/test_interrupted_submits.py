"""Ctrl-C may come anywhere in ``submit`` and ``map``, and leaves nothing held for nobody."""

from __future__ import annotations

import gc
from types import SimpleNamespace

import pytest
from interrupting import Interrupt, interrupted_at

from covey.client.choices import Where
from covey.client.core.ranges import Wishes
from covey.client.fetching import Session
from covey.client.mapping import Mapper
from covey.client.writing import Writing
from covey.serde import refs
from covey.wire.base import DEFAULT_OPTIONS
from covey.wire.client_link import Release, Scatter, Submit


@pytest.fixture(autouse=True)
def _capture():
    """An interrupt as a capture is left may leave it on in this thread: not for others."""
    before = refs._here.capture
    yield
    refs._here.capture = before


@pytest.fixture(autouse=True)
def _others_aside():
    """What other tests have left is looked through hundreds of times here else."""
    gc.freeze()
    yield
    gc.unfreeze()


def inc(number, by=1):
    return number + by


class Desk:
    """A client's side of its calls, without a cluster."""

    def __init__(self):
        self.said = []
        self.last = 1000
        self.engine = SimpleNamespace(
            post=self.said.append,
            wishes=Wishes(),
            workers={1: None},
            check=lambda: None,
            new_tasks=self.new_tasks,
            kept_as={},
            tokens={},
            readers=None,
            closed=False,
            lull_is_coming=False,
            look=lambda: None,
            loop=SimpleNamespace(call_soon_threadsafe=lambda call: None),
            outbox=SimpleNamespace(catch_up=None, say=self.said.append),
            asker=SimpleNamespace(tidy=lambda: None),
        )
        self.session = Session(self.engine)
        self.mapper = Mapper(self.session, Writing(self.engine, functions="value"))

    def new_tasks(self, n):
        base, self.last = self.last, self.last + n
        return base

    def submit(self, *args, key=None, pure=False):
        return self.mapper.submit(inc, args, {}, DEFAULT_OPTIONS, key=key, pure=pure)

    def map(self, *columns, **keywords):
        return self.mapper.map(inc, columns, keywords, DEFAULT_OPTIONS)

    def asked(self):
        """Return the tasks that the scheduler is asked for, and was not told to drop."""
        asked = set()
        for message in self.said:
            if type(message) in (Submit, Scatter):
                asked.update(range(message.base, message.base + message.n))
            elif type(message) is Release:
                for base, n in message.extents:
                    asked.difference_update(range(base, base + n))
        return asked

    def held(self):
        """Return how many ranges are, when all is told of what was dropped."""
        self.session._send_dropped()
        if self.engine.wishes.all():
            gc.collect()
            self.session._send_dropped()
        wishes = self.engine.wishes.all()
        tasks = {task for w in wishes for task in range(w.base, w.base + w.n)}
        assert self.asked() == tasks
        return len(wishes)


#: What is done before, and what is interrupted.
CALLS = {
    "submit": (None, lambda desk, _: desk.submit(1)),
    "named": (None, lambda desk, _: desk.submit(1, key="one")),
    "pure": (None, lambda desk, _: desk.submit(1, pure=True)),
    "the same again": (
        lambda desk: desk.submit(1, key="one"),
        lambda desk, _: desk.submit(1, key="one"),
    ),
    "of a result": (
        lambda desk: desk.submit(1),
        lambda desk, first: desk.submit(first),
    ),
    "map": (None, lambda desk, _: desk.map([1, "two", 3.0], by=2)),
    "map over numbers": (None, lambda desk, _: desk.map(range(3000))),
    "map over results": (
        lambda desk: desk.map(range(10)),
        lambda desk, first: desk.map(first),
    ),
    "scatter": (
        None,
        lambda desk, _: desk.mapper.scatter([1, "two"], Where()),
    ),
}


@pytest.mark.parametrize("what", CALLS)
def test_an_interrupt_at_any_time_leaves_nothing_that_nobody_holds(what):
    before, call = CALLS[what]
    desk = Desk()  # What is loaded once is.
    call(desk, before(desk) if before else None)
    event, interrupted = 0, True
    while interrupted:
        event += 1
        desk = Desk()
        first = before(desk) if before else None
        interrupted = interrupted_at(event, lambda: call(desk, first))  # noqa: B023
        assert desk.held() == (first is not None), event
        del first
        assert desk.held() == 0, event
    assert event > 30


def test_what_was_interrupted_is_not_taken_for_a_task_that_runs():
    """Who asks for the same again waits for one that the scheduler has been asked for."""
    event, interrupted = 0, True
    while interrupted:
        event += 1
        desk, raised = Desk(), []

        def submit(desk=desk, raised=raised):
            try:
                return desk.submit(1, key="one")
            except Interrupt as error:
                raised.append(error)  # As a notebook does: it keeps all that is in it.
                raise

        interrupted = interrupted_at(event, submit)
        again = desk.submit(1, key="one")
        assert again.id in desk.asked(), event
    assert event > 30
