"""Early words on a whole cluster: what ends a future while the scheduler stands still."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

import covey

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no thread leads"),
]


@pytest.fixture
def client():
    with covey.Client(n_workers=2, threads_per_worker=1) as client:
        yield client


def when_told(gate, value):
    """Wait for a byte, and return what is given together with who we are."""
    Path(gate + "-begun").touch()
    with Path(gate).open("rb") as pipe:
        pipe.read(1)
    return value, os.getpid()


def inc(number):
    return number + 1


class Gate:
    """Holds a task until it is opened."""

    def __init__(self, folder):
        self.path = str(folder / "gate")
        os.mkfifo(self.path)

    def open(self):
        with Path(self.path).open("wb") as pipe:
            pipe.write(b"x")


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path)


def cluster_of(client):
    return client.cluster._keeper._process.pid


@contextlib.contextmanager
def standing_still(pid):
    """Have the process of the cluster, which is scheduler and worker, do nothing."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def opened_when_waited_for(gate, future):
    """Open a gate once a thread leads for what is behind it."""
    words, awaited = future.session.engine.early, future.id
    asked, ask = threading.Event(), words._ear.ask

    def asks(task):
        ask(task)
        if task == awaited:
            asked.set()

    words._ear.ask = asks

    def go():
        if asked.wait(30):
            gate.open()

    threading.Thread(target=go, daemon=True).start()


def value_meanwhile(client, until, gate):
    """Return a future that ends as soon as it is waited for, on a runner that is at it."""
    future = client.submit(when_told, gate.path, 7)
    assert until(Path(gate.path + "-begun").exists)
    # What came before may have been of no use, on a busy machine.
    client._engine.early._left = 0
    opened_when_waited_for(gate, future)
    return future


def test_a_result_need_not_wait_for_the_scheduler(client, until, gate):
    future = value_meanwhile(client, until, gate)
    with standing_still(cluster_of(client)):
        assert future.result(30)[0] == 7
        assert client._engine.wishes.untold == {future.id}
    # Which tells of it when it can, and has it in its books.
    assert client.submit(lambda pair: pair[0], future).result(30) == 7
    assert until(lambda: not client._engine.wishes.untold)


def test_who_lets_go_of_it_at_once_does_not_cancel_it(client, until, gate):
    future = value_meanwhile(client, until, gate)
    with standing_still(cluster_of(client)):
        assert future.result(30)[0] == 7
        del future
        # Another one, which would be told of behind it.
        late = client.submit(inc, 1)
    assert late.result(30) == 2
    counted = client.session.ask("overview")["functions"]["when_told"]
    assert (counted["submitted"], counted["done"], counted["failed"]) == (1, 1, 0)
    assert until(lambda: not client._engine.wishes.find(late.id - 1))


def test_who_asks_about_it_is_told_how_it_stands(client, until, gate):
    future, answers = value_meanwhile(client, until, gate), []
    with standing_still(cluster_of(client)):
        assert future.result(30)[0] == 7
        there = threading.Thread(target=lambda: answers.append(future.explain()))
        there.start()
    there.join(30)
    (answer,) = answers
    assert "finished" in answer and "run" not in answer.replace("runner", "")


def test_its_runner_may_die_before_the_scheduler_knows(client, until, gate):
    future = value_meanwhile(client, until, gate)
    with standing_still(cluster_of(client)):
        _, runner = future.result(30)
        os.kill(runner, signal.SIGKILL)
    assert client.submit(lambda pair: pair[0], future).result(30) == 7
    assert future.status == "finished"
    counted = client.session.ask("overview")["functions"]["when_told"]
    assert (counted["done"], counted["failed"]) == (1, 0)


def test_the_scheduler_may_die_before_it_knows(client, until, gate):
    future = value_meanwhile(client, until, gate)
    pid = cluster_of(client)
    with standing_still(pid):
        value = future.result(30)
        os.kill(pid, signal.SIGKILL)
    assert until(lambda: cluster_of(client) != pid)
    assert client.submit(inc, 1).result(30) == 2
    assert until(lambda: not client._engine.wishes.untold)
    assert future.result() == value
    # What it made is gone, and is made again for who takes it.
    threading.Thread(target=gate.open, daemon=True).start()
    assert client.submit(lambda pair: pair[0], future).result(30) == 7


def test_a_second_client_hears_its_own(client, until, gate, tmp_path):
    (tmp_path / "other").mkdir()
    other_gate = Gate(tmp_path / "other")
    with covey.Client(client.cluster, set_as_default=False) as other:
        one = value_meanwhile(client, until, gate)
        two = value_meanwhile(other, until, other_gate)
        with standing_still(cluster_of(client)):
            assert one.result(30)[0] == two.result(30)[0] == 7
            assert other._engine.wishes.untold == {two.id}
    folder = Path(client._engine.address.path).parent
    assert len([*folder.glob("early-*")]) == 1


def test_where_no_word_can_come_all_goes_as_it_always_did(client, monkeypatch):
    """As with a full ear: nobody is there to hear."""
    words = client._engine.early
    words.close()
    monkeypatch.setattr(type(words), "take", pytest.fail)
    assert [client.submit(inc, number).result(30) for number in range(20)] == [
        *range(1, 21)
    ]
    assert not client._engine.wishes.untold
