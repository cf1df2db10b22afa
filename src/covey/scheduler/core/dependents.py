"""Who takes the values of a span: a dictionary of spans, or less where there is only one.

Of most nodes of most graphs one other node takes the value, and a dictionary of one takes
four times the room of what stands for it here, which is read in the same ways.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from covey.scheduler.core.state import Span


class Sole:
    """The only dependent of a span, and how many of its tasks each of that one's is tied to.

    It has no length, so that to ask whether there is a dependent calls nothing.
    """

    __slots__ = ("groups", "span")

    def __init__(self, span: Span, groups: int) -> None:
        self.span = span
        self.groups = groups

    def __iter__(self) -> Iterator[Span]:
        return iter((self.span,))

    def items(self) -> tuple[tuple[Span, int]]:
        """Return it with its number, as of a dictionary."""
        return ((self.span, self.groups),)

    def get(self, span: Span) -> int | None:
        """Return the number of *span*, if that is the one."""
        return self.groups if span is self.span else None


#: What stands in ``Span.dependents``.
Dependents = dict["Span", int] | Sole | None


def add(source: Span, span: Span, groups: int) -> None:
    """Enter *span*, or its new number, as a dependent of *source*."""
    dependents = source.dependents
    if dependents is None:
        source.dependents = Sole(span, groups)
    elif type(dependents) is dict:
        dependents[span] = groups
    else:
        assert isinstance(dependents, Sole)
        if dependents.span is span:
            dependents.groups = groups
        else:
            source.dependents = {dependents.span: dependents.groups, span: groups}


def has(source: Span, span: Span) -> bool:
    """Whether *span* is a dependent of *source*."""
    dependents = source.dependents
    return dependents is not None and dependents.get(span) is not None


def strike(source: Span, span: Span) -> None:
    """Strike *span* out, if it is one."""
    dependents = source.dependents
    if type(dependents) is dict:
        dependents.pop(span, None)
    elif dependents is not None and span in dependents:
        source.dependents = None


def count(source: Span) -> int:
    """Return how many there are."""
    dependents = source.dependents
    if dependents is None:
        return 0
    return len(dependents) if isinstance(dependents, dict) else 1
