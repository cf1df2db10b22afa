"""Golden transcripts: each file is a story, told to a core line by line.

A line that begins in the first column is told; what the core orders in return
stands indented below it.  Everything runs in the worlds in which Hypothesis
plays, so a story that breaks a rule of theirs fails, however it is written
down.

Run ``pytest tests/transcripts --rewrite`` and read the diff before you commit it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "machines"))

import scheduler_world
import worker_world

from covey.client.core import invariants
from covey.client.core.ranges import Range, Wishes
from covey.payload import Pack
from covey.wire import client_link, worker_link
from covey.wire.base import Failure, Options
from covey.worker.core import orders

sys.path.pop(0)

HERE = Path(__file__).parent


class Names:
    """Ids as the story calls them: ``xs[2..4]``."""

    def __init__(self):
        self._ranges = []

    def add(self, name, base, n):
        self._ranges.append((base, n, name))

    def of(self, base, n):
        for start, count, name in reversed(self._ranges):
            if start <= base < start + count:
                lo = base - start
                if (lo, n) == (0, count):
                    return name
                return f"{name}[{lo}]" if n == 1 else f"{name}[{lo}..{lo + n - 1}]"
        return f"{base}+{n}"

    def all(self, extents):
        return " ".join(self.of(base, n) for base, n in extents)

    def extent(self, text):
        """Read ``xs``, ``xs[3]`` or ``xs[3..5]``."""
        name, _, rest = text.partition("[")
        base, n = next((b, n) for b, n, known in self._ranges if known == name)
        if not rest:
            return base, n
        lo, _, hi = rest.removesuffix("]").partition("..")
        return base + int(lo), int(hi or lo) - int(lo) + 1


def options_in(words):
    """Split ``key=value`` words from the others."""
    plain = [word for word in words if "=" not in word]
    return plain, dict(word.split("=", 1) for word in words if "=" in word)


class SchedulerStory:
    """Clients and workers, by name, around the scheduler's core."""

    def __init__(self):
        self.world = scheduler_world.World()
        self.names = Names()
        self.sides = {}
        self.named = {}
        self.lines = []
        self.world.watch = self._watch

    def tell(self, words):
        self.lines = []
        plain, options = options_in(words)
        who, *plain = plain
        if who in {"client", "worker"}:
            self._join(who, plain[0], options)
        elif who == "settle":
            self.world.settle()
            self.world.check_ends()
        elif isinstance(self.sides[who], scheduler_world.SimClient):
            self._client(self.sides[who], plain, options)
        else:
            self._worker(self.sides[who], plain)
        return self.lines

    def _watch(self, side, message):
        text = self._describe(message)
        if text:
            self.lines.append(f"{self.named[side.peer]} <- {text}")

    def _place(self, number):
        return self.named[number]

    def _describe(self, message):
        of = self.names.of
        match message:
            case worker_link.Run():
                return self._describe_run(message)
            case worker_link.Put(base, n):
                return f"put {of(base, n)}"
            case worker_link.Drop(extents):
                return f"drop {self.names.all(extents)}"
            case worker_link.Return(count):
                return f"hand back {count}"
            case worker_link.Stop(run, base, n, kill):
                return f"stop {of(base, n)} of run {run}" + (", kill" if kill else "")
            case worker_link.Fetch(extents, worker):
                return f"fetch {self.names.all(extents)} from {self._place(worker)}"
            case worker_link.Leave():
                return "leave"
        return self._describe_news(message)

    def _describe_news(self, message):
        of = self.names.of
        match message:
            case client_link.Finished(base, n, sizes, data):
                assert len(Pack.from_wire(sizes, data)) == n
                return f"finished {of(base, n)}"
            case client_link.Stored(base, n, worker):
                return f"stored {of(base, n)} on {self._place(worker)}"
            case client_link.Failed(base, n, failure):
                return f"failed {of(base, n)}: {failure.type_name}: {failure.message}"
            case client_link.Reverted(base, n):
                return f"reverted {of(base, n)}"
            case client_link.Notice(text):
                return f"notice: {text}"
        # Who is where, and the bytes of functions, are no part of the stories.
        return ""

    def _describe_run(self, run):
        of = self.names.of
        text = f"run {run.run}: {of(run.base, run.n)}"
        extents = [*((task, run.n) for task in run.aligned), *run.whole]
        if extents:
            text += f", takes {self.names.all(extents)}"
        if run.awaits:
            awaited = [(task, 1) for task in run.awaits]
            text += f", awaits {self.names.all(awaited)}"
        for base, n, worker in run.sources:
            text += f", {of(base, n)} from {self._place(worker)}"
        for other, real in run.renamed:
            text += f", {of(real, 1)} for {of(other, 1)}"
        return text

    def _join(self, kind, name, options):
        # The first orders may come while it joins.
        self.named[self.world.core.state.last_peer + 1] = name
        if kind == "client":
            self.sides[name] = self.world.new_client()
            return
        slots = int(options.pop("slots", "1"))
        resources = {key: float(value) for key, value in options.items()}
        self.sides[name] = self.world.new_worker(slots, resources, name)

    def _client(self, client, words, options):
        verb, *rest = words
        match verb:
            case "submits" | "scatters":
                name, n = rest[0], int(rest[1])
                self.names.add(name, client.next_task, n)
                if verb == "scatters":
                    client.scatter(n)
                else:
                    self._submit(client, n, options)
            case "releases":
                client.release(self.names.extent(rest[0]))
            case "cancels":
                message = client_link.Cancel((self.names.extent(rest[0]),), "enough")
                client.say(message)
            case "retries":
                client.say(client_link.Retry((self.names.extent(rest[0]),)))
            case "goes":
                self.world.lose(client.peer)

    def _submit(self, client, n, options):
        def extents(key):
            return [
                self.names.extent(text)
                for text in options.get(key, "").split(",")
                if text
            ]

        resources = {}
        if "needs" in options:
            name, _, amount = options["needs"].partition(":")
            resources = {name: float(amount)}
        client.submit(
            n,
            fn=3 if "name" in options else 1,
            aligned=[base for base, _ in extents("each")],
            whole=extents("all"),
            options=Options(
                resources=resources, retries=int(options.get("retries", "0"))
            ),
            name=options.get("name"),
        )

    def _worker(self, worker, words):
        verb, *rest = words
        worker.read(len(worker.inbox))
        match verb:
            case "reads":
                return
            case "dies":
                self.world.lose(worker.peer)
            case "asks":
                worker.say(worker_link.Leaving())
            case "brings":
                number = next(number for number, r in worker.runs.items() if r.missing)
                while worker.runs[number].missing:
                    worker.fetch(number, ok=True)
            case "copies":
                while worker.fetches:
                    worker.fetch_asked(ok=True)
            case _:
                base, n = self.names.extent(rest[0])
                number = next(x for x, r in worker.runs.items() if base in r.todo)
                start = worker.runs[number].todo.index(base)
                if verb == "fails":
                    worker.fail(number, start)
                else:
                    worker.finish(number, start, n, stored=verb == "stores")


class WorkerStory:
    """A scheduler's wishes and simulated slots around the worker's core."""

    def __init__(self):
        self.world = None
        self.names = Names()
        self.runs = {}
        self.lines = []

    def tell(self, words):
        self.lines = []
        plain, options = options_in(words)
        who, *plain = plain
        match who:
            case "worker":
                runners, threads = int(options["runners"]), int(options["threads"])
                self.world = worker_world.World(runners, threads)
                self.world.watch = self._watch
                for number in range(runners):
                    self.world.start(number)
            case "run":
                self._run(plain, options)
            case "stop":
                base, n = self.names.extent(plain[0])
                run = self.runs[plain[0].partition("[")[0]]
                self.world.stop(run, base, n, kill="kill" in plain)
            case "return":
                self.world.ask_back(int(plain[0]))
            case "fetched" | "unfetched":
                extent = self.names.extent(plain[0])
                self.world.fetched(extent, ok=who == "fetched")
            case "time":
                self.world.tick(float(plain[0]))
            case "settle":
                self.world.settle()
                self.world.check_ends()
            case "slot":
                self._slot(self.world.slots[int(plain[0])], plain[1:])
            case "runner":
                self._runner(self.world.runners[int(plain[0])], plain[1:])
        return self.lines

    def _run(self, plain, options):
        name, n = plain[0], int(plain[1])
        aligned, sources, awaits = (), (), ()
        if "after" in options:
            awaits = aligned = (self.names.extent(options["after"])[0],)
        if "each" in options:
            base = 10 + 20 * self.world.last_run
            self.names.add(options["each"], base, n)
            aligned, sources = (base,), ((base, n, 7),)
        self.names.add(name, 1000 * (self.world.last_run + 1), n)
        self.runs[name] = self.world.run(
            n,
            aligned=aligned,
            sources=sources,
            awaits=awaits,
            seconds=float(options.get("seconds", "0")),
            timeout=float(options.get("timeout", "0")),
        )

    def _slot(self, slot, words):
        match words:
            case ["begins"]:
                slot.read()
            case ["runs", count]:
                slot.run(int(count))
                slot.report()
            case ["fails"]:
                slot.fail()
            case ["blocks"]:
                slot.block()
            case ["resumes"] | ["ends"]:
                slot.resume()
        while slot.out:
            self.world.hear(slot)

    def _runner(self, runner, words):
        match words:
            case ["dies"]:
                self.world.die(runner)
            case ["comes", "up"]:
                self.world.start(runner.number)
            case ["answers"]:
                self.world.hear_control(runner)
                for slot in runner.slots:
                    while slot.out:
                        self.world.hear(slot)

    def _watch(self, order):
        text = self._describe(order)
        if text:
            self.lines.append(text)

    def _describe(self, order):
        of = self.names.of
        match order:
            case orders.Dispatch(slot, run, _, base, n, owns=owns):
                text = f"slot {slot} <- {of(base, n)} of run {run}"
                if owns:
                    text += f", on its own {self.names.all([(t, 1) for t in owns])}"
                return text
            case orders.Report(run, base, n):
                return f"scheduler <- ran {of(base, n)} of run {run}, with values"
            case orders.Retract(slot):
                return f"slot {slot} <- hand back what you have not begun"
            case orders.Flush(slot):
                return f"slot {slot} <- send what is settled"
            case orders.FetchFrom(worker, extent):
                return f"fetch {of(*extent)} from worker {worker}"
            case orders.DropValues(extents):
                return f"drop {self.names.all(extents)}"
            case orders.EndRun(run):
                return f"run {run} is over"
            case orders.Tell(message):
                return "scheduler <- " + self._say(message)
        return self._describe_process(order)

    def _describe_process(self, order):
        of = self.names.of
        match order:
            case orders.Interrupt(slot, run, task):
                return f"slot {slot} <- interrupt {of(task, 1)} of run {run}"
            case orders.Kill(runner):
                return f"runner {runner} is killed"
            case orders.Spawn(runner):
                return f"runner {runner} is started anew"
            case orders.WakeAt(time):
                return f"wake at {time:g}"
        return ""

    def _say(self, message):
        of = self.names.of
        match message:
            case worker_link.RanStored(run, base, n):
                return f"ran {of(base, n)} of run {run}"
            case worker_link.RunFailed(run, task, _, failure):
                return f"failed {of(task, 1)} of run {run}: {failure.type_name}"
            case worker_link.Returned(run, base, n, lacking):
                text = f"returned {of(base, n)} of run {run}"
                for start, count, worker in lacking:
                    text += f", lacking {of(start, count)} from worker {worker}"
                return text
            case worker_link.Holds(base, n):
                return f"holds {of(base, n)}"
            case worker_link.Blocked(run, task):
                return f"blocked {of(task, 1)} of run {run}"
            case worker_link.Resumed(run, task):
                return f"resumed {of(task, 1)} of run {run}"
            case worker_link.Engaged(slots):
                return f"slots engaged: {slots}"
        return type(message).__name__


class ClientStory:
    """News from the scheduler around the client's tables."""

    _LETTERS = "-=o!x"

    def __init__(self):
        self.wishes = Wishes()
        self.names = Names()
        self.ranges = {}
        self.lines = []

    def tell(self, words):
        self.lines = []
        verb, name, *rest = words
        if verb == "range":
            base = 1000 * (len(self.ranges) + 1)
            self.names.add(name, base, int(rest[0]))
            wish = self.ranges[name] = Range(base, int(rest[0]), "f", None)
            wish.watchers.append(self._watch)
            self.wishes.add(wish)
        elif verb == "drop":
            self.wishes.remove(self.ranges.pop(name))
        else:
            base, n = self.names.extent(name)
            if rest:
                # News of a stretch may reach beyond what this client knows.
                n = int(rest[0])
            self._hear(verb, base, n)
        invariants.check(self.wishes)
        shown = [f"{name} {self._show(wish)}" for name, wish in self.ranges.items()]
        return [*self.lines, *shown]

    def _hear(self, verb, base, n):
        match verb:
            case "finished":
                self.wishes.finished(base, Pack.of([b"v"] * n))
            case "stored":
                self.wishes.stored(base, n, 7, 100 * n)
            case "failed":
                self.wishes.failed(base, n, Failure("raised", "ValueError", "no"))
            case "cancelled":
                self.wishes.failed(base, n, Failure("cancelled", "TaskCancelled", ""))
            case "reverted":
                self.wishes.reverted(base, n)

    def _watch(self, wish, lo, n):
        self.lines.append(f"{self.names.of(wish.base + lo, n)} ended")

    def _show(self, wish):
        return "".join(self._LETTERS[status] for status in wish.status)


STORIES = {"scheduler": SchedulerStory, "worker": WorkerStory, "client": ClientStory}


def retell(story, text):
    """Tell the lines of *text* anew, with what each leads to below it."""
    out = []
    for line in text.splitlines():
        if line.startswith("  "):
            continue
        out.append(line)
        if line and not line.startswith("#"):
            out += [f"  {answer}" for answer in story.tell(line.split())]
    return "\n".join(out) + "\n"


@pytest.mark.parametrize(
    "path",
    sorted(HERE.glob("*/*.txt")),
    ids=lambda path: f"{path.parent.name}/{path.stem}",
)
def test_transcript(path, request):
    story = STORIES[path.parent.name]()
    text = path.read_text("utf-8")
    told = retell(story, text)
    if request.config.getoption("--rewrite"):
        path.write_text(told, "utf-8")
    assert told == path.read_text("utf-8")
