"""The gate, where interrupts and what must not be interrupted meet."""

from __future__ import annotations

import threading
from types import SimpleNamespace

from covey.runner.context import TaskInterrupted
from covey.runner.interrupt import raise_in_thread
from covey.runner.loop import SlotLoop


def test_an_interrupt_that_comes_with_the_gate_leaves_it_open():
    """Whoever interrupts holds the gate; the task waits for it in just that moment."""
    loop = SimpleNamespace(busy=False, shielded=False, gate=threading.RLock())
    ended = []

    def shields():
        try:
            SlotLoop.shield(loop)
        except TaskInterrupted:
            ended.append("interrupted")

    thread = threading.Thread(target=shields, daemon=True)
    with loop.gate:
        thread.start()
        while not loop.busy:
            pass
        raise_in_thread(thread.ident)
    thread.join(timeout=30)
    assert ended == ["interrupted"]
    assert not (loop.busy or loop.shielded)
    assert loop.gate.acquire(blocking=False)
