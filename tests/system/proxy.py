"""A TCP proxy that cuts connections after so many bytes, in the middle of anything."""

from __future__ import annotations

import asyncio
import random
import threading


class CuttingProxy:
    """Stands between a peer and its scheduler.

    Args:
        target: the port to forward to.
        seed: of the numbers of bytes after which connections are cut.
        cuts: how many connections are cut; those after that last.
    """

    def __init__(self, target, seed, cuts):
        self.cut = 0
        self.port = 0
        self._target = target
        self._random = random.Random(seed)
        self._cuts_left = cuts
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self):
        asyncio.set_event_loop(self._loop)
        serving = asyncio.start_server(self._serve, "127.0.0.1", 0)
        server = self._loop.run_until_complete(serving)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        server.close()
        self._loop.run_until_complete(asyncio.sleep(0))

    async def _serve(self, reader, writer):
        try:
            there = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        budget = [1 << 60]
        if self._cuts_left:
            self._cuts_left -= 1
            # Past the handshake, mostly; short enough to hit the middle of a frame.
            budget = [self._random.randrange(50, 30_000)]
        ends = (writer, there[1])
        await asyncio.gather(
            self._pump(reader, there[1], budget, ends),
            self._pump(there[0], writer, budget, ends),
        )

    async def _pump(self, reader, writer, budget, ends):
        try:
            while data := await reader.read(1 << 16):
                piece = data[: budget[0]]
                budget[0] -= len(piece)
                writer.write(piece)
                if not budget[0]:
                    await writer.drain()
                    self.cut += 1
                    break
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        for end in ends:
            end.transport.abort()
