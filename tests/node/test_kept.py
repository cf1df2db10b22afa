"""Values that a slot keeps for what follows on it."""

from __future__ import annotations

import socket

import pytest

from covey.runner.loop import SlotLoop
from covey.runner.process import RunnerProcess
from covey.runner.slot import Slot

RUN, TASK = 1, 7


class OneTask:
    """A batch of one task, which has begun."""

    serializer = "pickle"
    run = RUN

    def place(self, index):
        return RUN, TASK + index


@pytest.fixture
def loop():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        marks = memoryview(bytearray(16)).cast("Q")
        loop = SlotLoop(Slot(theirs, marks, RunnerProcess(own_process=False), 0))
        loop._batch = OneTask()
        yield loop


@pytest.mark.parametrize("outcome", ["failed", "large"])
def test_what_a_task_made_before_goes_when_it_runs_again_and_makes_nothing(
    loop, outcome
):
    loop.slot.kept = {TASK: b"of the run before", TASK + 1: b"of another task"}
    if outcome == "failed":
        loop._fail(0, ValueError("no"), 0.0)
    else:
        loop._book_one("big", 0, 0.0, ["/dev/null@0", 1 << 20, 1])
    assert loop.slot.kept == {TASK + 1: b"of another task"}
