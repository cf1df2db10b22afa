"""The interface of 2015, on a real cluster."""

from __future__ import annotations

import numpy as np
import pytest

import covey
from covey import Pool, delete, errors
from covey.dask import get


@pytest.fixture
def pool(client):
    with Pool(client) as made:
        yield made


def power(base, key=1, priority=1):
    """Take names that are keywords of ``submit`` as well."""
    return base**key * priority


async def later(x):
    return x


def total_of(nested, more=None):
    return sum(a.sum() for a in nested["arrays"]) + more.sum()


def test_results_stay_until_they_are_asked_for(pool):
    arrays = pool.map(np.full, [1000] * 20, range(20))
    assert len(arrays) == 20
    sums = pool.map(np.sum, arrays)
    assert [s.get() for s in sums] == [1000 * i for i in range(20)]
    assert pool.apply(np.sum, args=(sums,)).get() == 190_000
    assert arrays[-1].get()[0] == 19


def test_random_numbers_differ(pool):
    one, two = pool.map(np.random.random, [100, 100])
    assert not np.array_equal(one.get(), two.get())


def test_a_handle_shows_where_it_is(pool):
    data = pool.map(abs, [-1])[0]
    assert repr(data) == f"RemoteData<address={pool.client.address}, key={data.key}>"
    assert "abs" in data.key


def test_handles_are_values_wherever_they_stand_in_arguments(pool):
    arrays = pool.map(np.ones, [3, 4, 5])
    found = pool.apply(
        total_of, ({"arrays": [arrays[0], arrays[1]]},), {"more": arrays[2]}
    )
    assert found.get() == 12
    assert [d.get() for d in pool.map(np.sum, (a for a in arrays))] == [3, 4, 5]
    assert [d.get() for d in pool.map(np.sum, arrays[1:])] == [4, 5]
    mixed = pool.map(np.add, [arrays[0], 1], [1, 1])
    assert mixed[0].get().tolist() == [2, 2, 2]
    assert mixed[1].get() == 2


def test_apply_gives_all_keywords_to_the_function(pool):
    assert pool.apply(power, (2,), {"key": 3, "priority": 5}).get() == 40
    assert pool.apply(power, [3]).get() == 3
    assert pool.apply(later, (7,)).get() == 7


def test_what_is_deleted_is_gone_at_once(pool):
    data = pool.map(abs, range(10))
    delete(pool, data[0])
    delete(("host", 8786), [data[1], [data[2]]])
    for index in range(3):
        with pytest.raises(errors.CoveyError, match=data[index].key):
            data[index].get()
        assert "deleted" in repr(data[index])
    assert data[3].get() == 3
    with pytest.raises(errors.UsageError, match="not int"):
        delete(pool, 5)


def test_results_of_a_pool_in_a_graph(pool):
    arrays = pool.map(np.ones, [2, 3, 4])
    dsk = {("sum", i): (np.sum, x) for i, x in enumerate(arrays)}
    dsk |= {"total": (sum, list(dsk)), "all": (len, arrays), "one": arrays[0]}
    values = get(pool.client, dsk, ["total", "all", ["one"]])
    assert values[:2] == [9, 3]
    assert values[2][0].tolist() == [1, 1]


def test_errors_and_time_limits(pool):
    with pytest.raises(ZeroDivisionError):
        pool.apply(divmod, (1, 0)).get()
    waiting = pool.apply(covey.get_client, ()).future.session
    assert waiting is pool.client.session


@pytest.mark.system
def test_one_client_for_one_cluster():
    with covey.LocalCluster(1, host="127.0.0.1") as cluster:
        by_text = Pool(f"{cluster.host}:{cluster.port}")
        by_pair = Pool((cluster.host, cluster.port))
        by_object = Pool(cluster)
        assert by_text.client is by_pair.client
        assert by_object.client is Pool(cluster).client
        assert get(cluster, {"a": 1}, "a") == 1
        assert get(cluster.host, cluster.port, {"a": 1}, ["a"]) == [1]
        # It is not this pool's to close.
        by_pair.close()
        assert by_text.apply(abs, (-1,)).get() == 1
        by_text.client.close()
        again = Pool((cluster.host, cluster.port))
        assert again.apply(abs, (-2,)).get() == 2
        again.client.close()
        by_object.client.close()


@pytest.mark.system
def test_a_pool_of_its_own():
    with Pool() as pool:
        assert [d.get() for d in pool.map(abs, [-1, -2])] == [1, 2]
    assert pool.client.closed
