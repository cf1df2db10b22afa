"""Warnings of what the scheduler says, which come in a thread that is none of the user's."""

from __future__ import annotations

import inspect
import threading
import warnings

import pytest

from covey.client.warn import PassedOn


@pytest.fixture
def caught():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        yield caught


def about_to(passed_on, text):
    """Return what has *text* told in another thread, and waits until it was.

    It is in Python's own library, so that whoever calls it is at the line that is told.
    """
    ready = threading.Barrier(2)

    def tell():
        ready.wait()
        passed_on.warn(text)
        ready.wait()

    threading.Thread(target=tell, daemon=True).start()
    return ready.wait


def line_of_caller():
    return inspect.currentframe().f_back.f_lineno


def test_they_are_told_at_the_line_where_the_program_is(caught):
    wait = about_to(PassedOn(), "no worker")
    line = (wait(), wait(), line_of_caller())[-1]
    (warning,) = caught
    assert (warning.filename, warning.lineno) == (__file__, line)
    assert str(warning.message) == "no worker"


def test_what_was_told_is_not_told_again_from_another_line(caught):
    passed_on = PassedOn()
    wait = about_to(passed_on, "no worker")
    wait()
    wait()
    wait = about_to(passed_on, "no worker")
    wait()
    wait()
    wait = about_to(passed_on, "another")
    wait()
    wait()
    assert [str(each.message) for each in caught] == ["no worker", "another"]


def test_where_warnings_are_errors_the_thread_that_tells_goes_on(caplog):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wait = about_to(PassedOn(), "no worker")
        wait()
        wait()
    assert "no worker" in caplog.text
