"""What is kept beyond the clients that asked for it: under names, and in a journal."""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

from covey.ids import ClientId
from covey.wire.base import Extent, Message
from covey.wire.client_link import Ask

Record: TypeAlias = tuple[ClientId, Message]
"""What goes into the journal: something that the client of that number has said, or
that became of its tasks."""

#: Publications hold tasks as if they were clients; they are numbered down from here.
_FIRST_HOLDER: Final = -16


class Publication(NamedTuple):
    """Tasks that are kept under a name, and what stands for them."""

    holder: ClientId
    payload: bytes
    extents: tuple[Extent, ...]


class Publications:
    """All that is kept under names."""

    def __init__(self) -> None:
        self.by_name: dict[str, Publication] = {}
        #: Who holds something here: nobody who can be sent a value.
        self.holders: frozenset[ClientId] = frozenset()
        #: Clients that have asked before it was known what is there: peer, question.
        self.asked: list[tuple[int, Ask]] = []
        self._last = _FIRST_HOLDER

    def add(
        self, name: str, payload: bytes, extents: tuple[Extent, ...]
    ) -> Publication:
        """Enter something under a name that is free."""
        self._last -= 1
        holder = ClientId(self._last)
        made = self.by_name[name] = Publication(holder, payload, extents)
        self.holders |= {holder}
        return made

    def pop(self, name: str) -> Publication | None:
        """Strike out what is kept under a name."""
        found = self.by_name.pop(name, None)
        if found is not None:
            self.holders -= {found.holder}
        return found


class Journal:
    """What is to be written down, if anything is."""

    def __init__(self) -> None:
        #: Whether somebody writes it down.
        self.kept = False
        #: What he has not taken yet, in order.
        self.records: list[Record] = []
        #: What an earlier life has written down, until it is entered.
        self.before: list[Record] = []

    def note(self, number: ClientId, message: Message) -> None:
        """Have something written down, if that is done at all."""
        if self.kept:
            self.records.append((number, message))
