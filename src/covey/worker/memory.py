"""What the memory of a worker is used for.

All that counts towards the limit is in one of these accounts::

    heap        memory of runners and agent that nobody else sees;
                the small values are in it
    shared      large values, however many processes map them
    in flight   segments that are being written
    warm        segments that wait for the next value

and beside them, not counted: spilled, what lies on disk; and kept, of what is shared
what nobody but clients still maps, as long as the machine has memory to spare.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Final

import msgspec

from covey.worker.counters import words_of

_HAS_STATM: Final = sys.platform == "linux"
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")

#: A machine is short of memory when only this part of it can be had.
_SHORT: Final = 1 / 8


class MemoryPlan(msgspec.Struct, frozen=True):
    """How much memory a worker may use.

    Attributes:
        limit_bytes: for results and runners together.
        agent_share: the part of the agent's own memory that counts: one of several
            workers in a process has its share of that process.
        spill_directory: where values go that do not fit; empty for the default.
        tell: called with a line for people when a task was stopped for its memory.
    """

    limit_bytes: int
    agent_share: float = 1.0
    spill_directory: str = ""
    tell: Callable[[str], None] = lambda _: None


class Accounts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How many bytes a worker uses for what.

    Attributes:
        limit: what it may use.
        heap: private memory of runners and agent.
        runners: the part of ``heap`` that is the runners'.
        small: the part of ``heap`` that is small values of tasks.
        shared: large values in memory, each counted once.
        kept: the part of ``shared`` that was dropped, and that only clients still map:
            theirs, and no part of the total.
        in_flight: segments that somebody writes into.
        warm: segments without a value, for the next one.
        spilled: values on disk.
    """

    limit: int
    heap: int
    runners: int
    small: int
    shared: int
    kept: int
    in_flight: int
    warm: int
    spilled: int

    @property
    def unmanaged(self) -> int:
        """The part of the heap that is no value: code, libraries, and what tasks use."""
        return max(0, self.heap - self.small)

    @property
    def values(self) -> int:
        """What of the total is values of tasks."""
        return self.small + self.shared - self.kept

    @property
    def total(self) -> int:
        """What counts towards the limit."""
        return self.heap + self.shared - self.kept + self.in_flight + self.warm

    def facts(self) -> dict[str, int]:
        """Return plain numbers, for the scheduler and for people."""
        return {
            **msgspec.structs.asdict(self),
            "unmanaged": self.unmanaged,
            "total": self.total,
        }


def trim_heap() -> None:
    """Have the memory that was freed given back to the system; takes a while."""
    import ctypes  # Seldom needed, and it takes 5 ms.

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def machine_is_short() -> bool:
    """Whether nearly all memory of this machine is in use, cached files not counted."""
    import psutil  # As below.

    memory = psutil.virtual_memory()
    return bool(memory.available < memory.total * _SHORT)


def private_bytes(pid: int | str) -> int:
    """Return how much memory a process has to itself; 0 if it is gone."""
    if _HAS_STATM:
        words = words_of(f"/proc/{pid}/statm")
        if len(words) < 3:
            return 0
        resident, shared = int(words[1]), int(words[2])
        return max(0, resident - shared) * _PAGE_BYTES
    import psutil  # Where nothing else tells; it takes a while to import.

    try:
        process = psutil.Process() if pid == "self" else psutil.Process(int(pid))
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
