"""Runners that end with the test, however it ends; and loops that coroutines run on."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
from pathlib import Path

import pytest

from covey.net.loop import new_event_loop

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


PATIENCE_SECONDS = 30


@pytest.fixture(params=["uvloop", "asyncio"])
def run(request):
    """Run a coroutine on the loop under test; afterwards no memory may be held."""
    loop = (
        new_event_loop() if request.param == "uvloop" else asyncio.SelectorEventLoop()
    )
    if request.param == "uvloop" and "uvloop" not in type(loop).__module__:
        pytest.skip("uvloop is not installed")
    problems = []
    loop.set_exception_handler(lambda _, context: problems.append(context))

    async def bounded(work):
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await work

    before = len(segments_open())
    yield lambda work: loop.run_until_complete(bounded(work))
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    gc.collect()
    assert not problems
    assert len(segments_open()) == before


def segments_open():
    names = []
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # That of the listing itself.
            names.append(str(path.readlink()))
    return [name for name in names if "memfd:covey" in name]
