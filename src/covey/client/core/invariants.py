"""What must hold after every step.  For tests: exact, and dearer than the step."""

from __future__ import annotations

from covey.client.core.ranges import Range, Status, Wishes


def check(wishes: Wishes) -> None:
    """Assert every invariant of the client's tables."""
    ranges = sorted(wishes.all(), key=lambda wish: wish.base)
    end = 0
    for wish in ranges:
        assert wish.base >= end, "two ranges hold one task"
        end = wish.base + wish.n
        _check_range(wish)
        for task in (wish.base, wish.base + wish.n - 1):
            assert wishes.find(task) is wish, task


def _check_range(wish: Range) -> None:
    assert len(wish.status) == wish.n
    assert wish.pending == wish.status.count(Status.PENDING)
    # What a task came to is here for exactly those that came to it, and are held.
    found = bytearray(wish.n)
    for lo, n, status in wish.stretches():
        assert n > 0 and not any(found[lo : lo + n]), lo
        found[lo : lo + n] = bytes((status,)) * n
    for index in range(wish.n):
        right = found[index] == wish.status[index]
        assert right or (wish.is_let_go(index) and not found[index]), (wish.base, index)
    # What was brought stays where its task is pending again, but not where nobody holds it.
    for index in wish.values:
        assert not wish.is_let_go(index), (wish.base, index)
    starts = [lo for lo, _ in wish.packs()]
    assert starts == sorted(starts)
