"""What watching costs, and how quick the page is: ``python -m benchmarks.dashboard``.

Throughput is measured in turn with nobody watching, with the event stream on (a recording),
and with tabs open, on one cluster; figures are medians over the rounds.  ``--browser`` adds
what a real Chromium measures: first paint, redraw of the task stream, and how long an event
takes from a worker to the page.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from http.cookiejar import CookieJar
from pathlib import Path

import psutil

import covey


def touch(x: int) -> int:
    """Do nothing worth mentioning."""
    return x


def seconds_of(client: covey.Client, n: int) -> tuple[float, float]:
    """Return wall time, and processor time of the cluster's process, of *n* tasks."""
    process = psutil.Process(client.scheduler_info()["workers"][0]["facts"]["pid"])
    before = process.cpu_times()
    start = time.perf_counter()
    client.gather(client.map(touch, range(n)))
    wall = time.perf_counter() - start
    after = process.cpu_times()
    return wall, after.user + after.system - before.user - before.system


def cookie_of(link: str) -> str:
    """Visit a link, and return the cookie that it gives."""
    jar = CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    opener.open(link).read()
    return "; ".join(f"{cookie.name}={cookie.value}" for cookie in jar)


@contextlib.contextmanager
def tabs(client: covey.Client, count: int) -> Iterator[None]:
    """Keep *count* tabs open, in a process of their own."""
    link = client.dashboard_link
    assert link is not None
    place, cookie = link.split("/")[2], cookie_of(link)
    command = [sys.executable, "-m", "benchmarks.dashboard", "--read", place]
    process = subprocess.Popen(
        [*command, "--tabs", str(count)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(f"{cookie}\n")
    process.stdin.flush()
    process.stdout.readline()
    yield
    process.kill()
    process.wait()


async def read(place: str, cookie: str, count: int) -> None:
    """Ask for frame after frame, as a page does, with *count* connections."""
    from websockets.asyncio.client import connect

    async def follow() -> None:
        cursor = ""
        async with connect(
            f"ws://{place}/api/stream",
            additional_headers={"Cookie": cookie},
            origin=f"http://{place}",
            max_size=None,
        ) as socket:
            while True:
                await socket.send(cursor)
                # A browser parses elsewhere; the mark is near the front.
                head = str(await socket.recv())[:200]
                cursor = head.split('"cursor":"')[1].split('"')[0]

    print("reading", flush=True)
    await asyncio.gather(*(follow() for _ in range(count)))


def throughput(n: int, rounds: int) -> dict[str, dict[str, float]]:
    """Measure the same work, watched in several ways, in turn."""
    found: dict[str, list[tuple[float, float]]] = {}
    with covey.Client(n_workers=2) as client, tempfile.TemporaryDirectory() as folder:
        seconds_of(client, n)
        for number in range(rounds):
            file = Path(folder) / f"{number}.covey"
            ways = {
                "nobody": contextlib.nullcontext(),
                "recording": covey.record(file, client),
                "again nobody": contextlib.nullcontext(),
                "10 tabs": tabs(client, 10),
            }
            for name, way in ways.items():
                with way:
                    found.setdefault(name, []).append(seconds_of(client, n))
    return {
        name: {
            "tasks_per_second": n / statistics.median(wall for wall, _ in rows),
            "scheduler_cpu_seconds": statistics.median(cpu for _, cpu in rows),
        }
        for name, rows in found.items()
    }


PROBE = """async (n) => {
  const { draw } = window.covey.bench(n);
  draw();
  const times = [];
  for (let i = 0; i < 7; i++) {
    const start = performance.now();
    draw();
    times.push(performance.now() - start);
    await new Promise((r) => setTimeout(r, 20));
  }
  return times.sort((a, b) => a - b)[3];
}"""


def browser() -> dict[str, float]:
    """Measure the page in a headless Chromium."""
    import shutil

    from playwright.sync_api import sync_playwright

    found: dict[str, float] = {}
    with covey.Client(n_workers=2) as client, sync_playwright() as play:
        chromium = play.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = chromium.new_page(viewport={"width": 1440, "height": 900})
        page.goto(client.dashboard_link)
        page.wait_for_selector("[data-testid=workers]")
        paints = []
        for _ in range(5):
            page.reload()
            page.wait_for_selector("[data-testid=workers]")
            paints.append(
                page.evaluate(
                    "performance.getEntriesByName('first-contentful-paint')[0].startTime"
                )
            )
        found["first paint, ms"] = statistics.median(paints)
        for n in (10_000, 100_000):
            found[f"redraw {n}, ms"] = page.evaluate(PROBE, n)
        late = []
        for number in range(7):
            name = f"probe{number}"
            exec(f"def {name}(): return time.time()", globals())
            future = client.submit(globals()[name])
            page.wait_for_selector(f"[data-testid=function-{name}]")
            seen = time.time()
            late.append(1000 * (seen - future.result()))
        found["event to page, ms"] = statistics.median(late)
        chromium.close()
    return found


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.dashboard", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--browser", action="store_true")
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--read", help=argparse.SUPPRESS)
    parser.add_argument("--tabs", type=int, default=10, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        asyncio.run(read(arguments.read, input(), arguments.tabs))
        return
    rows = throughput(arguments.tasks, arguments.rounds)
    base = rows["nobody"]["tasks_per_second"]
    print(f"{'watched by':14} {'tasks/s':>10} {'of nobody':>10} {'scheduler cpu':>14}")
    for name, row in rows.items():
        rate, cpu = row["tasks_per_second"], row["scheduler_cpu_seconds"]
        print(f"{name:14} {rate:10,.0f} {rate / base:10.2f} {cpu:12.2f} s")
    seen = browser() if arguments.browser else {}
    for name, value in seen.items():
        print(f"{name:22} {value:8.1f}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"throughput": rows, "browser": seen}))


if __name__ == "__main__":
    main()
