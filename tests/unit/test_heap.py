"""When memory that small values have left behind is given back."""

from __future__ import annotations

from covey.worker.heap import Heap

MIB = 1 << 20
LIMIT = 400 * MIB


def after(*looks):
    heap = Heap()
    for nbytes, small in looks:
        heap.look(nbytes * MIB, small * MIB, LIMIT)
    return heap


def test_what_small_values_have_left_behind_can_be_given_back():
    heap = after((50, 0), (250, 200), (250, 0))
    assert heap.is_loose
    assert heap.may_trim(10.0)
    # Not again at once, whatever comes of it.
    assert not heap.may_trim(11.0)
    assert heap.may_trim(13.0)
    # What is there then is in use.
    heap.trimmed()
    heap.look(120 * MIB, 0, LIMIT)
    assert not heap.is_loose


def test_what_is_held_or_was_never_a_value_stays():
    assert not after((50, 0), (250, 200)).is_loose
    assert not after((50, 0), (250, 0)).is_loose
    # Nor is it worth it for little.
    assert not after((50, 0), (70, 20), (70, 0)).is_loose


def test_what_was_used_again_is_in_use():
    assert not after((50, 0), (250, 200), (260, 0), (260, 200)).is_loose


def test_growth_of_something_else_is_not_taken_for_it():
    assert after((50, 0), (250, 200), (450, 0)).is_loose
    assert not after((50, 0), (60, 10), (450, 0)).is_loose
