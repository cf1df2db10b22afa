"""Three ways from a socket into shared memory: ``python -m benchmarks.receiving``.

A process sends 400 MB over loopback, and this one receives them into a fresh segment: by way
of one warm buffer (as covey does), straight into the mapped segment, or into one whose
pages were made before.  In turns; told are medians of this process' CPU time and of wall time.
"""

from __future__ import annotations

import argparse
import mmap
import os
import socket
import statistics
import time
from collections.abc import Callable
from typing import Final

from covey.net.link import READ_BYTES

NBYTES: Final = 400_000_000

#: ``MADV_POPULATE_WRITE``, which ``mmap`` has no name for.
_POPULATE_WRITE: Final = 23


def by_buffer(sock: socket.socket, fd: int) -> None:
    """Read what has come into one warm buffer, and write it on from there."""
    buffer, at = memoryview(bytearray(READ_BYTES)), 0
    while at < NBYTES:
        nbytes = sock.recv_into(buffer[: NBYTES - at])
        os.pwrite(fd, buffer[:nbytes], at)
        at += nbytes


def mapped(sock: socket.socket, fd: int, *, populate: bool = False) -> None:
    """Read what has come to where it is to be."""
    with mmap.mmap(fd, NBYTES) as segment, memoryview(segment) as view:
        if populate:
            segment.madvise(_POPULATE_WRITE)
        at = 0
        while at < NBYTES:
            at += sock.recv_into(view[at : at + READ_BYTES])


def populated(sock: socket.socket, fd: int) -> None:
    """The same, when all pages are there."""
    mapped(sock, fd, populate=True)


WAYS: Final = {
    "one warm buffer, then pwrite": by_buffer,
    "straight into the segment": mapped,
    "the same, pages made before": populated,
}


def measure(receive: Callable[[socket.socket, int], None]) -> tuple[float, float]:
    """Return the CPU time of the receiver and the wall time, in seconds."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        pid = os.fork()
        if not pid:
            _send(server.getsockname())
        sock, _ = server.accept()
    fd = os.memfd_create("received")
    os.ftruncate(fd, NBYTES)
    cpu, wall = time.process_time(), time.perf_counter()
    receive(sock, fd)
    took = time.process_time() - cpu, time.perf_counter() - wall
    os.close(fd)
    sock.close()
    os.waitpid(pid, 0)
    return took


def _send(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as sock:
        data, left = memoryview(bytearray(1 << 22)), NBYTES
        while left:
            left -= sock.send(data[:left])
    os._exit(0)


def main() -> None:
    """Print a line for each way."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    for _ in range(rounds):
        for name, receive in WAYS.items():
            took[name].append(measure(receive))
    for name, each in took.items():
        cpu, wall = (statistics.median(column) for column in zip(*each, strict=True))
        print(f"{name:30} CPU {cpu * 1e3:4.0f} ms, wall {wall * 1e3:5.0f} ms")


if __name__ == "__main__":
    main()
