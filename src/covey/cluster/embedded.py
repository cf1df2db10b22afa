"""The process behind a ``LocalCluster``: scheduler and workers in one loop.

Started by exec, told everything on its standard input, which then stays open as
a lifeline: when the parent goes, in whatever way, the input ends and so does the
cluster.  Answers on a pipe, one JSON line at a time: where it listens, then that
the first runner is ready, or why none will be; and in the end why it ends, unless it was
told to.

Somebody waits for it to come up.  So the runners, which take about as long to start
as all that follows takes to import, are started first: as many as there are cores
that are not needed for that.  The cluster is ready with the first of them.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from typing import Any

from covey.cluster.machine import cores
from covey.store import descriptors
from covey.worker import launching


def main() -> None:
    """Read the plan from standard input and serve until it ends."""
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(0, 1 << 16)
        if not piece:
            return
        line += piece
    plan = json.loads(line)
    descriptors.raise_limit()
    at_once = min(sum(plan["machines"]), max(1, cores() - 1))
    launched = _launch(plan, at_once)
    # Until all is there, there is nothing to collect; then it is all kept.
    gc.disable()
    from covey.cluster.child import serve

    serve(plan, int(sys.argv[1]), launched)


def _launch(plan: dict[str, Any], runners: int) -> list[launching.Launched]:
    share = plan["memory_limit_bytes"] // sum(plan["machines"])
    setup = {"environ": launching.heap_variables(share)}
    environment = launching.environment(launching.package_path(), setup, own=True)
    launched = []
    for _ in range(runners):
        try:
            launched.append(
                launching.launch(sys.executable, plan["threads"], environment)
            )
        except OSError:
            break  # The worker will try again, and tell what is wrong.
    return launched


if __name__ == "__main__":
    main()
