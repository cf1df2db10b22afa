"""``concurrent.futures`` over a cluster, held to what the standard library promises."""

from __future__ import annotations

import asyncio
import concurrent.futures as standard
import gc
import subprocess
import sys
import textwrap
import threading
import time
import weakref

import numpy as np
import pytest

from covey import Executor, errors
from covey.interop.futures import ClientExecutor


def inc(x):
    return x + 1


def boom(x):
    raise ValueError(f"no {x}")


def unless_odd(x):
    return boom(x) if x % 2 else x


def touch_and_sleep(path):
    path.touch()
    time.sleep(60)


def with_keywords(*, key, priority=0):
    return key, priority


async def later(x):
    return x


@pytest.fixture
def executor(client):
    with client.get_executor() as made:
        yield made


def test_it_is_an_executor_with_true_futures(executor):
    assert isinstance(executor, standard.Executor)
    future = executor.submit(inc, 1)
    assert type(future).__mro__[1] is standard.Future
    assert future.result(20) == 2
    assert future.done()
    assert not future.running()
    assert not future.cancel()
    assert future.exception() is None


def test_errors_are_the_users(executor):
    future = executor.submit(boom, 1)
    with pytest.raises(ValueError, match="no 1"):
        future.result(20)
    assert isinstance(future.exception(), ValueError)


def test_every_keyword_is_the_functions(executor):
    assert executor.submit(with_keywords, key=1, priority=2).result(20) == (1, 2)
    assert executor.submit(later, 3).result(20) == 3


def test_what_cannot_travel_is_named(executor):
    with pytest.raises(errors.NotPicklable, match=r"args\[0\].*lock"):
        executor.submit(inc, threading.Lock())


def test_the_waits_of_the_standard_library(executor):
    futures = [executor.submit(inc, i) for i in range(100)]
    assert sorted(f.result() for f in standard.as_completed(futures, 20)) == list(
        range(1, 101)
    )
    done, rest = standard.wait(futures, timeout=20)
    assert (len(done), len(rest)) == (100, 0)
    pending = executor.submit(time.sleep, 60)
    done, rest = standard.wait(
        [pending, futures[0]], return_when=standard.FIRST_COMPLETED
    )
    assert rest == {pending}
    with pytest.raises(standard.TimeoutError):
        pending.result(0.05)
    pending.cancel()


def test_callbacks(executor):
    called = threading.Event()
    seen = []

    def callback(future):
        seen.append(future.result())
        called.set()

    executor.submit(inc, 1).add_done_callback(callback)
    assert called.wait(20)
    assert seen == [2]


def test_cancel_stops_what_runs(executor, tmp_path):
    path = tmp_path / "mark"
    future = executor.submit(touch_and_sleep, path)
    while not path.exists():
        threading.Event().wait(0.01)
    assert future.cancel()
    assert future.cancel()
    assert future.cancelled()
    with pytest.raises(standard.CancelledError):
        future.result()
    assert executor.submit(inc, 1).result(20) == 2


def test_a_task_that_somebody_else_cancels(executor, client):
    future = executor.submit(time.sleep, 60)
    client.cancel(future.ours, "by hand")
    with pytest.raises(standard.CancelledError):
        future.result(20)
    assert future.cancelled()


def test_map_is_in_order_and_lets_read_values_go(executor):
    assert list(executor.map(inc, range(500), chunksize=7)) == list(range(1, 501))
    assert list(executor.map(np.add, range(3), range(3))) == [0, 2, 4]
    assert list(executor.map(inc, [])) == []
    results = executor.map(boom, [1, 2])
    with pytest.raises(ValueError, match="no 1"):
        next(results)


def test_what_map_returned_is_collected_while_its_thread_writes(
    executor, client, tmp_path
):
    """What is not read is cancelled then, but the answer cannot come before that ends."""
    path = tmp_path / "begun"
    results = executor.map(lambda wait: wait and touch_and_sleep(path), [False, True])
    assert not next(results)
    (futures,) = executor._maps
    finalized = threading.Event()

    def collect():
        with client._engine.line.lock:
            results.close()
            finalized.set()

    threading.Thread(target=collect, daemon=True).start()
    assert finalized.wait(20)
    with pytest.raises(errors.TaskCancelled):
        futures[1].result(20)


def test_map_within_a_time(executor):
    results = executor.map(time.sleep, [0, 60], timeout=0.5)
    assert next(results) is None
    with pytest.raises(TimeoutError):
        next(results)


def test_large_values(executor):
    future = executor.submit(np.ones, 300_000)
    assert future.result(20).sum() == 300_000


def test_no_calls_after_shutdown(client):
    executor = client.get_executor(priority=1, pure=True)
    slow = [executor.submit(time.sleep, 0.01 * i) for i in range(5)]
    results = executor.map(inc, range(3))
    executor.shutdown()
    assert all(future.done() for future in slow)
    assert list(results) == [1, 2, 3]
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.submit(inc, 1)
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.map(inc, [1])
    assert client.submit(inc, 1).result(20) == 2


def test_shutdown_can_cancel(client):
    executor = client.get_executor()
    futures = [executor.submit(time.sleep, 0.1) for _ in range(40)]
    results = executor.map(time.sleep, [60] * 30)
    executor.shutdown(cancel_futures=True)
    assert all(future.done() for future in futures)
    cancelled = [future.cancelled() for future in futures]
    # What had been begun was done, and nothing behind it was begun.
    assert not cancelled[0]
    assert cancelled[-1]
    assert cancelled == sorted(cancelled)
    with pytest.raises(standard.CancelledError):
        next(results)


def test_a_value_that_was_read_is_let_go_of(executor):
    for value in executor.map(np.ones, [3] * 5):
        gone = weakref.ref(value)
        del value
        gc.collect()
        assert gone() is None


def test_a_chunk_has_at_least_one_call(executor):
    with pytest.raises(ValueError, match="chunksize"):
        executor.map(inc, [1], chunksize=0)


async def test_in_a_running_loop(executor):
    loop = asyncio.get_running_loop()
    assert await loop.run_in_executor(executor, inc, 1) == 2
    assert await asyncio.wrap_future(executor.submit(inc, 2)) == 3


def test_options_are_checked_at_once(client):
    with pytest.raises(errors.UsageError, match="priority"):
        client.get_executor(priority="high")
    assert client.get_executor()._max_workers == 2


@pytest.mark.system
def test_a_cluster_of_its_own_outlives_the_block_for_its_results():
    with Executor(n_workers=1) as executor:
        small = executor.map(inc, range(3))
        large = executor.map(np.ones, [200_000] * 2)
        one = executor.submit(np.ones, 200_000)
    assert list(small) == [1, 2, 3]
    assert [value.sum() for value in large] == [200_000] * 2
    assert one.result().sum() == 200_000


def leave(results):
    next(results)
    results.close()


@pytest.mark.system
@pytest.mark.parametrize("read", [next, leave, list])
def test_a_cluster_of_its_own_ends_in_order_whatever_was_read(read):
    with Executor(max_workers=1) as executor:
        results = executor.map(np.full, [200_000] * 4, range(4))
        other = executor.map(inc, range(3))
        read(results)
    assert executor._own.closed
    assert list(other) == [1, 2, 3]
    # What is read by halves can be read on.
    rest = [value[0] for value in results]
    assert rest == ([1, 2, 3] if read is next else [])


@pytest.mark.system
def test_the_error_of_a_task_comes_out_of_the_block():
    with (
        pytest.raises(ValueError, match="no 1") as caught,
        Executor(max_workers=1) as executor,
    ):
        for _ in executor.map(unless_odd, range(4)):
            pass
    assert caught.value.__context__ is None
    assert not [note for note in caught.value.__notes__ if "shut down" in note]
    assert executor._own.closed


@pytest.mark.system
def test_a_cluster_of_its_own_ends_though_values_cannot_be_brought(monkeypatch):
    def values(*_):
        raise MemoryError

    executor = Executor(max_workers=1)
    executor.map(inc, range(4))
    monkeypatch.setattr(executor._own.session, "values", values)
    with pytest.raises(MemoryError):
        executor.shutdown()
    assert executor._own.closed


@pytest.mark.system
def test_what_is_read_while_values_are_brought_is_left_out(monkeypatch):
    with Executor(max_workers=1) as executor:
        results = executor.map(inc, range(4))
        session = executor._own.session
        bring = session.values

        def values(futures, errors):
            # As a thread would that reads at this moment.
            monkeypatch.undo()
            read.append(next(results))
            return bring(futures, errors)

        read = []
        monkeypatch.setattr(session, "values", values)
    assert read + list(results) == [1, 2, 3, 4]


def test_what_a_block_raises_comes_before_a_shutdown_that_fails(client):
    class Failing(ClientExecutor):
        def shutdown(self, *_, **__):
            raise OSError("no end")

    with pytest.raises(KeyError) as caught, Failing(client):
        raise KeyError("mine")
    assert caught.value.__notes__ == [
        "and the executor could not be shut down in order: OSError: no end"
    ]
    with pytest.raises(OSError, match="no end"), Failing(client):
        pass


@pytest.mark.system
def test_a_cluster_of_its_own_ends_by_itself():
    executor = Executor(n_workers=1)
    futures = [executor.submit(inc, i) for i in range(5)]
    executor.shutdown(wait=False)
    assert [future.result(20) for future in futures] == [1, 2, 3, 4, 5]
    for thread in threading.enumerate():
        if thread.name == "covey-executor-end":
            thread.join(20)
    assert executor._own.closed


@pytest.mark.system
def test_what_was_submitted_is_done_though_nobody_waits(tmp_path):
    script = """
        import pathlib, sys, time
        from covey import Executor

        def note(folder, name):
            time.sleep(0.2)
            pathlib.Path(folder, name).touch()

        Executor(max_workers=1).submit(note, sys.argv[1], "dropped")
        executor = Executor(max_workers=1)
        executor.submit(note, sys.argv[1], "kept")
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)],
        check=True,
        timeout=60,
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dropped", "kept"]


@pytest.mark.system
def test_a_client_that_was_given_stays(client):
    with Executor(client) as executor:
        assert executor.submit(inc, 1).result(20) == 2
    assert client.submit(inc, 1).result(20) == 2


def test_how_many_runners_is_said_by_name(client):
    with pytest.raises(errors.UsageError, match="max_workers=4"):
        Executor(4)
    with pytest.raises(errors.UsageError, match="of the executor's own"):
        Executor(client, max_workers=1)


@pytest.mark.parametrize(
    ("keyword", "instead"),
    [
        ("initializer", "which each process runs once"),
        ("initargs", "a module that the tasks import"),
        ("mp_context", "never forked"),
        ("max_tasks_per_child", "memory_limit="),
        ("thread_name_prefix", "leave it out"),
    ],
)
def test_what_others_take_is_refused_with_what_to_do_instead(keyword, instead):
    said = f"an Executor takes no {keyword}=: .*{instead}"
    with pytest.raises(errors.UsageError, match=said):
        Executor(max_workers=1, **{keyword: None})
