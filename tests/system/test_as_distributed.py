"""A script that was written for ``distributed`` runs as it is."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.system

SCRIPT = """
    import asyncio
    import sys

    import dask
    import dask.array as da
    from dask.distributed import (
        Client, Future, LocalCluster, Lock, as_completed, default_client, futures_of,
        get_client, progress, wait,
    )


    def inc(x, timeout=0):
        return x + 1 + timeout


    def fib(n):
        if n < 2:
            return n
        client = get_client()
        parts = [client.submit(fib, n - 1), client.submit(fib, n - 2)]
        return sum(client.gather(parts, direct=True))


    def inside():
        from distributed import get_worker, worker_client

        with worker_client() as client:
            return get_worker().name, client.submit(inc, 1, pure=False).result()


    async def later(address):
        async with Client(address, asynchronous=True) as client:
            assert list(await client.memory()) == ["local"]
            return await client.gather(client.map(inc, range(3)))


    client = Client()
    assert sys.argv[1:] == ["a", "--b"]
    futures = client.map(inc, range(10), pure=True, timeout=1)
    assert isinstance(futures[0], Future)
    assert client.gather(futures) == list(range(2, 12))
    assert wait(futures).done == set(as_completed(futures))
    assert client.submit(fib, 5).result(timeout=20) == 5
    assert client.submit(inside).result() == ("local", 2)
    assert client.gather(client.scatter([1, 2], broadcast=True, hash=False)) == [1, 2]
    array = da.ones((100, 100), chunks=50)
    assert array.sum().compute() == 10_000
    assert array.rechunk((100, 10)).sum().compute(scheduler="dask.distributed") == 10_000
    kept = client.persist(array)
    progress(kept)
    assert len(futures_of(kept)) == 4
    assert list(client.scheduler_info()["workers"]) == list(client.nthreads()) == ["local"]
    assert list(client.memory()) == ["local"]
    assert default_client().id == Client.current().id == client.id
    client.publish_dataset(one=futures[0])
    assert client.datasets["one"].result() == 2
    assert asyncio.run(later(client.cluster or client.address)) == [1, 2, 3]
    try:
        Lock("x")
    except ValueError as error:
        print(error)
    client.close()
    print("ok")
"""


def test_a_script_written_for_distributed(tmp_path):
    pytest.importorskip("dask")
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    command = [sys.executable, "-m", "covey", "run", "-n", "2", "--as-distributed"]
    done = subprocess.run(
        [*command, str(script), "a", "--b"],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split("\n")[-2:] == ["ok", ""], done.stderr
    assert "distributed.Lock is not to be had" in done.stdout
