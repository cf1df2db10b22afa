"""The order of a graph: inputs first, circles found, and little in memory."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey import errors
from covey.interop.dask_order import Sequencer, order, users_of

graphs = st.dictionaries(
    st.integers(0, 12), st.sets(st.integers(0, 12), max_size=4), max_size=13
)


def most_kept(graph, wanted):
    """Return how many results are there at once, at most."""
    ordered = order(wanted, graph.__getitem__)
    left = dict.fromkeys(ordered, 0)
    for key in ordered:
        for source in graph[key]:
            left[source] += 1
    now = most = 0
    for key in ordered:
        now += 1
        most = max(most, now)
        for source in graph[key]:
            left[source] -= 1
            now -= not left[source]
    return most


@given(graphs)
def test_a_circle_is_found_if_and_only_if_there_is_one(drawn):
    graph = {key: {d for d in needs if d in drawn} for key, needs in drawn.items()}
    # Told apart in another way: whoever reaches itself is in a circle.
    reach = {key: set(needs) for key, needs in graph.items()}
    for _ in graph:
        for key in graph:
            reach[key] |= {far for near in reach[key] for far in reach[near]}
    if any(key in reach[key] for key in graph):
        with pytest.raises(errors.UsageError, match="cycle") as caught:
            order(graph, graph.__getitem__)
        named = str(caught.value).rpartition(": ")[2].split(" -> ")
        keys = [int(name) for name in named]
        assert keys[0] == keys[-1]
        assert all(far in graph[near] for near, far in itertools.pairwise(keys))
    else:
        assert sorted(order(graph, graph.__getitem__)) == sorted(graph)


def test_a_long_circle_is_told_by_its_ends():
    graph = {key: [(key + 1) % 300] for key in range(300)}
    with pytest.raises(errors.UsageError) as caught:
        order([0], graph.__getitem__)
    assert str(caught.value) == (
        "the graph has a cycle: 0 -> 1 -> 2 -> 3 -> 4 -> ... 293 more ... -> 298 -> 299 "
        "-> 0"
    )


@given(graphs, st.data())
def test_inputs_come_first_and_nothing_needless(drawn, data):
    # Without circles: a task takes only what has a lower number.
    graph = {
        key: {d for d in needs if d in drawn and d < key}
        for key, needs in drawn.items()
    }
    wanted = data.draw(st.lists(st.sampled_from(sorted(graph)))) if graph else []
    ordered = order(wanted, graph.__getitem__)
    needed = set(wanted)
    for key in sorted(needed | set(graph), reverse=True):
        if key in needed:
            needed |= graph[key]
    assert set(ordered) == needed
    assert len(ordered) == len(needed)
    for at, key in enumerate(ordered):
        assert graph[key] <= set(ordered[:at])


@given(graphs, st.data())
def test_of_each_stretch_it_is_known_what_is_still_to_be_used(drawn, data):
    # Numbers without gaps, and a task takes only what has a lower one.
    place = {key: number for number, key in enumerate(sorted(drawn))}
    inputs = [
        sorted({place[d] for d in drawn[key] if d in place and d < key})
        for key in sorted(drawn)
    ]
    users = users_of(inputs)
    assert users == [
        [user for user, sources in enumerate(inputs) if number in sources]
        for number in range(len(inputs))
    ]
    sequencer = Sequencer(inputs, users)
    sequencer.at_once = data.draw(st.integers(1, 5))
    came, over = [], []
    for stretch in sequencer.stretches(range(len(inputs))):
        assert 0 < len(stretch) <= sequencer.at_once
        came += stretch
        over += sequencer.over
        sequencer.over.clear()
        to_come = [len(set(of) - set(came)) for of in users]
        assert sequencer.left == to_come
        assert sorted(over) == [
            n for n, of in enumerate(users) if of and not to_come[n]
        ]
        sequencer.at_once = data.draw(st.integers(1, 5))
    assert sorted(came) == list(range(len(inputs)))


def test_a_long_chain_is_no_matter():
    n = 100_000
    ordered = order([n - 1], lambda key: [key - 1] if key else [])
    assert ordered == list(range(n))


def tree(leaves, name="sum", fan=4):
    """Return a graph that adds up some values, and the key of the sum."""
    graph = {}
    level = list(leaves)
    depth = 0
    while len(level) > 1:
        depth += 1
        pieces = [level[i : i + fan] for i in range(0, len(level), fan)]
        level = [(name, depth, i) for i in range(len(pieces))]
        graph.update(zip(level, pieces, strict=True))
    return graph, level[0]


def test_a_sum_keeps_few_of_its_parts():
    leaves = [("x", i) for i in range(256)]
    graph, total = tree(leaves)
    graph.update({leaf: [] for leaf in leaves})
    # Three of four at each of four levels, and one in the making.
    assert most_kept(graph, [total]) == 4 * 3 + 2


def test_two_sums_take_turns_on_what_they_share():
    leaves = [("x", i) for i in range(256)]
    graph = {leaf: [] for leaf in leaves}
    sums = []
    for name in ("mean", "std"):
        parts = [(name, 0, i) for i in range(256)]
        graph.update({part: [leaf] for part, leaf in zip(parts, leaves, strict=True)})
        more, total = tree(parts, name)
        graph.update(more)
        sums.append(total)
    assert most_kept(graph, sums) < 2 * (4 * 3 + 3)


def test_pairs_are_used_while_both_are_there():
    # (x + x.T).sum(): each block is taken by two sums.
    n = 12
    cells = list(itertools.product(range(n), repeat=2))
    graph = {("x", *cell): [] for cell in cells}
    graph.update(
        {
            ("s", i, j): [("x", i, j), ("x", j, i)] if i != j else [("x", i, j)]
            for i, j in cells
        }
    )
    more, total = tree([("s", *cell) for cell in cells])
    graph.update(more)
    assert most_kept(graph, [total]) < n * n / 4


def test_what_is_near_is_fetched_for_the_last_user():
    # x.sum(), (x * y).sum(), y.sum(): y is made while x is there.
    n = 100
    graph = {(name, i): [] for name in "xy" for i in range(n)}
    sums = []
    for name, takes in (("a", "x"), ("b", "xy"), ("c", "y")):
        graph.update({(name, i): [(t, i) for t in takes] for i in range(n)})
        more, total = tree([(name, i) for i in range(n)], name)
        graph.update(more)
        sums.append(total)
    assert most_kept(graph, sums) < n
