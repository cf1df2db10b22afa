"""The far end of ``benchmarks.data``: serves one value until its input ends."""

from __future__ import annotations

import asyncio
import os
import sys

from covey.net.addresses import Address
from covey.net.loop import new_event_loop
from covey.secret import Secret
from covey.store.segments import Segment
from covey.wire.keys import Keys
from covey.worker.serving import DataServer
from covey.worker.storage import Storage


async def always_room(nbytes: int) -> str:
    """Let everything in."""
    del nbytes
    return ""


async def serve(nbytes: int) -> None:
    """Serve a value of so many bytes under the id 1."""
    storage = Storage(4 * nbytes)
    keys = Keys.of_client(Secret(b"s" * 32))
    server = DataServer(storage, keys, "1", always_room)
    address = await server.listen(Address("127.0.0.1", 0, ""))
    # What cannot be compressed: it is the wire that is measured.
    made = Segment.of([b"head", os.urandom(nbytes)])
    storage.adopt(1, made.place, made.size)
    made.close()
    print(address, flush=True)
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, sys.stdin.read)
    await server.close()
    await storage.close()


if __name__ == "__main__":
    new_event_loop().run_until_complete(serve(int(sys.argv[1])))
