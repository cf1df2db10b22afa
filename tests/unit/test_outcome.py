"""What users are told of a task that failed."""

from __future__ import annotations

import threading

import pytest

from covey.client.outcome import ending_text, error_of
from covey.errors import NotPicklable, TaskCancelled
from covey.serde.failures import describe, traceback_text
from covey.serde.values import dumps
from covey.wire.base import Attempt, Failure

KEYS = {7: "load-7"}


def raised(error):
    try:
        raise error
    except type(error) as caught:
        return describe(caught, where="worker bob, runner 4711")


def test_whose_input_was_cancelled_is_told_that():
    failure = Failure("cancelled", "TaskCancelled", "cancelled by ann", origin=7)
    error = error_of(failure, "sum-8", KEYS.get)
    assert isinstance(error, TaskCancelled)
    assert str(error) == "sum-8: its input load-7 was cancelled by ann"
    assert not getattr(error, "__notes__", [])


def test_what_was_cancelled_itself_is_told_that():
    failure = Failure("cancelled", "TaskCancelled", "cancelled by ann")
    assert str(error_of(failure, "sum-8", KEYS.get)) == "sum-8: cancelled by ann"


def test_the_end_in_a_sentence_names_error_place_input_and_attempts():
    attempts = (
        Attempt("ann", "raised", "ValueError", "no"),
        Attempt("bob", "raised", "ValueError", "no"),
    )
    failure = Failure(
        *("raised", "ValueError", "no", raised(ValueError("no")), 7),
        attempts=attempts,
    )
    assert ending_text(failure, "sum-8", KEYS.get) == (
        "it failed with ValueError: no (on worker bob, runner 4711), in its input "
        "load-7; it was tried 2 times (on ann, bob)"
    )


class Stubborn:
    def __reduce__(self):
        raise ValueError("not me")


def test_of_what_cannot_be_pickled_no_pickler_is_shown():
    with pytest.raises(NotPicklable) as caught:
        dumps(threading.Lock(), "result")
    text = traceback_text(describe(caught.value, where="here"))
    assert "cloudpickle.py" not in text
    assert "During handling" not in text and "direct cause" not in text
    assert "cannot pickle result" in text


def test_but_the_users_own_part_in_it_is():
    with pytest.raises(NotPicklable) as caught:
        dumps(Stubborn(), "result")
    text = traceback_text(describe(caught.value, where="here"))
    assert "cloudpickle.py" not in text
    assert 'raise ValueError("not me")' in text
