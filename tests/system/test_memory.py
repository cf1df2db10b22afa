"""Memory limits that hold: spilling, a full disk, and the one task that is too large."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import operator
import os
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from covey import Client, config, errors, wait

pytestmark = pytest.mark.system

MIB = 1 << 20
LIMIT = 400 * MIB


def memory(client):
    return next(iter(client.memory().values()))


def values(client):
    seen = memory(client)
    return seen["spilled"] + seen["shared"]


def shared(client):
    return [seen["shared"] for seen in client.memory().values()]


def runners(client):
    """Return the processes of the runners, as soon as they are known."""
    return client.scheduler_info()["workers"][0]["facts"]["runners"]


def first_runners(client, n, until):
    assert until(lambda: len(runners(client)) == n)
    return runners(client)


def full(number):
    return np.full(2 * MIB, float(number))  # 16 MiB


def describe(array):
    return float(array[0]), float(array[-1]), len(array)


def opened(path):
    """Return when somebody has opened the other end of a pipe."""
    return Path(path).read_text()


def loaded(number, log, gate):
    with open(log, "a") as file:  # noqa: PTH123
        file.write("+")
    # What is loaded takes some milliseconds, so that few are given out in advance.
    hashlib.blake2b(bytes(2 * MIB)).digest()
    return bytes(MIB)


def measured(value, log):
    with open(log, "a") as file:  # noqa: PTH123
        file.write("-")
    return len(value)


def inc(number):
    return number + 1


def grow(mebibytes):
    kept = []
    for _ in range(mebibytes):
        kept.append(np.ones(MIB // 8))
        time.sleep(0.001)
    return len(kept)


def test_values_that_do_not_fit_go_to_disk_and_come_back(until):
    with Client(n_workers=2, memory_limit=LIMIT) as client:
        futures = client.map(full, range(40))  # 640 MiB
        wait(futures, timeout=60)
        # What it tells is up to two seconds old.
        assert until(lambda: values(client) >= 40 * 16 * MIB)
        seen = memory(client)
        assert seen["spilled"] > 200 * MIB
        assert seen["total"] <= LIMIT
        expected = [(float(n), float(n), 2 * MIB) for n in range(40)]
        assert client.gather(client.map(describe, futures)) == expected
        assert describe(futures[0].result()) == expected[0]
        table = str(client.memory())
        assert table.split()[:3] == ["worker", "total", "limit"]
        assert "400.0 MiB" in table or "400 MiB" in table
        # Nothing had to be stopped, or made a second time.  (A runner that keeps memory
        # may be started anew between tasks.)
        counters = client.scheduler_info()["counters"]
        assert counters["tasks_done"] == counters["tasks_submitted"]
        assert counters["tasks_recomputed"] == counters["tasks_failed"] == 0
        del futures
        gc.collect()
        assert until(lambda: not values(client))


def test_the_task_that_grows_past_the_limit_is_stopped_and_no_other(until):
    with Client(n_workers=2, memory_limit=LIMIT) as client:
        before = first_runners(client, 2, until)
        small = client.map(inc, range(1000))
        large = client.submit(grow, 2000, key="the-large-one")
        more = client.map(inc, range(1000))
        with pytest.raises(errors.TaskOutOfMemory, match="400 MiB") as caught:
            large.result(60)
        error = caught.value
        assert error.task == "the-large-one"
        assert error.peak > LIMIT // 2
        assert error.limit == LIMIT
        assert error.worker == "local" and "on local)" in str(error)
        assert error.attempts == ()  # It was the only one.
        assert isinstance(error, MemoryError)
        assert client.gather([*small, *more]) == 2 * list(range(1, 1001))
        assert client.submit(grow, 10).result(60) == 10
        # One runner was started anew; the worker is the same.
        assert until(lambda: len(set(runners(client)) & set(before)) == 1)


@pytest.mark.slow
def test_threads_that_share_a_process_with_it_lose_nothing():
    with Client(n_workers=1, threads_per_worker=3, memory_limit=LIMIT) as client:
        large = client.submit(grow, 2000)
        others = client.map(grow, [20] * 10)
        with pytest.raises(errors.TaskOutOfMemory):
            large.result(60)
        assert client.gather(others) == [20] * 10


def keep_much(mebibytes):
    global kept  # noqa: PLW0603  (a leak, as users have them)
    kept = np.ones(mebibytes * MIB // 8)
    return os.getpid()


@pytest.mark.slow
def test_a_runner_that_keeps_memory_is_started_anew_between_tasks(until):
    with Client(n_workers=1, memory_limit=LIMIT) as client:
        pid = client.submit(keep_much, 300).result(60)
        assert until(lambda: runners(client) not in ([pid], []))
        assert client.submit(os.getpid).result(60) != pid
        assert client.gather(client.map(inc, range(100))) == list(range(1, 101))


@contextlib.contextmanager
def small_disk(folder):
    """A file system of 1 MiB."""
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)]
    if os.getuid() or subprocess.run(command, check=False).returncode:
        pytest.skip("a file system can only be mounted by root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_an_error_that_says_so_and_loses_nothing(tmp_path, until):
    with (
        small_disk(tmp_path),
        config.override(worker__spill_directory=str(tmp_path)),
        Client(n_workers=2, memory_limit=LIMIT) as client,
    ):
        futures = client.map(full, range(40))  # 640 MiB
        wait(futures, timeout=60)
        kept = [f for f in futures if f.status == "finished"]
        assert 10 < len(kept) < 30
        for future in futures:
            if future.status == "error":
                with pytest.raises(errors.TaskOutOfMemory, match="No space left"):
                    future.result()
        with pytest.raises(errors.ClusterError, match="No space left"):
            client.scatter(np.zeros(16 * MIB))
        expected = [float(n) for n, f in enumerate(futures) if f in kept]
        assert [x[0] for x in client.gather(kept)] == expected
        # Room again: everything goes on.
        del futures, kept, future
        gc.collect()
        assert until(lambda: not memory(client)["shared"])
        assert describe(client.submit(full, 7).result(60)) == (7.0, 7.0, 2 * MIB)


def ones(nbytes):
    return float(np.ones(nbytes // 8)[-1])


def keep_input(x):
    keep_input.kept = [*getattr(keep_input, "kept", ()), x]


def test_what_only_a_client_still_maps_stops_no_task(until):
    with Client(n_workers=1, memory_limit=LIMIT) as client:
        kept = [client.submit(full, number).result(30) for number in range(40)]
        assert until(lambda: memory(client)["total"] < LIMIT / 2)
        seen = memory(client)
        assert seen["kept"] <= seen["shared"]
        tasks = client.map(ones, [100 * MIB] * 3, pure=False)
        assert client.gather(tasks) == [1.0] * 3
        # Nor has the client more room than that for what it brings.
        with pytest.raises(errors.ClusterError, match=r"clients keep .* mapped"):
            client.scatter(np.ones(4 * MIB))
        assert [x[0] for x in kept] == [float(number) for number in range(40)]
        # It goes with the views, and is used again.
        kept.clear()
        gc.collect()
        assert until(lambda: not memory(client)["kept"])


def test_what_tasks_keep_of_their_inputs_counts_as_theirs(until):
    with Client(n_workers=1, memory_limit=LIMIT) as client:
        for number in range(5):
            client.submit(keep_input, client.submit(full, number)).result(30)
        gc.collect()
        assert until(lambda: memory(client)["shared"] >= 80 * MIB)
        # Twice what the table of mappings may be old.
        time.sleep(1.0)
        assert memory(client)["kept"] == 0


def some_bytes(number):
    return os.urandom(1000 + number * 7919 % 40_000)


def test_small_values_beyond_a_full_disk_are_errors_and_leave_nothing(tmp_path, until):
    with (
        small_disk(tmp_path),
        config.override(worker__spill_directory=str(tmp_path)),
        Client(n_workers=2, memory_limit=200 * MIB) as client,
    ):
        futures = client.map(some_bytes, range(15_000))  # 300 MiB
        wait(futures, timeout=100)
        refused = [f for f in futures if f.status == "error"]
        assert 100 < len(refused) < 14_000
        with pytest.raises(errors.TaskOutOfMemory, match="No space left"):
            refused[0].result()
        assert memory(client)["small"] < 200 * MIB
        kept = next(f for f in futures if f.status == "finished")
        assert len(kept.result()) > 999
        del futures, refused, kept
        gc.collect()
        # All of it comes back, and the worker is as good as new.
        assert until(lambda: memory(client)["total"] < 120 * MIB)
        assert until(lambda: not memory(client)["small"])
        assert client.scatter(np.ones(4 * MIB)).result()[0] == 1.0


def test_a_value_larger_than_the_worker_is_refused():
    with Client(n_workers=1, memory_limit=50 * MIB) as client:
        with pytest.raises(
            errors.ClusterError, match=r"76\.3 MiB.*more than all of it"
        ):
            client.scatter(np.ones(10_000_000))
        assert client.submit(inc, 1).result(60) == 2


def test_a_result_too_big_for_any_worker_names_its_task():
    graph = {
        ("big", 1): (np.ones, 100_000_000),
        # Two take it, so that it is a task of its own.
        ("small", 1): (np.sum, ("big", 1)),
        ("size", 1): (np.size, ("big", 1)),
        "end": (operator.add, ("small", 1), ("size", 1)),
    }
    with Client(n_workers=1, memory_limit=200 * MIB) as client:
        with pytest.raises(errors.TaskOutOfMemory, match="200 MiB") as caught:
            client.get(graph, "end")
        # Not the one that was asked for, which has never run.
        assert caught.value.task.startswith("big-")
        assert str(caught.value).startswith(caught.value.task)
        (note,) = caught.value.__notes__
        assert re.fullmatch(r"end-\w+ failed because its input big-\w+ failed\.", note)
        # What became one task is named after all that it does.
        row = {
            "big": (np.ones, 100_000_000),
            "small": (np.sum, "big"),
            "last": (inc, "small"),
        }
        with pytest.raises(errors.TaskOutOfMemory, match=r"^big, small, last-\w+: "):
            client.get(row, "last")
        big = client.submit(np.ones, 100_000_000, key="by-name")
        with pytest.raises(errors.TaskOutOfMemory, match="by-name: .*200 MiB"):
            client.submit(inc, big).result(60)


@pytest.mark.slow
def test_the_limit_of_a_container_holds(until):
    """In a control group whose limit the kernel enforces."""
    group = Path("/sys/fs/cgroup/memory")
    name = f"covey-test-{os.getpid()}"
    own = re.search(
        r"^\d+:memory:(.*)$", Path("/proc/self/cgroup").read_text(), re.MULTILINE
    )
    if own is None or not (group / own[1].lstrip("/")).is_dir():
        pytest.skip("there is no control group for memory of the first version")
    group = group / own[1].lstrip("/") / name
    try:
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(LIMIT))
    except OSError:
        pytest.skip("no control group can be made here")
    script = textwrap.dedent(
        f"""
        import os
        open({str(group / "cgroup.procs")!r}, "w").write(str(os.getpid()))
        from covey import Client, errors
        from test_memory import grow, full, inc, describe
        with Client(n_workers=2) as client:
            assert client.scheduler_info()["workers"][0]["memory_limit_bytes"] == {LIMIT}
            try:
                client.submit(grow, 2000).result(60)
            except errors.TaskOutOfMemory as error:
                assert error.limit == {LIMIT}
            else:
                raise SystemExit("it was not stopped")
            futures = client.map(full, range(40))
            found = client.gather(client.map(describe, futures))
            assert [n for n, _, _ in found] == list(range(40))
        print("all right")
        """
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.stdout == "all right\n", done.stderr
    finally:
        until(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


def test_a_scatter_waits_while_memory_becomes_free():
    with Client(n_workers=1, memory_limit=LIMIT) as client:
        array = np.ones(5 * MIB)  # 40 MiB
        futures = [client.scatter(array * n) for n in range(15)]  # 600 MiB
        assert [float(f.result()[-1]) for f in futures] == list(range(15))


def test_a_scatter_that_nothing_can_make_room_for_is_refused():
    with Client(n_workers=1, memory_limit=LIMIT) as client:
        array = np.ones(5 * MIB)
        kept = []
        with pytest.raises(errors.ClusterError, match="processes still map it"):
            # What this process maps cannot go to disk.
            kept.extend(client.scatter(array).result() for _ in range(15))
        assert len(kept) > 4
        assert client.submit(inc, 1).result(60) == 2
        kept.clear()
        gc.collect()
        assert float(client.scatter(array).result()[0]) == 1.0


def test_values_that_went_between_workers_of_a_machine_leave_no_memory_behind(until):
    with Client(n_workers=2, machines=2) as client:
        made = client.map(lambda n: np.full(100_000, float(n)), range(40))
        moved = client.map(lambda a, b: a + b, made, made[20:] + made[:20])
        wait(moved, timeout=60)
        assert until(lambda: all(shared(client)))
        del made, moved
        gc.collect()
        assert until(lambda: not any(shared(client)))


def cut(array, number, parts):
    count = len(array) // parts
    return array[number * count : (number + 1) * count].copy()


def joined(*pieces):
    return sum(float(piece.sum()) for piece in pieces)


@pytest.mark.slow
def test_an_all_to_all_past_the_memory_is_right_and_leaves_nothing(until):
    parts, count = 16, 2 * MIB  # 256 MiB, where there is room for about 200
    with Client(n_workers=4, machines=4, memory_limit="448MiB") as client:
        blocks = [client.submit(np.full, count, float(n)) for n in range(parts)]
        pieces = [
            [client.submit(cut, b, n, parts) for n in range(parts)] for b in blocks
        ]
        del blocks
        sums = [client.submit(joined, *column) for column in zip(*pieces, strict=True)]
        del pieces
        assert (
            client.gather(sums) == [sum(range(parts)) * float(count // parts)] * parts
        )
        del sums
        gc.collect()

        def left():
            keys = ("small", "shared", "in_flight", "spilled")
            return [v[key] for v in client.memory().values() for key in keys]

        assert until(lambda: not any(left())), left()


def test_results_are_used_before_more_of_them_are_made(tmp_path):
    """The second map was submitted later, and yet frees what the first one makes."""
    n, pipe, log = 200, tmp_path / "pipe", tmp_path / "log"
    os.mkfifo(pipe)
    with Client(n_workers=2) as client:
        gate = client.submit(opened, str(pipe))
        loads = client.map(loaded, range(n), log=str(log), gate=gate)
        sizes = client.map(measured, loads, log=str(log))
        del loads
        client.scheduler_info()  # Now the scheduler knows that nobody holds them.
        pipe.write_text("")
        assert client.gather(sizes) == [MIB] * n
    there = peak = 0
    for sign in log.read_text():
        there += 1 if sign == "+" else -1
        peak = max(peak, there)
    assert there == 0
    assert peak < n / 3
