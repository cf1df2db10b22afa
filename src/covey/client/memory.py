"""What the memory of a cluster is used for, as workers have told it last."""

from __future__ import annotations

from typing import Any

from covey.units import format_bytes

#: The accounts of a worker, in the order of the table, and whether they add up to
#: what counts towards the limit.
_COLUMNS = ("total", "limit", "heap", "shared", "in_flight", "warm", "spilled")


class MemoryTable(dict[str, dict[str, int]]):
    """The accounts of each worker in bytes, by its name; prints as a table.

    ``total`` is what counts towards ``limit``: ``heap``, the private memory of runners
    and agent; ``shared``, large values in memory, each counted once however many
    processes map it; ``in_flight``, what is being written; and ``warm``, memory that
    waits for the next value.  ``small`` is the part of the heap that is small values,
    ``unmanaged`` the rest of it.  ``spilled`` lies on disk.  ``sent`` and ``received``
    count the bytes of values that went to and came from elsewhere, ``links`` by peer,
    ``saved`` those that need not be sent because values were compressed, and
    ``garbled`` values that did not come as they were sent.
    """

    def __str__(self) -> str:
        titles = "".join(f"{column.replace('_', ' '):>11}" for column in _COLUMNS)
        lines = [f"{'worker':24}{titles}"]
        for name, accounts in self.items():
            cells = "".join(f"{format_bytes(accounts[c]):>11}" for c in _COLUMNS)
            lines.append(f"{name:24.24}{cells}")
        return "\n".join(lines)

    __repr__ = __str__


def memory_table(info: dict[str, Any]) -> MemoryTable:
    """Return the table of what ``scheduler_info`` tells."""
    table = MemoryTable()
    for worker in info["workers"]:
        facts = worker["facts"]
        if "memory" in facts:
            table[worker["name"]] = {**facts["memory"], **facts["moved"]}
    return table
