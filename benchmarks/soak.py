"""A long run in which something dies all the time, from a seed.

``python -m benchmarks.soak --minutes 30 --seed 7`` starts a scheduler, three workers
and a client in processes of their own, and for so long wishes for rounds of tasks while
a nemesis kills runners, workers and the scheduler, stops and continues processes, and
cuts or silences connections.  Every value is checked; a round that does not end is
told with what its tasks wait for.  At last all is let go of: nothing may be left, and
what the client's process holds must have stayed flat.
"""

from __future__ import annotations

import argparse
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from typing import Any, Final

import psutil

from benchmarks.proxy import SilentProxy
from benchmarks.site import Site, family_of, send_signal, until

WORKERS: Final = 3

#: A round that takes longer than this is stuck, whatever dies meanwhile.
PATIENCE_SECONDS: Final = 180.0

#: What dies with its process is tried so often: the nemesis is not the task's fault.
TRIES: Final = 1000

#: By so much a process may grow between the first half of a run and its last quarter.
GROWTH_BYTES: Final = 16 << 20
GROWTH_DESCRIPTORS: Final = 16


def double(x: int, seconds: float = 0.0) -> int:
    """Return twice *x*, after a while."""
    time.sleep(seconds)
    return 2 * x


def total(*parts: Any) -> int:
    """Return the sum of numbers and of lists of them."""
    return sum(sum(part) if isinstance(part, list) else part for part in parts)


def block(x: int, nbytes: int) -> bytes:
    """Return something large."""
    return bytes([x % 251]) * nbytes


def digest(data: bytes) -> tuple[int, int]:
    """Return what tells large values apart."""
    return len(data), data[len(data) // 2]


class Rounds:
    """What a user does meanwhile: rounds of tasks whose values are known."""

    def __init__(self, client: Any, rng: random.Random) -> None:
        self._client = client
        self._rng = rng
        self.done: Counter[str] = Counter()
        self.tasks = 0
        self.problems: list[str] = []

    def one(self) -> None:
        """Wish for a round of some kind, and see what comes of it."""
        kind = self._rng.choice(("map", "long", "chain", "tree", "large", "scatter"))
        futures, expected = getattr(self, f"_{kind}")()
        self.tasks += len(futures)
        deadline = time.monotonic() + PATIENCE_SECONDS
        for future, value in zip(futures, expected, strict=True):
            try:
                found = future.result(timeout=max(0.1, deadline - time.monotonic()))
            except TimeoutError as error:
                self.problems.append(f"{kind}: stuck: {error}")
                return
            except Exception as error:
                self.problems.append(f"{kind}: {type(error).__name__}: {error}")
                continue
            if found != value:
                self.problems.append(f"{kind}: {found!r} instead of {value!r}")
        self.done[kind] += 1

    def _map(self) -> tuple[list[Any], list[Any]]:
        n = self._rng.randrange(100, 2000)
        futures = self._client.map(double, range(n), retries=TRIES)
        return futures, [2 * x for x in range(n)]

    def _long(self) -> tuple[list[Any], list[Any]]:
        n, seconds = self._rng.randrange(5, 40), self._rng.uniform(0.05, 0.5)
        futures = self._client.map(double, range(n), seconds=seconds, retries=TRIES)
        return futures, [2 * x for x in range(n)]

    def _chain(self) -> tuple[list[Any], list[Any]]:
        n = self._rng.randrange(5, 80)
        future = self._client.submit(double, 1, retries=TRIES)
        for _ in range(n):
            future = self._client.submit(double, future, retries=TRIES)
        return [future], [2 ** (n + 1)]

    def _tree(self) -> tuple[list[Any], list[Any]]:
        n = 1 << self._rng.randrange(2, 8)
        level = self._client.map(double, range(n), retries=TRIES)
        while len(level) > 1:
            level = [
                self._client.submit(total, *level[at : at + 2], retries=TRIES)
                for at in range(0, len(level), 2)
            ]
        return level, [n * (n - 1)]

    def _large(self) -> tuple[list[Any], list[Any]]:
        n, nbytes = self._rng.randrange(2, 12), self._rng.randrange(10_000, 4_000_000)
        blocks = self._client.map(block, range(n), nbytes=nbytes, retries=TRIES)
        futures = self._client.map(digest, blocks, retries=TRIES)
        return futures, [(nbytes, x % 251) for x in range(n)]

    def _scatter(self) -> tuple[list[Any], list[Any]]:
        # Small, so that the scheduler can place it again.
        data = self._client.scatter(list(range(self._rng.randrange(1, 50))))
        future = self._client.submit(total, *data, retries=TRIES)
        return [future], [sum(range(len(data)))]


class Nemesis:
    """Does bad things to the processes of a site, one after the other."""

    def __init__(self, site: Site, proxy: SilentProxy, rng: random.Random) -> None:
        self._site = site
        self._proxy = proxy
        self._rng = rng
        self._over = threading.Event()
        self.done: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and leave everything as it should be."""
        self._over.set()
        self._thread.join(60)

    def _run(self) -> None:
        deeds = (
            ("runner killed", self._kill_runner, 6),
            ("worker killed", self._kill_worker, 3),
            ("scheduler killed", self._kill_scheduler, 2),
            ("worker stopped", self._stop_worker, 2),
            ("scheduler stopped", self._stop_scheduler, 1),
            ("connections cut", self._cut, 6),
            ("network silent", self._silence, 2),
        )
        weights = [weight for _, _, weight in deeds]
        while not self._over.wait(self._rng.uniform(1.0, 6.0)):
            ((name, deed, _),) = self._rng.choices(deeds, weights)
            deed()
            self.done[name] += 1

    def _kill_runner(self) -> None:
        worker = self._rng.choice(self._site.workers)
        runners = [pid for pid in family_of(worker.pid) if pid != worker.pid]
        if runners:
            send_signal(self._rng.choice(runners), signal.SIGKILL)

    def _kill_worker(self) -> None:
        worker = self._rng.choice(self._site.workers)
        for pid in family_of(worker.pid):
            send_signal(pid, signal.SIGKILL)
        worker.wait(10)
        self._site.workers.remove(worker)
        self._over.wait(self._rng.uniform(0.0, 3.0))
        self._site.start_worker(through=self._rng.choice((0, self._proxy.port)))

    def _kill_scheduler(self) -> None:
        self._site.scheduler.kill()
        self._site.scheduler.wait(10)
        self._over.wait(self._rng.uniform(0.0, 3.0))
        self._site.start_scheduler()

    def _stop(self, pid: int, seconds: float) -> None:
        send_signal(pid, signal.SIGSTOP)
        self._over.wait(seconds)
        send_signal(pid, signal.SIGCONT)

    def _stop_worker(self) -> None:
        worker = self._rng.choice(self._site.workers)
        self._stop(worker.pid, self._rng.choice((1.0, 8.0, 20.0)))

    def _stop_scheduler(self) -> None:
        self._stop(self._site.scheduler.pid, self._rng.choice((1.0, 8.0)))

    def _cut(self) -> None:
        self._proxy.cut()

    def _silence(self) -> None:
        self._proxy.silence()
        self._over.wait(self._rng.choice((1.0, 8.0, 20.0)))
        self._proxy.heal()


class Gauges:
    """What this process and the scheduler hold, every few seconds."""

    def __init__(self) -> None:
        self.bytes: list[int] = []
        self.descriptors: list[int] = []

    def read(self) -> None:
        """Take a reading of the client's process."""
        me = psutil.Process()
        self.bytes.append(me.memory_info().rss)
        self.descriptors.append(me.num_fds())

    def growth(self) -> tuple[float, float]:
        """Return by how much bytes and descriptors grew over the second half."""
        grown = []
        for readings in (self.bytes, self.descriptors):
            n = len(readings)
            before = statistics.median(readings[n // 4 : n // 2] or readings)
            grown.append(statistics.median(readings[-(n // 4) :]) - before)
        return grown[0], grown[1]


def soak(minutes: float, seed: int) -> list[str]:
    """Run for so long; return what went wrong."""
    from covey import Client

    site = Site("covey", full=False)
    try:
        proxy = SilentProxy(site.port)
        for number in range(WORKERS):
            site.start_worker(through=proxy.port if number else 0)
        client = Client(site.through(proxy.port).join_string())
        client.wait_for_workers(WORKERS, timeout=60)
        rounds = Rounds(client, random.Random(seed))
        nemesis = Nemesis(site, proxy, random.Random(seed + 1))
        gauges = Gauges()
        nemesis.start()
        ends = time.monotonic() + 60.0 * minutes
        while time.monotonic() < ends and len(rounds.problems) < 10:
            rounds.one()
            gauges.read()
        nemesis.stop()
        problems = rounds.problems + _afterwards(site, client, gauges)
        client.close()
    finally:
        site.close()
    _tell(rounds, nemesis, gauges)
    return problems


def _afterwards(site: Site, client: Any, gauges: Gauges) -> list[str]:
    """Look for what should be gone."""
    problems = []
    until(lambda: len(client.ncores()) >= WORKERS, 60)
    if len(client.ncores()) < WORKERS:
        problems.append(f"only {len(client.ncores())} of {WORKERS} workers are back")
        problems += [_fate(site, worker) for worker in site.workers]
    until(lambda: not any(client.scheduler_info()["tasks"].values()), 90)
    left = {k: v for k, v in client.scheduler_info()["tasks"].items() if v}
    if left:
        problems.append(f"the scheduler keeps what nobody wants: {left}")
    nbytes, descriptors = gauges.growth()
    if nbytes > GROWTH_BYTES:
        problems.append(f"the client's process grew by {nbytes / 1e6:.0f} MB")
    if descriptors > GROWTH_DESCRIPTORS:
        problems.append(f"the client's process has {descriptors:g} more descriptors")
    for process in (site.scheduler, *site.workers):
        open_files = psutil.Process(process.pid).num_fds()
        if open_files > 200:
            problems.append(f"process {process.pid} has {open_files} open files")
    return problems


def _fate(site: Site, worker: subprocess.Popen[bytes]) -> str:
    number, code = site.names[worker.pid], worker.poll()
    last = site.words_of(number).read_text("utf-8", "replace")[-2000:].strip()
    how = "runs" if code is None else f"ended with {code}"
    return f"worker w{number}, process {worker.pid}, {how}; it said last: {last or '-'}"


def _tell(rounds: Rounds, nemesis: Nemesis, gauges: Gauges) -> None:
    def counted(counts: Counter[str]) -> str:
        return ", ".join(f"{n} {name}" for name, n in sorted(counts.items()))

    nbytes, descriptors = gauges.growth()
    sys.stdout.write(
        f"rounds: {counted(rounds.done)}; {rounds.tasks:,} values looked at\n"
        f"nemesis: {counted(nemesis.done)}\n"
        f"the client's process: {gauges.bytes[-1] / 1e6:.0f} MB ({nbytes / 1e6:+.1f} in "
        f"the second half), {gauges.descriptors[-1]} descriptors ({descriptors:+g})\n"
    )


def main() -> int:
    """Run from the command line; return an exit status."""
    parser = argparse.ArgumentParser("python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    problems = soak(options.minutes, options.seed)
    for problem in problems:
        sys.stdout.write(f"WRONG: {problem}\n")
    sys.stdout.write(f"seed {options.seed}: {len(problems)} things went wrong\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
