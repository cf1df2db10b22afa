"""What the rows have done: tasks whose results are known, and some that do harm."""

from __future__ import annotations

import ctypes
import os
import re
import select
import time
from typing import Any

from benchmarks.site import Site


def work(x: int, folder: str, seconds: float = 0.01, *inputs: int) -> int:
    """Leave a line for every execution; return what the inputs decide."""
    fd = os.open(f"{folder}/{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(fd, f"{x}\n".encode())
    os.close(fd)
    # ``time.sleep`` fails in a process whose clock faketime sets.
    select.select((), (), (), seconds)
    return (x * 31 + sum(inputs)) % 1_000_003


def work_value(x: int, *inputs: int) -> int:
    """Return what ``work`` returns."""
    return (x * 31 + sum(inputs)) % 1_000_003


def tasks_of(
    site: Site, client: Any, n: int, seconds: float = 0.01, first: int = 0
) -> Any:
    """Submit *n* tasks from *first* on; return their futures, and what they give."""
    tasks = range(first, first + n)
    futures = client.map(work, tasks, folder=site.ran, seconds=seconds)
    return list(futures), [work_value(x) for x in tasks]


def hold_the_gil(seconds: float) -> int:
    """Let no other thread of this process run: the check of a regex does not."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        re.match(r"(a+)+$", "a" * 22 + "b")
    return 1


def crash() -> None:
    """End the process as a bug in an extension would."""
    ctypes.string_at(0)


def grow(nbytes: int) -> int:
    """Take memory, in steps that others can see."""
    taken = []
    while len(taken) << 24 < nbytes:
        taken.append(b"x" * (1 << 24))
        time.sleep(0.02)
    return len(taken)


def large(x: int) -> bytes:
    """Return 16 MiB that tell *x*."""
    return x.to_bytes(4, "big") * (1 << 22)


def make(x: int, n: int = 50_000) -> list[int]:
    """Return a value that is too large to ride along with a message."""
    return [x] * n


def combine(one: list[int], other: list[int]) -> int:
    """Return what two of them tell; takes results of its own as well."""
    return _told(one) + _told(other)


def _told(value: list[int] | int) -> int:
    return value if isinstance(value, int) else value[0]


def spend(x: int, seconds: float) -> int:
    """Take some time, and no processor."""
    time.sleep(seconds)
    return x


def year(turn: int) -> int:
    """Return which year it is on the clock of this process."""
    del turn
    return time.gmtime().tm_year


def draw(x: int) -> bytes:
    """Return something else each time."""
    return x.to_bytes(4, "big") + os.urandom(8)


def write_down(drawn: bytes) -> str:
    """Return what was drawn, at such a length that it does not ride along."""
    return drawn.hex() * 1000


def agree(drawn: bytes, written: str) -> bool:
    """Whether one was made of the other."""
    return write_down(drawn) == written
