"""What else can be said of a task that used too much memory, by those who know its kind.

A client knows tasks by their keys.  Who makes tasks that nobody wrote by hand (a graph of
dask) knows what such a one is for, and enters here what tells it.
"""

from __future__ import annotations

from collections.abc import Callable

_advisers: list[Callable[[str], str]] = []


def enter(adviser: Callable[[str], str]) -> None:
    """Have *adviser* asked: it returns what is to be said of a key, or nothing."""
    if adviser not in _advisers:
        _advisers.append(adviser)


def of_too_large(key: str) -> str:
    """Return what is to be said of the task *key*, which used too much memory."""
    return " ".join(said for said in (ask(key) for ask in _advisers) if said)
