"""What users give goes into messages: it is checked before it is sent.

A scheduler refuses a message that it cannot read, and the connection with it.  So
the one who wrote what cannot be sent is told at the call, and nobody else notices.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import Any, Final

from covey.errors import UsageError
from covey.units import counted

#: Keys and names are for people to read, and stand in every message about a task.
NAME_LENGTH_MAX: Final = 1000

#: As long as this, a reason is a whole page.
REASON_LENGTH_MAX: Final = 10_000

#: The largest number that a message holds.
_NUMBER_MAX: Final = (1 << 63) - 1


def check_text(value: object, what: str, length_max: int = NAME_LENGTH_MAX) -> str:
    """Return *value*, a text that can be sent.

    Args:
        value: what a user gave.
        what: what to call it in an error message, such as ``"key="``.
        length_max: so many characters it may have.

    Raises:
        UsageError: it is no text, is too long, or holds halves of characters.
    """
    if not isinstance(value, str):
        raise UsageError(
            f"{what} takes a text (str), not {value!r:.80}, of type "
            f"{type(value).__name__}"
        )
    if len(value) > length_max:
        raise UsageError(
            f"{what} takes a text of at most {length_max:,} characters, and this one "
            f"has {len(value):,}: {value[:40]!r}..."
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{what} takes a text that can be written as UTF-8, and "
            f"{value[error.start]!r} in {value!r:.80} cannot"
        ) from None
    return value


def check_count(value: object, what: str) -> int:
    """Return *value*, a whole number from 0 up.

    Raises:
        UsageError: it is none.
    """
    if type(value) is not int or not 0 <= value <= _NUMBER_MAX:
        raise UsageError(f"{what} takes a whole number from 0 up, not {value!r:.80}")
    return value


def check_patience(timeout: object) -> None:
    """Refuse what is no number of seconds to wait for; ``None`` is for ever.

    Raises:
        UsageError: it is something else.
    """
    if timeout is None or (isinstance(timeout, int | float) and not isnan(timeout)):
        return
    raise UsageError(f"timeout= takes a number of seconds, not {timeout!r:.80}")


def check_names(value: Any, what: str) -> tuple[str, ...]:
    """Return the names that a user gave: one alone, or several.

    Raises:
        UsageError: something else is among them.
    """
    if isinstance(value, str):
        return (check_text(value, what),)
    try:
        names = tuple(value)
    except TypeError:
        raise UsageError(
            f"{what} takes a text, or several in a list, not {value!r:.80}"
        ) from None
    for name in names:
        check_text(name, what)
    return names


def names_for(key: str | Sequence[str] | None, n: int) -> Sequence[str | None]:
    """Return the names of *n* tasks from ``key=``: a list of them, or a prefix.

    Raises:
        UsageError: there are more of them, or fewer.
    """
    if key is None:
        return [None] * n
    if isinstance(key, str):
        check_text(f"{key}-{n}", "key=")
        return [f"{key}-{index}" for index in range(n)]
    names = check_names(key, "key=")
    if len(names) != n:
        raise UsageError(
            f"there are {counted(len(names), 'key')} for {counted(n, 'task')}"
        )
    return names
