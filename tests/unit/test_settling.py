"""The gate, where interrupts and what must not be interrupted meet."""

from __future__ import annotations

import sys
import threading
from types import SimpleNamespace

from covey.runner.context import TaskInterrupted
from covey.runner.interrupt import raise_in_thread
from covey.runner.settling import Passing, bytecode


def test_an_interrupt_that_comes_with_the_gate_leaves_it_open():
    """Whoever interrupts holds the gate; the task waits for it in just that moment."""
    loop = SimpleNamespace(busy=False, gate=threading.RLock())
    ended = []

    def passes():
        try:
            with Passing(loop):
                bytecode()
        except TaskInterrupted:
            ended.append("interrupted")

    thread = threading.Thread(target=passes, daemon=True)
    with loop.gate:
        thread.start()
        while not _enters(thread):
            pass
        raise_in_thread(thread.ident)
    thread.join(timeout=30)
    assert ended == ["interrupted"]
    assert not loop.busy
    assert loop.gate.acquire(blocking=False)


def _enters(thread):
    frame = sys._current_frames().get(thread.ident)
    return (
        frame is not None
        and frame.f_code is Passing.__enter__.__code__
        and frame.f_lasti
    )
