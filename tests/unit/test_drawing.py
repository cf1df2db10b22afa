"""Pictures of graphs."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from covey.client.drawing import places, svg

GRAPHS = st.integers(0, 25).flatmap(
    lambda n: st.tuples(
        *(
            st.sets(st.integers(0, k - 1), max_size=4) if k else st.just(set())
            for k in range(n)
        )
    )
)


@given(GRAPHS)
def test_inputs_lie_left_of_their_users_and_nothing_on_another(needs):
    graph = {
        f"f-{k}": [f"f-{source}" for source in these] for k, these in enumerate(needs)
    }
    found = places(graph)
    assert set(found) == set(graph)
    assert len(set(found.values())) == len(found)
    for key, sources in graph.items():
        assert all(found[source][0] < found[key][0] for source in sources)


def test_a_chain_of_thousands_and_a_circle_end():
    assert places({"a": ["b"], "b": ["a"]}).keys() == {"a", "b"}
    chain = {f"{k}": [f"{k - 1}"] if k else [] for k in range(600)}
    assert places(chain)["599"][0] == 599


def test_the_picture_is_whole_and_names_are_escaped():
    nodes = {
        "<f>-1": {"label": "<f>", "state": "done", "n": 30, "needs": []},
        "g-2": {"label": "g" * 40, "state": "odd", "n": 1, "needs": ["<f>-1", "gone"]},
    }
    root = ET.fromstring(svg(nodes))
    text = "".join(root.itertext())
    assert "<f> x 30" in text
    assert len(root.findall("{*}g")) == 2
    assert len(root.findall("{*}path")) == 1
    ET.fromstring(svg({}))
