"""The two ends of ``benchmarks.data``'s moves; each may be on a host of its own.

::

    python -m benchmarks.data_ends serve HOST BYTES clear|tls      prints its address
    python -m benchmarks.data_ends fetch ADDRESS BYTES             prints what it took
    python -m benchmarks.data_ends listen HOST BYTES               prints its port
    python -m benchmarks.data_ends send HOST PORT BYTES            prints what it took

What it took are the seconds of the quickest move, and the CPU time of this end for one.
The first two are a worker's data plane.  The others are what a socket does of itself:
they send bytes that come from memory, and lie in memory that was written before.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time

from covey.net.addresses import Address
from covey.net.asking import Asker
from covey.net.loop import new_event_loop
from covey.net.tls import IN_CLEAR, make_certificate
from covey.secret import Secret
from covey.store.segments import Segment
from covey.wire.keys import Keys
from covey.worker.serving import DataServer
from covey.worker.storage import Storage

ROUNDS = 6

KEYS = Keys.of_client(Secret(b"s" * 32))


async def always_room(nbytes: int) -> str:
    """Let everything in."""
    del nbytes
    return ""


async def serve(host: str, nbytes: int, how: str) -> None:
    """Serve a value of so many bytes under the id 1, until the input ends."""
    storage = Storage(4 * nbytes)
    server = DataServer(storage, KEYS, "1", always_room)
    certificate = IN_CLEAR if how == "clear" else make_certificate()
    address = await server.listen(Address(host, 0, ""), certificate)
    # What cannot be compressed: it is the wire that is measured.
    made = Segment.of([b"head", os.urandom(nbytes)])
    storage.adopt(1, made.place, made.size)
    made.close()
    print(address, flush=True)
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, sys.stdin.read)
    await server.close()
    await storage.close()


async def fetch(address: str, nbytes: int) -> None:
    """Bring that value into another store again and again; tell what it took."""
    storage = Storage(8 * nbytes)  # so that a segment is kept warm
    asker = Asker(KEYS, "1", "benchmark", memory=storage)
    times = []
    cpu = time.process_time()
    for _ in range(ROUNDS):
        started = time.perf_counter()
        loot = await asker.get((address,), ((1, 1),), "another machine")
        times.append(time.perf_counter() - started)
        assert loot.segments[0][1].size >= nbytes
        loot.discard()
    # Not the first: a user moves more than one value.
    print(min(times[1:]), (time.process_time() - cpu) / ROUNDS)
    asker.close()
    await storage.close()


def listen(host: str, nbytes: int) -> None:
    """Receive so many bytes, again and again."""
    server = socket.create_server((host, 0))
    print(server.getsockname()[1], flush=True)
    connection, _ = server.accept()
    target = memoryview(bytearray(nbytes))
    for _ in range(ROUNDS):
        at = 0
        while at < nbytes:
            at += connection.recv_into(target[at:])
        connection.send(b"x")


def send(host: str, port: int, nbytes: int) -> None:
    """Send them; tell what it took until all had come."""
    connection = socket.create_connection((host, port))
    data = bytes(nbytes)
    times = []
    cpu = time.process_time()
    for _ in range(ROUNDS):
        started = time.perf_counter()
        connection.sendall(data)
        connection.recv(1)
        times.append(time.perf_counter() - started)
    print(min(times[1:]), (time.process_time() - cpu) / ROUNDS)


def main() -> None:
    """Be one end."""
    what, where, *rest = sys.argv[1:]
    if what == "listen":
        listen(where, int(rest[0]))
    elif what == "send":
        send(where, int(rest[0]), int(rest[1]))
    elif what == "serve":
        new_event_loop().run_until_complete(serve(where, int(rest[0]), rest[1]))
    else:
        new_event_loop().run_until_complete(fetch(where, int(rest[0])))


if __name__ == "__main__":
    main()
