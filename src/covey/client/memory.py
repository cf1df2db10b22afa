"""What the memory of a cluster is used for, as workers have told it last."""

from __future__ import annotations

from typing import Any, Final

from covey.units import format_bytes

#: The accounts of a worker, in the order of the table, and whether they add up to
#: what counts towards the limit.
_COLUMNS: Final = (
    *("total", "limit", "heap", "unmanaged", "shared", "in_flight", "warm"),
    *("mapped", "kept", "spilled"),
)

#: Of the links so many are listed, those with the most bytes.
_LINKS_SHOWN: Final = 8


class MemoryTable(dict[str, dict[str, Any]]):
    """The accounts of each worker in bytes, by its name; prints as a table.

    ``total`` is what counts towards ``limit``: ``heap``, the private memory of runners
    and agent; ``shared``, large values in memory, each counted once however many
    processes map it; ``in_flight``, what is being written; and ``warm``, memory that
    waits for the next value.  ``small`` is the part of the heap that is small values,
    ``unmanaged`` the rest of it.  ``mapped`` is what runners have mapped of the large
    values: what two of them map counts twice there, and once as ``shared``.  ``kept`` is
    the part of ``shared`` that was dropped and that only clients still map, which does
    not count towards the total.  ``spilled``
    lies on disk.  ``sent`` and ``received``
    count the bytes of values that went to and came from elsewhere, ``links`` by peer,
    ``saved`` those that need not be sent because values were compressed, and
    ``garbled`` values that did not come as they were sent.
    """

    def __str__(self) -> str:
        titles = "".join(f"{column.replace('_', ' '):>11}" for column in _COLUMNS)
        lines = [f"{'worker':24}{titles}"]
        for name, accounts in self.items():
            cells = "".join(f"{format_bytes(accounts.get(c, 0)):>11}" for c in _COLUMNS)
            lines.append(f"{name:24.24}{cells}")
        return "\n".join(lines + self._busiest_links())

    def _busiest_links(self) -> list[str]:
        """Return lines about the open links on which most has gone."""
        links = [
            (nbytes, worker, link)
            for worker, accounts in self.items()
            for link, nbytes in accounts.get("links", {}).items()
        ]
        links.sort(reverse=True)
        lines = [
            f"{worker:24.24}{format_bytes(nbytes):>11} {link}"
            for nbytes, worker, link in links[:_LINKS_SHOWN]
        ]
        if len(links) > _LINKS_SHOWN:
            lines.append(f"and {len(links) - _LINKS_SHOWN} more links")
        return ["links, by the bytes on them", *lines] if lines else []

    __repr__ = __str__


def memory_table(info: dict[str, Any]) -> MemoryTable:
    """Return the table of what ``scheduler_info`` tells."""
    table = MemoryTable()
    for worker in info["workers"]:
        facts = worker["facts"]
        if "memory" in facts:
            table[worker["name"]] = {**facts["memory"], **facts["moved"]}
    return table
