"""What a scheduler makes of what peers of an earlier life report."""

from __future__ import annotations

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120

from scheduler_world import World

from covey.scheduler.core.spans import find
from covey.scheduler.core.state import State
from covey.wire.base import Options
from covey.wire.worker_link import Stop

sys.path.pop(0)


@pytest.fixture
def world():
    return World()


@pytest.fixture
def client(world):
    return world.new_client()


@pytest.mark.parametrize("offered", [{}, {"GPU": 1}])
def test_a_worker_takes_no_more_on_than_it_offers(world, client, offered):
    worker = world.new_worker(2, resources={"GPU": 2})
    options = Options(resources={"GPU": 1})
    tasks = [client.submit(1, options=options) for _ in range(2)]
    worker.read(10)
    assert len(worker.runs) == 2
    worker.resources = offered
    world.restart()
    world.close_window()
    spans = [find(world.state, task) for task in tasks]
    running = [span for span in spans if span.state is State.ASSIGNED]
    assert len(running) == offered.get("GPU", 0)
    stopped = [m for m in worker.inbox if isinstance(m, Stop)]
    assert len(stopped) == 2 - len(running)
