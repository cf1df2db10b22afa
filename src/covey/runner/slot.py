"""One socket of a runner, and what has arrived on it.

The thread that serves the slot (``loop``) reads and begins; the control thread
takes back, interrupts and flushes.  They meet here: the queue is a deque, every
batch can be claimed from by both, and whoever reads the socket holds a lock.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from typing import Final

from covey.errors import RemoteProtocolError
from covey.runner.batch import Batch, read_batch
from covey.runner.context import Loop
from covey.runner.frames import Frame, FrameSocket
from covey.runner.looked import Looked
from covey.runner.nodes import Nodes, read_nodes
from covey.runner.process import RunnerProcess
from covey.stacks import Seen

#: So many values are kept for what follows; the oldest goes first.
KEPT_MAX: Final = 2048

#: Who waits for so long keeps nothing of what was looked into: its work is over.
LOOKED_SECONDS: Final = 1.0


class Slot:
    """One slot: its socket, its marks, and what has arrived.

    Attributes:
        index: which slot of the process this is.
        marks: two numbers that the agent can read even when we are dead: the
            run and the task that is executing; run 0 means none.
        queue: batches that were received and not begun; ``None`` means stop.
        batch: the batch that was begun last.
        owner: the loop that serves the slot now, once there is one.
        detached: loops whose task gave the slot away and still runs.
        kept: small values of tasks that ran here, which what follows may take.
        looked: small values that tasks took an item of.
        send: sends one frame; any thread may.
        stopped: set when nobody serves the slot any more.
    """

    def __init__(
        self,
        sock: socket.socket,
        marks: memoryview,
        process: RunnerProcess,
        index: int,
    ) -> None:
        self.index = index
        self.marks = marks
        self.process = process
        self.queue: deque[Batch | Nodes | None] = deque()
        self.batch: Batch | Nodes | None = None
        self.owner: Loop | None = None
        self.detached: list[Loop] = []
        self.kept: dict[int, bytes] = {}
        self.looked = Looked()
        self.stopped = threading.Event()
        self._frames = FrameSocket(sock)
        self._reading = threading.Lock()
        self.send = self._frames.send

    def close(self) -> None:
        """Hang up, so that the agent notices."""
        self._frames.close()

    def keep(self, task: int, payload: bytes) -> None:
        """Keep a small value for what follows."""
        if len(self.kept) >= KEPT_MAX:
            del self.kept[next(iter(self.kept))]
        self.kept[task] = payload

    def wait(self) -> None:
        """Wait for the next frame and queue what it holds."""
        with self._reading:
            if not self.queue:
                mapped = self.process.mapped
                if (self.looked or mapped.shares) and not self._frames.comes_within(
                    LOOKED_SECONDS
                ):
                    self.looked.clear()
                    mapped.unshare()
                self._queue_frame(self._frames.receive())

    def look(self) -> bool:
        """Queue what has arrived, without waiting, and say whether there is any."""
        with self._reading:
            for frame in self._frames.received():
                self._queue_frame(frame)
        return bool(self.queue)

    def _queue_frame(self, frame: Frame) -> None:
        process = self.process
        for operation in frame.operations:
            match operation[0]:
                case "run":
                    serializer, looked = process.serializer(operation[2]), self.looked
                    self.queue.append(
                        read_batch(operation, frame, process.mapped, looked, serializer)
                    )
                case "nodes":
                    mapped, serializer_of = process.mapped, process.serializer
                    self.queue += read_nodes(
                        operation, frame, mapped, self.looked, serializer_of
                    )
                case "fn":
                    process.add_function(operation[1], frame.take(operation[2]))
                case "undefine":
                    process.drop_function(operation[1])
                case "lend":
                    process.lend(operation[1], operation[2])
                case "took":
                    process.took(operation[1])
                case "forget":
                    process.mapped.forget(operation[1])
                case "stop":
                    self.queue.append(None)
                case name:
                    raise RemoteProtocolError(f"a slot knows no operation {name!r}")

    # The control thread calls what follows.

    def retract(self, count: int) -> list[tuple[int, int, int]]:
        """Take back at most *count* tasks that have not begun; -1 means all.

        Returns:
            Run, first task and number of tasks of each part, the last first.
        """
        # What the agent sent while the slot was busy may still be in the socket.
        # When somebody else is reading, the slot is idle and nothing is waiting.
        if self._reading.acquire(blocking=False):
            try:
                for frame in self._frames.received():
                    self._queue_frame(frame)
            finally:
                self._reading.release()
        parts = []
        for batch in reversed([self.batch, *self.queue]):
            if batch is None or count == 0:
                continue
            taken = batch.retract(count)
            parts += taken
            if count > 0:
                count -= sum(n for _, _, n in taken)
        return parts

    def _loops(self) -> list[Loop]:
        owner = self.owner
        return [owner, *self.detached] if owner is not None else []

    def flush(self) -> None:
        """Send the outcomes that wait behind a task which takes long."""
        for loop in self._loops():
            loop.flush_meanwhile()

    def cancel(self, run: int, task_id: int) -> bool:
        """Interrupt a task if it is executing now, and say whether it was."""
        return any(loop.interrupt(run, task_id) for loop in self._loops())

    # The profile's thread calls this.

    def at_work(self) -> list[Seen]:
        """Return the function and the thread of each task that executes here."""
        return [seen for loop in self._loops() if (seen := loop.at_work()) is not None]
