"""From the keywords of ``submit`` to checked options."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from covey.errors import UsageError
from covey.wire.base import (
    AMOUNT_MAX,
    DEFAULT_OPTIONS,
    PRIORITY_MAX,
    RETRIES_MAX,
    SECONDS_MAX,
    Options,
)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def options_of(
    priority: int,
    retries: int,
    timeout: float | str | None,
    resources: dict[str, float] | None,
    workers: str | Iterable[str] | None,
    allow_other_workers: bool,
) -> Options:
    """Return what a user asked for, checked.

    Raises:
        UsageError: a value makes no sense; the message names it.
    """
    if timeout is None and not (priority or retries or resources or workers):
        return DEFAULT_OPTIONS
    from covey.units import parse_seconds

    if not _is_whole(priority) or abs(priority) > PRIORITY_MAX:
        raise UsageError(
            f"priority= takes a whole number from {-PRIORITY_MAX} to {PRIORITY_MAX}, "
            f"not {priority!r}"
        )
    if not _is_whole(retries) or not 0 <= retries <= RETRIES_MAX:
        raise UsageError(
            f"retries= takes a whole number from 0 to {RETRIES_MAX}, not {retries!r}"
        )
    seconds = 0.0
    if timeout is not None:
        seconds = parse_seconds(timeout) if isinstance(timeout, str) else timeout
        if not seconds > 0:
            raise UsageError(f"timeout= takes seconds above 0, not {timeout!r}")
        seconds = min(seconds, SECONDS_MAX)
    amounts = {}
    for name, amount in (resources or {}).items():
        if not _is_number(amount) or not 0 <= amount <= AMOUNT_MAX:
            raise UsageError(
                f"resources[{name!r}] must be a number from 0 to {AMOUNT_MAX:g}, not "
                f"{amount!r}"
            )
        amounts[str(name)] = float(amount)
    if workers is None:
        names: tuple[str, ...] = ()
    elif isinstance(workers, str):
        names = (workers,)
    else:
        names = tuple(workers)
        if not all(isinstance(name, str) for name in names):
            raise UsageError(f"workers= takes names or addresses, not {workers!r}")
    return Options(
        priority, retries, float(seconds), amounts, names, allow_other_workers
    )


def names_of(workers: str | Iterable[str]) -> tuple[str, ...]:
    """Return the names of workers, of which a user gave one or several."""
    return (workers,) if isinstance(workers, str) else tuple(workers)
