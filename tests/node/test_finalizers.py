"""What finalizers print: they run anywhere, also where a slot's thread holds locks."""

from __future__ import annotations

import io
import socket
import threading

import pytest

from covey.runner import frames, loop, settling
from covey.runner.context import here
from covey.runner.frames import FrameSocket
from covey.runner.loop import SlotLoop
from covey.runner.prints import TaskStream
from covey.runner.process import RunnerProcess
from covey.runner.settling import Settling
from covey.runner.slot import Slot

RUN, TASK = 1, 7


@pytest.fixture
def agent():
    """Return the agent's end of a slot, and what lets its thread do something.

    It is another thread, so that one that waits for itself fails the test only.
    """
    ours, theirs = socket.socketpair()
    marks = memoryview(bytearray(16)).cast("Q")
    slot_loop = SlotLoop(Slot(theirs, marks, RunnerProcess(own_process=False), 0))
    marks[0], marks[1] = RUN, TASK

    def do(work):
        def work_here():
            here.loop = slot_loop
            work(slot_loop)

        thread = threading.Thread(target=work_here, daemon=True)
        thread.start()
        thread.join(20)
        assert not thread.is_alive(), "the thread waits for itself"

    with ours, theirs:
        yield FrameSocket(ours), do


def told(agent_end):
    return [
        operation[:1] + operation[4:5] if operation[0] == "printed" else operation[:1]
        for operation in agent_end.receive().operations
    ]


def test_one_that_prints_while_its_thread_sends(agent, monkeypatch):
    end, do = agent
    stream = TaskStream(io.StringIO(), "stderr")
    encode = frames.encode

    def encode_and_collect(operations, body):
        monkeypatch.setattr(frames, "encode", encode)
        stream.write("Exception ignored in __del__\n")
        return encode(operations, body)

    monkeypatch.setattr(frames, "encode", encode_and_collect)

    def work(slot_loop):
        with Settling(slot_loop):
            slot_loop._operations.append(["blocked", RUN, TASK])
            slot_loop._flush()
        stream.write("after it\n")

    do(work)
    assert told(end) == [["blocked"]]
    # It is not lost: it leaves with what is next.
    assert told(end) == [["printed", "Exception ignored in __del__\nafter it\n"]]


@pytest.mark.parametrize("way", ["shield", "_let_pass"])
def test_one_that_prints_at_the_gate(agent, monkeypatch, way):
    end, do = agent
    stream = TaskStream(io.StringIO(), "stdout")
    monkeypatch.setattr(loop, "bytecode", lambda: stream.write("collected\n"))

    def work(slot_loop):
        slot_loop.shielded = False
        getattr(slot_loop, way)()
        assert not slot_loop.busy
        monkeypatch.setattr(loop, "bytecode", settling.bytecode)
        stream.write("next\n")

    do(work)
    assert told(end) == [["printed", "collected\nnext\n"]]
