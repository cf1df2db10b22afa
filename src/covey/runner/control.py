"""The control socket: what the agent asks of a busy runner.

A daemon thread serves it, so that an answer comes while tasks compute (as long
as they let go of the GIL now and then).  From agent to runner::

    ["setup", {...}]                 once, first
    ["login", {...}]                 the secrets of the cluster were exchanged
    ["retract", slot, count]         give back what has not begun; -1 means all
    ["cancel", slot, run, task_id]   interrupt that task if it is executing
    ["flush", slot]                  send outcomes that wait behind a long task
    ["dump"]                         what is every thread doing?
    ["profile", seconds]             look at what tasks do, for so long yet
    ["took", [handle, ...]]  ["forget", [[base, n], ...]]

and back::

    ["ready", {...}]
    ["returned", slot, run, base, n]   for each part; one with n = 0 if there is none
    ["stacks", text]
    ["profiled", [[function, names, nodes], ...]]   what was seen since the last time
"""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
import traceback
from typing import Any

from covey.errors import RemoteProtocolError
from covey.runner.frames import FrameSocket, Gone
from covey.runner.process import RunnerProcess
from covey.runner.profile import Profile


def serve_control(sock: socket.socket, process: RunnerProcess) -> None:
    """Serve the control socket in the calling thread until it is closed."""
    frames = FrameSocket(sock)
    profile = Profile(process)
    try:
        frames.send([["ready", _introduction()]])
        while True:
            for operation in frames.receive().operations:
                answers = _obey(operation, process, profile)
                if answers:
                    frames.send(answers)
    except Gone:
        process.gone()
    except BaseException:
        process.broken()
        frames.close()
        raise


def _obey(
    operation: list[Any], process: RunnerProcess, profile: Profile
) -> list[list[Any]]:
    """Do one operation and return the answers to it."""
    match operation:
        case ["setup", dict() as fields]:
            process.configure(fields)
        case ["login", dict() as fields]:
            process.setup.log_in(fields)
        case ["retract", int() as index, int() as count]:
            return _retract(process, index, count)
        case ["cancel", int() as index, int() as run, int() as task_id]:
            slot = process.slots.get(index)
            if slot is not None:
                slot.cancel(run, task_id)
        case ["flush", int() as index]:
            slot = process.slots.get(index)
            if slot is not None:
                slot.flush()
        case ["dump"]:
            return [["stacks", stacks()]]
        case ["profile", int() | float() as seconds]:
            return [["profiled", profile.go_on(seconds)]]
        case ["took", list() as handles]:
            process.took(handles)
        case ["forget", list() as ranges]:
            process.mapped.forget(ranges)
        case _:
            raise RemoteProtocolError(f"no such control operation: {operation!r}")
    return []


def _retract(process: RunnerProcess, index: int, count: int) -> list[list[Any]]:
    slot = process.slots.get(index)
    parts = slot.retract(count) if slot is not None else []
    if slot is not None:
        # What has ended and was not told of yet would be asked for over and over.
        slot.flush()
    if not parts:
        return [["returned", index, 0, 0, 0]]
    return [["returned", index, run, base, n] for run, base, n in parts]


def _introduction() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "python": ".".join(map(str, sys.version_info[:3])),
        "cloudpickle": _cloudpickle_version(),
    }


def _cloudpickle_version() -> str | None:
    """Return the version without importing the package: start-up time counts."""
    for folder in sys.path:
        path = os.path.join(folder, "cloudpickle", "__init__.py")  # noqa: PTH118  # pathlib takes 5 ms to import
        try:
            with open(path, encoding="utf-8") as file:  # noqa: PTH123  # the same
                found = re.search(r"__version__\s*=\s*[\"']([^\"']+)", file.read())
        except OSError:
            continue
        return found[1] if found else "unknown"
    return None


def stacks() -> str:
    """Return the stack of every thread, as text."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident, frame in sys._current_frames().items():  # noqa: SLF001  # the only way
        parts.append(f"Thread {names.get(ident, ident)}:\n")
        parts += traceback.format_stack(frame)
    return "".join(parts)
