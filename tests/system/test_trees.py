"""Trees: levels of which each task takes a group of the level below."""

from __future__ import annotations

import operator
import os
import signal
import subprocess
import sys
import time

import pytest

import covey
from covey.wire.client_link import Submit

LEAVES = 512


def inc(number):
    return number + 1


def slow(number):
    time.sleep(0.004)
    return number + 1


def fails_at(number, wrong):
    if number == wrong:
        raise ValueError(f"no {number}")
    return number


def first_of_two_attempts(number, folder):
    try:
        (folder / str(number)).touch(exist_ok=False)
    except FileExistsError:
        return number
    raise OSError("the first time")


def big(number):
    return bytes([number % 251]) * 50_000


def joined(left, right):
    return left[:25_000] + right[:25_000]


def summed(client, level, add=operator.add):
    """Return all levels above *level*, down to one future."""
    levels = [level]
    while len(levels[-1]) > 1:
        lower = levels[-1]
        levels.append(client.map(add, lower[::2], lower[1::2]))
    return levels


@pytest.fixture
def posted(client, monkeypatch):
    """What leaves the client."""
    messages = []
    engine = client._session.engine
    post = engine.post

    def spy(message):
        messages.append(message)
        post(message)

    monkeypatch.setattr(engine, "post", spy)
    return messages


def test_a_tree_is_ranges_and_its_inner_futures_may_go_at_once(client, posted):
    level = client.map(inc, range(LEAVES))
    while len(level) > 1:
        level = client.map(lambda left, right: left + right, level[::2], level[1::2])
    assert level[0].result() == LEAVES * (LEAVES + 1) // 2
    made = [message for message in posted if type(message) is Submit]
    assert sum(message.n for message in made) == 2 * LEAVES - 1
    assert len(made) < 30


@pytest.mark.parametrize("wrong", [0, 201, LEAVES - 1])
def test_one_leaf_that_fails_fails_what_is_above_it(client, wrong):
    leaves = client.map(fails_at, range(LEAVES), [wrong] * LEAVES)
    levels = summed(client, leaves)
    covey.wait([future for level in levels for future in level], timeout=60)
    at = wrong
    for level in levels:
        bad = [index for index, future in enumerate(level) if future.status == "error"]
        assert bad == [at]
        at //= 2
    with pytest.raises(ValueError, match=f"no {wrong}"):
        levels[-1][0].result()


def test_leaves_that_are_tried_again(client, tmp_path):
    n = 64
    leaves = client.map(first_of_two_attempts, range(n), [tmp_path] * n, retries=1)
    assert summed(client, leaves)[-1][0].result(timeout=60) == n * (n - 1) // 2


def test_large_values_in_groups(client):
    *_, (root,) = summed(client, client.map(big, range(16)), joined)
    assert root.result(timeout=60) == big(0)[:25_000] + big(8)[:25_000]


def test_columns_in_any_order_and_the_same_one_twice(client):
    xs = client.map(inc, range(60))
    turned = client.map(operator.sub, xs[1::2], xs[::2])
    assert client.gather(turned) == [1] * 30
    sums = client.map(lambda *args: list(args), *(xs[at::4] for at in (3, 0, 2, 1, 0)))
    assert client.gather(sums) == [
        [4 * i + 4, 4 * i + 1, 4 * i + 3, 4 * i + 2, 4 * i + 1] for i in range(15)
    ]
    mixed = client.map(
        lambda a, b, c, d, k: (a, b, c, d, k),
        xs[::2],
        range(30),
        xs[1::2],
        [xs[7]] * 30,
        k=turned[3],
    )
    assert client.gather(mixed) == [(2 * i + 1, i, 2 * i + 2, 8, 1) for i in range(30)]


def test_half_of_the_elements_keep_nothing_of_the_others(client, posted):
    xs = client.map(inc, range(40))
    halves = client.map(inc, xs[::2])
    del xs
    assert client.gather(halves) == [2 * i + 2 for i in range(20)]
    assert not any(getattr(message, "groups", ()) for message in posted)


def test_pairs_and_triples_of_one_range(client):
    xs = client.map(inc, range(120))
    pairs = client.map(operator.add, xs[::2], xs[1::2])
    triples = client.map(lambda *args: sum(args), xs[::3], xs[1::3], xs[2::3])
    both = client.map(operator.add, pairs[:40], triples)
    expected = [(4 * i + 3) + (9 * i + 6) for i in range(40)]
    assert client.gather(both) == expected
    assert client.gather(pairs) == [4 * i + 3 for i in range(60)]


def test_a_worker_that_is_killed_in_the_middle_of_a_tree(tmp_path):
    path = str(tmp_path / "cluster.json")
    command = [sys.executable, "-m", "covey"]
    soon_given_up = {**os.environ, "COVEY_SCHEDULER__WORKER_GRACE_SECONDS": "0.5"}
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            [*command, *arguments], stdout=subprocess.PIPE, env=soon_given_up
        )
        started.append(process)
        return started[-1]

    scheduler = start("scheduler", "--port", "0", "--connection-file", path)
    scheduler.stdout.readline()
    join = ("worker", "--connection-file", path, "--nworkers", "1")
    workers = [start(*join, "--name", name) for name in "ab"]
    try:
        with covey.Client(path) as client:
            client.wait_for_workers(2, timeout=30)
            levels = summed(client, client.map(slow, range(LEAVES)))
            covey.wait(levels[3][:4], timeout=60)
            os.kill(workers[0].pid, signal.SIGKILL)
            assert levels[-1][0].result(timeout=100) == LEAVES * (LEAVES + 1) // 2
            expected = [4 * i + 3 for i in range(LEAVES // 2)]
            assert client.gather(levels[1]) == expected
    finally:
        for process in reversed(started):
            process.kill()
            process.communicate(timeout=30)
