"""What one round trip costs client and runner, in calls, which no load changes.

A call that nothing has kept warm takes as long as many that are: where a task comes alone it is
their number that counts.  ``pytest -rP`` shows the figures.
"""

from __future__ import annotations

import itertools
import sys
import threading
from collections import Counter

import pytest

import covey
from covey.client import engine

ROUNDS = 50


def inc(number):
    return number + 1


def times(number, *, by=2):
    return number * by


def doubled(text):
    return text + text


#: Calls of a runner for an element of a map, its function among them, at most.
MOST = {"numbers": 7.9, "texts": 14.0}


@pytest.mark.parametrize(
    ("function", "keywords"),
    [(inc, {}), (lambda number: -number, {}), (times, {"by": 3})],
    ids=["a function", "a lambda", "by name"],
)
def test_a_round_trip_costs_the_client_few_calls(function, keywords, monkeypatch):
    # On a slow machine it would end between any two tasks.
    monkeypatch.setattr(engine, "LULL_SECONDS", 50 * engine.LULL_SECONDS)
    calls = Counter()
    counts = False

    def profile(frame, event, argument):
        if counts and event == "call":
            calls[threading.current_thread().name] += 1

    def go():
        calls.clear()
        for number in range(ROUNDS):
            client.submit(function, number, **keywords).result()
        client.session.ask("info")  # Before it, all that was dropped is told of.
        return Counter(calls)

    threading.setprofile(profile)
    try:
        client = covey.Client(
            n_workers=1, threads_per_worker=1, processes=False, name="it"
        )
    finally:
        threading.setprofile(None)
    with client:
        go()
        session = client.session.engine.line.session
        sent = session.sent
        for number in range(ROUNDS):
            client.submit(function, number, **keywords).result()
        # One for each submission, and one for each four futures that were dropped.
        assert ROUNDS <= session.sent - sent < 1.3 * ROUNDS
        sys.setprofile(profile)
        counts = True
        try:
            least = min((go() for _ in range(5)), key=Counter.total)
        finally:
            counts = False
            sys.setprofile(None)
    waits = least[threading.current_thread().name] / ROUNDS
    reads = least["covey-it"] / ROUNDS
    sys.stdout.write(f"{waits:.1f} calls in who waits, {reads:.1f} in the I/O thread\n")
    # Who waits reads the answer by itself, mostly, and tells of what it has dropped: then
    # it is 72 there, and 2 in the I/O thread.  Where that reads, it is 35 and some 25.
    assert waits > 30
    assert 0 < reads < 45
    assert waits + reads < 80


def begin():
    """Count from here on what this thread calls."""
    sys.calls_here = calls = [0]

    def profile(_frame, event, _argument):
        calls[0] += event == "call"

    sys.setprofile(profile)


def so_far(*_, **__):
    """Return how many calls there were, this one with them."""
    return sys.calls_here[0]


@pytest.mark.parametrize("keywords", [{}, {"by": 3}], ids=["by position", "by name"])
def test_a_round_trip_costs_the_runner_few_calls(keywords):
    with covey.Client(n_workers=1, threads_per_worker=1) as client:
        client.submit(begin).result()
        seen = [client.submit(so_far, 7, **keywords).result() for _ in range(ROUNDS)]
    # A slot that was held up, on a busy machine, looks for more before it waits.
    calls = min(after - before for before, after in itertools.pairwise(seen))
    sys.stdout.write(f"{calls} calls in the runner\n")
    assert 20 < calls < 40


def begin_all():
    """Count from here on what this thread calls, in Python and in C."""
    sys.calls_here = calls = [0]

    def profile(_frame, event, _argument):
        calls[0] += event in {"call", "c_call"}

    sys.setprofile(profile)


@pytest.mark.parametrize("kind", ["numbers", "texts"])
def test_an_element_of_a_map_costs_the_runner_few_calls(kind):
    """Its function is one of them, and it is timed: what brings arguments does so for many."""
    tasks = 5_000
    column = range(tasks) if kind == "numbers" else [f"{i:05}" for i in range(tasks)]
    function = inc if kind == "numbers" else doubled
    with covey.Client(n_workers=1, threads_per_worker=1) as client:
        client.gather(client.map(function, column))
        client.submit(begin_all).result()
        before = client.submit(so_far).result()
        client.gather(client.map(function, column))
        each = (client.submit(so_far).result() - before) / tasks
    sys.stdout.write(f"{each:.2f} calls an element\n")
    assert 1 <= each < MOST[kind]
