"""How one waits for futures, in ways that tear at it, on a cluster of two runners."""

from __future__ import annotations

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
    connection = client._engine._line
    gate.touch()
    covey.wait(futures, timeout=20)
    assert client.gather(futures) == list(range(20))
    assert client._engine._line is connection and connection.connected
    assert "raised" in caplog.text


def test_a_batch_that_cannot_be_acted_on_ends_the_client(client, tmp_path):
    with covey.Client(client.cluster, set_as_default=False) as other:
        future = other.submit(wait_at, tmp_path / "gate")

        async def receive():
            other._engine.on_messages(None, [object()])

        other._engine.call(receive())
        (tmp_path / "gate").touch()
        with pytest.raises(errors.Disconnected, match="object"):
            future.result(timeout=20)


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
