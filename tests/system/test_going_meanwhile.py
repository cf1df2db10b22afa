"""Values that are let go of, and clients that come to their end, while a value is brought."""

from __future__ import annotations

import asyncio
import threading

import pytest

import covey
from covey import errors
from covey.client import fetching

pytestmark = pytest.mark.system

PATIENCE_SECONDS = 30


def large(x):
    return bytes([x]) * 500_000


@pytest.fixture
def meanwhile(monkeypatch):
    """Have something done in the I/O thread between the wish for a value and its fetch."""

    def meanwhile(session, happens):
        fetch = session.bringer.fetch

        async def later(*args):
            happens()
            await fetch(*args)

        monkeypatch.setattr(session.bringer, "fetch", later)

    return meanwhile


@pytest.mark.parametrize("many", [False, True])
def test_a_large_value_is_released_before_it_is_brought(client, meanwhile, many):
    futures = client.map(large, range(3)) if many else [client.submit(large, 1)]
    covey.wait(futures)
    future, session = futures[-1], futures[-1].session

    def happens():
        future.release()
        session._send_dropped()

    meanwhile(session, happens)
    with pytest.raises(errors.Closed, match="released"):
        future.result(PATIENCE_SECONDS)


def test_a_large_value_is_released_while_it_is_sought(client, meanwhile):
    future = client.submit(large, 1)
    covey.wait([future])
    session, post = future.session, client._engine.post

    def happens():
        # Nobody has the value, nor says where it is: it is waited for.
        session.engine.workers, workers = {}, session.engine.workers

        def then(message):
            session.engine.workers = workers
            session.engine.post = post
            session.engine.loop.call_soon(release)

        session.engine.post = then

    def release():
        future.release()
        session._send_dropped()

    meanwhile(session, happens)
    with pytest.raises(errors.Closed, match="released"):
        future.result(PATIENCE_SECONDS)


def small(x):
    return x


def test_most_of_a_map_is_released_while_all_of_it_is_decoded(client, monkeypatch):
    """What is left would be taken for all, each value at a place that is not its own."""
    futures = client.map(small, range(100))
    covey.wait(futures)
    decode_all = fetching.decode_all

    def later(*args):
        session, released = futures[0].session, threading.Event()
        for future in futures[1:]:
            future.release()
        session.engine.loop.call_soon_threadsafe(session._send_dropped)
        session.engine.loop.call_soon_threadsafe(released.set)
        assert released.wait(PATIENCE_SECONDS)
        return decode_all(*args)

    monkeypatch.setattr(fetching, "decode_all", later)
    with pytest.raises(errors.Closed, match="released"):
        client.gather(futures)
    assert futures[0].result() == 0


def test_the_scheduler_is_lost_before_a_large_value_is_brought(meanwhile):
    with covey.Client(n_workers=1, set_as_default=False) as client:
        future = client.submit(large, 1)
        covey.wait([future])
        engine = client._engine

        def happens():
            engine.workers.clear()
            engine._break(None)

        meanwhile(future.session, happens)
        with pytest.raises(errors.Disconnected):
            future.result(PATIENCE_SECONDS)


@pytest.mark.parametrize("what", ["fetch", "ask"])
def test_the_client_is_closed_while_a_thread_waits_for_what_never_comes(
    monkeypatch, what
):
    with covey.LocalCluster(n_workers=1) as cluster:
        client = covey.Client(cluster, set_as_default=False)
        future = client.submit(large, 1)
        covey.wait([future])
        waits, outcome = threading.Event(), []

        async def forever(*_, **__):
            waits.set()
            await asyncio.Event().wait()

        if what == "fetch":
            monkeypatch.setattr(future.session.bringer, "fetch", forever)
        else:
            monkeypatch.setattr(future.session.engine, "ask", forever)

        def wait():
            try:
                outcome.append(future.result() if what == "fetch" else future.explain())
            except Exception as error:
                outcome.append(type(error))

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        assert waits.wait(PATIENCE_SECONDS)
        client.close()
        thread.join(PATIENCE_SECONDS)
        assert outcome == [errors.Closed]
