"""Bugs of our own: a role whose tables broke ends, and says why."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from covey import Client, errors
from covey.scheduler.core.machine import SchedulerCore
from covey.scheduler.server import SchedulerServer
from covey.wire.line import Line
from covey.worker.core.machine import WorkerCore
from covey.worker.transfers import Transfers

pytestmark = pytest.mark.system


def inc(x):
    return x + 1


def break_down(*_, **__):
    raise errors.InternalError("two and two are five")


def test_a_broken_scheduler_ends_the_cluster(monkeypatch, capfd):
    with Client(n_workers=1, processes=False) as client:
        assert client.submit(inc, 1).result(20) == 2
        monkeypatch.setattr(SchedulerCore, "step", break_down)
        with pytest.raises(errors.Disconnected, match="two and two are five"):
            client.submit(inc, 2).result(20)
        with pytest.raises(errors.Disconnected, match="two and two are five"):
            client.submit(inc, 3)
        assert client.status == "disconnected"
    assert capfd.readouterr().err.count("Traceback") == 1


def test_a_broken_worker_ends_the_cluster(monkeypatch, capfd):
    with Client(n_workers=1, processes=False) as client:
        assert client.submit(inc, 1).result(20) == 2
        monkeypatch.setattr(WorkerCore, "step", break_down)
        with pytest.raises(errors.Disconnected, match=r"worker local broke.*five"):
            client.submit(inc, 2).result(20)
    assert capfd.readouterr().err.count("Traceback") == 1


def test_who_is_cut_off_before_the_cluster_ends_is_told_why_it_did(monkeypatch):
    close = SchedulerServer.close

    async def cut_off_and_close(server, *reason):
        for speaker in list(server.attendance.speakers.values()):
            if isinstance(speaker, Line) and speaker.link is not None:
                speaker.link.abort()
        await close(server, *reason)

    monkeypatch.setattr(SchedulerServer, "close", cut_off_and_close)
    with Client(n_workers=1, processes=False) as client:
        assert client.submit(inc, 1).result(20) == 2
        monkeypatch.setattr(WorkerCore, "step", break_down)
        with pytest.raises(errors.Disconnected, match=r"worker local broke.*five"):
            client.submit(inc, 2).result(20)


def test_a_bug_in_the_background_of_a_worker_is_no_hang(monkeypatch, capfd):
    monkeypatch.setattr(Transfers, "_take_in", break_down)
    with Client(n_workers=2, machines=2, processes=False) as client:
        here = client.submit(inc, 1, workers="local-1")
        there = client.submit(inc, here, workers="local-2")
        with pytest.raises(errors.Disconnected, match=r"local-2 broke.*five"):
            there.result(20)
    assert capfd.readouterr().err.count("Traceback") == 1


def test_a_cluster_that_ends_in_order_says_so():
    with Client(n_workers=1) as client:
        future = client.submit(signal.pause)
        pid = client.scheduler_info()["workers"][0]["facts"]["pid"]
        os.kill(pid, signal.SIGTERM)
        with pytest.raises(errors.Disconnected, match="told to end"):
            future.result(20)


def test_a_broken_scheduler_process_ends_with_its_traceback(tmp_path):
    script = """
        import sys
        from covey.scheduler.core.machine import SchedulerCore

        def step(self, event, now):
            raise AssertionError("two and two are five")

        SchedulerCore.step = step
        sys.argv[1:] = ["scheduler", "--port", "0", "--connection-file", FILE]
        from covey.cli import main
        main()
    """
    path = tmp_path / "cluster.json"
    script = textwrap.dedent(script).replace("FILE", repr(str(path)))
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().startswith("covey scheduler at")
    with Client(path) as client, pytest.raises(errors.Disconnected, match="five"):
        client.submit(inc, 1).result(20)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert err.count("Traceback") == 1
    assert "covey scheduler: the scheduler broke" in err


def test_a_start_that_fails_is_told(monkeypatch):
    def no_runner(*_, **__):
        raise OSError("no more processes")

    monkeypatch.setattr("covey.cluster.threads.ThreadRunner.start", no_runner)
    with pytest.raises(errors.StartFailed, match="no more processes"):
        Client(processes=False)
