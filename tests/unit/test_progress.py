"""The bar: what it counts, what it says, and that it is silent in a log."""

from __future__ import annotations

import io
import sys

import pytest

from covey.client import progress as room
from covey.client.core.ranges import Range
from covey.client.future import Future, Futures
from covey.client.progress import Progress, progress
from covey.payload import Pack
from covey.wire.base import Failure


class Session:
    """Stands for the session of a client, which futures tell of their end."""

    def let_go(self, handles):
        pass


SESSION = Session()


def range_of(n):
    return Range(100, n, "work", None)


def finish(wish, lo, n):
    wish.finish(lo, Pack([0] * n, b""))


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_it_counts_whole_maps_and_single_futures():
    whole, single = range_of(10), Range(900, 1, "one", None)
    watched = Progress(
        [Futures(SESSION, whole), Future(SESSION, single, 0)], shown=False
    )
    assert (watched.done, watched.total) == (0, 11)
    finish(whole, 0, 4)
    assert watched.done == 4
    whole.fail(4, 2, Failure("raised", "ValueError", "no"))
    finish(single, 0, 1)
    assert watched.done == 7


def test_nothing_is_counted_twice():
    whole = range_of(10)
    futures = Futures(SESSION, whole)
    watched = Progress(
        [futures[3], [futures[3], futures[4]], futures, futures, futures[5]],
        shown=False,
    )
    assert watched.total == 10
    finish(whole, 0, 10)
    assert watched.done == 10


def test_some_futures_of_a_map():
    whole = range_of(10)
    futures = Futures(SESSION, whole)
    watched = Progress([{"a": futures[2:5]}], shown=False)
    assert watched.total == 3
    finish(whole, 0, 4)
    assert watched.done == 2


def test_the_line_tells_share_and_numbers(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(room.clock, "monotonic", lambda: now[0])
    whole = range_of(2000)
    watched = Progress([Futures(SESSION, whole)], shown=False)
    assert "0 / 2,000" in watched.line(79)
    finish(whole, 0, 500)
    now[0] = 5.0
    line = watched.line(79)
    assert " 25% 500 / 2,000  100/s" in line
    assert line.rstrip().endswith("left")
    finish(whole, 500, 1500)
    assert "100% 2,000 / 2,000" in watched.line(79)
    assert all(len(watched.line(width)) <= width for width in range(1, 120))


def test_a_bar_of_nothing_is_full():
    assert "100%" in Progress([], shown=False).line(79)


def test_it_is_silent_where_there_is_no_terminal(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    whole = range_of(3)
    shown = progress(Futures(SESSION, whole), notebook=False)
    finish(whole, 0, 3)
    assert shown.wait() is shown
    assert not log.getvalue()


@pytest.mark.parametrize("how", [{"notebook": True}, {"force": True}, {}])
def test_it_draws_until_all_have_ended(monkeypatch, how):
    stream = io.StringIO() if how else Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    whole = range_of(3)
    shown = progress(Futures(SESSION, whole), **how)
    finish(whole, 0, 3)
    shown.wait(20)
    assert "3 / 3" in stream.getvalue()
    assert stream.getvalue().endswith("\n")
    assert stream.getvalue().count("\n") == 1


def test_it_can_be_told_to_stop(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    shown = progress(Futures(SESSION, range_of(3)))
    shown.close()
    assert stream.getvalue().endswith("\n")
    assert "0 / 3" in stream.getvalue()


def test_a_terminal_that_goes_away_is_no_error(monkeypatch):
    stream = Terminal()
    stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(stream, "isatty", lambda: True)
    progress(Futures(SESSION, range_of(3)), force=True).wait(20)
