"""The bar: what it counts, what it says, and that it is silent in a log."""

from __future__ import annotations

import io
import sys
import types
import weakref

import pytest

from covey import config
from covey.client import bars
from covey.client import progress as room
from covey.client.bars import Row
from covey.client.core.ranges import Range
from covey.client.future import Future, Futures
from covey.client.progress import Progress, how, progress
from covey.payload import Pack
from covey.wire.base import Failure


class Session:
    """Stands for the session of a client, which futures tell of their end."""

    def let_go(self, handles):
        pass

    def drop_in_order(self, made, items):
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
    watched = Progress([Futures(SESSION, whole), Future(SESSION, single, 0)])
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
        [futures[3], [futures[3], futures[4]], futures, futures, futures[5]]
    )
    assert watched.total == 10
    finish(whole, 0, 10)
    assert watched.done == 10


def test_some_futures_of_a_map():
    whole = range_of(10)
    futures = Futures(SESSION, whole)
    watched = Progress([{"a": futures[2:5]}])
    assert watched.total == 3
    finish(whole, 0, 4)
    assert watched.done == 2


def test_the_line_tells_share_and_numbers(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(room.clock, "monotonic", lambda: now[0])
    whole = range_of(2000)
    watched = Progress([Futures(SESSION, whole)])
    assert "0 / 2,000" in watched.line(79)
    finish(whole, 0, 500)
    now[0] = 5.0
    line = watched.line(79)
    assert " 25% 500 / 2,000  100/s" in line
    assert line.rstrip().endswith("left")
    finish(whole, 500, 1500)
    assert "100% 2,000 / 2,000" in watched.line(79)
    assert all(len(watched.line(width)) <= width for width in range(1, 120))


def test_what_is_watched_is_wanted_until_it_has_ended():
    whole = range_of(10)
    futures = Futures(SESSION, whole)
    gone = weakref.ref(futures)
    watched = Progress([futures])
    del futures
    assert gone() is not None
    finish(whole, 0, 10)
    assert watched._look()[1]
    assert gone() is None


def test_a_bar_of_nothing_is_full():
    assert "100%" in Progress([]).line(79)


def test_rows_are_summed_up_by_function():
    whole, single = range_of(10), Range(900, 1, "one", None)
    watched = Progress([Futures(SESSION, whole), Future(SESSION, single, 0)])
    whole.fail(4, 2, Failure("raised", "ValueError", "no"))
    finish(whole, 0, 4)
    assert watched.rows() == [Row("work", 10, 6, 2), Row("one", 1, 0, 0)]
    assert "6 / 10  2 failed" in bars.numbers(watched.rows()[0], 1.0)


def test_of_very_many_functions_the_largest_are_shown():
    rows = [Row(f"f{n}", n, 0) for n in range(100)]
    shown = bars.few(rows)
    assert len(shown) == bars.ROWS_MAX
    assert bars.in_all(shown)[1:] == bars.in_all(rows)[1:]
    assert shown[-1].label == "89 others" and shown[-2].label == "f99"
    assert bars.few([Row("same", 1, 0)] * 13)[-1].total == 2


def test_a_log_gets_a_line_now_and_then(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    lines = bars.LogLines()
    for second in range(35):
        lines.draw([Row("work", 70, 2 * second, 0)], float(second), last=False)
    lines.draw([Row("work", 70, 70, 0)], 35.0, last=True)
    said = log.getvalue().splitlines()
    assert said[0] == "covey: 29% 20 / 70  2/s  25 s left"
    assert said[-1] == "covey: 100% 70 / 70  35 s" and len(said) == 4


def test_it_is_silent_in_a_log_if_it_is_over_soon(monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(sys, "stderr", log)
    whole = range_of(3)
    shown = progress(Futures(SESSION, whole), notebook=False)
    finish(whole, 0, 3)
    assert shown.wait() is shown
    assert not log.getvalue()


def test_nothing_is_shown_to_who_wants_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with config.override({"client.progress": "never"}):
        assert how() is None
    with config.override({"client.progress": "always"}):
        assert isinstance(how(), bars.LineBar)


def test_rich_draws_each_function_where_it_is_installed(monkeypatch):
    pytest.importorskip("rich")
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    drawn = bars.choose(notebook=False, force=False)
    assert isinstance(drawn, bars.RichBars)
    drawn.draw([Row("[b]work", 4, 1), Row("other", 2, 2)], 1.0, last=False)
    drawn.draw([Row("[b]work", 4, 4, 1), Row("more", 0, 0)], 2.0, last=True)
    text = stream.getvalue()
    assert "[b]work" in text and "4 / 4  1 failed" in text and "2 / 2" in text
    monkeypatch.setattr(bars, "find_spec", lambda _: None)
    assert isinstance(bars.choose(notebook=False, force=False), bars.LineBar)


class Place:
    """Stands for the output of a cell."""

    def __init__(self):
        self.shown = []

    def update(self, data, *, raw):
        assert raw
        self.shown.append(data)


def test_in_a_notebook_a_card_is_replaced(monkeypatch):
    place = Place()
    display = types.ModuleType("IPython.display")
    display.display = lambda data, **how: place
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    whole = Range(100, 3, "<b>work", None)
    shown = progress(Futures(SESSION, whole), notebook=True)
    finish(whole, 0, 3)
    shown.wait(20)
    last = place.shown[-1]
    assert "&lt;b&gt;work" in last["text/html"] and "<b>work" not in last["text/html"]
    assert "3 / 3" in last["text/html"] and "3 / 3" in last["text/plain"]


def test_a_card_is_replaced_a_few_times_a_second_and_at_the_end(monkeypatch):
    place = Place()
    display = types.ModuleType("IPython.display")
    display.display = lambda data, **how: place
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    card = bars.NotebookBars()
    for tenth in range(20):
        card.draw([Row("work", 20, tenth)], tenth / 10, last=False)
    assert len(place.shown) == 7
    card.draw([Row("work", 20, 20)], 1.91, last=True)
    assert "20 / 20" in place.shown[-1]["text/html"]


@pytest.mark.parametrize("options", [{"notebook": True}, {"force": True}, {}])
def test_it_draws_until_all_have_ended(monkeypatch, options):
    stream = io.StringIO() if options else Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(bars, "find_spec", lambda _: None)
    whole = range_of(3)
    shown = progress(Futures(SESSION, whole), **options)
    finish(whole, 0, 3)
    shown.wait(20)
    assert "3 / 3" in stream.getvalue()
    assert stream.getvalue().endswith("\n")
    assert stream.getvalue().count("\n") == 1


def test_it_can_be_told_to_stop(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    shown = progress(Futures(SESSION, range_of(3)), force=True)
    shown.close()
    assert stream.getvalue().endswith("\n")
    assert "0 / 3" in stream.getvalue()


def test_a_terminal_that_goes_away_is_no_error(monkeypatch):
    stream = Terminal()
    stream.close()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(stream, "isatty", lambda: True)
    progress(Futures(SESSION, range_of(3)), force=True).wait(20)
