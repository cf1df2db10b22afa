"""Digests of values: the same wherever a copy lies, and others for other values."""

from __future__ import annotations

import os

import pytest

from covey.payload import Pack
from covey.store import digests
from covey.store.segments import Segment
from covey.store.shelf import Shelf


def digest_of(data):
    segment = Segment.of([data])
    try:
        return digests.of_segment(segment)
    finally:
        segment.close()


@pytest.mark.parametrize("size", [1000, 65_000, 3_000_000])
def test_a_copy_has_the_same_digest_and_another_value_has_not(size):
    data = os.urandom(size)
    assert digest_of(data) == digest_of(bytes(data))  # Their stamps differ.
    assert digest_of(data) != digest_of(os.urandom(size))
    assert digest_of(data) != digest_of(data[:-1])


@pytest.mark.parametrize("at", [0, 1_234_567, 2_900_000])
def test_a_difference_in_a_32nd_of_a_large_value_shows(at):
    data = bytearray(3_000_000)
    before = digest_of(data)
    data[at : at + 3_000_000 // 31] = b"x" * (3_000_000 // 31)
    assert digest_of(data) != before


def test_digests_of_what_is_on_a_shelf():
    shelf = Shelf()
    shelf.put(10, Pack.of([b"a", b"b", b"c"]))
    shelf.put_segment(13, Segment.of([bytes(100_000)]))
    whole = digests.of_stored(shelf, 10, 4)
    assert len(whole) == 16
    assert whole[:12] == digests.of_pack(Pack.of([b"a", b"b", b"c"]))
    assert digests.of_stored(shelf, 11, 1) == whole[4:8]
    assert digests.of_stored(shelf, 13, 1) == digest_of(bytes(100_000))
    assert digests.of_stored(shelf, 10, 5) == b""
    shelf.clear()
