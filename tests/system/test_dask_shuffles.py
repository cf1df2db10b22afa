"""Everything to everywhere, on two workers that share nothing but the wires between them."""

from __future__ import annotations

import itertools
from importlib.util import find_spec

import numpy as np
import pytest

pytest.importorskip("dask")

import dask
import dask.array as da
import dask.dataframe as dd
import pandas as pd
from dask._task_spec import Task, TaskRef

from covey import Client, errors
from covey.interop import exchanges


@pytest.fixture(scope="module")
def two():
    with Client(n_workers=2, machines=2) as client:
        yield client


@pytest.fixture
def moved(two):
    """Return how many bytes have been moved between the workers by this test."""
    before = two.scheduler_info()["counters"]["bytes_moved"]
    return lambda: two.scheduler_info()["counters"]["bytes_moved"] - before


ROWS = 4000
NUMBERS = pd.DataFrame(
    {
        "a": np.arange(ROWS),
        "b": np.arange(ROWS) * 7919 % 101,
        "x": np.random.default_rng(1).random(ROWS),
    }
)


def piece(bounds):
    return NUMBERS.iloc[slice(*bounds)]


def made_of(pieces):
    """Return the frame, each part of which is made by a task, where that runs."""
    starts = np.linspace(0, ROWS, pieces + 1).astype(int).tolist()
    bounds = list(itertools.pairwise(starts))
    return dd.from_map(piece, bounds, meta=NUMBERS.iloc[:0])


@pytest.fixture
def frame(two):
    return made_of(8)


def in_order(found, *columns):
    return found.sort_values(list(columns)).reset_index(drop=True)


def test_a_frame_is_shuffled_by_key(frame, moved):
    found = frame.shuffle("b").map_partitions(lambda part: part.b.drop_duplicates())
    # No key is in two parts.
    assert sorted(found.compute()) == list(range(101))
    assert moved() > 0


def test_frames_are_merged_on_a_key(frame, moved):
    other = made_of(5)
    found = frame.merge(other, on="b", suffixes=("", "_y"))[["a", "a_y"]].compute()
    expected = NUMBERS.merge(NUMBERS, on="b", suffixes=("", "_y"))[["a", "a_y"]]
    assert in_order(found, "a", "a_y").equals(in_order(expected, "a", "a_y"))
    assert moved() > 0


def test_a_frame_is_sorted_by_a_new_index(frame, moved):
    found = frame.set_index("b").compute()
    assert found.index.is_monotonic_increasing
    assert sorted(found.a) == list(range(ROWS))
    assert moved() > 0


def test_a_function_is_applied_to_whole_groups(frame, moved):
    found = frame.groupby("b").x.apply(np.median, meta=("x", float)).compute()
    expected = NUMBERS.groupby("b").x.apply(np.median)
    assert np.allclose(found.sort_index(), expected)
    assert moved() > 0


def test_rows_become_columns(two, moved):
    rows = da.arange(250_000, chunks=25_000).reshape(500, 500)
    columns = rows.rechunk((500, 50)) + 1
    expected = np.arange(1, 250_001).reshape(500, 500)
    assert np.array_equal(columns.compute(), expected)
    assert moved() > 0


def test_an_exchange_of_another_schedulers_workers_is_refused(two):
    class P2PBarrierTask(Task):
        """What stands between the halves of an exchange of ``dask.distributed``."""

    graph = {
        ("part", 0): (piece, (0, 5)),
        "shuffle-barrier-1": P2PBarrierTask(
            "shuffle-barrier-1", len, TaskRef(("part", 0))
        ),
    }
    with pytest.raises(errors.UsageError, match="'shuffle-barrier-1' is part of an"):
        two.get(graph, "shuffle-barrier-1")


BY_NAME = {
    "rechunk": lambda x, frame: x.rechunk((100, 1), method="p2p"),
    "shuffle": lambda x, frame: frame.shuffle("b", shuffle_method="p2p"),
    "merge": lambda x, frame: frame.merge(frame, on="b", shuffle_method="p2p"),
    "set_index": lambda x, frame: frame.set_index("b", shuffle_method="p2p"),
}


@pytest.mark.skipif(find_spec("distributed") is not None, reason="it is there")
@pytest.mark.parametrize("kind", BY_NAME)
def test_an_exchange_of_another_scheduler_asked_for_by_name_is_refused(
    two, frame, kind
):
    numbers = da.ones((100, 100), chunks=10)
    with pytest.raises(errors.UsageError, match=r"p2p.* by tasks, .*'tasks'"):
        BY_NAME[kind](numbers, frame).compute()
    with pytest.raises(errors.UsageError, match=r"p2p.* by tasks, .*'tasks'"):
        BY_NAME[kind](numbers, frame).persist()
    # With another scheduler it is none of our business.
    with dask.config.set(scheduler="sync"), pytest.raises(ModuleNotFoundError):
        BY_NAME[kind](numbers, frame).compute()


def test_other_modules_that_are_missing_are_told_as_they_are(two):
    with pytest.raises(ModuleNotFoundError, match="nowhere"), exchanges.told():
        import nowhere  # noqa: F401
