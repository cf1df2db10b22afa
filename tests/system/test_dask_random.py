"""Random graphs of numpy work: the values are dask's own, whoever dies meanwhile."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

dask = pytest.importorskip("dask")


def make(seed, n):
    return np.random.default_rng(seed).random(n)


def combine(*arrays):
    return (
        np.mean([array[:: i + 1].sum() for i, array in enumerate(arrays)]) + arrays[0]
    )


@st.composite
def graphs(draw):
    """Draw a graph of arrays, small ones and such that rest in shared memory."""
    size = draw(st.sampled_from([3, 300, 30_000]))
    graph = {("x", i): (make, i, size) for i in range(draw(st.integers(1, 4)))}
    for i in range(draw(st.integers(0, 12))):
        known = sorted(graph)
        inputs = draw(st.lists(st.sampled_from(known), min_size=1, max_size=4))
        graph["y", i] = (combine, *inputs)
    return graph


def same(ours, theirs):
    return all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))


unhurried = settings(
    deadline=None,
    max_examples=15,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@unhurried
@given(graph=graphs(), data=st.data())
def test_the_values_are_those_of_the_synchronous_scheduler(client, graph, data):
    wanted = data.draw(st.lists(st.sampled_from(sorted(graph)), min_size=1, max_size=4))
    assert same(client.get(graph, wanted), dask.get(graph, wanted))


def fatal(mark, *arrays):
    """Take the runner down the first time."""
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return combine(*arrays)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_values_are_right_though_runners_die(client, seed, tmp_path):
    drawn = np.random.default_rng(seed)
    graph = {("x", i): (make, i, 20_000) for i in range(10)}
    calm = dict(graph)
    deadly = set(drawn.choice(40, size=4, replace=False).tolist())
    for i in range(40):
        keys = list(graph)
        inputs = [keys[c] for c in drawn.choice(len(keys), size=3)]
        calm["y", i] = (combine, *inputs)
        graph["y", i] = calm["y", i]
        if i in deadly:
            graph["y", i] = (fatal, tmp_path / str(i), *inputs)
    wanted = [("y", i) for i in range(40)]
    # A task that goes down with its process has failed, and is tried again.
    values = client.get(graph, wanted, retries=1)
    assert len(list(tmp_path.iterdir())) == len(deadly)
    assert same(values, dask.get(calm, wanted))
