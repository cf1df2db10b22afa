"""The Mandelbrot set of the first seed, by workers of other Pythons than its author's.

Best run with 3.13, which sends the function below as source to runners of 3.11 and
3.12; with any other Python from 3.11 on, the others of the three do the work::

    python3.13 examples/any_python.py

Nothing has to be installed for those Pythons.  Where none of them is on this machine, the
program says so and does nothing.
"""

import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from covey import Client
from covey.worker.interpreters import candidates

OURS = f"{sys.version_info[0]}.{sys.version_info[1]}"
WIDTH, HEIGHT = 80, 32
MAX_ITER = 180


def get_mandelbrot_pts(x_y):
    """The seed's own function, and which Python ran it."""
    x0, y0 = x_y
    x = y = 0.0
    iteration = 0
    while x * x + y * y < 4 and iteration < MAX_ITER:
        x, y = x * x - y * y + x0, 2 * x * y + y0
        iteration += 1
    return iteration, sys.version_info[:2]


def inputs(w, h):
    minx, maxx, miny, maxy = -2.0, 0.6, -1.2, 1.2
    return [
        (minx + (maxx - minx) * x / w, miny + (maxy - miny) * y / h)
        for y in range(h)
        for x in range(w)
    ]


def find_pythons():
    """Return a program for each of the other Pythons that this machine has."""
    found = {}
    for minor in ("3.11", "3.12", "3.13"):
        for program in candidates(minor) if minor != OURS else ():
            works = subprocess.run([program, "-c", ""], capture_output=True)
            if works.returncode == 0:
                found[minor] = program
                break
    return found


def main():
    pythons = find_pythons()
    if not pythons:
        print(f"skipped: this machine has no Python 3.11, 3.12 or 3.13 but {OURS}")
        return
    with tempfile.TemporaryDirectory() as folder:
        file = str(Path(folder) / "cluster.json")
        covey = [sys.executable, "-m", "covey"]
        scheduler = subprocess.Popen(
            [*covey, "scheduler", "--port", "0", "--connection-file", file],
            stdout=subprocess.PIPE,
        )
        processes = [scheduler]
        try:
            scheduler.stdout.readline()  # It is ready, and the file is there.
            for minor, program in pythons.items():
                worker = [
                    *covey,
                    "worker",
                    "--connection-file",
                    file,
                    "--nworkers",
                    "1",
                ]
                worker += ["--name", f"python{minor}", "--python", program]
                processes.append(subprocess.Popen(worker))
            with Client(file) as client:
                client.wait_for_workers(len(pythons), timeout=60)
                points = inputs(WIDTH, HEIGHT)
                futures = client.map(get_mandelbrot_pts, points)
                results = client.gather(futures)
        finally:
            for process in reversed(processes):
                process.terminate()
                process.communicate(timeout=60)
    shades = " .:-=+*#%@"
    for row in range(HEIGHT):
        line = results[row * WIDTH : (row + 1) * WIDTH]
        print("".join(shades[min(9, n * 10 // MAX_ITER)] for n, _ in line))
    assert [n for n, _ in results] == [get_mandelbrot_pts(p)[0] for p in points]
    by_python = Counter(".".join(map(str, python)) for _, python in results)
    for minor, count in sorted(by_python.items()):
        print(f"Python {minor} computed {count} of {len(points)} points")
    assert OURS not in by_python


if __name__ == "__main__":
    main()
