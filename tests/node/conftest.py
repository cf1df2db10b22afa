"""Runners that end with the test, however it ends."""

from __future__ import annotations

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120

from runner_harness import Agent

sys.path.pop(0)


@pytest.fixture
def start():
    """Start runners."""
    agents = []

    def start_one(**setup):
        agents.append(agent := Agent(**setup))
        return agent

    yield start_one
    for agent in agents:
        agent.close()


@pytest.fixture(params=[True, False], ids=["process", "threads"])
def agent(request, start):
    return start(process=request.param)
