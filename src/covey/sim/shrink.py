"""The least that still goes wrong: fewer faults, then fewer wishes.

Delta debugging over the two lists of a plan: halves are left out first, then
quarters, and so on to single ones, for as long as the same problem shows.
"""

from __future__ import annotations

from collections.abc import Callable

from covey.sim.plan import Plan


def minimal(places: list[int], fails: Callable[[list[int]], bool]) -> list[int]:
    """Return a part of *places* that still fails and of which none can be left out."""
    size = max(1, len(places) // 2)
    while places:
        kept = places
        for at in range(0, len(places), size):
            chunk = set(places[at : at + size])
            without = [place for place in kept if place not in chunk]
            if len(without) < len(kept) and fails(without):
                kept = without
        if len(kept) == len(places) and size == 1:
            return kept
        size = max(1, min(size // 2, len(kept) // 2)) if size > 1 else 1
        places = kept
    return places


def shrink(plan: Plan, fails: Callable[[Plan], bool]) -> tuple[list[int], list[int]]:
    """Return the places of the wishes and of the faults that are needed."""
    faults = minimal(
        list(range(len(plan.faults))), lambda some: fails(plan.only(faults=some))
    )
    wishes = minimal(
        list(range(len(plan.wishes))),
        lambda some: fails(plan.only(wishes=some, faults=faults)),
    )
    # With fewer wishes, more faults may be idle.
    faults = minimal(faults, lambda some: fails(plan.only(wishes=wishes, faults=some)))
    return wishes, faults
