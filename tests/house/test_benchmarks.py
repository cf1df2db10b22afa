"""What benchmarks name of covey's insides is still there, and they tell what they saw."""

from __future__ import annotations

import argparse
import dataclasses
import gc
import os
import pathlib
import runpy
import subprocess
import sys
import types

import pytest

from covey.ids import ClientId, first_task_id
from covey.scheduler import collector

ROOT = pathlib.Path(__file__).parents[2]

sys.path.insert(0, str(ROOT))

from benchmarks import harness, makespans, scheduler, tables  # noqa: E402
from benchmarks.contenders import CONTENDERS, Apart, Contender  # noqa: E402

sys.path.pop(0)

PROTECTION = runpy.run_path(str(ROOT / "benchmarks/cost.py"))["PROTECTION"]


@pytest.mark.parametrize("name", PROTECTION)
def test_each_mechanism_whose_cost_is_measured_is_there(name):
    for place, function in PROTECTION[name]:
        assert callable(getattr(place, function)), (place, function)


def row(covey, *, must=None, aim=None, unit="1/s", ahead=None, **times):
    contenders = {peer: {"value": 1.0, "times": ratio} for peer, ratio in times.items()}
    contenders["covey"] = {"value": covey}
    goals = {"must": must, "aim": aim, "ahead": ahead or {}}
    return {"row": "x", "unit": unit, "contenders": contenders, **goals}


def test_a_goal_is_met_by_the_value_and_by_what_peers_did():
    asked = {"must": 10.0, "aim": 20.0, "ahead": {"dask": 100.0, "ray": 100.0}}
    assert tables.verdict(row(25.0, dask=120.0, ray=100.0, **asked)) == "aim"
    assert tables.verdict(row(15.0, dask=120.0, ray=100.0, **asked)) == "must"
    assert tables.verdict(row(5.0, dask=120.0, ray=100.0, **asked)) == "**no**"
    # However good the value is.
    assert tables.verdict(row(25.0, dask=120.0, ray=99.0, **asked)) == "**no**"


def test_less_is_better_of_seconds():
    asked = {"must": 2.0, "aim": 1.0, "unit": "s"}
    assert tables.verdict(row(0.5, **asked)) == "aim"
    assert tables.verdict(row(1.5, **asked)) == "must"
    assert tables.verdict(row(2.5, **asked)) == "**no**"


def test_a_goal_beside_a_peer_that_was_not_there_is_not_simply_met():
    asked = {"must": 10.0, "ahead": {"dask": 100.0, "ray": 100.0}}
    assert tables.verdict(row(15.0, dask=120.0, **asked)) == "must (without ray)"
    assert tables.verdict(row(5.0, dask=120.0, **asked)) == "**no**"
    assert tables.verdict(row(15.0, ahead={"dask": 2.0})) == ""
    assert tables.verdict(row(15.0, ahead={"dask": 2.0}, dask=2.0)) == "must"


def test_what_a_job_is_asked_for_stands_in_its_row():
    room = harness.Room("A room.")

    @room.job("work of {n}", short=1, full=2, unit="1/s", must=3.0, ahead={"dask": 4.0})
    def work(cluster, n, timed):
        pass

    figure = harness.Figure(8.0, "1/s")
    slow = harness.Figure(1.0, "1/s")
    rounds = {"covey": [{"work of 2": figure}], "dask": [{"work of 2": slow}]}
    (found,) = room.result(rounds, full=True)["rows"]
    assert (found["must"], found["ahead"]) == (3.0, {"dask": 4.0})
    assert tables.verdict(found) == "must"


def test_a_peer_that_is_not_installed_is_told_of_in_a_line_and_has_no_column(
    monkeypatch,
):
    class Absent(Contender):
        package = "package_that_nobody_has"

    monkeypatch.setitem(CONTENDERS, "dask", Absent)
    absent = harness.absent_of(["covey", "dask", "futures"], sys.executable)
    assert list(absent) == ["dask"]
    rows = [row(1.0)]
    told = tables.table({"rows": rows, "absent": absent})
    assert "No figures of dask: package_that_nobody_has is not installed" in told
    assert "covey[peers]" in told


def test_a_turn_that_is_given_up_is_told_of_and_leaves_no_process(monkeypatch):
    room = harness.Room("A room.", turn_seconds=0.0)
    # It starts another process, as clusters are, and waits for it.
    below = "import signal; print('up', flush=True); signal.pause()"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {below!r}])"
    popen, turns, killed = subprocess.Popen, [], []

    def start(command, **options):
        turns.append(popen([sys.executable, "-c", child], **options))
        assert turns[0].stdout.readline() == "up\n"
        return turns[0]

    def kill(pid, number):
        killed.append(pid)
        os.kill(pid, number)

    monkeypatch.setattr(harness.subprocess, "Popen", start)
    monkeypatch.setattr(harness, "send_signal", kill)
    options = argparse.Namespace(only="", full=False, scale=1.0, peers_python="")
    assert room._turn("covey", options) == {}
    assert turns[0].returncode == -9
    assert len(killed) == 2
    told = tables.table({"rows": [row(1.0)], "failed": room.failed})
    assert "Turns of covey without figures: 1 (not done within 0 s)." in told


def test_scheduler_and_worker_apart_use_cpu_time_of_their_own():
    cluster, timed = Apart(), harness.Timed("1/s")
    cluster.start()
    try:
        cluster.gather(cluster.map(abs, range(10)))
        with timed(100):
            cluster.gather(cluster.map(abs, range(-100, 0)))
    finally:
        cluster.stop()
    assert timed.figure is not None
    assert timed.figure.cpu.keys() == {"client", "scheduler", "worker", "runners"}
    used = timed.figure.cpu
    told = tables.table(
        {
            "rows": [
                row(1.0)
                | {
                    "contenders": {
                        "covey": {
                            "value": 1.0,
                            "cpu": {"client": 1e-6, "cluster": 2e-6},
                        },
                        "apart": {"value": 1.0, "cpu": used},
                    }
                }
            ]
        }
    )
    assert (
        "| client | cluster | all of covey | apart: client | apart: scheduler |" in told
    )
    assert "times apart" not in told


def test_the_schedulers_row_has_a_goal_of_each_kind_and_whether_it_is_met():
    jobs = {job.name: job for job in scheduler.independent(full=True)}
    spread = next(job for name, job in jobs.items() if "in play at once" in name)
    assert (spread.cpu, spread.growth, spread.nbytes) == (
        (8e-6, 3e-6),
        (25.0, 5.0),
        (40.0, 8.0),
    )
    few = dataclasses.replace(
        spread,
        tasks=5_000,
        turns=lambda: [scheduler.submissions(first_task_id(ClientId(3)), 5_000)],
        times=1,
        cpu=(1.0, 1e-9),
        nbytes=(1e-3, 1e-4),
    )
    before = gc.get_threshold()
    row = scheduler.measure(few)
    # Nothing of it is left to the process.
    assert gc.get_threshold() == before
    assert not gc.get_freeze_count()
    assert [goal["of"] for goal in row["goals"]] == ["CPU", "growth", "memory"]
    told = scheduler.line(row)
    assert told.endswith("memory **no** |")
    assert "CPU must" in told
    assert "| 1.00 s, +25 %, 0 B |" in told
    assert told.count("|") == scheduler.HEADS.count("|") + 2


def test_the_scheduler_alone_has_the_collector_of_a_schedulers_process():
    try:
        cluster = scheduler.ZeroWorkers(2, 1)
        assert gc.get_threshold()[0] == collector.YOUNG
        assert gc.get_freeze_count()
        known, cluster.spared = [], cluster.spared - 2 * scheduler.SPARE_SECONDS
        cluster.collector = types.SimpleNamespace(spare=known.append)
        cluster.say(scheduler.submissions(first_task_id(ClientId(3)), 10))
        assert known
    finally:
        scheduler.collect_as_usual()


def test_memory_of_a_task_is_told_with_its_payload_and_all_that_is_kept():
    base = first_task_id(ClientId(3))
    n = 20_000
    messages = scheduler.submissions(base, n)
    job = scheduler.Job("x", n, lambda: [scheduler.submissions(base, n)])
    held = scheduler.bytes_of_task(job)
    # The payload, and the table of their sizes, are 4 bytes each.
    assert held >= sum(len(m.data) + len(m.sizes) for m in messages) / n == 8.0


def test_simulations_have_a_goal_where_it_is_set():
    row = dict.fromkeys(("workers", "slots", "tasks", "moved_bytes"), 1)
    row |= dict.fromkeys(("makespan", "list", "efficiency", "longest_step"), 1.0)
    row |= dict.fromkeys(("cpu_per_task", "scheduler_per_task"), 1.0)
    row |= {"job": "x", "must": 90.0, "aim": 20.0}
    assert makespans.line(row | {"wall": 91.0}).endswith("| **no** |")
    assert makespans.line(row | {"wall": 89.0}).endswith("| must |")
    assert makespans.line(row | {"wall": 19.0}).endswith("| aim |")
    assert (
        makespans.line(row | {"wall": 91.0, "must": None, "aim": None})[-4:] == "|  |"
    )
