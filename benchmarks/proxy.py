"""A TCP proxy that can fall silent, as a network does that is cut in two, or cut links."""

from __future__ import annotations

import asyncio
import contextlib
import threading


class SilentProxy:
    """Forwards to *target*, unless it is silent: then bytes wait, and nobody is told."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._open.set()
        #: How many bits were flipped, and how many bytes lie between two of them.
        self.flips = 0
        self._distance = self._left = 0
        self._writers: set[asyncio.StreamWriter] = set()
        ready = threading.Event()
        threading.Thread(target=self._run, args=(ready,), daemon=True).start()
        ready.wait(10)

    def silence(self) -> None:
        """Let nothing through any more."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def heal(self) -> None:
        """Let everything through, what has gathered first."""
        self._loop.call_soon_threadsafe(self._open.set)

    def flip_after(self, distance: int) -> None:
        """From now on flip a bit whenever so many bytes have passed; 0: none."""
        self._distance = self._left = distance

    def cut(self) -> None:
        """Break all connections, in the middle of whatever they carry."""
        self._loop.call_soon_threadsafe(self._abort)

    def _abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        serving = asyncio.start_server(self._serve, "127.0.0.1", 0)
        server = self._loop.run_until_complete(serving)
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        self._loop.run_forever()

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await self._open.wait()
        try:
            there = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, there[1]}
        self._writers |= ends
        await asyncio.gather(self._pump(reader, there[1]), self._pump(there[0], writer))
        self._writers -= ends

    def _perhaps_flipped(self, data: bytes) -> bytes:
        self._left -= len(data)
        if self._left > 0:
            return data
        self._left = self._distance
        self.flips += 1
        changed = bytearray(data)
        changed[len(data) // 2] ^= 1 << self.flips % 8
        return bytes(changed)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(1 << 16):
                await self._open.wait()
                writer.write(self._perhaps_flipped(data) if self._distance else data)
                await writer.drain()
        await self._open.wait()
        writer.close()
