"""Local clusters as programs live with them: beginning, interrupted, ended."""

from __future__ import annotations

import _thread
import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

import covey
from covey import Client, LocalCluster, errors, wait
from covey.worker.serving import DataServer

pytestmark = pytest.mark.system


def inc(x):
    return x + 1


def fib(n):
    if n < 2:
        return n
    client = covey.get_client()
    one, two = client.submit(fib, n - 1), client.submit(fib, n - 2)
    return sum(client.gather([one, two]))


def meet(barrier_path, number, count):
    """Wait until *count* tasks are here at once."""
    (barrier_path / str(number)).touch()
    while len(list(barrier_path.iterdir())) < count:
        threading.Event().wait(0.005)
    return os.getpid(), threading.get_ident()


def program(text, **keywords):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(text)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **keywords,
    )


def outcome(process):
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


# Shapes.


@pytest.mark.parametrize(
    ("positions", "keywords", "says"),
    [
        (("2",), {}, "n_workers= takes a whole number from 1 up, not '2'"),
        ((1, 1.5), {}, "threads_per_worker= takes a whole number"),
        ((), {"n_wrkers": 2}, r"n_wrkers= is no keyword .* did you mean n_workers=\?"),
        ((), {"n_jobs": 2}, r"n_jobs= is no keyword .* did you mean n_workers=\?"),
        ((), {"max_workers": 2}, r"did you mean n_workers=\?"),
        ((), {"nthreads": 2}, r"did you mean threads_per_worker=\?"),
        ((), {"processes": [4]}, r"processes= takes True or False.*n_workers="),
        ((), {"connection_file": "c.json"}, "comes first, as in Client.'cluster.json'"),
        ((), {"colour": 2}, "there are n_workers, threads_per_worker"),
        ((2,), {"machines": "2"}, "machines='2'"),
        ((2,), {"memory_limit": 10}, "10 B is too little for 2 runners"),
        ((2,), {"memory_limit": "47MiB"}, "take up to 48 MiB"),
    ],
)
def test_what_makes_no_sense_is_refused_in_words(positions, keywords, says):
    with pytest.raises(errors.UsageError, match=says):
        LocalCluster(*positions, **keywords)


def test_subtasks_need_no_second_slot():
    with Client(n_workers=1) as client:
        assert client.submit(fib, 6).result(60) == 8
        # Waiting in many ways, all at once, still on one slot.
        assert client.gather(client.map(fib, range(6))) == [0, 1, 1, 2, 3, 5]


def test_one_runner_with_threads(tmp_path):
    with Client(n_workers=1, threads_per_worker=4) as client:
        assert client.ncores() == {"local": 4}
        places = client.gather(client.map(meet, [tmp_path] * 4, range(4), [4] * 4))
        assert len({pid for pid, _ in places}) == 1
        assert len({thread for _, thread in places}) == 4
        array = client.submit(np.ones, 400_000)
        assert (
            client.gather([client.submit(np.sum, array) for _ in range(8)])
            == [400_000] * 8
        )
        late = client.submit(time.sleep, 3600, timeout=0.2)
        with pytest.raises(errors.TaskTimedOut):
            late.result(20)
        futures = client.map(lambda x: os._exit(5) if x == 3 else x, range(8))
        error = futures[3].exception(20)
        assert isinstance(error, errors.RunnerDied)
        assert error.exit_code == 5
        assert client.submit(inc, 1).result(20) == 2


def test_more_workers_than_there_can_be_are_not_waited_for():
    """``n_workers=`` counts runners: whoever waits for as many workers is told."""

    async def wait_for_two(cluster):
        async with covey.AsyncClient(cluster) as client:
            await client.wait_for_workers(1, timeout=20)
            await client.wait_for_workers(2)

    says = r"1 worker with 4 slots, and no other can join.*machines=2"
    with LocalCluster(n_workers=2, threads_per_worker=2) as cluster:
        with Client(cluster) as client:
            client.wait_for_workers(1, timeout=20)
            with pytest.raises(errors.UsageError, match=says):
                client.wait_for_workers(2, timeout=5)
            with pytest.raises(errors.UsageError, match=says):
                client.wait_for_workers(2)
        with pytest.raises(errors.UsageError, match=says):
            asyncio.run(wait_for_two(cluster))
    # Others may join this one.
    with (
        Client(n_workers=1, host="127.0.0.1") as client,
        pytest.raises(TimeoutError, match="1 of 2 workers"),
    ):
        client.wait_for_workers(2, timeout=0.05)


def test_who_runs_in_one_of_several_runners_is_told():
    with LocalCluster(n_workers=5, threads_per_worker=2, machines=3) as cluster:
        with Client(cluster) as client:
            client.wait_for_workers(3, timeout=20)
            with pytest.warns(UserWarning, match="and 1 more like it. has 2 runners"):
                assert len(client.run(os.getpid)) == 3
            # The third one has a single runner, of two threads: warnings are errors.
            assert list(client.run(os.getpid, workers="local-3")) == ["local-3"]
        # Who has it from elsewhere knows of slots only.
        with Client(cluster.connection) as client:
            client.wait_for_workers(3, timeout=20)
            with pytest.warns(UserWarning, match="4 slots, each .*--nthreads"):
                assert len(client.run(os.getpid, workers="local-1")) == 1


#: Of two runners that start, the second one waits at a gate before it does anything.
LATE_SECOND = """
import os, sys
if "covey.runner" in sys.orig_argv:
    try:
        os.mkdir({first!r})
    except FileExistsError:
        open({gate!r}).close()
"""


@pytest.mark.parametrize("machines", [1, 2])
def test_a_client_is_there_with_the_first_runner(tmp_path, monkeypatch, machines):
    gate, together = tmp_path / "gate", tmp_path / "together"
    os.mkfifo(gate)
    together.mkdir()
    late = LATE_SECOND.format(first=str(tmp_path / "first"), gate=str(gate))
    (tmp_path / "sitecustomize.py").write_text(late)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Client(n_workers=2, machines=machines) as client:
        assert client.submit(inc, 1).result() == 2
        # Only now may the second one come up: to open the gate waits until it is there.
        gate.open("w").close()
        tasks = client.map(meet, [together] * 2, range(2), [2] * 2)
        assert len({pid for pid, _ in client.gather(tasks)}) == 2


def test_data_moves_between_machines():
    with Client(n_workers=3, machines=3) as client:
        client.wait_for_workers(3, timeout=20)
        names = sorted(client.ncores())
        assert names == ["local-1", "local-2", "local-3"]
        made = [
            client.submit(np.full, 200_000, i, workers=n) for i, n in enumerate(names)
        ]
        total = client.submit(lambda *arrays: sum(map(np.sum, arrays)), *made)
        assert total.result(20) == 200_000 * 3
        small = client.map(inc, range(300), workers="local-1")
        assert client.gather(client.map(inc, small, workers="local-3"))[299] == 301
        assert client.who_has(made[1])[made[1].key][0] == "local-2"
        everywhere = client.scatter(np.ones(200_000), broadcast=True)
        assert sorted(client.who_has(everywhere)[everywhere.key]) == names
        assert client.run(os.getpid).keys() == set(names)
        assert list(client.run(os.getpid, workers=["local-2"])) == ["local-2"]
        with pytest.raises(TimeoutError, match="3 of 4"):
            client.wait_for_workers(4, timeout=0.05)


def test_everything_in_one_process():
    with Client(processes=False, n_workers=2, threads_per_worker=1) as client:
        assert list(client.run(os.getpid).values()) == [os.getpid()]  # and no warning
        box = []
        client.submit(box.append, 1).result(20)
        # It is pickled even so: what a task gets is a copy, as everywhere.
        assert box == []
        assert client.submit(os.getpid).result(20) == os.getpid()
        assert client.submit(fib, 6).result(60) == 8
        with pytest.raises(ZeroDivisionError):
            client.submit(lambda: 1 / 0).result(20)
        stopped = client.submit(time.sleep, 0.2)
        stopped.cancel()
        assert stopped.cancelled()
        array = client.submit(np.ones, 300_000).result(20)
        assert array.sum() == 300_000


def test_a_cluster_for_several_clients():
    with LocalCluster(n_workers=1) as cluster:
        with Client(cluster) as one, cluster.get_client() as two:
            future = one.submit(inc, 1)
            assert two.submit(inc, 5).result(20) == 6
            assert future.result(20) == 2
        # Clients come and go; the cluster stays until it is closed.
        with Client(cluster) as three:
            assert three.gather(three.map(inc, range(3))) == [1, 2, 3]
            cluster.close()
            cluster.close()
            with pytest.raises(errors.Disconnected, match="told to end"):
                three.submit(inc, 1).result(20)
    with pytest.raises(errors.Closed, match="make a new one"):
        Client(cluster, timeout=0.2)


# The end.


def test_use_after_close_is_refused_and_what_was_had_stays():
    client = Client(n_workers=1)
    done, never = client.submit(inc, 1), client.submit(signal.pause)
    assert done.result(20) == 2
    client.close()
    client.close()
    assert client.status == "closed"
    assert "closed" in repr(client)
    assert done.result() == 2
    with pytest.raises(errors.TaskCancelled, match="closed"):
        never.result(5)
    for use in (
        lambda: client.submit(inc, 1),
        lambda: client.map(inc, [1]),
        lambda: client.scatter([1]),
        lambda: client.run(inc, 1),
        client.scheduler_info,
        client.ncores,
        client.wait_for_workers,
    ):
        with pytest.raises(errors.Closed, match="closed"):
            use()
    assert never.explain().endswith("cancelled")


def test_a_value_that_went_with_its_client_is_told_as_gone():
    with Client(n_workers=1) as client:
        large = client.map(bytes, [1 << 20, 1 << 21])
        fetched = client.map(bytes, [1 << 20, 1 << 20])
        wait(large)
        client.gather(fetched)
    assert client.gather(fetched) == [bytes(1 << 20)] * 2
    with pytest.raises(errors.Closed, match=rf"{large[0].key} is gone with it"):
        large[0].result()
    with pytest.raises(errors.Closed, match=r"and of 1 other task is gone with it"):
        client.gather(large)


def test_a_script_with_live_futures_ends_in_silence():
    script = program(
        """
        import time
        from covey import Client, as_completed
        class Pending:
            pass
        client = Client(n_workers=2)
        held = client.map(lambda x: x, range(1000))
        print(client.submit(lambda: Pending.__name__).result())
        running = [client.submit(time.sleep, 3600) for _ in range(5)]
        running[0].add_done_callback(print)
        waiting = client.submit(print, running)
        keep = Pending()
        keep.client, keep.future, keep.cycle = client, waiting, keep
        coming = as_completed(running)
        """
    )
    code, out, err = outcome(script)
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "Pending"


def test_a_script_that_fails_ends_as_it_would_without():
    script = program(
        """
        from covey import Client
        client = Client(n_workers=1)
        future = client.submit(lambda: 1 / 0)
        future.result()
        """
    )
    code, out, err = outcome(script)
    assert (code, out) == (1, "")
    assert err.rstrip().endswith("ZeroDivisionError: division by zero")
    assert "Remote traceback" in err


WAITS = {
    "gather": "client.gather(futures)",
    "result": "futures[0].result()",
    "wait": "covey.wait(futures)",
    "as_completed": "list(covey.as_completed(futures))",
    "submit": "while True: client.submit(abs, -1)",
}


@pytest.mark.parametrize("how", WAITS)
def test_ctrl_c_is_one_traceback_and_nothing_is_left(how):
    script = program(
        f"""
        import signal, time
        import covey
        client = covey.Client(n_workers=2)
        futures = client.map(time.sleep, [3600] * 10)
        client.submit(abs, 1, priority=1)
        print("go", flush=True)
        {WAITS[how]}
        """,
        start_new_session=True,
    )
    assert script.stdout.readline() == "go\n"
    os.killpg(script.pid, signal.SIGINT)
    code, _, err = outcome(script)
    assert code == -signal.SIGINT
    assert err.count("Traceback") == 1
    assert err.rstrip().endswith("KeyboardInterrupt")


def test_ctrl_c_that_meets_a_dropped_future_comes_all_the_same(monkeypatch):
    with Client(n_workers=1, processes=False) as client:
        future = client.submit(abs, -1)
        assert future.result() == 1
        task, session = future.id, future.session
        let_go = session.let_go

        def interrupted(handles):
            monkeypatch.setattr(session, "let_go", let_go)
            let_go(handles)
            raise KeyboardInterrupt

        monkeypatch.setattr(session, "let_go", interrupted)

        def drop(held):
            held.clear()
            threading.Event().wait(60)

        held = [future]
        del future
        with pytest.raises(KeyboardInterrupt):
            drop(held)
        assert client.submit(abs, -2).result() == 2
        assert session.engine.wishes.find(task) is None


def test_after_ctrl_c_a_session_goes_on():
    script = program(
        """
        import time
        import covey
        client = covey.Client(n_workers=2)
        futures = client.map(time.sleep, [3600] * 10)
        try:
            print("go", flush=True)
            client.gather(futures)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        client.cancel(futures)
        print(client.gather(client.map(abs, range(3))))
        client.close()
        """,
        start_new_session=True,
    )
    assert script.stdout.readline() == "go\n"
    os.killpg(script.pid, signal.SIGINT)
    code, out, err = outcome(script)
    assert (code, out, err) == (0, "interrupted\n[0, 1, 2]\n", "")


def test_a_killed_program_takes_its_cluster_along():
    script = program(
        """
        import time
        import covey
        client = covey.Client(n_workers=2)
        futures = client.map(time.sleep, [3600] * 10)
        client.scatter([b"x" * 1_000_000])
        print("go", flush=True)
        client.gather(futures)
        """
    )
    assert script.stdout.readline() == "go\n"
    script.kill()
    _, err = script.communicate(timeout=20)
    assert err == ""


def test_a_cluster_that_stays_dead_ends_every_way_of_waiting(monkeypatch):
    monkeypatch.setattr("covey.cluster.keeper.DEATHS_MAX", 0)
    with Client(n_workers=1) as client:
        pid = client.scheduler_info()["workers"][0]["facts"]["pid"]
        done = client.submit(np.ones, 300_000)
        covey.wait([done])
        pending = [client.submit(signal.pause) for _ in range(3)]
        called = threading.Event()
        pending[0].add_done_callback(lambda _: called.set())
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(errors.Disconnected, match="killed 1 times"):
            client.gather(pending)
        assert called.wait(10)
        assert [f.status for f in covey.as_completed(pending)] == ["error"] * 3
        with pytest.raises(errors.Disconnected):
            done.result(10)
        for use in (client.scheduler_info, lambda: client.submit(inc, 1)):
            with pytest.raises(errors.Disconnected):
                use()
        assert client.status == "disconnected"


def test_a_child_of_a_fork_is_told_and_harms_nothing():
    script = program(
        """
        import os
        from covey import Client, errors
        client = Client(n_workers=1)
        future = client.submit(abs, -1)
        assert future.result() == 1
        slow = client.submit(lambda: 2)
        pid = os.fork()
        if pid == 0:
            uses = [lambda: client.submit(abs, 1), client.scheduler_info, client.ncores,
                    lambda: client.map(abs, [1]), slow.explain]
            for use in uses:
                try:
                    use()
                except errors.UsageError as error:
                    print("child", "fork" in str(error), flush=True)
            del future, slow
            client.close()
            with Client(n_workers=1) as own:
                print("own", own.submit(abs, -3).result(), flush=True)
            raise SystemExit(7)
        print("code", os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
        print(slow.result(), client.submit(abs, -4).result())
        """
    )
    code, out, err = outcome(script)
    expected = "child True\n" * 4 + "own 3\ncode 7\n2 4\n"
    assert (code, err) == (0, "")
    assert out.replace("child True\n", "", 1) in {expected, "child True\n" + expected}


def test_a_child_of_a_fork_does_not_keep_the_cluster_alive():
    script = program(
        """
        import os
        from covey import Client
        client = Client(n_workers=1)
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
        client.close()
        # It went because its lifeline was closed; else it would have been killed.
        print(client.cluster._keeper._process.returncode)
        os.close(writer)
        os.waitpid(pid, 0)
        """
    )
    assert outcome(script) == (0, "0\n", "")


def test_classes_of_a_script_travel_both_ways():
    script = program(
        """
        import dataclasses, enum
        from typing import NamedTuple
        from covey import Client

        class Colour(enum.Enum):
            RED = 1
        class Pair(NamedTuple):
            one: int
            two: int
        @dataclasses.dataclass
        class Box:
            inner: object
            def double(self): return Box(self.inner * 2)
        class Broken(Exception):
            def __init__(self, a, b): super().__init__(a); self.b = b
        FACTOR = 2
        def scale(box): return Box(box.inner * FACTOR)
        def colour(c): return c is Colour.RED, c
        def fail(): raise Broken("a", "b")

        client = Client(n_workers=2)
        future = client.submit(Box(3).double)
        assert client.submit(scale, future).result() == Box(12)
        FACTOR = 10
        assert client.submit(scale, future).result() == Box(60)
        same, back = client.submit(colour, Colour.RED).result()
        assert same and back is Colour.RED
        assert isinstance(client.submit(Pair, 1, 2).result(), Pair)
        assert client.gather(client.map(Box, range(3))) == [Box(0), Box(1), Box(2)]
        try: client.submit(fail).result()
        except Broken as error: assert error.b == "b"
        print("ok")
        """
    )
    assert outcome(script) == (0, "ok\n", "")


def fork_and_use_a_client():
    pid = os.fork()
    if not pid:
        try:
            covey.get_client().submit(inc, 1).result(10)
        except covey.CoveyError:
            os._exit(3)
        finally:
            os._exit(4)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


async def await_a_subtask(x):
    return await covey.get_client().submit(inc, x)


def use_an_executor(x):
    with covey.get_client().get_executor() as executor:
        first = executor.submit(inc, x).result()
        return [first, *executor.map(inc, [x])]


def test_a_child_of_a_task_leaves_its_slot_alone(client):
    assert client.submit(fork_and_use_a_client).result(30) == 3
    assert client.gather(client.map(inc, range(500))) == list(range(1, 501))


def test_tasks_wait_for_their_own_in_every_way():
    with Client(n_workers=1) as client:
        assert client.submit(await_a_subtask, 1).result(20) == 2
        assert client.gather(client.map(await_a_subtask, range(4))) == [1, 2, 3, 4]
        assert client.submit(use_an_executor, 1).result(20) == [2, 2]


def malloc_variables():
    return {n: v for n, v in os.environ.items() if n.startswith("MALLOC_")}


@pytest.mark.skipif(bool(malloc_variables()), reason="somebody has chosen already")
def test_runners_keep_freed_memory_and_this_process_does_not():
    with Client(n_workers=2, memory_limit="4GiB") as client:
        first = client.submit(malloc_variables, pure=False).result()
        both = [client.submit(malloc_variables, pure=False) for _ in range(20)]
        found = [first, *client.gather(both)]
    assert {f["MALLOC_TRIM_THRESHOLD_"] for f in found} == {str(128 << 20)}
    assert not malloc_variables()


@pytest.mark.parametrize("way", ["map", "submit", "scatter"])
def test_ctrl_c_leaves_no_large_values_at_a_worker(monkeypatch, until, way):
    stopped, storages = threading.Event(), []
    take_over = DataServer._take_over

    def slow(server, link, message):
        if not storages:
            storages.append(server._storage)
            _thread.interrupt_main()
        stopped.wait(60)
        return take_over(server, link, message)

    monkeypatch.setattr(DataServer, "_take_over", slow)
    with Client(n_workers=1, processes=False) as client:
        values = [bytes(100_000) for _ in range(20)]
        calls = {
            "map": lambda: client.map(len, values),
            "submit": lambda: client.submit(len, values),
            "scatter": lambda: client.scatter(values),
        }
        with pytest.raises(KeyboardInterrupt):
            calls[way]()
        # What is stopped in the I/O thread was stopped before this.
        client._session.engine.call(asyncio.sleep(0))
        stopped.set()
        assert client.submit(abs, -1).result() == 1
        (storage,) = storages
        assert until(lambda: not [*storage.held()])
