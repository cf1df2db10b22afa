"""The arguments of a map: one column for each iterable that the user gave."""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter
from typing import Any, Final

from covey.client.future import Future, Futures
from covey.client.shapes import NODE_INPUTS, Column
from covey.errors import UsageError
from covey.ids import TaskId

#: Sequences whose length is the number of their items, for sure.
_PLAIN: Final = (list, tuple, range, Futures)


def columns_of(iterables: tuple[Iterable[Any], ...]) -> tuple[list[Any], int]:
    """Return the columns as sequences, and how many items of each count.

    What has a length need not yield as many items: a data frame has rows, and yields
    the names of its columns.  So all but plain sequences are read, side by side: the
    shortest one ends it, and others may be endless.

    Raises:
        UsageError: there is no iterable at all, or one cannot be iterated over.
    """
    if not iterables:
        raise UsageError("map needs at least one iterable of arguments")
    columns: list[Any] = list(iterables)
    if not all(type(column) in _PLAIN for column in columns):
        _check_iterable(columns)
        if len(columns) == 1:
            columns = [list(columns[0])]
        else:
            rows = list(zip(*columns, strict=False))
            places = range(len(columns))
            columns = [list(map(itemgetter(at), rows)) for at in places]
    return columns, min(map(len, columns))


def _check_iterable(columns: list[Any]) -> None:
    for number, column in enumerate(columns, 1):
        try:
            iter(column)
        except TypeError as error:
            raise UsageError(
                f"map takes iterables of arguments after the function, and number "
                f"{number} of them is none: {column!r:.80} ({error})"
            ) from None


def results_of(args: tuple[Any, ...], session: object) -> list[TaskId] | None:
    """Return the ids of the arguments of one call, if they are a few futures.

    Those of another session than *session* are none, as for ``strides_of``.
    """
    if not 0 < len(args) <= NODE_INPUTS:
        return None
    ids = []
    for future in args:
        if not isinstance(future, Future) or future.holder is not session:
            return None
        ids.append(future.id)
    return ids


def strides_of(
    columns: list[Any], n: int, session: object
) -> tuple[Column, ...] | None:
    """Return the first id and the stride of each column, if all are futures in steps.

    Those of another session than *session* are not: they are looked at one by one.
    """
    found = []
    for column in columns:
        if isinstance(column, Futures) and column.whole is not None:
            if column.holder is not session:
                return None
            found.append((column.whole.base, 1))
            continue
        if not isinstance(column, list | tuple) or not isinstance(column[0], Future):
            return None
        first, stride = column[0].id, 1
        if n > 1 and isinstance(column[1], Future):
            stride = column[1].id - first
        if stride < 1:
            return None
        for index in range(n):
            future = column[index]
            if not isinstance(future, Future) or future.id != first + stride * index:
                return None
            if future.holder is not session:
                # Packing it tells what is wrong if it was released, and where.
                return None
        found.append((first, stride))
    return tuple(found)
