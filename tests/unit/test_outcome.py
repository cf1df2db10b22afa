"""What users are told of a task that failed."""

from __future__ import annotations

import threading

import pytest

from covey.client.outcome import ending_text, error_of
from covey.errors import NotPicklable, RunnerDied, TaskCancelled, TaskOutOfMemory
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


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("finalize-hlgfinalizecompute-7", "to_parquet"),
        ("rechunk-merge-7", "array.chunk-size"),
        ("split-taskshuffle-7", "repartition"),
    ],
)
def test_what_dask_makes_by_itself_is_told_from_what_users_wrote(key, told):
    pytest.importorskip("dask")
    import covey.interop.dask  # noqa: F401  (it says what it knows)

    too_much = Failure("memory", "TaskOutOfMemory", "it had grown to 9 GiB")
    error = error_of(too_much, key, KEYS.get)
    assert isinstance(error, TaskOutOfMemory)
    (note,) = error.__notes__
    assert "dask's own" in note and told in note
    # Whoever waits for what takes it reads it, too.
    too_much = Failure("memory", "TaskOutOfMemory", "it had grown to 9 GiB", origin=7)
    error = error_of(too_much, "sum-8", {7: key}.get)
    assert error.__notes__[0] == note
    # What users wrote is theirs, whatever it is called, and so are other ends.
    assert not hasattr(
        error_of(too_much, "finalize-7", {7: "finalize-7"}.get), "__notes__"
    )
    died = error_of(Failure("died", "RunnerDied", "SIGSEGV"), key, KEYS.get)
    assert isinstance(died, RunnerDied)
    assert not hasattr(died, "__notes__")


def test_what_dask_calls_its_own_tasks_begins_so():
    da = pytest.importorskip("dask.array")
    pytest.importorskip("numpy")
    from dask._expr import FinalizeCompute
    from dask.base import collections_to_expr

    from covey.interop.dask_advice import advise
    from covey.interop.dask_names import label_of

    array = da.ones((80, 80), chunks=(80, 2)).rechunk((4, 80))
    expression = FinalizeCompute(collections_to_expr([array], optimize_graph=True))
    labels = {label_of(key) for key in expression.optimize().__dask_graph__()}
    advised = {label for label in labels if advise(f"{label}-7")}
    assert {"rechunk-merge", "finalize-hlgfinalizecompute"} <= advised < labels
