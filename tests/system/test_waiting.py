"""How one waits for futures, in ways that tear at it, on a cluster of two runners."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import os
import random
import signal
import sys
import threading

import pytest

import covey
from covey import errors


def inc(x):
    return x + 1


def wait_at(path, value=None):
    """Wait for a file, so that a test decides when a task ends."""
    gate = threading.Event()
    while not path.exists():
        gate.wait(0.005)
    return value


def test_a_callback_that_exits_does_not_end_the_client(client, tmp_path, caplog):
    gate = tmp_path / "gate"
    futures = client.map(wait_at, [gate] * 20, range(20))
    futures[0].add_done_callback(lambda _: sys.exit("bye"))
    next_one = threading.Event()
    futures[0].add_done_callback(lambda _: next_one.set())
    connection = client._engine.line
    gate.touch()
    covey.wait(futures, timeout=20)
    assert client.gather(futures) == list(range(20))
    assert client._engine.line is connection and connection.connected
    assert next_one.wait(20), "the thread of callbacks goes on"
    assert "raised" in caplog.text
    with pytest.raises(SystemExit):
        futures[0].add_done_callback(lambda _: sys.exit("here"))


def test_a_batch_that_cannot_be_acted_on_ends_the_client(client, tmp_path, until):
    with covey.Client(client.cluster, set_as_default=False) as other:
        future = other.submit(wait_at, tmp_path / "gate")

        async def receive():
            other._engine.on_messages(None, [object()])

        other._engine.call(receive())
        (tmp_path / "gate").touch()
        with pytest.raises(errors.Disconnected, match="object"):
            future.result(timeout=20)
        # It said goodbye: nothing is kept for it as for one that may come back.
        assert until(lambda: other.name not in client.scheduler_info()["clients"])


def test_a_task_that_ends_just_after_the_time_is_over(client, tmp_path, monkeypatch):
    gate = tmp_path / "gate"
    future = client.submit(wait_at, gate, 5)
    session = future.session

    def too_late(ended, timeout):
        gate.touch()
        assert ended.wait(20)
        return False

    with monkeypatch.context() as patched:
        patched.setattr(session, "_await", too_late)
        assert future.result(timeout=1) == 5


def test_a_map_of_which_one_future_was_released(client, tmp_path):
    gate = tmp_path / "gate"
    futures = client.map(wait_at, [gate] * 3, range(3))
    futures[0].release()
    assert futures.whole is None
    for ask in (client.gather, covey.wait):
        with pytest.raises(errors.Closed, match="released"):
            ask(futures)
    with pytest.raises(errors.NotPicklable, match="released"):
        client.map(inc, futures)
    gate.touch()
    assert client.gather(futures[1:]) == [1, 2]


def test_the_same_future_twice_is_no_reason_to_wait_for_others(client, tmp_path):
    (tmp_path / "open").touch()
    first, other = client.map(wait_at, [tmp_path / "open", tmp_path / "gate"], [1, 2])
    done = threading.Event()
    asking = threading.Thread(
        target=lambda: client.gather([first, first]) == [1, 1] and done.set()
    )
    asking.start()
    assert done.wait(20)
    (tmp_path / "gate").touch()
    assert other.result(timeout=20) == 2
    asking.join()


def in_a_fork(ask):
    """Return the name of the error that *ask* raises in a child of this process."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(20)  # What hangs ends, too.
        word = "nothing"
        try:
            ask()
        except BaseException as error:
            word = type(error).__name__
        os.write(writer, word.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        word = answer.read()
    os.waitpid(child, 0)
    return word


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_in_a_fork_nobody_waits_for_news_that_cannot_come(client, tmp_path):
    gate = tmp_path / "gate"
    futures = client.map(wait_at, [gate] * 2)
    one = futures[0]
    assert in_a_fork(one.result) == "UsageError"
    first = "FIRST_COMPLETED"
    assert in_a_fork(lambda: covey.wait([one], return_when=first)) == "UsageError"
    assert in_a_fork(lambda: list(covey.as_completed([one]))) == "UsageError"
    assert in_a_fork(lambda: list(covey.as_completed(futures))) == "UsageError"
    assert in_a_fork(lambda: one.add_done_callback(print)) == "UsageError"
    gate.touch()
    covey.wait(futures, timeout=20)
    assert in_a_fork(one.result) == "nothing"


def test_threads_share_as_completed_to_its_end(client, tmp_path):
    gate = tmp_path / "gate"
    coming = covey.as_completed(client.map(wait_at, [gate] * 2))
    got = []
    threads = [
        threading.Thread(target=lambda: got.extend(coming), daemon=True)
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    gate.touch()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert len(set(got)) == len(got) == 2


def test_clear_ends_the_waiting_of_others(client, tmp_path):
    gate = tmp_path / "gate"
    future = client.submit(wait_at, gate)
    coming = covey.as_completed([future])
    waits = threading.Event()
    left, coming._left = coming._left, lambda: waits.set() or left()
    got = []
    threads = [
        threading.Thread(target=lambda: got.extend(coming), daemon=True),
        threading.Thread(target=lambda: got.extend(coming.batches()), daemon=True),
    ]
    for thread in threads:
        thread.start()
    assert waits.wait(20)
    coming.clear()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    gate.touch()
    assert got == [] and future.result(timeout=20) is None


def test_a_closed_async_client_says_so(client):
    async def main():
        other = await covey.AsyncClient(client.cluster)
        await other.close()
        for ask in (other.scheduler_info, other.wait_for_workers, other.memory):
            with pytest.raises(errors.Closed):
                await ask()

    asyncio.run(main())


def large(path):
    """Return a large value; the first time at once, later when a file is there."""
    first = path.with_name("first")
    if first.exists():
        wait_at(path)
    first.touch()
    return bytes(3_000_000)


def test_a_value_that_is_lost_is_waited_for_until_the_time_is_over(tmp_path):
    gate = tmp_path / "gate"
    with covey.Client(n_workers=1, set_as_default=False) as own:
        future = own.submit(large, gate)
        covey.wait(future, timeout=20)
        os.kill(own.cluster._keeper._process.pid, signal.SIGKILL)
        with pytest.raises(TimeoutError, match="lost"):
            future.result(timeout=1)
        gate.touch()
        assert len(future.result(timeout=60)) == 3_000_000


def boom():
    raise ValueError("no")


def test_futures_of_several_clients_are_asked_for_by_their_own(client, tmp_path):
    gate = tmp_path / "gate"
    with covey.Client(client.cluster, set_as_default=False) as other:
        theirs = client.submit(large, gate)
        assert [len(value) for value in other.gather([theirs])] == [3_000_000]
        failing = client.submit(boom)
        covey.wait(failing, timeout=20)
        other.retry([failing])
        with pytest.raises(ValueError, match="no"):
            failing.result(timeout=20)
        waiting = client.submit(wait_at, gate)
        other.cancel([waiting])
        assert waiting.cancelled()


def test_dicts_keyed_by_futures_are_cancelled_and_retried_and_released(
    client, tmp_path
):
    """Nothing came of it, and nothing was said."""
    running = {client.submit(wait_at, tmp_path / "gate", i): i for i in range(2)}
    with pytest.raises(errors.UsageError, match="among these is 3"):
        client.cancel([*running, 3])
    assert not any(future.done() for future in running)
    client.cancel(running)
    assert all(future.cancelled() for future in running)
    failing = {client.submit(boom): "fails"}
    covey.wait(failing, timeout=20)
    assert [future.status for future in failing] == ["error"]
    assert covey.progress(failing).wait(timeout=20).done == 1
    client.retry(failing)
    covey.wait(failing, timeout=20)
    with pytest.raises(errors.UsageError, match="among these is None"):
        client.release([*failing, None])
    assert not any(future.released for future in failing)
    client.release(failing)
    assert all(future.released for future in failing)


class Interrupt(BaseException):
    """What a handler of a signal raises, as that of Ctrl-C does."""


def test_who_is_interrupted_while_it_waits_finds_the_result_later(client):
    """It may have been reading it from the socket at that moment."""

    def interrupt(*_):
        raise Interrupt

    chance = random.Random(1)
    before = signal.signal(signal.SIGALRM, interrupt)
    interrupted = 0
    # What is collected calls back, and Python swallows what is raised in there.
    gc.collect()
    gc.disable()
    try:
        for number in range(300):
            future = client.submit(inc, number)
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 2e-3))
                future.result()
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Interrupt:
                interrupted += 1
            assert future.result(timeout=20) == number + 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.enable()
    assert interrupted
    assert client.gather(client.map(inc, range(9))) == list(range(1, 10))


WAITS = {
    "result": lambda client, future: future.result(30),
    "gather": lambda client, future: future.session.wait([future, future], 30),
    "wait": lambda client, future: covey.wait([future], 30),
    "first": lambda client, future: covey.wait([future], 30, "FIRST_COMPLETED"),
    "as_completed": lambda client, future: next(
        covey.as_completed([future], timeout=30)
    ),
    "as_completed_of_a_map": lambda client, future: next(
        covey.as_completed(client.map(inc, [future]), timeout=30)
    ),
    # Not by way of the client, which would refuse it.
    "workers": lambda client, future: future.session.engine.call(
        future.session.engine.wait_for_workers(99, 30)
    ),
}


@pytest.mark.parametrize("kind", WAITS)
def test_a_signal_that_does_not_wake_who_waits_is_found(client, tmp_path, kind):
    """As one that comes just before a thread blocks: here it comes to another thread."""

    def interrupt(*_):
        raise Interrupt

    ours = threading.get_ident()
    begins, over = threading.Event(), threading.Event()

    def send():
        begins.wait()
        while sys._current_frames()[ours].f_code.co_name not in {"wait", "poll"}:
            over.wait(0.005)
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

    too_late = threading.Timer(20, over.set)
    future = client.submit(wait_at, tmp_path / "gate", 1)
    sender = threading.Thread(target=send)
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        sender.start()
        too_late.start()
        begins.set()
        with pytest.raises(Interrupt):
            WAITS[kind](client, future)
        assert not over.is_set()
    finally:
        (tmp_path / "gate").touch()
        too_late.cancel()
        sender.join()
        signal.signal(signal.SIGUSR1, before)
    assert future.result(20) == 1


def test_many_threads_wait_each_for_its_own_result_and_others_for_theirs(client):
    def one_by_one(start):
        return [client.submit(inc, start + i).result(timeout=20) for i in range(50)]

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        running = [pool.submit(one_by_one, 100 * i) for i in range(4)]
        futures = client.map(inc, range(200))
        seen = {f.result(timeout=20) for f in covey.as_completed(futures, timeout=20)}
        assert seen == set(range(1, 201))
        for i, each in enumerate(running):
            assert each.result(timeout=20) == list(range(100 * i + 1, 100 * i + 51))


@pytest.mark.parametrize(
    "wait",
    [
        concurrent.futures.wait,
        lambda futures: next(concurrent.futures.as_completed(futures)),
    ],
)
def test_who_waits_as_for_an_executor_is_told_how_to(client, wait):
    with pytest.raises(AttributeError, match=r"covey\.wait .*covey\.Executor"):
        wait([client.submit(inc, 1)])
    with pytest.raises(AttributeError, match=r"covey\.as_completed"):
        wait(client.map(inc, range(2)))
