"""The door of a slot: what a thread calls to serve one."""

from __future__ import annotations

import socket

from covey.runner.loop import SlotLoop
from covey.runner.process import RunnerProcess
from covey.runner.slot import Slot


def serve_slot(
    sock: socket.socket,
    marks: memoryview,
    process: RunnerProcess,
    index: int = 0,
) -> None:
    """Serve one slot in the calling thread.

    Args:
        sock: the slot's blocking socket.
        marks: two u64 for this slot; ``memoryview(bytearray(16)).cast("Q")`` will
            do where nobody reads them.
        process: what this slot shares with the others.
        index: which slot this is.

    Nothing is read before the process was configured: by ``setup`` on the control
    socket, or by a call of ``process.configure``.

    It returns when the agent stops the slot or closes the socket, and also when
    a task gave the slot to another thread: ``process.slots[index].stopped`` is
    set when nobody serves it any more.
    """
    slot = Slot(sock, marks, process, index)
    process.slots[index] = slot
    process.configured.wait()
    loop = slot.owner = SlotLoop(slot)
    loop.serve()
