"""What one round trip costs the thread that waits, in calls, which no load changes."""

from __future__ import annotations

import sys

import covey

ROUNDS = 50


def inc(number):
    return number + 1


def test_a_round_trip_costs_who_waits_few_calls():
    calls = 0

    def profile(frame, event, argument):
        nonlocal calls
        calls += event == "call"

    def go():
        for number in range(ROUNDS):
            assert client.submit(inc, number).result() == number + 1

    with covey.Client(n_workers=1, threads_per_worker=1, processes=False) as client:
        go()
        sys.setprofile(profile)
        try:
            go()
        finally:
            sys.setprofile(None)
    # It is 65 to 68, by whether the thread sends the call itself.
    assert calls / ROUNDS < 73
