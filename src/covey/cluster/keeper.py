"""The parent's side of an embedded cluster: starts its process, and starts it again.

The process holds scheduler and workers.  When it is killed, its runners go with it,
and so do the values that rested there; what survives is the client, which knows
what it wants and how that is made.  So a new process, at the same place and with
the same secret, is the next life of the scheduler: its clients come back by
themselves and tell it all.

A process that ends by itself is not started again: it was told to end, or found a
bug of ours, and says so to its clients, and here, for those that it did not reach.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from covey import clock, config
from covey.client import ahead
from covey.errors import StartFailed
from covey.interop import dask_settings
from covey.net.addresses import parse_address

_START_SECONDS: Final = 60.0

#: A process that is killed so often in so short a time is not started again.
DEATHS_MAX: Final = 5
DEATHS_SECONDS: Final = 60.0


class Keeper:
    """Keeps the process of an embedded cluster alive.

    Args:
        plan: what an ``EmbeddedCluster`` has to know.
    """

    def __init__(self, plan: dict[str, Any]) -> None:
        self._plan = plan
        _keepers.add(self)
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: _Answers | None = None
        #: Held while the process is started or stopped.
        self._lock = threading.Lock()
        self._stopped = False
        self._deaths: list[float] = []
        self._failure = ""
        self._over = False
        self._when_over: Callable[[], None] = lambda: None
        #: Called with why the process went, once the next one is there.
        self.when_started_again: Callable[[str], None] = lambda _: None
        #: Whether it is over because somebody said so.
        self.ended_in_order = False

    def start(self) -> dict[str, Any]:
        """Start the process; return where it listens.

        Raises:
            StartFailed: it did not come up.
        """
        with self._lock:
            facts = self._start()
        # The next life shall be found where this one was.
        if facts["tcp"]:
            self._plan["port"] = parse_address(facts["tcp"]).port
        threading.Thread(
            target=self._watch, name="covey-cluster-keeper", daemon=True
        ).start()
        return facts

    def when_over(self, call: Callable[[], None]) -> None:
        """Call *call*, in some thread, once the process is gone for good."""
        with self._lock:
            self._when_over = call
            over = self._over
        if over:
            call()

    def check(self) -> None:
        """Raise if the process is not there and will not be.

        Raises:
            StartFailed: it died too often, or could not be started again.
        """
        if self._failure:
            raise StartFailed(self._failure)

    def let_go(self) -> None:
        """In a fork: hold the lifeline no more, which is the parent's alone."""
        if self._process is not None:
            _close_lifeline(self._process)

    def stop(self) -> None:
        """End the process.  Idempotent."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                _stop(self._process)

    def _watch(self) -> None:
        """Keep the process alive, and tell when it is not any more."""
        self._keep()
        with self._lock:
            self._over = True
            call = self._when_over
        call()

    def _keep(self) -> None:
        """Wait for the process to die, and start another one."""
        while True:
            process = self._process
            assert process is not None and self._answers is not None
            answers = self._answers
            code = process.wait()
            reason = answers.last_word()
            answers.close()
            with self._lock:
                if self._stopped:
                    return
                if code == 0:
                    self.ended_in_order = not reason
                    self._failure = reason or "the cluster was told to end"
                    return
                if code > 0:
                    self._failure = f"the cluster's process has ended with code {code}"
                    return
                if self._dies_too_often(-code):
                    return
                _close_lifeline(process)
                self._plan["epoch"] += 1
                try:
                    self._start()
                except StartFailed as error:
                    self._failure = f"the cluster could not be started again: {error}"
                    return
            self.when_started_again(
                f"the cluster's process {process.pid} was killed (signal {-code})"
            )

    def _dies_too_often(self, signal_number: int) -> bool:
        now = clock.monotonic()
        self._deaths = [t for t in self._deaths if now - t < DEATHS_SECONDS]
        self._deaths.append(now)
        if len(self._deaths) <= DEATHS_MAX:
            return False
        self._failure = (
            f"the cluster's process was killed {len(self._deaths)} times within "
            f"{DEATHS_SECONDS:g} s (the last time by signal {signal_number}). Is "
            f"memory short on this machine?"
        )
        return True

    def _start(self) -> dict[str, Any]:
        reader, writer = os.pipe()
        environment = {**os.environ, **dask_settings.inherited()}
        package = str(Path(__file__).parent.parent.parent)
        paths = [package, environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "covey.cluster.embedded", str(writer)],
                stdin=subprocess.PIPE,
                pass_fds=[writer],
                env=environment,
            )
        finally:
            os.close(writer)
        self._process = process
        lifeline = process.stdin
        assert lifeline is not None
        answers = self._answers = _Answers(reader)
        try:
            lifeline.write(json.dumps(self._plan).encode() + b"\n")
            lifeline.flush()
            ahead.prepare()
            facts = answers.next(process)
            answers.next(process)
        except BaseException as error:
            _stop(process)
            answers.close()
            if not isinstance(error, OSError):
                raise
            raise StartFailed(f"the cluster's process went at once: {error}") from error
        return facts


_keepers: Final[weakref.WeakSet[Keeper]] = weakref.WeakSet()


def _let_go_after_fork() -> None:
    """The cluster ends with the process that started it, whatever it has forked."""
    for keeper in list(_keepers):
        keeper.let_go()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_after_fork)


def _close_lifeline(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    try:
        process.stdin.close()
    except OSError:
        pass  # The process has ended before us.


def _stop(process: subprocess.Popen[bytes]) -> None:
    _close_lifeline(process)
    try:
        process.wait(config.get().client.close_timeout_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class _Answers:
    """Reads the JSON lines that the process writes as it starts, and at its end."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._buffer = b""
        self._deadline = clock.monotonic() + _START_SECONDS

    def next(self, process: subprocess.Popen[bytes]) -> dict[str, Any]:
        """Return the next line.

        Raises:
            StartFailed: the process ended, said why it cannot, or took too long.
        """
        while b"\n" not in self._buffer:
            left = self._deadline - clock.monotonic()
            ready, _, _ = select.select([self._fd], [], [], max(0.0, left))
            if not ready:
                raise StartFailed(
                    f"the cluster's process (pid {process.pid}) has not come up within "
                    f"{_START_SECONDS:g} s"
                )
            piece = os.read(self._fd, 4096)
            if not piece:
                code = process.wait()
                raise StartFailed(
                    f"the cluster's process ended with code {code} before it was "
                    f"ready; what it wrote to stderr tells why"
                )
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        fields: dict[str, Any] = json.loads(line)
        if "error" in fields:
            raise StartFailed(fields["error"])
        return fields

    def last_word(self) -> str:
        """Return why the process, which has ended, did so; nothing if it was told to."""
        # Whatever was started there may hold the other end.
        os.set_blocking(self._fd, False)
        try:
            line = self._buffer + os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return ""
        return str(json.loads(line)["over"]) if line.endswith(b"\n") else ""

    def close(self) -> None:
        """Read no more."""
        os.close(self._fd)
