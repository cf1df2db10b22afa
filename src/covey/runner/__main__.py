"""Start a runner: ``python -m covey.runner --control FD --marks FD --slots FD,FD``.

The worker's agent does that.  The file descriptors are inherited.  The main
thread serves slot 0, so that tasks find themselves where their authors tried
them; the other slots get a thread each.
"""

from __future__ import annotations

import faulthandler
import mmap
import signal
import socket
import sys
import threading

from covey.runner import interrupt, prints
from covey.runner.control import serve_control
from covey.runner.process import RunnerProcess
from covey.runner.serving import serve_slot


def _arguments(argv: list[str]) -> tuple[int, int, list[int]]:
    """Read the command line.  argparse would take a tenth of the start-up time."""
    named = dict(zip(argv[::2], argv[1::2], strict=False))
    try:
        control = int(named["--control"])
        marks = int(named["--marks"])
        slots = [int(part) for part in named["--slots"].split(",")]
    except (KeyError, ValueError):
        sys.exit(
            "usage: python -m covey.runner --control FD --marks FD --slots FD[,FD...]\n"
            "The agent of a worker runs this; to start a worker, say `covey worker`."
        )
    return control, marks, slots


def run(argv: list[str]) -> None:
    """Serve the sockets named in *argv* until the agent says stop, or is gone."""
    control, marks_fd, slot_fds = _arguments(argv)
    if sys.stderr is not None:
        faulthandler.enable()
    # Ctrl-C in a terminal reaches every process; what it means, the agent says.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    interrupt.install()

    prints.install()

    process = RunnerProcess(own_process=True)
    marks = memoryview(mmap.mmap(marks_fd, 16 * len(slot_fds))).cast("Q")
    sockets = [socket.socket(fileno=fd) for fd in slot_fds]
    threading.Thread(
        target=serve_control,
        args=(socket.socket(fileno=control), process),
        name="control",
        daemon=True,
    ).start()
    for index, sock in enumerate(sockets[1:], 1):
        threading.Thread(
            target=serve_slot,
            args=(sock, marks[2 * index : 2 * index + 2], process, index),
            name=f"slot-{index}",
            daemon=True,
        ).start()
    process.configured.wait()
    # The agent knows by now that we are ready.  The first function will want this,
    # and loading it takes longer than many a task.
    import cloudpickle  # noqa: F401

    serve_slot(sockets[0], marks[0:2], process, 0)

    # Here because of a stop, or because a task gave slot 0 away and has ended.
    for slot in list(process.slots.values()):
        slot.stopped.wait()
    process.close()


if __name__ == "__main__":
    run(sys.argv[1:])
