"""Arguments of one task, when some of them have names.

The payload of a task without keyword arguments is a plain tuple, which is the
fast and common case.  With keyword arguments it is a ``Call``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Call:
    """Positional and keyword arguments of one task.

    Attributes:
        args: the positional arguments.
        kwargs: the keyword arguments.
    """

    __slots__ = ("args", "kwargs")

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.args = args
        self.kwargs = kwargs

    def __reduce__(self) -> tuple[object, ...]:
        return (Call, (self.args, self.kwargs))

    def apply(self, function: Callable[..., Any]) -> Any:
        """Call *function* with these arguments."""
        return function(*self.args, **self.kwargs)


def call_value(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function that came as a value: it was too large for a message."""
    return function(*args, **kwargs)
