"""The life of the process behind a ``LocalCluster``; ``embedded`` is its door."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import signal
from typing import Any

from covey.cluster.joined import EmbeddedCluster
from covey.errors import CoveyError
from covey.net.loop import close_event_loop, new_event_loop
from covey.worker.launching import Launched
from covey.worker.processes import RunnerProcess


def serve(plan: dict[str, Any], answers: int, launched: list[Launched]) -> None:
    """Serve until the parent goes, or the cluster is told to end.

    Args:
        plan: what an ``EmbeddedCluster`` has to know.
        answers: the descriptor on which the parent is told.
        launched: processes of runners that have been started.
    """
    loop = new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(_serve(plan, answers, launched))
    close_event_loop(loop)


async def _serve(plan: dict[str, Any], answers: int, launched: list[Launched]) -> None:
    loop = asyncio.get_running_loop()

    def make_runner(*args: Any, **keywords: Any) -> RunnerProcess:
        """Make one of a process that is there, while there is any."""
        there = launched.pop() if launched else None
        return RunnerProcess(*args, launched=there, **keywords)

    cluster = EmbeddedCluster(plan, make_runner)
    loop.add_signal_handler(signal.SIGTERM, cluster.end)
    # Ctrl-C reaches the whole process group; the parent decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    await loop.connect_read_pipe(
        lambda: _Lifeline(cluster.end), os.fdopen(0, "rb", closefd=False)
    )
    try:
        facts = await cluster.start()
        _answer(answers, facts)
        await cluster.first_runner()
        _answer(answers, {"ready": True})
        # What was made so far lives as long as the process does.  The little of it
        # that does not is kept, too: to find it would keep the first task waiting.
        gc.freeze()
        gc.enable()
        reason = await cluster.ended
        if reason:
            _answer(answers, {"over": reason})
    except CoveyError as error:
        _answer(answers, {"error": str(error)})
    finally:
        await cluster.close()
        import shutil  # Nobody waits for it when the cluster starts.

        shutil.rmtree(plan["directory"], ignore_errors=True)


class _Lifeline(asyncio.Protocol):
    """Notices that the parent has gone."""

    def __init__(self, on_end: Any) -> None:
        self._on_end = on_end

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._on_end()


def _answer(fd: int, fields: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(fd, json.dumps(fields).encode() + b"\n")
