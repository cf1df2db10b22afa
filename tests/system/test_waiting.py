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
