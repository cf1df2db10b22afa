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
        only_here: why others cannot be asked to do it, too; else empty.
    """

    title: str
    do: Callable[[Site, Score], None]
    only_here: str


ROWS: Final[dict[str, Row]] = {}


def row(number: str, title: str, *, only_here: str = "") -> Callable[[Any], Any]:
    """Enter a row; *only_here* tells why others cannot be asked to do it, too."""

    def enter(function: Callable[[Site, Score], None]) -> Any:
        ROWS[number] = Row(title, function, only_here)
        return function

    return enter
