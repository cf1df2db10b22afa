"""What tasks print, as it is shown to the client that asked."""

from __future__ import annotations

import io
import sys

import pytest

from covey.client import screen
from covey.client.prints import LINES_MAX, Stretch, show


@pytest.fixture
def shown(monkeypatch):
    out, err = io.StringIO(), io.StringIO()

    def after(stretches, missed=0):
        # Not before the test runs: pytest sets them, too.
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        show(stretches, missed)
        return out.getvalue(), err.getvalue()

    return after


def said(text, task=1, stream="stdout", left_out=0):
    return Stretch(0.0, "printed", task, "f", "worker", stream, text, left_out)


def test_each_line_begins_with_its_key_and_goes_to_its_stream(shown):
    out, err = shown([said("a\nb\n"), said("c\n", 2, "stderr"), said("no end", 3)])
    assert out == "f-1  a\nf-1  b\nf-3  no end\n"
    assert err == "f-2  c\n"


def test_pieces_of_a_line_are_put_together(shown):
    out, _ = shown([said("50"), said("%\n"), said("100%\n")])
    assert out == "f-1  50%\nf-1  100%\n"


def test_what_many_tasks_print_alike_is_shown_once(shown):
    out, _ = shown([said("same\n", task) for task in range(312)] + [said("one\n", 7)])
    assert out == "f (312 tasks)  same\nf-7  one\n"


def test_a_task_that_repeats_itself_is_counted(shown):
    out, _ = shown([said("again\n") for _ in range(4)] + [said("x\nx\n")])
    assert out == "f-1  again  [4 times]\nf-1  x\nf-1  x\n"


def test_a_flood_is_cut_and_counted(shown):
    out, err = shown([said(f"{n}\n", n) for n in range(LINES_MAX + 5)], missed=1234)
    assert out.count("\n") == LINES_MAX
    assert "and 5 lines more" in err and "1,234 prints" in err


def test_what_a_worker_left_out_is_told(shown):
    out, _ = shown([said("end\n", left_out=1)])
    assert out == "f-1  [1 line of this worker left out]\nf-1  end\n"


def test_a_print_goes_above_the_bar(shown, monkeypatch):
    monkeypatch.setattr(screen.shutil, "get_terminal_size", lambda: (11, 1))
    monkeypatch.setattr(screen, "columns", lambda: 10)
    shown([])
    screen.draw("bar")
    out, err = shown([said("text\n")])
    assert out == "f-1  text\n"
    assert err == "\rbar       \r\x1b[K\rbar       "
    screen.draw("done", last=True)
    assert sys.stderr.getvalue().endswith("\rdone      \n")
    assert shown([said("x\n")])[1].endswith("done      \n"), "there is no bar any more"
