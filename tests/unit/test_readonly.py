"""Who writes into a value that tasks share is told what to do, and nobody else is."""

from __future__ import annotations

import pytest

from covey.runner.raised import as_failure
from covey.runner.readonly import _LOOKS_MAX, ADVICE
from covey.serde.mapped import read_value
from covey.serde.values import dumps
from covey.store.segments import Segment

np = pytest.importorskip("numpy")


class Model:
    def __init__(self, weights):
        self.layers = {"first": weights}

    def train(self):
        self.layers["first"][0] = 1


@pytest.fixture(scope="module")
def shared():
    segment = Segment.of(dumps(np.zeros(10_000)))
    value = read_value(segment.place, segment.size)
    segment.close()
    return value


def notes(write, *args):
    with pytest.raises(ValueError, match="is read-only") as caught:
        write(*args)
    error = as_failure(caught.value)
    assert error is caught.value
    return getattr(error, "__notes__", [])


def store(x):
    x[0] = 1


def add(x):
    x += 1


def shuffle(x):
    np.random.default_rng(0).shuffle(x)


def into_a_part_of_it(x):
    store(x[10:20].reshape(2, 5))


def in_a_dict(given):
    given["x"].sort()


def nowhere_at_hand(given):
    given()[0] = 1


def one_of_its_own(x):
    y = np.ones(3)
    y.flags.writeable = False
    assert x is not None
    y[0] = 1


@pytest.mark.parametrize("write", [store, add, shuffle, into_a_part_of_it])
def test_who_writes_into_what_is_shared_is_told_to_copy(shared, write):
    assert notes(write, shared) == [ADVICE]


def test_it_is_found_in_what_holds_it(shared):
    assert notes(in_a_dict, {"x": shared}) == [ADVICE]
    assert notes(Model(shared).train) == [ADVICE]


def test_a_frame_that_is_shared():
    pandas = pytest.importorskip("pandas")
    segment = Segment.of(dumps(pandas.DataFrame({"a": np.zeros(10_000)})))
    frame = read_value(segment.place, segment.size)
    segment.close()

    def store_in_it():
        frame.iloc[0, 0] = 1

    assert notes(store_in_it) == [ADVICE]


def test_of_other_arrays_nothing_is_said(shared):
    own = np.ones(3)
    own.flags.writeable = False
    assert notes(store, own) == []
    # It may be this one or that one.
    assert notes(one_of_its_own, shared) == []
    assert notes(nowhere_at_hand, lambda: own) == []
    assert notes(in_a_dict, {"x": shared, "y": [own]}) == []
    many = dict.fromkeys(range(_LOOKS_MAX), 0)
    assert notes(in_a_dict, {"x": shared, **many}) == []


def test_of_a_file_that_the_user_has_mapped_nothing_is_said(tmp_path):
    np.ones(100).tofile(tmp_path / "x")
    assert notes(store, np.memmap(tmp_path / "x", mode="r")) == []


def test_what_cannot_be_looked_into_does_no_harm(shared):
    class Odd:
        @property
        def __dict__(self):
            raise RuntimeError

    assert notes(in_a_dict, {"x": shared, "odd": Odd()}) == []


def test_errors_of_the_user_that_say_the_same():
    def refuse():
        raise ValueError("the account is read-only")

    assert notes(refuse) == []
