"""The rows of the matrix, by the numbers that ``docs/failures.md`` gives them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from benchmarks.site import Score, Site

#: How many rows there are, done or not.
ROWS_OF_THE_MATRIX: Final = 32


class Row(NamedTuple):
    """One bad thing.

    Attributes:
        title: what it is.
        do: does it to a site, and counts what came of that.
        peers: whether others can be asked to do it, too.
    """

    title: str
    do: Callable[[Site, Score], None]
    peers: bool


ROWS: Final[dict[str, Row]] = {}


def row(number: str, title: str, *, peers: bool = True) -> Callable[[Any], Any]:
    """Enter a row; *peers* tells whether others can be asked to do it, too."""

    def enter(function: Callable[[Site, Score], None]) -> Any:
        ROWS[number] = Row(title, function, peers)
        return function

    return enter
