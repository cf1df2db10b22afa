"""Exceptions travel, whatever they are like."""

from __future__ import annotations

import threading

import pytest

from covey.errors import TaskUnreadable
from covey.serde.failures import (
    PICKLE_LIMIT,
    describe,
    revive,
    summary,
    traceback_text,
)
from covey.wire.base import Failure
from covey.wire.framing import encode_frame
from covey.wire.worker_link import RunFailed


class NeedsArguments(Exception):
    def __init__(self, code, reason):
        super().__init__(f"{code}: {reason}")
        self.code = code


class HoldsALock(Exception):
    def __init__(self):
        super().__init__("locked")
        self.lock = threading.Lock()


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no words")

    __repr__ = __str__


class Stubborn(Exception):
    def __reduce__(self):
        raise SystemExit(1)


class BreaksThere(Exception):
    def __reduce__(self):
        return (explode, ())


def explode():
    raise ImportError("not on this machine")


def raised(error, cause=None):
    try:
        raise error from cause
    except BaseException as caught:
        return caught


def travel(error):
    return revive(describe(error, where="worker alice, runner 7"))


def test_it_comes_back_as_itself_with_the_remote_traceback():
    back = travel(raised(ValueError("three", 3)))
    assert type(back) is ValueError
    assert back.args == ("three", 3)
    (note,) = back.__notes__
    assert "Remote traceback (worker alice, runner 7):" in note
    assert "in raised" in note


def test_constructor_arguments_do_not_matter():
    back = travel(raised(NeedsArguments(404, "gone")))
    assert type(back) is NeedsArguments
    assert back.code == 404
    assert str(back) == "404: gone"


def test_the_text_tells_the_chain():
    cause = raised(KeyError("deep"))
    back = travel(raised(ValueError("shallow"), cause))
    assert "KeyError: 'deep'" in back.__notes__[0]
    assert "direct cause" in back.__notes__[0]


def test_groups():
    group = ExceptionGroup("several", [ValueError(1), KeyError("k")])
    back = travel(raised(group))
    assert [type(e) for e in back.exceptions] == [ValueError, KeyError]
    assert "KeyError: 'k'" in back.__notes__[0]


def test_notes_are_kept():
    error = ValueError()
    error.add_note("mine")
    error.add_note("of two\nlines")
    back = travel(error)
    assert back.__notes__[:2] == ["mine", "of two\nlines"]
    # And told once, not in the traceback again.
    assert back.__notes__[2].endswith(":\nValueError")


@pytest.mark.parametrize("class_", [HoldsALock, Stubborn])
def test_what_cannot_be_pickled_arrives_as_text(class_):
    if class_ is Stubborn:
        # It can be written field by field, without asking it.
        assert type(travel(raised(Stubborn("x")))) is Stubborn
        return
    back = travel(raised(class_()))
    assert isinstance(back, TaskUnreadable)
    assert "HoldsALock: locked" in str(back)
    assert "_thread.lock" in str(back)
    assert "in raised" in back.__notes__[0]


def test_what_cannot_be_unpickled_here_arrives_as_text(monkeypatch):
    payload = describe(raised(NeedsArguments(1, "b")), where="w")
    monkeypatch.delitem(globals(), "NeedsArguments")
    back = revive(payload)
    assert isinstance(back, TaskUnreadable)
    assert "cannot be unpickled here" in str(back)
    assert "NeedsArguments: 1: b" in str(back)


def test_a_broken_reduce_is_noticed_at_once():
    assert type(travel(raised(BreaksThere("x")))) is BreaksThere


def test_a_mute_exception_still_makes_a_failure():
    payload = describe(raised(Mute()), where="w")
    type_name, message = summary(payload)
    assert type_name.endswith("Mute")
    assert "__str__ raised RuntimeError" in message
    assert type(revive(payload)) is Mute


def test_long_texts_are_cut_in_the_middle():
    payload = describe(raised(ValueError("x" * 1_000_000 + "\ud800")), where="w")
    assert len(summary(payload)[1]) < 1100
    assert len(traceback_text(payload)) < 70_000
    assert "characters left out" in traceback_text(payload)


def test_an_endless_recursion_is_told_briefly():
    def recurse():
        recurse()

    try:
        recurse()
    except RecursionError as error:
        payload = describe(error, where="w")
    assert len(traceback_text(payload)) < 5000


def test_a_huge_exception_arrives_as_text():
    error = travel(ValueError(bytes(20 << 20)))
    assert isinstance(error, TaskUnreadable)
    assert "at most go along" in str(error)


def test_the_largest_exception_that_travels_fits_into_a_message():
    payload = describe(ValueError(bytes(PICKLE_LIMIT - 200)), where="w")
    assert isinstance(revive(payload), ValueError)
    failure = Failure("raised", *summary(payload), payload)
    encode_frame([RunFailed(1, 1, 0.1, failure)])


@pytest.mark.parametrize(
    "payload", [b"", b"\x05\0\0\0{}", b"\x02\0\0\0{}", b"\1\0\0\0["]
)
def test_garbage_is_unreadable(payload):
    assert "garbled" in str(revive(payload))


def test_what_is_no_exception_is_refused():
    payload = describe(ValueError("a"), where="w")
    size = int.from_bytes(payload[:4], "little")
    back = revive(payload[: 4 + size] + b"\x80\x05N.")
    assert "NoneType" in str(back)


def test_a_class_that_refuses_notes_comes_back_all_the_same():
    class_ = raised(NoNotes("a"))
    assert type(travel(class_)) is NoNotes


class NoNotes(Exception):
    def add_note(self, note):
        raise RuntimeError(note)
