"""What a runner writes is what user code may write: its worker does not mind."""

from __future__ import annotations

import os
import socket
import struct

import pytest

from covey import Client
from covey.errors import RunnerDied

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def client():
    with Client(n_workers=1, threads_per_worker=1) as client:
        yield client


def write_into_all_sockets(data):
    """Write where the worker reads what the runner says, and go on for ever."""
    for fd in range(3, 64):
        try:
            with socket.socket(fileno=os.dup(fd)) as sock:
                sock.send(data)
        except OSError:
            continue
    while True:
        pass


def plus(x):
    return x + 1


def frame(header):
    return struct.pack("<IQ", len(header), 0) + header


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\xff" * 12, "a frame of 4,294,967,295"),
        (frame(b'[["\xff"]]'), "nothing that a runner says"),
        (frame(b'[["ran", 1, 1, 1, 0.1, 0]]'), "shorter"),
    ],
)
def test_a_runner_that_speaks_nonsense_is_replaced_and_nobody_else(client, data, told):
    """Nor does its process have to end by itself: it is ended."""
    (pid,) = client.run(os.getppid).values()
    mad = client.submit(write_into_all_sockets, data)
    after = client.submit(plus, 1)
    error = mad.exception(60)
    assert isinstance(error, RunnerDied)
    assert told in str(error)
    assert after.result(60) == 2
    assert [*client.run(os.getppid).values()] == [pid]
