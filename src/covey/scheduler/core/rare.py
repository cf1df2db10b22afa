"""Attributes that few spans have: the others spend no memory on them."""

from __future__ import annotations

from typing import Any, Generic, Protocol, TypeVar, overload

T = TypeVar("T")


class _Owner(Protocol):
    """What has such attributes: a slot, in which those are that are not as usual."""

    rare: dict[str, Any] | None


class Rare(Generic[T]):
    """An attribute that is nearly always *usual*."""

    __slots__ = ("_name", "_usual")

    def __init__(self, usual: T) -> None:
        self._usual = usual
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, span: None, owner: type) -> Rare[T]: ...

    @overload
    def __get__(self, span: _Owner, owner: type) -> T: ...

    def __get__(self, span: _Owner | None, owner: type) -> T | Rare[T]:
        if span is None:
            return self
        rare = span.rare
        if rare is None:
            return self._usual
        value: T = rare.get(self._name, self._usual)
        return value

    def __set__(self, span: _Owner, value: T) -> None:
        rare = span.rare
        if value == self._usual:
            if rare is not None:
                rare.pop(self._name, None)
                span.rare = rare or None
        elif rare is None:
            span.rare = {self._name: value}
        else:
            rare[self._name] = value
