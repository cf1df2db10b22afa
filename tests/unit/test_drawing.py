"""Pictures of graphs."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.client.drawing import places, svg, visualize
from covey.errors import UsageError

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


def test_a_dask_collection_is_drawn_before_it_is_computed(tmp_path):
    da = pytest.importorskip("dask.array")
    table = da.ones((8, 8), chunks=4)
    path = tmp_path / "graph.svg"
    picture = visualize(table.sum(), filename=path)
    assert path.read_text("utf-8") == picture.svg
    root = ET.fromstring(picture.svg)
    text = "".join(root.itertext())
    assert text.count("sum-aggregate") >= 1 and "not submitted" in text
    assert len(root.findall("{*}g")) == 9
    fewer = ET.fromstring(visualize(table.sum(), optimize_graph=True).svg)
    assert len(fewer.findall("{*}g")) < 9
    with pytest.raises(UsageError, match="optimize_graph=True may leave fewer"):
        visualize(da.ones(4000, chunks=1) + 1)


def test_data_frames_and_bags_are_drawn_as_well():
    dd = pytest.importorskip("dask.dataframe")
    import dask.bag as db
    import pandas as pd

    frame = dd.from_pandas(pd.DataFrame({"a": range(10)}), npartitions=2)
    text = visualize(frame.a.sum(), db.from_sequence(range(4)).map(str)).svg
    assert "frompandas" in text and "from_sequence" in text
