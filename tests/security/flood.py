"""Ten thousand connections that prove nothing, against one scheduler.

    python tests/security/flood.py [COUNT] [--tls]        (make flood)

They come in bursts: some say nothing, some a byte, some nonsense, some begin a TLS
handshake, some a handshake of ours.  Told is by how much the scheduler's process has
grown, and how long a client takes to join meanwhile.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import psutil

from covey import Client
from covey.net.connection_file import read_connection_file
from covey.secret import Secret
from covey.wire.handshake import CallerHandshake
from covey.wire.keys import Keys, Role

BURST = 500


def openings():
    """Return what strangers begin with."""
    guess = CallerHandshake(Role.WORKER, Keys.of_client(Secret.fresh()), "1")
    return [
        b"",
        b"\x00",
        os.urandom(200),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(32),
        guess.start(),
        guess.start() + bytes(32),
    ]


def burst(address, count, begin):
    """Open connections, say something on each, and leave them open."""
    found = []
    for number in range(count):
        sock = socket.socket()
        # Many machines, as far as one can be many.
        sock.bind((f"127.0.2.{1 + number % 50}", 0))
        sock.settimeout(5)
        try:
            sock.connect(address)
            sock.sendall(begin[number % len(begin)])
        except OSError:
            sock.close()  # It was cut off already, as it should be.
            continue
        found.append(sock)
    return found


def flood(count, *, tls=False):
    """Flood a scheduler of our own.

    Returns:
        By how many bytes it has grown, how long each good client took to join (in
        seconds), and how many strangers it says that it has turned away.
    """
    host = "0.0.0.0" if tls else "127.0.0.1"
    with tempfile.TemporaryDirectory(prefix="cf-") as folder:
        path = Path(folder) / "c.json"
        command = [sys.executable, "-m", "covey", "scheduler", "--host", host]
        scheduler = subprocess.Popen(
            [*command, "--port", "0", "--connection-file", str(path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            scheduler.stdout.readline()
            address = read_connection_file(path).address
            place = ("127.0.0.1", address.port)
            here = f"127.0.0.1:{address.port}"
            process = psutil.Process(scheduler.pid)
            with Client(here, set_as_default=False) as watcher:
                for sock in burst(place, 100, openings()):
                    sock.close()
                before = process.memory_info().rss
                most = before
                seconds = []
                for _ in range(count // BURST):
                    crowd = burst(place, BURST, openings())
                    start = time.perf_counter()
                    Client(here, set_as_default=False).close()
                    seconds.append(time.perf_counter() - start)
                    most = max(most, process.memory_info().rss)
                    for sock in crowd:
                        sock.close()
                counters = watcher.scheduler_info()["counters"]
            return SimpleNamespace(
                grown_bytes=most - before,
                seconds=seconds,
                turned_away=counters["strangers_turned_away"],
                protocol_errors=counters["protocol_errors"],
            )
        finally:
            scheduler.terminate()
            scheduler.communicate(timeout=30)


def main():
    """Flood one scheduler in clear and one with TLS, and say how it went."""
    count = int(next((a for a in sys.argv[1:] if a.isdigit()), "10000"))
    for tls in (False, True):
        found = flood(count, tls=tls)
        joins = sorted(found.seconds)
        print(
            f"{'TLS' if tls else 'in clear':9} {found.turned_away:,} turned away; "
            f"{found.grown_bytes / (1 << 20):+.1f} MiB; a client joins in "
            f"{joins[len(joins) // 2]:.2f} s (median), {joins[-1]:.2f} s (at most)"
        )
        assert found.grown_bytes < 20 << 20, "strangers cost too much"


if __name__ == "__main__":
    main()
