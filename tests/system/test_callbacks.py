"""Callbacks may do what they like, clients take futures of others, loops are held up by nothing."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

import covey
from covey import errors

pytestmark = pytest.mark.system


def inc(x):
    return x + 1


def add(x, y=0):
    return x + y


def wait_at(path):
    """Wait for a file, so that a test decides when a task ends."""
    gate = threading.Event()
    while not path.exists():
        gate.wait(0.005)


def ones_after(gate):
    wait_at(gate)
    return np.ones(300_000)


def touch_and_wait(begun, gate):
    begun.touch()
    wait_at(gate)
    return 0


def two_after(value):
    return 2


def total(nested):
    return sum(array.sum() for array in nested["a"])


def test_callbacks_may_wait_and_are_called_in_order(client, tmp_path):
    gate, order, told = tmp_path / "gate", [], threading.Event()

    def first(done):
        # Nothing of this is here yet: all of it must be waited for.
        large = client.submit(np.ones, 200_000)
        order.append((done.result().sum(), client.submit(np.sum, large).result(20)))
        order.append(client.gather(client.map(inc, range(3))))

    def second(done):
        order.append(done.result())
        told.set()

    large = client.submit(ones_after, gate)
    large.add_done_callback(first)
    client.submit(two_after, large).add_done_callback(second)
    gate.touch()
    assert told.wait(20)
    assert order == [(300_000.0, 200_000.0), [1, 2, 3], 2]


def test_callbacks_of_an_executor_may_wait_as_well(client, tmp_path):
    gate, seen, told = tmp_path / "gate", [], threading.Event()
    with client.get_executor() as executor:

        def ask(done):
            seen.append((done.result().sum(), executor.submit(inc, 1).result(20)))
            told.set()

        executor.submit(ones_after, gate).add_done_callback(ask)
        gate.touch()
        assert told.wait(20)
    assert seen == [(300_000.0, 2)]


def test_closing_calls_the_callbacks_of_what_had_not_ended(client, tmp_path, caplog):
    gate, told = tmp_path / "gate", []
    other = covey.Client(client.cluster, set_as_default=False)
    futures = [other.submit(ones_after, gate) for _ in range(3)]
    futures[0].add_done_callback(lambda done: told.append(done.status))
    futures[1].add_done_callback(lambda done: done.result())
    futures[2].add_done_callback(lambda done: other.close())
    other.close()
    gate.touch()
    assert told == ["cancelled"]
    assert "raised" not in caplog.text


def test_futures_of_another_client_of_the_cluster_are_taken(client, tmp_path):
    gate = tmp_path / "gate"
    with covey.Client(client.cluster, set_as_default=False) as other:
        # Not one of these is held by its own client for longer than the call takes.
        sums = [
            other.submit(add, other.submit(inc, 1), y=client.submit(inc, 2)),
            other.submit(sum, [client.submit(inc, i) for i in range(3)]),
            other.submit(total, {"a": [client.submit(ones_after, gate)]}),
            other.submit(add, client.submit(inc, 0), y=np.ones(100_000)),
        ]
        doubled = other.map(add, client.map(inc, range(100)), range(100))
        same = other.map(inc, client.map(inc, range(100)))
        gate.touch()
        assert other.gather(sums[:3]) == [5, 6, 300_000.0]
        assert sums[3].result(20).sum() == 200_000
        assert other.gather(doubled) == [2 * i + 1 for i in range(100)]
        assert other.gather(same) == [i + 2 for i in range(100)]


def test_futures_of_clients_that_are_closed_or_elsewhere_are_refused(client):
    with covey.Client(client.cluster, set_as_default=False, name="gone") as other:
        future = other.submit(inc, 1)
    for wrong in (
        lambda: client.submit(inc, future),
        lambda: client.map(inc, [future]),
    ):
        with pytest.raises(errors.UsageError, match="of the client 'gone'.*was closed"):
            wrong()
    with (
        covey.LocalCluster(n_workers=1, processes=False) as cluster,
        covey.Client(cluster, set_as_default=False, name="far") as far,
        pytest.raises(errors.UsageError, match=f"{client.name!r}.*another than.*'far'"),
    ):
        far.submit(inc, client.submit(inc, 1))


def test_running_is_what_a_worker_has(client, tmp_path):
    gate, begun = tmp_path / "gate", tmp_path / "begun"
    first = client.submit(touch_and_wait, begun, gate)
    after = client.submit(inc, first)
    wait_at(begun)
    assert first.running() and not first.done()
    assert "was given it" in first.explain()
    assert not after.running()
    gate.touch()
    assert after.result(20) == 1
    assert not first.running() and not after.running()


def test_scattering_something_large_leaves_the_loop_alone(client, monkeypatch):
    seen = threading.Event()

    async def main():
        async with covey.AsyncClient(client.cluster) as there:
            put = there._engine.asker.put

            async def put_once_the_loop_has_turned(*args):
                assert await asyncio.to_thread(seen.wait, 20)
                return await put(*args)

            monkeypatch.setattr(
                there._engine.asker, "put", put_once_the_loop_has_turned
            )
            scattering = asyncio.create_task(there.scatter(np.ones(300_000)))
            await asyncio.sleep(0)
            seen.set()
            return await there.submit(np.sum, await scattering)

    assert asyncio.run(main()) == 300_000


def test_a_loop_is_told_when_there_is_no_worker_for_something_large(
    client, monkeypatch
):
    async def main():
        async with covey.AsyncClient(client.cluster) as there:
            monkeypatch.setattr(there._engine, "workers", {})
            with pytest.raises(
                errors.UsageError, match="await client.wait_for_workers"
            ):
                there.submit(np.sum, np.ones(300_000))

    asyncio.run(main())


def test_mistakes_with_futures_are_told_at_the_call(client):
    released, kept = client.submit(inc, 1), client.submit(inc, 1)
    released.release()
    assert not released.running()
    with pytest.raises(errors.UsageError, match="something to call with the future"):
        kept.add_done_callback(3)
    for data in (kept, [1, kept], {"a": client.map(inc, [1])}):
        with pytest.raises(errors.UsageError, match="scatter takes data"):
            client.scatter(data)
    with pytest.raises(
        errors.UsageError, match=r"args\[0\].*was released.*task again$"
    ):
        client.submit(inc, released)
