"""How the end of a runner's process is noticed, whoever else looks at it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from covey.worker.interpreters import own
from covey.worker.processes import RunnerProcess


def run(scenario):
    """Run *scenario* with a process that is no runner, and what it tells of its end."""

    async def main(child):
        ended = asyncio.get_running_loop().create_future()
        process = RunnerProcess(
            0,
            range(1),
            {},
            python=own(),
            on_says=lambda *_: None,
            on_control=lambda *_: None,
            on_end=ended.set_result,
        )
        process._process = child
        await scenario(process, child)
        assert await asyncio.wait_for(ended, 20) is process
        return process.failure("w").message

    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1) as child:
        return asyncio.run(main(child))


def test_who_kills_does_not_take_the_end_from_who_waits_for_it(monkeypatch):
    """As ``Popen.kill`` would: it asks whether the process has ended already."""

    async def scenario(process, child):
        monkeypatch.setattr(child, "poll", lambda: pytest.fail("it was asked for"))
        monkeypatch.setattr(child, "send_signal", lambda _: pytest.fail("by Popen"))
        process.kill("it was to")
        process.kill()
        await asyncio.to_thread(process._reap)

    assert "SIGKILL (it was to)" in run(scenario)


def test_an_end_of_which_the_kernel_keeps_nothing():
    """Where the ends of children are ignored, there is nothing to wait for."""

    async def scenario(process, child):
        child.stdin.close()
        await asyncio.to_thread(os.waitid, os.P_PID, child.pid, os.WEXITED)
        await asyncio.to_thread(process._reap)

    assert "did not keep how" in run(scenario)


@pytest.mark.parametrize(
    ("how", "for_memory", "told"),
    [
        (signal.SIGSEGV, None, "crashed in code that is not Python's"),
        (signal.SIGBUS, None, "look at that disk"),
        (signal.SIGTERM, None, "look at who sends it"),
        (signal.SIGKILL, None, "memory use of the task"),
        (signal.SIGKILL, False, "ended nobody for memory"),
        (0, None, "raise an exception instead"),
    ],
)
@pytest.mark.parametrize("ready", [True, False])
def test_an_error_says_what_to_do_about_it(how, for_memory, told, ready):
    async def scenario(process, child):
        process.ready, process.out_of_memory = ready, for_memory
        if how:
            os.kill(child.pid, how)
        else:
            child.stdin.write(b"\n")
            child.stdin.close()
        await asyncio.to_thread(process._reap)

    message = run(scenario)
    # What never ran a task is nobody's to change.
    assert (told in message) is ready
    assert ("With retries=1 it is run once more" in message) is ready


def test_who_was_ended_by_the_worker_is_told_why_and_nothing_else():
    async def scenario(process, child):
        process.ready = True
        process.kill("it was to")
        await asyncio.to_thread(process._reap)

    message = run(scenario)
    assert "SIGKILL (it was to)" in message
    assert "retries" not in message
