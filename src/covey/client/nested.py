"""Futures nested in plain containers: finding them, and putting values in their place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from covey.client.future import Future, Futures
from covey.errors import UsageError


def futures_in(nested: Any) -> Iterator[Future[Any]]:
    """Yield the futures in lists, tuples, sets, dicts' values and iterators.

    Raises:
        UsageError: there is something else than futures in it.
    """
    if isinstance(nested, Future):
        yield nested
    elif isinstance(nested, Futures):
        yield from nested
    elif isinstance(nested, dict):
        for value in nested.values():
            yield from futures_in(value)
    elif isinstance(nested, list | tuple | set | frozenset) or hasattr(
        nested, "__next__"
    ):
        for value in nested:
            yield from futures_in(value)
    elif not hasattr(nested, "__dask_graph__"):
        return
    else:
        raise UsageError(
            "a dask collection is no future; use client.compute(...) or "
            "client.persist(...) to get futures of it"
        )


_SKIPPED = object()


def rebuild(nested: Any, values: dict[int, Any]) -> Any:
    """Return *nested* with each future replaced by its value (by ``id``).

    A future that has no value is left out of the list, tuple, set or dict it is in.
    """
    built = _rebuild(nested, values)
    return None if built is _SKIPPED else built


def _rebuild(nested: Any, values: dict[int, Any]) -> Any:
    if isinstance(nested, Future):
        return values.get(id(nested), _SKIPPED)
    if isinstance(nested, dict):
        pairs = ((key, _rebuild(value, values)) for key, value in nested.items())
        return {key: value for key, value in pairs if value is not _SKIPPED}
    if isinstance(nested, Futures):
        items = (_rebuild(item, values) for item in nested)
        return [item for item in items if item is not _SKIPPED]
    if isinstance(nested, list | tuple | set | frozenset):
        kept = [_rebuild(item, values) for item in nested]
        kept = [item for item in kept if item is not _SKIPPED]
        if isinstance(nested, tuple) and hasattr(nested, "_fields"):
            return type(nested)(*kept)
        return type(nested)(kept)
    return nested
