"""What a task does to its arguments stays with it, on a real cluster."""

from __future__ import annotations

import os
import threading
import uuid

import pytest

from covey import Client, LocalCluster

np = pytest.importorskip("numpy")

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def client():
    with (
        LocalCluster(n_workers=1, threads_per_worker=1) as cluster,
        Client(cluster) as client,
    ):
        yield client


def grow(values, *_):
    values.append(0)
    return len(values)


def grow_and_fail_once(values, flag):
    values.append(0)
    if not os.path.exists(flag):  # noqa: PTH110
        with open(flag, "w", encoding="ascii"):  # noqa: PTH123
            raise OSError("the first time")
    return len(values)


@pytest.mark.parametrize("load", [1, 1 << 17], ids=["small", "large"])
def test_tasks_do_not_see_what_others_did_to_their_arguments(client, load):
    value = ["x" * load]
    ways = {
        "scattered": client.scatter([value])[0],
        "result": client.submit(list, value),
    }
    for way, future in ways.items():
        found = [client.submit(grow, future, pure=False).result() for _ in range(3)]
        assert found == [2, 2, 2], way
        assert client.gather(client.map(grow, [future] * 3)) == [2, 2, 2], way
        assert client.gather(client.map(grow, [future] * 3, range(3))) == [2] * 3, way
        assert future.result() == value, way


@pytest.mark.parametrize("load", [1, 1 << 17], ids=["small", "large"])
def test_a_task_that_is_tried_again_begins_with_what_it_was_given(
    client, load, tmp_path
):
    future = client.scatter([["x" * load]])[0]
    again = client.submit(grow_and_fail_once, future, str(tmp_path / "f"), retries=1)
    assert again.result() == 2


def take(_, given):
    return given.pop("key"), len(given)


@pytest.mark.parametrize("load", [1, 1 << 15, 1 << 21], ids=["small", "large", "huge"])
def test_calls_of_a_map_have_their_keywords_for_themselves(client, load):
    given = {"key": 1, "load": np.zeros(load, "u1")}
    assert client.gather(client.map(take, range(4), given=given)) == [(1, 1)] * 4


def test_what_takes_long_to_make_is_made_once_in_a_runner(client):
    table = {number: str(number) for number in range(20_000)}
    found = client.gather(
        client.map(lambda n, table: id(table), range(40), table=table)
    )
    assert len(set(found)) <= 2
    small = client.gather(client.map(lambda n, table: table[n], range(40), table=table))
    assert small == [str(n) for n in range(40)]


class Arrives:
    """Is another thing where it arrives, which no pickler takes."""

    def __reduce__(self):
        return (threading.Lock, ())


def locked(_, lock):
    return type(lock).__name__, lock.acquire(blocking=False)


def test_a_keyword_is_written_where_the_map_is_called_and_nowhere_else(client):
    found = client.gather(client.map(locked, range(4), lock=Arrives()))
    assert found == [("lock", True)] * 4
    assert client.submit(locked, 0, lock=Arrives()).result() == ("lock", True)


class Drawn:
    """Another number each time that it is read."""

    def __reduce__(self):
        return (uuid.uuid4, ())


def test_a_large_function_is_loaded_once_in_a_runner(client):
    def draw(_, drawn=Drawn(), load=os.urandom(2 << 20)):  # noqa: B008
        return drawn, len(load)

    # As long as a future is there, its function is.
    futures = client.map(draw, range(5))
    drawn = {*client.gather(futures), client.submit(draw, 5).result()}
    assert len(drawn) == 1
    del futures
