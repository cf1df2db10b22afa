"""joblib on a cluster: what ``Parallel`` promises, with ``parallel_config("covey")``."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import CancelledError
from multiprocessing import TimeoutError as JoblibTimeout

import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config

import covey.joblib
from covey import errors

pytestmark = pytest.mark.system


def square(x):
    return x * x


def fail_at(x, bad):
    if x == bad:
        raise ValueError(f"no {x}")
    return x


def total(array, x):
    return float(array.sum()) + x


def squares_inside(n):
    return sum(Parallel(n_jobs=2)(delayed(square)(x) for x in range(n)))


def pid_after(seconds):
    time.sleep(seconds)
    return os.getpid()


@pytest.fixture(autouse=True)
def backend(client):
    with parallel_config("covey", client=client):
        yield


def test_results_come_in_order():
    expected = [x * x for x in range(500)]
    assert Parallel()(delayed(square)(x) for x in range(500)) == expected
    assert Parallel(batch_size=7)(delayed(square)(x) for x in range(500)) == expected
    with Parallel() as parallel:
        for n in (3, 0, 5):
            assert parallel(delayed(square)(x) for x in range(n)) == expected[:n]


def test_it_runs_on_the_runners(client):
    pids = Parallel(batch_size=1)(delayed(pid_after)(0.05) for _ in range(4))
    assert os.getpid() not in pids
    assert covey.joblib.CoveyBackend(client).effective_n_jobs(-1) == 2


def test_results_as_they_come():
    results = Parallel(return_as="generator")(delayed(square)(x) for x in range(9))
    assert list(results) == [x * x for x in range(9)]
    results = Parallel(return_as="generator_unordered")(
        delayed(square)(x) for x in range(9)
    )
    assert sorted(results) == [x * x for x in range(9)]


def test_an_error_is_the_users_and_ends_the_call():
    with pytest.raises(ValueError, match="no 7"):
        Parallel()(delayed(fail_at)(x, 7) for x in range(10_000))
    assert Parallel()(delayed(square)(x) for x in range(3)) == [0, 1, 4]


def test_a_time_limit():
    with pytest.raises(JoblibTimeout):
        Parallel(timeout=0.1)(delayed(time.sleep)(60) for _ in range(3))
    # What was left was stopped: there are slots.
    assert Parallel()(delayed(square)(x) for x in range(3)) == [0, 1, 4]


def test_tasks_that_wait_for_their_own():
    assert Parallel(batch_size=1)(delayed(squares_inside)(n) for n in range(6)) == [
        sum(x * x for x in range(n)) for n in range(6)
    ]


def test_a_large_argument_is_brought_once(client, monkeypatch):
    brought = []
    scatter = client.scatter

    def spy(value):
        brought.append(value)
        return scatter(value)

    monkeypatch.setattr(client, "scatter", spy)
    array = np.ones(300_000)
    results = Parallel(batch_size=1)(delayed(total)(array, x) for x in range(8))
    assert results == [300_000.0 + x for x in range(8)]
    assert len(brought) == 1


def test_what_makes_no_sense():
    with pytest.raises(ValueError, match="n_jobs == 0"):
        Parallel(n_jobs=0)(delayed(square)(x) for x in range(3))
    with pytest.raises(errors.UsageError, match=r"covey\.Client"):
        covey.joblib.CoveyBackend(client=3)
    with pytest.raises(errors.UsageError, match="priority"):
        covey.joblib.CoveyBackend(priority="high")


def test_nothing_is_left(client):
    Parallel()(delayed(square)(x) for x in range(50))
    for thread in threading.enumerate():
        if thread.name.startswith("covey-joblib"):
            thread.join(20)
            assert not thread.is_alive()


def test_batches_that_somebody_else_cancels(client):
    backend = covey.joblib.CoveyBackend(client)
    raised = []

    def run():
        with parallel_config(backend):
            try:
                Parallel()(delayed(time.sleep)(60) for _ in range(4))
            except BaseException as error:
                raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    while not backend._batches:
        threading.Event().wait(0.01)
    client.cancel([batch.ours for batch in list(backend._batches)])
    thread.join(30)
    assert not thread.is_alive()
    assert isinstance(raised[0], CancelledError)
