"""What must hold after every step.  For tests: dear, and exact."""

from __future__ import annotations

from covey.client.core.ranges import Range, Status, Wishes


def check(wishes: Wishes) -> None:
    """Assert every invariant of the client's tables."""
    ranges = wishes.all()
    taken = [task for wish in ranges for task in range(wish.base, wish.base + wish.n)]
    assert len(set(taken)) == len(taken), "two ranges hold one task"
    for wish in ranges:
        _check_range(wish)
        for task in (wish.base, wish.base + wish.n - 1):
            assert wishes.find(task) is wish, task


def _check_range(wish: Range) -> None:
    assert len(wish.status) == wish.n
    assert wish.pending == wish.status.count(Status.PENDING)
    for index in range(wish.n):
        # What a task came to is there for exactly those that came to it.
        status = wish.status[index]
        assert (status == Status.FINISHED) == (wish.payload(index) is not None), index
        assert (status == Status.STORED) == (wish.place(index) is not None), index
        failed = status in {Status.ERROR, Status.CANCELLED}
        assert failed == (wish.failure(index) is not None), index
        assert status != Status.PENDING or index not in wish.values, index
    ends = [lo + len(pack) for lo, pack in wish.packs()]
    starts = [lo for lo, _ in wish.packs()]
    assert starts == sorted(starts)
    assert all(end <= lo for end, lo in zip(ends, starts[1:], strict=False))
