"""All rooms, one after the other: ``python -m benchmarks [--full] [--json folder]``.

Every room can be run by itself, as ``python -m benchmarks.throughput --help`` tells.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

ROOMS = (
    "throughput",
    "latency",
    "microbenchmark",
    "lag",
    "startup",
    "data",
    "values",
    "seeds",
    "collections",
    "scheduler",
    "metg",
    # The longest comes last.
    "makespans",
)


def main() -> None:
    """Run every room with the same options."""
    parser = argparse.ArgumentParser(
        prog="benchmarks", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--full", action="store_true", help="sizes worth quoting")
    parser.add_argument("--peers", default="", help="who runs as well: dask,ray,...")
    parser.add_argument("--peers-python", default=sys.executable)
    parser.add_argument("--rounds", default="3", help="how often (3)")
    parser.add_argument("--json", type=Path, help="a folder for the figures")
    parser.add_argument("rooms", nargs="*", default=ROOMS, metavar="room")
    arguments = parser.parse_args()
    failed = 0
    for room in arguments.rooms:
        print(f"\n## {room}\n", flush=True)
        command = [sys.executable, "-m", f"benchmarks.{room}"]
        command += ["--rounds", arguments.rounds, "--peers", arguments.peers]
        command += ["--peers-python", arguments.peers_python]
        command += ["--full"] if arguments.full else []
        if arguments.json is not None:
            arguments.json.mkdir(parents=True, exist_ok=True)
            command += ["--json", str(arguments.json / f"{room}.json")]
        # The others are worth to be had if one fails.
        failed += subprocess.run(command, check=False).returncode != 0
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
