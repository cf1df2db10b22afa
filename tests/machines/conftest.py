"""A scheduler's core with workers and clients that a test speaks for, and one client."""

from __future__ import annotations

import os
import sys

import pytest

from covey.scheduler.core import placement

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120

from scheduler_world import World

sys.path.pop(0)


@pytest.fixture
def world():
    return World()


@pytest.fixture
def client(world):
    return world.new_client()


@pytest.fixture
def calls_of(monkeypatch):
    """Return a list that gets the arguments of all calls of a function of placement."""

    def calls_of(function):
        calls = []
        before = getattr(placement, function)

        def counted(*arguments):
            calls.append(arguments)
            return before(*arguments)

        monkeypatch.setattr(placement, function, counted)
        return calls

    return calls_of
