"""Futures nested in plain containers: finding them, and putting values in their place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from covey.client.future import Future, Futures
from covey.errors import UsageError

_THIS: Final = "this is"
_AMONG: Final = "among these is"


def futures_in(nested: Any) -> Iterator[Future[Any]]:
    """Return the futures in lists, tuples, sets, dicts' values and iterators.

    Those of a persisted dask collection count, too.  Whatever else is inside of these
    is passed over: it stays where it is when values are put in place of futures.

    Raises:
        UsageError: *nested* can hold no futures, or is a collection that has none yet.
    """
    return _within(container(nested))


def only_futures(nested: Any) -> list[Future[Any]]:
    """Return the futures of which *nested* is made, and of nothing else.

    As in ``futures_in``, but of an item of a dict whose key is a future the key is
    meant: ``{future: parameter}`` is what many keep their futures in.

    Raises:
        UsageError: something else is among them, or a collection that has none yet;
            nothing was done with any of them.
    """
    found: list[Future[Any]] = []
    _collect(nested, found, _THIS)
    return found


def _collect(nested: Any, found: list[Future[Any]], wrong: str) -> None:
    if isinstance(nested, Future):
        found.append(nested)
    elif hasattr(nested, "__dask_graph__"):
        found += _within_collection(nested)
    elif isinstance(nested, dict):
        for key, value in nested.items():
            if isinstance(key, Future):
                found.append(key)
            else:
                _collect(value, found, _AMONG)
    else:
        for value in container(nested, wrong):
            if type(value) is Future:
                found.append(value)
            else:
                _collect(value, found, _AMONG)


def _within(nested: Any) -> Iterator[Future[Any]]:
    if isinstance(nested, Future):
        yield nested
    elif isinstance(nested, Futures):
        yield from nested
    elif isinstance(nested, dict):
        for value in nested.values():
            yield from _within(value)
    elif isinstance(nested, list | tuple | set | frozenset) or hasattr(
        nested, "__next__"
    ):
        for value in nested:
            if type(value) is Future:
                yield value
            else:
                yield from _within(value)
    elif hasattr(nested, "__dask_graph__"):
        yield from _within_collection(nested)


def _within_collection(collection: Any) -> Iterator[Future[Any]]:
    """Yield the futures that a persisted collection rests on."""
    found = _futures_of(collection)
    if not found:
        raise UsageError(
            "this dask collection has no futures yet; client.compute(...) returns some, "
            "and so does client.persist(...)"
        )
    yield from found


def is_persisted(collection: Any) -> bool:
    """Whether a dask collection rests on futures."""
    return bool(_futures_of(collection))


def _futures_of(collection: Any) -> list[Future[Any]]:
    graph = collection.__dask_graph__() or {}
    # dask wraps what a graph holds into nodes of its own.
    values = [getattr(value, "value", value) for value in graph.values()]
    return [value for value in values if isinstance(value, Future)]


def container(nested: Any, wrong: str = _THIS) -> Any:
    """Return *nested* as something that can be looked through more than once.

    Args:
        nested: what a user gave.
        wrong: what to say of what can hold no futures: before what it is.

    Raises:
        UsageError: it can hold no futures.
    """
    if isinstance(nested, Future | Futures | dict | list | tuple | set | frozenset):
        return nested
    if hasattr(nested, "__dask_graph__"):
        return nested
    if isinstance(nested, Iterable) and not isinstance(nested, str | bytes):
        return list(nested)
    # Not at the top: this file is loaded before a cluster is started.
    from concurrent.futures import Future as Theirs

    hint = ""
    if isinstance(nested, Theirs):
        hint = ". For futures of an executor there is concurrent.futures"
    raise UsageError(
        f"futures are wanted here, alone or in lists, tuples, sets or dicts, and {wrong} "
        f"{nested!r:.80}, of type {type(nested).__name__}{hint}"
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
    if hasattr(nested, "__dask_graph__"):
        raise UsageError("the value of a dask collection comes of its .compute()")
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
