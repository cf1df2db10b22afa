"""A scheduler's core with workers and clients that a test speaks for, and one client."""

from __future__ import annotations

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120

from scheduler_world import World

sys.path.pop(0)


@pytest.fixture
def world():
    return World()


@pytest.fixture
def client(world):
    return world.new_client()
