"""Random graphs of numpy work: the values are dask's own, whoever dies meanwhile."""

from __future__ import annotations

import contextlib
import functools
import operator
import os
import signal
import threading
import time

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

dask = pytest.importorskip("dask")

from dask import _task_spec as spec  # noqa: E402  (only where dask is)

from covey import Client  # noqa: E402


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


def seen(*args, **kwargs):
    """Tell what a function was called with."""
    return (*args, tuple(kwargs.items()))


CALLED = [seen, functools.partial(seen, 1, z=2), lambda *args, **kw: (args, [*kw])]
LARGE = np.arange(20_000.0)
CONSTANTS = st.one_of(
    st.sampled_from([None, 0, 1, 2.5, "text", b"bytes", ..., slice(1, None, 2)]),
    st.sampled_from([int, operator.add, seen, frozenset({1, 2}), range(3)]),
    st.just([]) | st.just({}) | st.just(()) | st.just({"a": [1, {"b": 2}]}),
)


@st.composite
def arguments(draw, known, depth=2):
    """Draw what stands in a call: constants, other nodes, and both in containers."""
    part = arguments(known, depth - 1)
    kinds = ["constant", "input", "input"] if known else ["constant"]
    if depth:
        kinds += ["list", "tuple", "dict", "task"]
    kind = draw(st.sampled_from(kinds))
    if kind == "constant":
        return draw(CONSTANTS)
    if kind == "input":
        return spec.TaskRef(draw(st.sampled_from(known)))
    parts = draw(st.lists(part, max_size=3))
    if kind == "list":
        return spec.List(*parts)
    if kind == "tuple":
        return spec.Tuple(*parts)
    if kind == "dict":
        return spec.Dict(dict(zip("abc", parts, strict=False)))
    return spec.Task(None, draw(st.sampled_from(CALLED)), *parts)


@st.composite
def graphs_of_all_nodes(draw):
    """Draw a graph of whatever dask's own collections put into one."""
    graph = {}
    for key in range(draw(st.integers(1, 10))):
        name = draw(st.sampled_from([key, f"n{key}", ("n", key), ("n", key, 0)]))
        known = list(graph)
        kinds = ["task", "task", "task", "constant", "large", "by hand"]
        kind = draw(st.sampled_from([*kinds, "alias"] if known else kinds))
        if kind == "alias":
            graph[name] = spec.Alias(name, draw(st.sampled_from(known)))
        elif kind == "constant":
            graph[name] = spec.DataNode(name, draw(CONSTANTS))
        elif kind == "large":
            graph[name] = spec.Task(name, operator.itemgetter(slice(key, 9)), LARGE)
        elif kind == "by hand":
            keys = draw(st.lists(st.sampled_from(known), max_size=3)) if known else []
            graph[name] = (seen, *keys, [*keys, 1.5])
        else:
            args = draw(st.lists(arguments(known), max_size=3))
            named = draw(st.lists(arguments(known), max_size=3))
            kwargs = dict(zip("xyz", named, strict=False))
            graph[name] = spec.Task(
                name, draw(st.sampled_from(CALLED)), *args, **kwargs
            )
    return graph


@settings(unhurried, max_examples=150)
@given(graph=graphs_of_all_nodes(), data=st.data())
def test_every_kind_of_node_gives_what_dask_gives(client, graph, data):
    wanted = data.draw(st.lists(st.sampled_from([*graph]), min_size=1, max_size=4))
    np.testing.assert_equal(client.get(graph, wanted), dask.get(graph, wanted))


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


def noted(file, *arrays):
    """Tell that one more task has begun, and take long enough to be killed in it."""
    with file.open("ab") as out:
        out.write(b".")
    time.sleep(0.005)
    return combine(*arrays)


def kill_runners(agent, file, moments, over):
    """Kill a runner whenever so many tasks have begun."""
    for moment, which in moments:
        while file.stat().st_size < moment:
            if over.wait(0.002):
                return
        runners = agent.children()
        # It may be on its way out by itself.
        with contextlib.suppress(psutil.NoSuchProcess):
            runners[which % len(runners)].kill()


def test_the_values_are_right_whenever_runners_are_killed(tmp_path):
    """What a runner has in hand, or still keeps for others, is made once more."""
    file = tmp_path / "begun"
    moments = st.lists(
        st.tuples(st.integers(1, 100), st.integers(0, 1)), min_size=1, max_size=3
    )

    @settings(unhurried, max_examples=6, phases=[Phase.generate])
    @given(graph=graphs(), moments=moments.map(sorted))
    def check(graph, moments):
        first = [key for key in graph if key[0] == "x"]
        noting = {
            key: (noted, file, *call[1:]) if call[0] is combine else call
            for key, call in graph.items()
        }
        graph |= {("z", i): (combine, *first) for i in range(100)}
        noting |= {("z", i): (noted, file, *first) for i in range(100)}
        file.write_bytes(b"")
        over = threading.Event()
        killer = threading.Thread(
            target=kill_runners, args=(agent, file, moments, over)
        )
        killer.start()
        try:
            values = client.get(noting, list(graph), retries=7)
        finally:
            over.set()
            killer.join()
        assert same(values, dask.get(graph, list(graph)))
        begun.append(file.stat().st_size - sum(1 for key in graph if key[0] != "x"))

    begun = []
    with Client(n_workers=2, set_as_default=False) as client:
        facts = client.scheduler_info()["workers"][0]["facts"]
        agent = psutil.Process(facts["pid"])
        check()
    # Some were begun more than once.
    assert sum(begun) > 0
