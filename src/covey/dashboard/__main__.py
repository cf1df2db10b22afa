"""The process: ``python -m covey.dashboard SOCKET ANSWERS``, two inherited descriptors.

It is told where the cluster is, and its secret, on the standard input, which stays open as
a lifeline: when whoever started it goes, so does this.
"""

from __future__ import annotations

import json
import os
import socket
import sys

from covey.dashboard.feed import LiveFeed
from covey.dashboard.serving import serve
from covey.net.addresses import parse_address
from covey.net.join_string import Connection
from covey.secret import Secret
from covey.wire.keys import Keys


def main() -> None:
    """Read the plan, serve, and say on the descriptor in ``argv`` that it does."""
    line = sys.stdin.buffer.readline()
    if not line:
        return
    plan = json.loads(line)
    secret = Secret.of_digits(plan["token"])
    connection = Connection(parse_address(plan["address"]), Keys.of_client(secret))
    answers = int(sys.argv[2])

    def started() -> None:
        try:
            os.write(answers, b"{}\n")
        except BrokenPipeError:
            pass  # Whoever started us did not wait.
        os.close(answers)

    listening = socket.socket(fileno=int(sys.argv[1]))
    serve(
        LiveFeed(connection),
        secret,
        listening,
        started,
        lifeline=True,
        pages=plan["pages"],
    )


if __name__ == "__main__":
    main()
