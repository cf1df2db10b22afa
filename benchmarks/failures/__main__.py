"""Run the rows of the matrix, one after the other, and count what survived.

``python -m benchmarks.failures`` runs all rows against covey, and with
``--peers dask --peers-python .venv-peers/bin/python`` against ``dask.distributed`` as
well; two rows are about journals, which it does not have.  A row runs in a process of its own, which
is given up when it hangs.  It counts the tasks whose result was right, wrong, lost (an
error that nobody caused) or still pending at the end, and the executions beyond one
for each task.  Numbers of rows are those of ``docs/failures.md``.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

# Every room enters its rows when it is imported.
from benchmarks.failures import (  # noqa: F401
    clients,
    clocks,
    links,
    nemesis,
    networks,
    schedulers,
    tasks,
    versions,
    workers,
)
from benchmarks.failures.matrix import ROWS, ROWS_OF_THE_MATRIX
from benchmarks.hosts import Impossible
from benchmarks.site import Score, Site

LIMIT_SECONDS: Final = 240.0


def _run_row(number: str, contender: str, full: bool) -> None:
    """Run one row here; print what came of it as JSON."""
    site = Site(contender, full)
    score = Score()
    told: dict[str, Any]
    try:
        ROWS[number].do(site, score)
        told = {**score.counts, "seconds": score.seconds, "passed": score.passed}
        told.update({"note": score.note} if score.note else {})
    except Impossible as error:
        told = {"passed": False, "note": f"not possible here: {error}"}
    finally:
        site.close()
    print("\n" + json.dumps(told), flush=True)
    # A client of a cluster that is no more has nothing to say goodbye to.
    os._exit(0)


def _in_process(number: str, contender: str, python: str, full: bool) -> dict[str, Any]:
    command = [python, "-m", "benchmarks.failures", "--row", number]
    command += ["--contender", contender, *(["--full"] if full else [])]
    limit = LIMIT_SECONDS * (5 if full else 1)
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=limit)
        told: dict[str, Any] = json.loads(out.strip().rpartition("\n")[2])
        return told
    except subprocess.TimeoutExpired:
        # With all that it has started.
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return {"passed": False, "note": f"hung for {limit:g} s"}
    except ValueError:
        last = err.strip().rpartition("\n")[2]
        return {"passed": False, "note": last[:100]}


def _line(number: str, contender: str, told: dict[str, Any]) -> str:
    counts = "".join(
        f"{told.get(name, '-'):>7}"
        for name in ("right", "wrong", "lost", "hung", "recomputed")
    )
    verdict = "ok" if told["passed"] else "FAILED"
    seconds = f"{told['seconds']:8.1f}" if "seconds" in told else "       -"
    note = f"  {told['note']}" if "note" in told else ""
    return f"{number:4} {contender:6}{counts}{seconds}  {verdict:7}{note}"


def main() -> None:
    """Run the rows that are asked for, one after the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("rows", nargs="*", help="R1 R3 ...; default: all")
    parser.add_argument("--full", action="store_true", help="sizes worth quoting")
    parser.add_argument("--peers", default="", help="dask, to run it as well")
    parser.add_argument("--peers-python", default=sys.executable)
    parser.add_argument("--rounds", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--contender", default="covey", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        _run_row(arguments.row, arguments.contender, arguments.full)
        return
    unknown = [number for number in arguments.rows if number not in ROWS]
    if unknown:
        parser.error(f"no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    found: dict[str, dict[str, Any]] = {}
    without: collections.Counter[str] = collections.Counter()
    print(
        "Tasks by what came of them; again: executions beyond one for each; seconds: how "
        "long the results were waited for at the end."
    )
    print(f"{'row':4} {'who':6}  right  wrong   lost   hung  again seconds")
    for number in arguments.rows or ROWS:
        title, _, only_here = ROWS[number]
        print(f"# {number}: {title}", flush=True)
        for contender in ("covey", *filter(None, arguments.peers.split(","))):
            if contender != "covey" and only_here:
                without[contender] += 1
                print(f"{number:4} {contender:6} cannot be asked: {only_here}")
                continue
            python = sys.executable if contender == "covey" else arguments.peers_python
            told = _in_process(number, contender, python, arguments.full)
            found[f"{number} {contender}"] = told
            print(_line(number, contender, told), flush=True)
    for contender in ("covey", *filter(None, arguments.peers.split(","))):
        mine = [v for k, v in found.items() if k.endswith(contender)]
        passed = sum(told["passed"] for told in mine)
        lacks = without[contender]
        rest = f"; {lacks} have no counterpart there" if lacks else ""
        rows = len(mine) if arguments.rows else ROWS_OF_THE_MATRIX
        print(f"{contender}: {passed} of {rows} survived{rest}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
