"""What watching costs, and how quick the page is: ``python -m benchmarks.dashboard``.

The same work is done in turn with nobody watching, with the event stream on, with tabs open,
and while it is recorded, on one cluster.  What counts is the processor time of client, cluster
and runners for each task, since that is what watching takes away; it also holds on a busy
machine, where the time by the clock says little.  Figures are medians over the rounds.

``--browser`` adds what a real Chromium measures: first paint, redraw of the task stream,
how long an event takes from a worker to the page, and how a page of 1,000 workers scrolls.
``--million`` runs a million tasks under the eyes of a tab, and says what memory that takes.
``--stopped`` stops the dashboard's process for a minute while tasks run, and looks whether
they notice, whether what was missed is said, and whether the page comes back.

Beside each figure stands what was asked for, and whether it holds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from http.cookiejar import CookieJar
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
from packaging.requirements import Requirement

import covey
from benchmarks.harness import cpu_seconds
from covey import clock
from covey.dashboard import bundle
from covey.dashboard.feed import Feed
from covey.dashboard.launch import bind, link
from covey.dashboard.model import Model
from covey.dashboard.serving import serve
from covey.recording import Batch
from covey.scheduler.core.profiling import LEASE_SECONDS
from covey.secret import Secret


def touch(x: int) -> int:
    """Do nothing worth mentioning."""
    return x


def processor_seconds(pids: list[int]) -> float:
    """Return the processor time of some processes so far."""
    # Finer than the kernel's ticks, of which there are fifty in half a second.
    return sum(map(cpu_seconds, pids))


def processes_of(client: covey.Client) -> list[int]:
    """Return what takes part in the work: this process, the cluster, its runners."""
    facts = [worker["facts"] for worker in client.scheduler_info()["workers"]]
    pids = {pid for each in facts for pid in (each["pid"], *each["runners"])}
    return [os.getpid(), *sorted(pids)]


def seconds_of(client: covey.Client, n: int) -> tuple[float, float]:
    """Return wall time and processor time of *n* tasks."""
    pids = processes_of(client)
    before = processor_seconds(pids)
    start = time.perf_counter()
    client.gather(client.map(touch, range(n)))
    wall = time.perf_counter() - start
    return wall, processor_seconds(pids) - before


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


@contextlib.contextmanager
def reading(client: covey.Client) -> Iterator[None]:
    """Read the event stream along."""
    engine = client.session.engine

    async def follow(number: int) -> None:
        while True:
            first, n, *_ = await engine.ask("watch", number=number)
            number = first + n

    work = engine.start(follow(client.overview()["next"]))
    yield
    work.cancel()


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
                "the stream": reading(client),
                "again nobody": contextlib.nullcontext(),
                "10 tabs": tabs(client, 10),
                # Last, since for some seconds more the runners look at what they run.
                "recording": covey.record(file, client),
            }
            for name, way in ways.items():
                with way:
                    found.setdefault(name, []).append(seconds_of(client, n))
            time.sleep(LEASE_SECONDS)
    pairs = zip(found["nobody"], found["again nobody"], strict=True)
    unwatched = [(one + other) / 2 for (_, one), (_, other) in pairs]
    return {
        name: {
            # Round by round, since neighbours come and go.
            "of_nobody": statistics.median(
                base / cpu for base, (_, cpu) in zip(unwatched, rows, strict=True)
            ),
            "tasks_per_second": n / statistics.median(wall for wall, _ in rows),
            "microseconds_per_task": 1e6
            * statistics.median(cpu for _, cpu in rows)
            / n,
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


SCROLL = """async () => {
  const box = document.querySelector("table[aria-label=workers]").parentElement;
  const start = performance.now();
  let frames = 0;
  while (performance.now() - start < 4000) {
    await new Promise((r) => requestAnimationFrame(r));
    box.scrollTop = (box.scrollTop + 37) % (box.scrollHeight - box.clientHeight);
    frames++;
  }
  return (1000 * frames) / (performance.now() - start);
}"""

WORKERS = 1_000


class Crowd(Feed):
    """A cluster of many workers that exists in its events only."""

    async def follow(self, on_news: Callable[[], None]) -> None:
        """Tell twice a second how every worker is, and what it ran."""
        self.status = "live"
        names = [f"worker-{number}" for number in range(WORKERS)]
        number = 0
        now = 0.0
        events: list[Any] = [
            [now, "worker-joined", name, 4, f"host-{i // 8}", {}, 1 << 33]
            for i, name in enumerate(names)
        ]
        while True:
            now += 0.5
            for i, name in enumerate(names):
                memory = {"total": (i % 50) << 26, "heap": (i % 50) << 26}
                facts = {"cpu": i % 5, "memory": memory, "queued": number % 9}
                events.append([now, "sample", name, facts])
                events.append([now, "ran", number + i, 1, "f", name, 0.3, 8, i % 4])
            self.model.take(Batch(number, 0, now, events))
            number += len(events)
            events = []
            on_news()
            await asyncio.sleep(0.5)


def crowd() -> str:
    """Serve a dashboard of many workers from a thread, and return a link to it."""
    listening = bind("127.0.0.1:0")
    place = f"127.0.0.1:{listening.getsockname()[1]}"
    secret = Secret.fresh()
    started = threading.Event()
    threading.Thread(
        target=serve, args=(Crowd(), secret, listening, started.set), daemon=True
    ).start()
    started.wait()
    return link(secret, place)


def singles(n: int) -> float:
    """Return the MB that a model takes which has seen *n* tasks, each an event."""
    before = psutil.Process().memory_info().rss
    model = Model()
    for start in range(0, n, 5_000):
        events = [
            [i / 1e4, "ran", i, 1, f"f{i % 9}", f"w{i % 50}", 1e-3, 8, 0]
            for i in range(start, start + 5_000)
        ]
        model.take(Batch(start, 0, start / 1e4, events))
    return (psutil.Process().memory_info().rss - before) / 1e6


def sizes() -> dict[str, float]:
    """Return what the page weighs, and what the extra brings beside covey's own needs."""
    page = sum(file.stat().st_size for file in bundle.STATIC.iterdir())
    more = _packages("covey", "dashboard") - _packages("covey", "")
    return {
        "the page's files, kB": page / 1e3,
        "packages of covey[dashboard] beyond the core, MB": sum(map(_bytes_of, more))
        / 1e6,
    }


def _packages(name: str, extra: str) -> set[str]:
    """Return what a package needs here, and what that needs, by their names."""
    found: set[str] = set()
    left = [(name, extra)]
    while left:
        name, extra = left.pop()
        for text in metadata.requires(name) or ():
            needed = Requirement(text)
            if needed.marker and not needed.marker.evaluate({"extra": extra}):
                continue
            with contextlib.suppress(metadata.PackageNotFoundError):
                if needed.name not in found and metadata.version(needed.name):
                    found.add(needed.name)
                    left.append((needed.name, ""))
    return found


def _bytes_of(name: str) -> int:
    files = metadata.files(name) or ()
    return sum(Path(file.locate()).stat().st_size for file in files if file.size)


def _named(number: int) -> Callable[[int], int]:
    """Return a function of its own: what runs together is one event otherwise."""

    def named(x: int) -> int:
        return x

    named.__name__ = named.__qualname__ = f"touch_{number}"
    return named


def stopped(seconds: float) -> dict[str, float]:
    """Stop the dashboard's process while tasks run; return what came of that."""
    functions = [_named(number) for number in range(50)]

    def load(client: covey.Client, seconds: float, events: int) -> float:
        """Work for so long, and for so many events; return microseconds of a task."""
        pids = processes_of(client)
        first = client.overview()["next"]
        before, done = processor_seconds(pids), 0
        end = clock.monotonic() + seconds
        while clock.monotonic() < end or client.overview()["next"] - first < events:
            client.gather([client.submit(f, x) for x in range(20) for f in functions])
            done += 20 * len(functions)
        return 1e6 * (processor_seconds(pids) - before) / done

    with covey.Client(n_workers=2) as client:
        link = str(client.dashboard_link)
        place, cookie = link.split("/")[2], cookie_of(link)

        def frame() -> dict[str, Any]:
            request = urllib.request.Request(
                f"http://{place}/api/frame?since=0.0.0.0.0"
            )
            request.add_header("Cookie", cookie)
            with urllib.request.urlopen(request, timeout=60) as answer:
                return dict(json.loads(answer.read()))

        pid = dashboard_pid()
        load(client, 2.0, 0)
        frame()
        before = load(client, seconds / 3, 0)
        os.kill(pid, signal.SIGSTOP)
        try:
            # So long that what it has not read is forgotten.
            during = load(client, seconds, 120_000)
        finally:
            os.kill(pid, signal.SIGCONT)
        back = clock.monotonic()
        done = sum(line["done"] for line in client.overview()["functions"].values())
        while frame()["totals"]["done"] < done:
            time.sleep(0.1)
        recovered = clock.monotonic() - back
        missed = frame()["dropped"]
        after = load(client, seconds / 3, 0)
    return {
        "speed while it is stopped, of before": before / during,
        "speed after that, of before": before / after,
        "events missed, and said to be": missed,
        "until the page is right again, s": recovered,
    }


def dashboard_pid() -> int:
    """Return the dashboard's process, a child of ours."""
    children = psutil.Process().children(recursive=True)
    return next(p.pid for p in children if "covey.dashboard" in p.cmdline())


def million() -> dict[str, float]:
    """Run a million tasks while a tab looks on; return what memory that takes."""
    from playwright.sync_api import sync_playwright

    found: dict[str, float] = {
        "a model after 1,000,000 single tasks, MB": singles(1_000_000)
    }
    with covey.Client(n_workers=2) as client, sync_playwright() as play:
        chromium = play.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = chromium.new_page(viewport={"width": 1440, "height": 900})
        page.goto(str(client.dashboard_link))
        page.wait_for_selector("[data-testid=workers]")
        pid = dashboard_pid()
        metrics = page.context.new_cdp_session(page)
        metrics.send("Performance.enable")

        def note(name: str) -> None:
            metrics.send("HeapProfiler.collectGarbage")
            values = metrics.send("Performance.getMetrics")["metrics"]
            heap = {m["name"]: m["value"] for m in values}["JSHeapUsedSize"]
            rss = psutil.Process(pid).memory_info().rss
            found[f"dashboard's process {name}, MB"] = rss / 1e6
            found[f"a tab's objects {name}, MB"] = heap / 1e6

        note("before")
        for part in range(1, 11):
            client.gather(client.map(touch, range(100_000)))
            if part in {1, 10}:
                time.sleep(2)
                note(f"after {part * 100_000:,} tasks")
        chromium.close()
    return found


def browser() -> dict[str, float]:
    """Measure the page in a headless Chromium."""
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
        page.goto(crowd())
        page.wait_for_selector("[data-testid=workers]")
        page.goto(page.url.partition("#")[0] + "#/workers")
        page.wait_for_function(
            "() => document.querySelector('table[aria-label=workers]')?.ariaRowCount > 999"
        )
        found[f"scrolling {WORKERS} workers, frames/s"] = page.evaluate(SCROLL)
        chromium.close()
    return found


#: Ways to watch that must cost little.
WATCHED = ("the stream", "10 tabs", "recording")

#: What was asked for: at least, or at most.
MUSTS: dict[str, tuple[str, float]] = {
    "speed of 10 tabs, of nobody": ("≥", 0.95),
    "speed of the stream, of nobody": ("≥", 0.97),
    "the page's files, kB": ("<", 300),
    "packages of covey[dashboard] beyond the core, MB": ("<", 10),
    "first paint, ms": ("≤", 500),
    "redraw 10000, ms": ("≤", 50),
    "redraw 100000, ms": ("≤", 200),
    "event to page, ms": ("≤", 500),
    f"scrolling {WORKERS} workers, frames/s": ("≥", 30),
    "speed while it is stopped, of before": ("≥", 0.95),
    "events missed, and said to be": ("≥", 1),
}


def _judged(name: str, value: float) -> str:
    """Return what was asked for, and whether it holds."""
    if name not in MUSTS:
        return ""
    sign, wanted = MUSTS[name]
    holds = {"≥": value >= wanted, "≤": value <= wanted, "<": value < wanted}[sign]
    return f"{f'{sign} {wanted:g}':>9}  {'holds' if holds else 'DOES NOT HOLD'}"


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.dashboard", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--browser", action="store_true")
    parser.add_argument("--million", action="store_true")
    parser.add_argument(
        "--stopped",
        type=float,
        nargs="?",
        const=60.0,
        metavar="SECONDS",
        help="[default: 60]",
    )
    parser.add_argument("--json", type=Path, help="a file for the figures")
    parser.add_argument("--read", help=argparse.SUPPRESS)
    parser.add_argument("--tabs", type=int, default=10, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.read:
        asyncio.run(read(arguments.read, input(), arguments.tabs))
        return
    rows = throughput(arguments.tasks, arguments.rounds)
    print(f"{'watched by':14} {'cpu a task':>12} {'of nobody':>10} {'tasks/s':>10}")
    for name, row in rows.items():
        rate, cpu = row["tasks_per_second"], row["microseconds_per_task"]
        print(f"{name:14} {cpu:9.2f} us {row['of_nobody']:10.2f} {rate:10,.0f}")
    seen = {f"speed of {way}, of nobody": rows[way]["of_nobody"] for way in WATCHED}
    seen |= sizes()
    if arguments.browser:
        seen |= browser()
    if arguments.million:
        seen |= million()
    if arguments.stopped is not None:
        seen |= stopped(arguments.stopped)
    print(f"\n{'what':50} {'measured':>9} {'must':>9}")
    for name, value in seen.items():
        print(f"{name:50} {value:9,.2f} {_judged(name, value)}".rstrip())
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"throughput": rows, "browser": seen}))


if __name__ == "__main__":
    main()
