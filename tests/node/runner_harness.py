"""A tiny agent: starts a runner, or serves a slot in a thread, and talks to it."""

from __future__ import annotations

import json
import mmap
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from array import array
from pathlib import Path

from covey.payload import Pack
from covey.runner.control import serve_control
from covey.runner.process import RunnerProcess
from covey.runner.serving import serve_slot
from covey.serde import failures
from covey.serde.call import Call
from covey.serde.functions import dumps_function
from covey.serde.mapped import read_value
from covey.serde.packing import Packer, loads_pack

HEAD = struct.Struct("<IQ")
SOURCE = Path(__file__).resolve().parents[2] / "src"
TIMEOUT_SECONDS = 30


class Wire:
    """The agent's end of one socket."""

    def __init__(self, sock):
        self.sock = sock
        self.sock.settimeout(TIMEOUT_SECONDS)
        self.waiting = []

    def send(self, operations, body=b""):
        header = json.dumps(operations).encode()
        self.sock.sendall(HEAD.pack(len(header), len(body)) + header + body)

    def _exactly(self, size):
        data = b""
        while len(data) < size:
            part = self.sock.recv(size - len(data))
            if not part:
                raise EOFError
            data += part
        return data

    def receive(self):
        header_size, body_size = HEAD.unpack(self._exactly(HEAD.size))
        return json.loads(self._exactly(header_size)), self._exactly(body_size)

    def next(self):
        """Return the next operation and the bytes that belong to it."""
        while not self.waiting:
            operations, body = self.receive()
            for operation in operations:
                size = {
                    "ran": lambda op: 4 * op[3] + op[5],
                    "rans": lambda op: 4 * len(op[1]) + op[4],
                    "failed": lambda op: op[6],
                }.get(operation[0], lambda op: 0)(operation)
                self.waiting.append((operation, body[:size]))
                body = body[size:]
            assert not body
        return self.waiting.pop(0)

    def expect(self, name):
        operation, body = self.next()
        assert operation[0] == name, operation
        return operation, body

    def outcomes(self, count):
        """Return {task id: value or exception} for *count* tasks."""
        found = {}
        while len(found) < count:
            operation, body = self.next()
            match operation:
                case ["ran", _, base, n, seconds, _]:
                    assert seconds >= 0
                    pack = Pack.from_wire(body[: 4 * n], body[4 * n :])
                    found |= zip(range(base, base + n), loads_pack(pack), strict=True)
                case ["rans", _, tasks, seconds, _]:
                    assert min(seconds) >= 0
                    pack = Pack.from_wire(
                        body[: 4 * len(tasks)], body[4 * len(tasks) :]
                    )
                    found |= zip(tasks, loads_pack(pack), strict=True)
                case ["failed", _, task_id, seconds, *_]:
                    assert seconds >= 0
                    found[task_id] = failures.revive(body)
                case ["big", _, task_id, _, path, size, handle]:
                    found[task_id] = read_value(path, size)
                    self.send([["took", [handle]]])
        return found


def _packed(value):
    packer = Packer(1 << 30)
    assert packer.add(value) is None
    return packer.take_single()


class Agent:
    """One runner: a process, or threads of this one."""

    def __init__(self, slots=1, process=True, **setup):
        pairs = [socket.socketpair() for _ in range(slots + 1)]
        self.control = Wire(pairs[0][0])
        self.slots = [Wire(ours) for ours, _ in pairs[1:]]
        self.process = None
        self.function_ids = {}
        theirs = [pair[1] for pair in pairs]
        (self._start_process if process else self._start_threads)(theirs)
        self.control.send([["setup", {"worker": "alice", "threads": slots, **setup}]])
        operation, _ = self.control.expect("ready")
        self.introduction = operation[1]

    def _start_process(self, theirs):
        with tempfile.TemporaryFile() as file:
            file.truncate(16 * len(self.slots))
            self.marks = mmap.mmap(file.fileno(), 16 * len(self.slots))
            fds = [sock.fileno() for sock in theirs]
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "covey.runner",
                    "--control",
                    str(fds[0]),
                    "--marks",
                    str(file.fileno()),
                    "--slots",
                    ",".join(map(str, fds[1:])),
                ],
                pass_fds=[*fds, file.fileno()],
                env={**os.environ, "PYTHONPATH": str(SOURCE)},
                stderr=subprocess.PIPE,
            )
        for sock in theirs:
            sock.close()

    def _start_threads(self, theirs):
        self.marks = bytearray(16 * len(self.slots))
        marks = memoryview(self.marks).cast("Q")
        self.shared = RunnerProcess(own_process=False)
        self.threads = [
            threading.Thread(target=serve_control, args=(theirs[0], self.shared))
        ]
        for index, sock in enumerate(theirs[1:]):
            part = marks[2 * index : 2 * index + 2]
            self.threads.append(
                threading.Thread(
                    target=serve_slot, args=(sock, part, self.shared, index)
                )
            )
        self.theirs = theirs
        for thread in self.threads:
            thread.start()

    def mark(self, index=0):
        return struct.unpack_from("QQ", self.marks, 16 * index)

    def run(
        self,
        function,
        calls,
        *,
        slot=0,
        run=1,
        base=100,
        inputs=(),
        extra=b"",
        own=(),
        flags=0,
    ):
        """Send a function (once) and one run of it."""
        inputs = [*inputs, *(["own", task, task] for task in own)]
        operations, body = [], b""
        data = dumps_function(function)
        if data not in self.function_ids:
            self.function_ids[data] = len(self.function_ids) + 1
            operations.append(["fn", self.function_ids[data], len(data)])
            body += data
        packer = Packer(1 << 30)
        for call in calls:
            assert packer.add(call) is None
        pack = packer.take()
        operations.append(
            [
                "run",
                run,
                self.function_ids[data],
                base,
                len(pack),
                len(pack.data),
                inputs,
                flags,
            ]
        )
        body += pack.sizes_bytes() + pack.data + extra
        self.slots[slot].send(operations, body)

    def run_nodes(self, *nodes):
        """Send single tasks together: (run, task, function, arguments, options)."""
        operations, body = [], b""
        columns, after = [[], [], [], [], [], []], b""
        for run, task, function, call, *options in nodes:
            keep, own, along = 0, [], {}
            for chosen in options:
                keep, own = int(chosen.get("keep", 0)), chosen.get("own", [])
                along = chosen.get("in", {})
            data = dumps_function(function)
            if data not in self.function_ids:
                self.function_ids[data] = len(self.function_ids) + 1
                operations.append(["fn", self.function_ids[data], len(data)])
                body += data
            inputs = [k if type(k) is int else ["own", *k] for k in own]
            values = b""
            for known, value in along.items():
                payload = _packed(value)
                inputs.append(["in", known, len(payload)])
                values += payload
            payload = call if isinstance(call, bytes) else _packed(call)
            row = (run, self.function_ids[data], task, keep, len(payload), inputs)
            for column, value in zip(columns, row, strict=True):
                column.append(value)
            after += payload + values
        self.slots[0].send([*operations, ["nodes", *columns]], body + after)

    def close(self):
        for wire in (*self.slots, self.control):
            wire.sock.close()
        if self.process is not None:
            try:
                self.process.wait(TIMEOUT_SECONDS)
            finally:
                self.process.kill()
                self.process.stderr.close()
        else:
            for thread in self.threads:
                thread.join(TIMEOUT_SECONDS)
                assert not thread.is_alive()
            for sock in self.theirs:
                sock.close()


__all__ = ["Agent", "Call", "Pack", "Wire", "array"]
