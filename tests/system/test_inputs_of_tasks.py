"""What a task does to its arguments stays with it, on a real cluster."""

from __future__ import annotations

import os
import uuid

import pytest

from covey import Client, LocalCluster

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


@pytest.mark.parametrize("load", [1, 1 << 17, 1 << 21], ids=["small", "large", "huge"])
def test_calls_of_a_map_have_their_keywords_for_themselves(client, load):
    given = {"key": 1, "load": "x" * load}
    assert client.gather(client.map(take, range(4), given=given)) == [(1, 1)] * 4


class Drawn:
    """Another number each time that it is read."""

    def __reduce__(self):
        return (uuid.uuid4, ())


def test_a_large_function_is_loaded_once_in_a_runner(client):
    def draw(_, drawn=Drawn(), load=os.urandom(2 << 20)):  # noqa: B008
        return drawn, len(load)

    drawn = {*client.gather(client.map(draw, range(5)))}
    drawn.add(client.submit(draw, 5).result())
    assert len(drawn) == 1
