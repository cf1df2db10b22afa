"""Users: they wish for tasks, build on them, let go of them, and look.

Each wish is carried out with randomness of its own, so that leaving one out of a
plan changes the others as little as can be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import ClassVar, Final, cast

from covey.client.core.ranges import Range, Status
from covey.ids import TaskId
from covey.payload import Pack
from covey.sim.client import Client
from covey.sim.oracle import Oracle
from covey.sim.plan import Plan, Wish
from covey.sim.tasks import Kind, Recipe, encode
from covey.sim.worker import Worker, World
from covey.wire.base import DEFAULT_OPTIONS, Extent, Options
from covey.wire.client_link import (
    Detach,
    Placed,
    Scatter,
    Submit,
    SubmitGraph,
    Want,
)

NAMES: Final = ("anna", "berta", "clara")

#: Long tasks take so much more than others.
LONG_SECONDS: Final = 15.0

#: Some wishes in which nothing hangs have a time limit all the same: this, or so many
#: times as long as tasks take.
LIMIT_SECONDS: Final = 0.02
LIMITS: Final = (0, 0, 0, 8, 50)

#: Recipes of named tasks have numbers from here on.
_NAMED: Final = 1 << 40


class User:
    """Somebody with a client."""

    def __init__(
        self,
        world: World,
        client: Client,
        plan: Plan,
        oracle: Oracle,
        others: Callable[[], list[User]],
    ) -> None:
        self.world = world
        self.client = client
        self.plan = plan
        self.oracle = oracle
        self._others = others
        #: The futures that this user has, by task.
        self.held: dict[TaskId, tuple[Range, int]] = {}
        self._names: dict[str, TaskId] = {}
        self._placed: set[TaskId] = set()

    def do(self, wish: Wish) -> None:
        """Do what a wish says."""
        self._DO[wish.kind](self, Random(wish.seed))

    # Drawing.

    def _recipe(self, rng: Random, inputs: tuple[TaskId, ...] = ()) -> Recipe:
        kind = "plain"
        if self.plan.kinds and rng.random() < self.plan.odd:
            kind = rng.choice(self.plan.kinds)
        seconds = self.plan.task_seconds * rng.expovariate(1.0)
        if kind == "long":
            seconds += LONG_SECONDS
        return Recipe(self.oracle.new_number(), cast(Kind, kind), seconds, inputs)

    def _options(self, rng: Random, recipes: Sequence[Recipe]) -> Options:
        hangs = any(recipe.kind == "hangs" for recipe in recipes)
        often = LIMITS[recipes[0].number % len(LIMITS)]
        limit = max(LIMIT_SECONDS, often * self.plan.task_seconds) if often else 0.0
        retries = rng.choice((0, 0, 1, 2))
        return Options(
            priority=rng.choice((0, 0, -1, 1)),
            retries=retries,
            timeout_seconds=rng.choice((0.2, 1.0)) if hangs else limit,
            resources={"gpu": rng.choice((0.3, 1.0))} if rng.random() < 0.1 else {},
            workers=("w0",) if rng.random() < 0.1 else (),
            allow_other_workers=True,
        )

    def _stretch(self, rng: Random) -> list[TaskId]:
        """Return some consecutive tasks that are held."""
        if not self.held:
            return []
        tasks = list(self.held)
        at = rng.randrange(len(tasks))
        most = rng.randrange(1, self.plan.tasks + 1)
        stretch = [tasks[at]]
        while len(stretch) < most and stretch[-1] + 1 in self.held:
            stretch.append(stretch[-1] + 1)
        return stretch

    def _hold(self, base: TaskId, n: int, label: str, name: str | None = None) -> Range:
        wish = self.client.hold(base, n, label, name)
        for index in range(n):
            self.held[base + index] = (wish, index)
        return wish

    # Making.

    def _submit(
        self,
        rng: Random,
        inputs_of: list[tuple[TaskId, ...]],
        aligned: tuple[TaskId, ...] = (),
        whole: tuple[Extent, ...] = (),
        groups: tuple[Extent, ...] = (),
    ) -> None:
        n = len(inputs_of)
        recipes = [self._recipe(rng, inputs) for inputs in inputs_of]
        options = self._options(rng, recipes)
        client = self.client
        client.define(1)
        base = client.new_tasks(n)
        payloads = [encode(recipe) for recipe in recipes]
        for task, (recipe, payload) in enumerate(
            zip(recipes, payloads, strict=True), base
        ):
            self.oracle.know(task, recipe, payload, options)
        self._hold(base, n, "f")
        pack = Pack.of(payloads)
        client.post(
            Submit(
                base,
                n,
                1,
                pack.sizes_bytes(),
                bytes(pack.data),
                options,
                aligned,
                whole,
                groups=groups,
            )
        )

    def _map(self, rng: Random) -> None:
        self._submit(rng, [()] * rng.randrange(1, self.plan.tasks + 1))

    def _chain(self, rng: Random) -> None:
        first = self._stretch(rng)
        if not first:
            return
        g = min(rng.choice((1, 1, 1, 2, 2, 3)), len(first))
        n = len(first) // g
        columns = [first[at::g][:n] for at in range(g)]
        other = self._stretch(rng)
        aligned = () if g > 1 else (first[0],)
        if rng.random() < 0.3 and len(other) >= n:
            columns.append(other[:n])
            aligned = tuple(dict.fromkeys((*aligned, other[0])))
        groups = ((first[0], g),) if g > 1 else ()
        inputs = list(zip(*columns, strict=True))
        self._submit(rng, inputs, aligned, groups=groups)

    def _reduce(self, rng: Random) -> None:
        stretches = [self._stretch(rng) for _ in range(rng.randrange(1, 4))]
        taken = [stretch for stretch in stretches if stretch]
        if not taken:
            return
        whole = tuple((stretch[0], len(stretch)) for stretch in taken)
        inputs = tuple(task for stretch in taken for task in stretch)
        self._submit(rng, [inputs] * rng.randrange(1, 4), (), whole)

    def _graph(self, rng: Random) -> None:
        client = self.client
        n = rng.randrange(1, self.plan.tasks + 1)
        base = client.new_tasks(n)
        outside = self._stretch(rng)
        needs = []
        for index in range(n):
            some = {
                base + rng.randrange(index) for _ in range(rng.randrange(4)) if index
            }
            if outside and rng.random() < 0.2:
                some.add(rng.choice(outside))
            needs.append(tuple(sorted(some)))
        recipes = [self._recipe(rng, inputs) for inputs in needs]
        options = self._options(rng, recipes)
        payloads = [encode(recipe) for recipe in recipes]
        for index, recipe in enumerate(recipes):
            self.oracle.know(base + index, recipe, payloads[index], options)
        client.define(1)
        wanted = [index for index in range(n) if rng.random() < 0.4 or index == n - 1]
        for index in wanted:
            self._hold(base + index, 1, "node")
        order = list(range(n))
        rng.shuffle(order)
        pack = Pack.of(payloads)
        client.post(
            SubmitGraph(
                base,
                (1,) * n,
                pack.sizes_bytes(),
                bytes(pack.data),
                tuple(needs),
                tuple(order),
                tuple((base + index, 1) for index in wanted),
                (options,),
            )
        )

    def _named(self, rng: Random) -> None:
        name = rng.choice(NAMES)
        if self._names.get(name) in self.held:
            return
        recipe = Recipe(_NAMED + NAMES.index(name), "plain", self.plan.task_seconds)
        payload = encode(recipe)
        client = self.client
        client.define(2)
        base = client.new_tasks(1)
        self.oracle.know(base, recipe, payload, DEFAULT_OPTIONS)
        self._hold(base, 1, "named", name)
        self._names[name] = base
        pack = Pack.of([payload])
        client.post(
            Submit(
                *(base, 1, 2, pack.sizes_bytes(), bytes(pack.data)),
                name=name,
                identity=payload,
            )
        )

    def _scatter(self, rng: Random) -> None:
        n = rng.randrange(1, self.plan.tasks + 1)
        base = self.client.new_tasks(n)
        values = [self.oracle.know_data(base + index) for index in range(n)]
        self._hold(base, n, "data")
        pack = Pack.of(values)
        broadcast = rng.random() < 0.3
        self.client.post(
            Scatter(base, n, pack.sizes_bytes(), bytes(pack.data), (), broadcast)
        )

    def _place(self, rng: Random) -> None:
        """Bring a large value to one worker, or to several."""
        client = self.client
        seen = list(client.workers.values())
        if not seen:
            return
        rng.shuffle(seen)
        task = client.new_tasks(1)
        value = self.oracle.know_data(task)
        self.oracle.brought.add(task)
        for target in seen[: rng.choice((1, 1, 2))]:
            worker = self.world.worker_at(target.addresses[0])
            if worker is not None:
                self._bring(task, value, worker, target.worker)

    def _bring(self, task: TaskId, value: bytes, worker: Worker, number: int) -> None:
        network, client = self.world.network, self.client

        def put() -> None:
            came = network.bring(value)
            if came is None or worker.disk_full:
                return
            worker.store.setdefault(task, came)
            worker.sizes[task] = 200_000
            network.pass_path(worker.name, client.name, 16, answered)

        def arrived(came: bool) -> None:
            if came:
                worker.run(put)

        def answered(came: bool) -> None:
            if came:
                client.run(placed)

        def placed() -> None:
            if task not in self._placed:
                self._placed.add(task)
                self._hold(task, 1, "large")
            if task in self.held:
                copies = 1 + task % 3
                client.post(Placed(task, number, 200_000, copies=copies))

        network.pass_path(client.name, worker.name, 200_000, arrived)

    # Taking, letting go, looking.

    def _want(self, rng: Random) -> None:
        others = [user for user in self._others() if user is not self and user.held]
        if not others:
            return
        task = rng.choice(list(rng.choice(others).held))
        if task in self.held or self.client.wishes.find(task) is not None:
            return  # One's own that was let go of does not come back: it is refused.
        # It may be let go of by the other one before this is heard of.
        self.oracle.unsure.add(task)
        self._hold(task, 1, "other's")
        self.client.taken.add(task)
        self.client.post(Want(((task, 1),)))

    def _release(self, rng: Random) -> None:
        tasks = self._stretch(rng)
        if rng.random() < 0.2:
            tasks = list(self.held)
        self.release(tasks)

    def release(self, tasks: Sequence[TaskId]) -> None:
        """Let go of futures, consecutive ones of a range together."""
        stretches: list[tuple[Range, int, int]] = []
        for task in tasks:
            wish, index = self.held.pop(task)
            self.oracle.released |= self.oracle.brought & {task}
            if stretches:
                last, lo, n = stretches[-1]
                if last is wish and lo + n == index:
                    stretches[-1] = (wish, lo, n + 1)
                    continue
            stretches.append((wish, index, 1))
        for wish, lo, n in stretches:
            self.client.release(wish, lo, n)

    def _cancel(self, rng: Random) -> None:
        for task in self._stretch(rng):
            wish, index = self.held[task]
            self.oracle.cancelled.add(self.oracle.number_of(task))
            self.client.cancel(wish, index, 1)

    def _retry(self, rng: Random) -> None:
        del rng
        self.retry_all()

    def retry_all(self) -> None:
        """Have everything that failed run once more."""
        for wish, index in list(self.held.values()):
            self.client.retry(wish, index)

    def _detach(self, rng: Random) -> None:
        tasks = self._stretch(rng)
        for task in tasks:
            self.client.post(Detach(((task, 1),)))
        self.release(tasks)

    def _look(self, rng: Random) -> None:
        del rng
        self.look()

    def look(self) -> bool:
        """Look at everything that has ended; say whether all has, and is here."""
        complete = True
        for task, (wish, index) in list(self.held.items()):
            status = wish.status[index]
            failure = wish.failure(index)
            if failure is not None:
                self.oracle.check_failure(task, failure)
                continue
            value = self.client.value(wish, index)
            if value is not None:
                self.oracle.check_value(task, value)
                continue
            complete = False
            if status == Status.STORED:
                self.client.fetch(wish, index)
        return complete

    #: What carries out each kind of wish.
    _DO: ClassVar[dict[str, Callable[[User, Random], None]]] = {
        "map": _map,
        "chain": _chain,
        "reduce": _reduce,
        "graph": _graph,
        "named": _named,
        "scatter": _scatter,
        "place": _place,
        "want": _want,
        "release": _release,
        "cancel": _cancel,
        "retry": _retry,
        "look": _look,
        "detach": _detach,
    }
