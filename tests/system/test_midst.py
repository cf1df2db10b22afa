"""Handlers of signals that come in the middle of a call of their own thread."""

from __future__ import annotations

import gc
import signal
import threading

import pytest

from covey import Client, as_completed, wait
from covey.client.core.ranges import Wishes
from covey.client.numbers import Numbers
from covey.errors import UsageError
from covey.net import outlet, shared_line

pytestmark = pytest.mark.system


def inc(x):
    return x + 1


WAITS = {
    "result": lambda client: client.submit(inc, 10).result(),
    "gather": lambda client: client.gather(client.map(inc, range(2))),
    "wait": lambda client: wait(client.map(inc, range(2))),
    "first": lambda client: wait(client.map(inc, range(2)), None, "FIRST_COMPLETED"),
    "as_completed": lambda client: list(as_completed(client.map(inc, range(2)))),
    "cancel": lambda client: client.submit(inc, 1).cancel(),
    "ask": lambda client: client.scheduler_info(),
    "close": lambda client: client.close(),
}


@pytest.fixture(scope="module")
def client():
    with Client(n_workers=1, set_as_default=False) as client:
        yield client
        HELD.clear()


@pytest.fixture
def on_signal(monkeypatch):
    """Have a signal come, once, at a call of the main thread, and something done then."""
    came = []

    def install(place, name, act, *, behind=False):
        real = getattr(place, name)

        def handler(*_):
            try:
                came.append(act())
            except Exception as error:
                came.append(error)

        def interrupted(*args, **keywords):
            if came or threading.current_thread() is not threading.main_thread():
                return real(*args, **keywords)
            done = real(*args, **keywords) if behind else None
            signal.raise_signal(signal.SIGUSR1)
            return done if behind else real(*args, **keywords)

        monkeypatch.setattr(place, name, interrupted)
        before.append(signal.signal(signal.SIGUSR1, handler))
        return came

    before = []
    yield install
    signal.signal(signal.SIGUSR1, before[0])


#: Futures that are not let go of, which would be told of between two calls.
HELD = []


def quiet(client):
    """Come to where a thread that submits writes by itself."""
    HELD.append(client.submit(inc, 1))
    assert HELD[-1].result(20) == 2
    gc.collect()  # What errors of other tests hold would be told of in the midst.
    # When it answers all has been told, here and there: no news come in the midst.
    client.scheduler_info()


@pytest.mark.parametrize("how", WAITS)
@pytest.mark.parametrize(
    ("place", "name", "behind"),
    [(shared_line, "encode_frame", False), (outlet.Outlet, "write", True)],
    ids=["before", "behind"],
)
def test_who_waits_as_its_own_thread_writes_is_told_so(
    client, on_signal, how, place, name, behind
):
    quiet(client)
    came = on_signal(place, name, lambda: WAITS[how](client), behind=behind)
    assert client.submit(inc, 41).result(20) == 42
    (error,) = came
    assert isinstance(error, UsageError)
    assert "handler of the signal" in str(error)
    # Nothing was broken by it.
    assert client.gather(client.map(inc, range(5))) == [1, 2, 3, 4, 5]


def test_who_only_submits_as_its_own_thread_writes_need_not_wait(client, on_signal):
    quiet(client)
    came = on_signal(shared_line, "encode_frame", lambda: client.submit(inc, 10))
    assert client.submit(inc, 41).result(20) == 42
    assert came[0].result(20) == 11


def test_who_submits_as_its_own_thread_enters_a_task_is_told_so(client, on_signal):
    came = on_signal(Wishes, "add", lambda: client.submit(inc, 10))
    assert client.submit(inc, 41).result(20) == 42
    assert isinstance(came[0], UsageError)
    assert client.submit(inc, 10).result(20) == 11


def test_who_takes_a_function_as_its_own_thread_takes_one_is_told_so():
    came = []

    def post(message):
        try:
            numbers.take(message, "")
        except UsageError as error:
            came.append(error)

    numbers = Numbers(post)

    class Function:
        digest = b"digest"
        label = "f"
        payload = b"payload"

    assert numbers.take(Function, "") == 1
    assert len(came) == 1
