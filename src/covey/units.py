"""Sizes and durations as people write them.

``parse_*`` reads what stands in a setting, on a command line or in a keyword;
``format_*`` writes what stands in a message or a table.  A decimal unit is
decimal (``1 MB`` = 10**6 bytes), a binary one binary (``1 MiB`` = 2**20), case
does not matter, and a plain number means bytes or seconds.

A written value is short on purpose: what ``format_*`` writes, ``parse_*``
reads back to within half a unit of the last digit shown.
"""

from __future__ import annotations

import math
import re
from typing import Final

from covey.errors import UsageError

_BYTE_UNITS: Final[dict[str, int]] = {
    "": 1,
    "b": 1,
    **{
        letter + suffix: factor**power
        for power, letter in enumerate("kmgtp", start=1)
        for suffix, factor in (("", 1000), ("b", 1000), ("i", 1024), ("ib", 1024))
    },
}

_SECOND_UNITS: Final = {
    "": 1.0,
    **dict.fromkeys(("ns",), 1e-9),
    **dict.fromkeys(("us", "µs", "μs"), 1e-6),
    **dict.fromkeys(("ms",), 1e-3),
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
}

#: Short enough that neither ``int`` nor ``float`` can choke on it.
_NUMBER: Final = r"\d{1,30}(?:\.\d{0,30})?(?:e[+-]?\d{1,3})?|\.\d{1,30}"
_QUANTITY: Final = re.compile(rf"\s*({_NUMBER})\s*([a-zµμ]*)\s*", re.ASCII)


def parse_bytes(text: str | float) -> int:
    """Return the number of bytes that *text* means.

    Args:
        text: a number of bytes, or a number with a unit: ``"4GiB"``, ``"500 MB"``.

    Raises:
        UsageError: *text* is no size, or a negative one.
    """
    example = "write a number and a unit, such as '4GiB', '500 MB' or 1024"
    if not isinstance(text, str):
        return round(_checked(text, "size", example))
    parts = _QUANTITY.fullmatch(text.lower())
    unit = _BYTE_UNITS.get(parts[2]) if parts else None
    if parts is None or unit is None:
        raise UsageError(f"not a size: {text!r}; {example}")
    number = parts[1]
    if number.isdecimal():
        # Whole numbers stay exact beyond 2**53.
        return int(number) * unit
    return round(_checked(float(number) * unit, "size", example))


def parse_seconds(text: str | float) -> float:
    """Return the number of seconds that *text* means.

    Args:
        text: a number of seconds, or numbers with units: ``"5m"``, ``"300ms"``,
            ``"1h 30min"``.

    Raises:
        UsageError: *text* is no duration, or a negative one.
    """
    example = "write a number and a unit, such as '5m', '300ms' or 2.5"
    if not isinstance(text, str):
        return float(_checked(text, "duration", example))
    total = 0.0
    position = 0
    written = text.lower()
    while True:
        parts = _QUANTITY.match(written, position)
        unit = _SECOND_UNITS.get(parts[2]) if parts else None
        alone = position == 0 and parts is not None and parts.end() == len(written)
        # "1h30" could mean half a minute or half an hour, so it means nothing.
        if parts is None or unit is None or (parts[2] == "" and not alone):
            raise UsageError(f"not a duration: {text!r}; {example}")
        total += float(parts[1]) * unit
        position = parts.end()
        if position == len(written):
            return _checked(total, "duration", example)


def _checked(value: float, what: str, example: str) -> float:
    """Return *value* if it is a finite number of zero or more."""
    number: object = value  # callers without a type checker may pass anything
    if (
        isinstance(number, bool)
        or not isinstance(number, int | float)
        or not 0 <= number < math.inf
    ):
        raise UsageError(f"not a {what}: {value!r}; {example}")
    return value


def format_bytes(count: float) -> str:
    """Write a number of bytes in three digits: ``340 B``, ``1.25 GiB``."""
    size = float(count)
    if abs(size) < 1023.5:
        return f"{size:.0f} B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        size /= 1024
        if abs(size) < 1023.5:
            return f"{_three_digits(size)} {unit}"
    return f"{_three_digits(size / 1024)} PiB"


def format_seconds(seconds: float) -> str:
    """Write a duration: ``340 µs``, ``12.5 ms``, ``3.25 s``, ``4m 05s``, ``2h 10m``."""
    if seconds < 0:
        return "-" + format_seconds(-seconds)
    for limit, factor, unit in (
        (999.5e-9, 1e9, "ns"),
        (999.5e-6, 1e6, "µs"),
        (999.5e-3, 1e3, "ms"),
        (59.95, 1.0, "s"),
    ):
        if seconds < limit:
            return f"{_three_digits(seconds * factor)} {unit}" if seconds else "0 s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60}h {minutes % 60:02}m"
    hours = round(seconds / 3600)
    return f"{hours // 24}d {hours % 24:02}h"


def counted(n: int, noun: str) -> str:
    """Write a number of things: ``1 worker``, ``no tasks``, ``1,200 bytes``."""
    if n == 0:
        return f"no {noun}s"
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def _three_digits(value: float) -> str:
    """Write *value* with three digits, and without zeros behind the point."""
    size = abs(value)
    decimals = 2 if size < 9.995 else 1 if size < 99.95 else 0
    written = f"{value:.{decimals}f}"
    return written.rstrip("0").rstrip(".") if decimals else written
