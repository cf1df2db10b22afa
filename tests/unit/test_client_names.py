"""Names of tasks: they hold for as long as a future is alive, and keep nothing alive."""

from __future__ import annotations

import pytest

from covey.client.core.ranges import Range, Wishes
from covey.client.names import Names, identity_of
from covey.errors import KeyConflict


def named(names, wishes, task, name, identity=b"one"):
    wish = Range(task, 1, "f", name)
    wish.held = 1
    wishes.add(wish)
    names.enter(name, identity, task)
    return wish


def test_the_same_call_is_found_while_it_is_held():
    wishes = Wishes()
    names = Names(wishes)
    wish = named(names, wishes, 7, "k")
    assert names.find("k", b"one") is wish
    with pytest.raises(KeyConflict, match="'k' already names another task"):
        names.find("k", b"two")
    wish.held = 0
    assert names.find("k", b"two") is None


def test_what_is_gone_is_forgotten_though_nobody_asks_for_it_again():
    wishes = Wishes()
    names = Names(wishes)
    kept = [named(names, wishes, task, f"kept-{task}") for task in range(100)]
    for task in range(1000, 11_000):
        wishes.remove(named(names, wishes, task, f"gone-{task}"))
    assert len(names) <= 2 * len(kept) + 1
    assert all(names.find(f"kept-{wish.base}", b"one") is wish for wish in kept)


def test_every_frame_counts():
    array = memoryview(bytearray(100_000))
    one = identity_of(b"f", [b"stream", array])
    assert one == identity_of(b"f", [b"stream", bytes(100_000)])
    array[99_999] = 1
    assert one != identity_of(b"f", [b"stream", array])
    assert one != identity_of(b"g", [b"stream", bytes(100_000)])
