"""What is left of a runner that could not be started: nothing."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
import subprocess
import sys
from types import SimpleNamespace

import pytest

from covey.worker import launching, processes
from covey.worker.interpreters import own
from covey.worker.processes import RunnerProcess

#: What a runner needs; others of the interpreter may come and go.
_OURS = ("pipe:", "socket:", "/memfd:covey-marks")

NONE_LEFT = OSError(errno.EMFILE, "Too many open files")

pytestmark = pytest.mark.skipif(
    not os.path.isdir("/proc/self/fd"),  # noqa: PTH112
    reason="open files are counted in /proc",
)


def open_files():
    return sorted(
        (fd, os.readlink(f"/proc/self/fd/{fd}"))  # noqa: PTH115
        for fd in os.listdir("/proc/self/fd")  # noqa: PTH208
        if os.path.islink(f"/proc/self/fd/{fd}")  # noqa: PTH114
    )


@pytest.mark.parametrize("good", [0, 2])
def test_no_descriptors_are_left_for_its_sockets(monkeypatch, good):
    pairs = iter([socket.socketpair() for _ in range(good)])

    def socketpair():
        for pair in pairs:
            return pair
        raise NONE_LEFT

    monkeypatch.setattr(launching, "socket", SimpleNamespace(socketpair=socketpair))
    before = open_files()
    with pytest.raises(OSError, match="Too many"):
        launching.launch(sys.executable, 4, {})
    assert len(open_files()) == len(before) - 2 * 2 * (good // 2)


def lines():
    return [name for _, name in open_files() if name.startswith(_OURS)]


class NoThread:
    def __init__(self, **_):
        """It can be made, but not started."""

    def start(self):
        raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("lacks", ["descriptors", "threads"])
def test_it_cannot_be_connected_to_or_waited_for(monkeypatch, lacks):
    started = []
    before = lines()

    async def scenario():
        loop = asyncio.get_running_loop()

        async def create_unix_connection(make, *, sock):
            raise NONE_LEFT

        if lacks == "descriptors":
            loop.create_unix_connection = create_unix_connection
        else:
            monkeypatch.setattr(processes.threading, "Thread", NoThread)
        launched = launching.launch(
            sys.executable,
            2,
            launching.environment(launching.package_path(), {}, own=True),
        )
        started.append(launched.process)
        process = RunnerProcess(
            0,
            range(2),
            {},
            python=own(),
            on_says=lambda *_: None,
            on_control=lambda *_: None,
            on_end=lambda _: pytest.fail("it never began"),
            launched=launched,
        )
        with pytest.raises(OSError, match="Too many|new thread"):
            await process.start()

    asyncio.run(scenario())
    assert lines() == before
    (process,) = started
    assert process.returncode is not None
    assert isinstance(process, subprocess.Popen)
    assert process.stderr.closed


def test_nothing_is_left_of_one_that_has_ended_but_what_it_was_busy_with():
    async def scenario():
        loop = asyncio.get_running_loop()
        ready, ended = loop.create_future(), loop.create_future()
        process = RunnerProcess(
            0,
            range(1),
            {},
            python=own(),
            on_says=lambda *_: None,
            on_control=lambda *_: ready.done() or ready.set_result(None),
            on_end=lambda process: ended.set_result(process.executing()),
        )
        before = open_files()
        await process.start()
        await asyncio.wait_for(ready, 30)
        struct.pack_into("QQ", process._marks, 0, 7, 700)
        process.kill()
        assert await asyncio.wait_for(ended, 30) == ((7, 700),)
        assert process.executing() == ((7, 700),)
        # The transports close what they have in the next turn of the loop.
        await asyncio.sleep(0)
        assert [name for _, name in open_files() if "covey-marks" in name] == []
        assert len(open_files()) == len(before)

    asyncio.run(scenario())


def test_a_runner_keeps_freed_memory_as_far_as_its_share_goes(monkeypatch):
    for name in [name for name in os.environ if name.startswith("MALLOC_")]:
        monkeypatch.delenv(name)
    assert launching.heap_variables(1 << 29) == {}
    small, large = launching.heap_variables(1 << 30), launching.heap_variables(1 << 40)
    assert int(small["MALLOC_TRIM_THRESHOLD_"]) == 1 << 26
    assert int(large["MALLOC_TRIM_THRESHOLD_"]) == 1 << 27
    setup = {"environ": large}
    assert large.items() <= launching.environment("/here", setup, own=True).items()
    # Whoever has chosen has chosen.
    monkeypatch.setenv("MALLOC_ARENA_MAX", "2")
    assert launching.heap_variables(1 << 40) == {}
