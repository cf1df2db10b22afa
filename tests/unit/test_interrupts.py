"""Ctrl-C that Python swallows is brought again, wherever that was."""

from __future__ import annotations

import sys
import threading
import weakref

import pytest

from covey.client import interrupts


class Thing:
    """Something that others look at."""


@pytest.fixture
def again(monkeypatch):
    brought, printed = [], []
    monkeypatch.setattr(interrupts, "_installed", [])
    monkeypatch.setattr(interrupts, "_interrupt_soon", lambda: brought.append(True))
    monkeypatch.setattr(sys, "unraisablehook", printed.append)
    interrupts.bring_again()
    return brought, printed


def raising(error):
    def callback(_):
        raise error

    return callback


def drop_one(error):
    thing = Thing()
    reference = weakref.ref(thing, raising(error))
    del thing
    assert reference() is None


def test_it_is_where_a_weak_reference_told_somebody(again):
    drop_one(KeyboardInterrupt)
    assert again == ([True], [])


def test_what_else_is_raised_there_is_printed_as_before(again):
    drop_one(ValueError)
    brought, printed = again
    assert brought == []
    assert [each.exc_type for each in printed] == [ValueError]


def test_another_thread_was_not_interrupted_by_anybody(again):
    thread = threading.Thread(target=drop_one, args=[KeyboardInterrupt])
    thread.start()
    thread.join()
    brought, printed = again
    assert brought == []
    assert [each.exc_type for each in printed] == [KeyboardInterrupt]
