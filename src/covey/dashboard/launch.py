"""Starting the dashboard's process, and making links to it.

The socket is bound here and handed over, so the address is known before the process is
there, and nobody has to wait for it: whoever connects meanwhile stands in line.
"""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from covey.dashboard.access import Gate, Right
from covey.dashboard.links import Link, address
from covey.errors import StartFailed, UsageError
from covey.net.addresses import is_loopback
from covey.net.join_string import Connection
from covey.secret import Secret

START_SECONDS: Final = 20.0
END_SECONDS: Final = 3.0

#: Where people look for it, since dask's is there.
PLACE: Final = ":8787"

#: When the wished-for port is taken, the next ones are tried, then any.
_PORTS_TRIED: Final = 10

#: What puts numbers into the form that Prometheus reads.
_NUMBERS: Final = "prometheus_client"

MISSING: Final = "the dashboard needs packages that are not installed: pip install 'covey[dashboard]'"


def bind(place: str, *, exact: bool = False) -> socket.socket:
    """Return a listening socket at ``HOST:PORT`` or ``:PORT``, or at another port if that is taken.

    Args:
        place: where.
        exact: there or nowhere.

    Raises:
        UsageError: the place makes no sense, is not loopback, or cannot be bound.
    """
    host, port = _parse(place)
    if not is_loopback(host):
        raise UsageError(
            f"the dashboard does not listen on {host}: what it sends is not encrypted. "
            f"Stay on 127.0.0.1 and let others in through ssh: "
            f"ssh -L {port}:127.0.0.1:{port} THIS-MACHINE"
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    problem: OSError | None = None
    others = [] if exact else [*range(port + 1, port + _PORTS_TRIED), 0]
    for choice in [port, *others] if port else [0]:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, choice))
            sock.listen(128)
        except OSError as error:
            sock.close()
            problem = error
            continue
        return sock
    where = f"{host}:{port}" if exact else host
    raise UsageError(f"the dashboard cannot listen on {where}: {problem}")


def _parse(place: str) -> tuple[str, int]:
    host, _, digits = place.rpartition(":")
    if not digits.isdigit() or int(digits) > 65535:
        raise UsageError(f"a dashboard's address is HOST:PORT or :PORT, not {place!r}")
    return host.strip("[]") or "127.0.0.1", int(digits)


def problem(*, pages: bool = True) -> str:
    """Return what is missing for a dashboard, or for numbers only; or nothing."""
    needed = ["starlette", "uvicorn", "websockets", *([] if pages else [_NUMBERS])]
    lacking = [name for name in needed if not find_spec(name)]
    return f"{MISSING} (missing: {', '.join(lacking)})" if lacking else ""


class Dashboard:
    """A dashboard's socket, and its process once it is started.

    Args:
        connection: the cluster that it shows.
        place: a loopback interface and port; another port if that is taken.
        pages: whether it has pages.  Without, it has numbers for Prometheus, and is at
            that port or nowhere, for whoever reads them was told where.

    Raises:
        UsageError: the place makes no sense, or cannot be bound.
        StartFailed: it cannot be started: something is missing.
    """

    def __init__(
        self, connection: Connection, place: str = PLACE, *, pages: bool = True
    ) -> None:
        secret = connection.keys.client
        missing = problem(pages=pages)
        if secret is None or missing:
            raise StartFailed(missing or "a worker's secret opens no dashboard")
        self._secret = secret
        self._address = str(connection.address)
        self._process: subprocess.Popen[bytes] | None = None
        self._answers = -1
        self._pages = pages
        self.socket = bind(place, exact=not pages)

    @property
    def place(self) -> str:
        """Where it listens, as ``HOST:PORT``."""
        host, port = self.socket.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def pid(self) -> int:
        """The process id; 0 before the start."""
        return self._process.pid if self._process is not None else 0

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process, and do not wait for it."""
        plan = {
            "address": self._address,
            "token": self._secret.reveal(),
            "pages": self._pages,
        }
        fd = self.socket.fileno()
        reader, writer = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "covey.dashboard", str(fd), str(writer)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=[fd, writer],
                env=_environment(),
            )
        finally:
            os.close(writer)
        if self._answers >= 0:
            os.close(self._answers)
        self._answers = reader
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(plan).encode() + b"\n")
        self._process.stdin.flush()

    def renew(self, connection: Connection) -> None:
        """Take over other secrets, and end the process that knows the old ones.

        Whoever knew those could have made himself a way in.  The next visitor starts
        another process.
        """
        assert connection.keys.client is not None
        self._secret = connection.keys.client
        self._address = str(connection.address)
        if self._process is not None:
            self._process.terminate()

    def wait(self) -> None:
        """Wait until the process serves.

        Raises:
            StartFailed: it does not, and says why.
        """
        ready, _, _ = select.select([self._answers], [], [], START_SECONDS)
        line = os.read(self._answers, 1 << 16) if ready else b""
        if not line:
            raise StartFailed(
                f"the dashboard's process (pid {self.pid}) has not come up within "
                f"{START_SECONDS:g} s"
            )
        facts = json.loads(line)
        if "error" in facts:
            raise StartFailed(facts["error"])

    def link(self, right: Right = "act") -> str:
        """Return a link, good for one visit."""
        return link(self._secret, self.place, right)

    def close(self) -> None:
        """End the process, and listen no more."""
        self.socket.close()
        if self._answers >= 0:
            os.close(self._answers)
            self._answers = -1
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        try:
            process.stdin.close()
        except OSError:
            pass  # It has ended before us.
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def link(secret: Secret, place: str, right: Right = "act") -> Link:
    """Return a link to the dashboard at *place* of the cluster that *secret* opens."""
    return Link(f"{address(place)}?code={Gate(secret).code(right)}")


def _environment() -> dict[str, str]:
    environment = dict(os.environ)
    package = str(Path(__file__).parent.parent.parent)
    paths = [package, environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return environment
