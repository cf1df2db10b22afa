"""The main job: the Mandelbrot set, one task for each pixel, checked and drawn.

``make demo`` runs this at 800 x 600: 480,000 points are scattered, each is a
task, and the results are gathered while a progress bar runs.  Then a plain
loop computes the same, every pixel is compared, and ``mandelbrot.png`` is written.

The picture needs nothing but the standard library: a PNG is a few chunks of
compressed bytes, and 181 colours fit into a palette.
"""

from __future__ import annotations

import argparse
import struct
import sys
import time
import zlib
from pathlib import Path

import covey

ITERATIONS = 180
WIDTH, HEIGHT = 800, 600
LEFT, RIGHT, TOP, BOTTOM = -0.8, -0.7, -0.2, -0.05
PICTURE = Path("mandelbrot.png")

#: A run that is over so soon says little about the next one.
SMALL_SECONDS = 3.0

#: The palette goes through these colours, from "left at once" to "never left".
COLOURS = [(0, 7, 60), (24, 94, 165), (120, 200, 215), (255, 245, 200), (255, 160, 20)]
NEVER = (10, 4, 12)


def escape_time(point: tuple[float, float]) -> int:
    """Return after how many steps *point* leaves the disk of radius 2."""
    x0, y0 = point
    x = y = 0.0
    step = 0
    while x * x + y * y < 4 and step < ITERATIONS:
        x, y = x * x - y * y + x0, 2 * x * y + y0
        step += 1
    return step


def points(width: int, height: int) -> list[tuple[float, float]]:
    """Return the points of the picture, row by row."""
    return [
        (LEFT + (RIGHT - LEFT) * x / width, TOP + (BOTTOM - TOP) * y / height)
        for y in range(height)
        for x in range(width)
    ]


def palette() -> bytes:
    """Return the colour of each number of steps, three bytes each."""
    colours = []
    for step in range(ITERATIONS):
        place = (step / ITERATIONS) ** 0.6 * (len(COLOURS) - 1)
        low = int(place)
        high = min(low + 1, len(COLOURS) - 1)
        for a, b in zip(COLOURS[low], COLOURS[high], strict=True):
            colours.append(round(a + (b - a) * (place - low)))
    return bytes(colours) + bytes(NEVER)


def png(steps: list[int], width: int, height: int) -> bytes:
    """Return the picture as a PNG file with a palette."""

    def chunk(name: bytes, data: bytes) -> bytes:
        check = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)

    # Every row starts with the number of its filter; 0 means none.
    rows = b"".join(
        b"\0" + bytes(steps[start : start + width])
        for start in range(0, width * height, width)
    )
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            chunk(b"PLTE", palette()),
            chunk(b"IDAT", zlib.compress(rows, 9)),
            chunk(b"IEND", b""),
        ]
    )


def scale_of(text: str) -> float:
    """Read ``--scale``: more than 0, and 10 at most."""
    scale = float(text)
    if not 0 < scale <= 10:
        raise argparse.ArgumentTypeError(f"a scale lies between 0 and 10, not {text}")
    return scale


def on_a_cluster(todo: list[tuple[float, float]]) -> tuple[list[int], float]:
    """Compute all points on a cluster of this machine's cores."""
    started = time.perf_counter()
    with covey.Client() as client:
        ready = time.perf_counter()
        cores = sum(client.ncores().values())
        print(f"a cluster of {cores} cores, ready after {ready - started:.2f} s")
        scattered = client.scatter(todo)
        futures = client.map(escape_time, scattered)
        covey.progress(futures)
        steps = client.gather(futures)
        seconds = time.perf_counter() - ready
    return steps, seconds


def verdict(ratio: float, seconds: float) -> str:
    """Say which of the two was faster, and why a small job tells little."""
    faster = f"covey was {ratio:.2f} times as fast"
    if ratio < 1:
        faster = f"the plain loop was {1 / ratio:.2f} times as fast"
    if seconds < SMALL_SECONDS:
        faster += "; a job as small as this is mostly start-up: try --scale 1"
    return faster


def main() -> int:
    """Draw, check and compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--scale", type=scale_of, default=1.0, help="0.25 is a quick look"
    )
    scale = parser.parse_args().scale
    width, height = max(1, round(WIDTH * scale)), max(1, round(HEIGHT * scale))
    todo = points(width, height)
    print(f"the Mandelbrot set, {width} x {height}: {len(todo):,} tasks")

    steps, cluster_seconds = on_a_cluster(todo)

    print("and now the same in a plain loop", flush=True)
    started = time.perf_counter()
    reference = [escape_time(point) for point in todo]
    serial_seconds = time.perf_counter() - started

    wrong = sum(a != b for a, b in zip(steps, reference, strict=True))
    if wrong:
        print(f"{wrong:,} of {len(todo):,} pixels are wrong", file=sys.stderr)
        return 1
    PICTURE.write_bytes(png(steps, width, height))
    print("every pixel is right")
    print(f"  covey       {cluster_seconds:8.2f} s  (scatter, map and gather)")
    print(f"  plain loop  {serial_seconds:8.2f} s")
    print(f"  {verdict(serial_seconds / cluster_seconds, cluster_seconds)}")
    print(f"the picture is in {PICTURE}")
    return 0


sys.exit(main())
