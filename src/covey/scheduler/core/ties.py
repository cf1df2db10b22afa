"""Ties: spans that take another span task by task, or group by group.

Task ``i`` of a span that is tied to a source takes ``g`` tasks of it, from its task
``g * i`` on.  In ``map(f, xs)`` these are one each; in a level of a tree, which is
``map(add, xs[::2], xs[1::2])``, they are two::

    xs      [ 0 1   2 3   4 5   6 7 ]
    sums    [  0  |  1     2     3  ]

A source has ``g`` times as many tasks as what is tied to it, so that both are cut at the
same place, and so is all that is tied to them.  A cut can fall inside a group, where one
of its tasks fails or is dealt without the others.  Then the task that takes the group is
cut off first, together with its group; and a single task is tied to no groups: it takes
its inputs as a whole, which may be cut anywhere.

Of all sizes of spans that hang together, each divides the next (``agree``).  So where the
smallest is cut, all can be.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice, pairwise
from typing import Final

from covey.scheduler.core import dependents
from covey.scheduler.core.state import SchedulerState, Span

#: So many dependents of a span are looked at for a tie to be spared.
_LOOKED_AT: Final = 8


def tied(state: SchedulerState, span: Span) -> list[Span]:
    """Return the spans tied to *span*, directly or along others, itself first."""
    found = [span]
    if span.inputs == () and not span.dependents:
        return found
    seen = {span}
    for part in found:
        near = [
            (dependent, part.n, dependent.n * g)
            for dependent, g in (part.dependents.items() if part.dependents else ())
            if g
        ]
        near += [(state.spans[task], part.n, 0) for task in part.aligned]
        near += [(state.spans[task], part.n * g, 0) for task, g in part.groups]
        for neighbour, n, m in near:
            if neighbour not in seen:
                assert n == (m or neighbour.n)
                seen.add(neighbour)
                found.append(neighbour)
    return found


def agree(sizes: Iterable[int]) -> bool:
    """Whether spans of such sizes may hang together: each size divides the next."""
    return all(larger % smaller == 0 for smaller, larger in pairwise(sorted(sizes)))


def loosen(state: SchedulerState, span: Span) -> None:
    """Tie a single task to no groups: it takes them as a whole."""
    assert span.n == 1
    for first, _ in span.groups:
        dependents.add(state.spans[first], span, 0)
    span.whole += span.groups
    span.groups = ()


def even(span: Span, k: int) -> int:
    """Return at most *k*, and over half of it: to cut so many off tears few groups apart."""
    each = 1
    while True:
        users = span.dependents.items() if span.dependents else ()
        near = islice(users, _LOOKED_AT)
        span, g = max(near, key=lambda pair: pair[1], default=(span, 0))
        if not g or each * g > k:
            return k - k % each
        each *= g
