"""One run: a plan carried out from its first wish to the last release.

First things go wrong while users wish (**safety**: nothing may ever come out
wrong).  Then the network heals and workers come back, and everything that anybody
still waits for must come to its end (**liveness**).  At last all is let go of, and
nothing may be left.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final

from covey.ids import ClientId, TaskId
from covey.scheduler.core import invariants
from covey.settings import ClientSettings, WorkerSettings
from covey.sim.client import Client
from covey.sim.disk import Journal
from covey.sim.faults import DO, lasts
from covey.sim.idleness import Idleness
from covey.sim.lines import Owner, Uplink
from covey.sim.network import CLOCKS, End, Network, Node, Weather
from covey.sim.oracle import Oracle, OracleWork, Wrong
from covey.sim.plan import Fault, Plan, Wish
from covey.sim.runners import Work
from covey.sim.scheduler import Scheduler
from covey.sim.timeline import Timeline, Trace
from covey.sim.users import User
from covey.sim.worker import Worker
from covey.wire.client_link import ToClient
from covey.wire.keys import Role
from covey.wire.worker_link import ToWorker

#: After everything has healed, all must have ended within this time ...
LIVENESS_SECONDS: Final = 300.0

#: For so long clients that are gone are waited for, and after them what they brought.
GRACE_SECONDS: Final = 135.0

#: When there was nothing to be waited for in all this time, that is over.
SETTLE_SECONDS: Final = 5.0

#: ... which is looked at so often.
LOOK_SECONDS: Final = 0.5

#: More calls than this in one run mean that it runs in circles.
CALLS_MAX: Final = 400_000


class World:
    """A scheduler, workers, users, and what happens to them."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.timeline = Timeline()
        self.trace = Trace()
        self.rng = Random(plan.seed ^ 0x5EED)
        weather = Weather(plan.latency, plan.jitter, 1e8)
        self.network = Network(
            self.timeline, Random(plan.seed ^ 0xA1B2), weather, self.trace
        )
        self.oracle = Oracle()
        self.work: Work = OracleWork(self.oracle)
        self.journal = Journal() if plan.journal else None
        self.epoch = 0
        #: Earlier lives of the scheduler that have not ended.
        self.zombies: list[Scheduler] = []
        self.scheduler = self._new_scheduler()
        self.workers: dict[str, Worker] = {}
        self.users: list[User] = []
        self._last_client = 0
        self._lives = 0
        self._healed = False
        self._idleness = Idleness()
        for index in range(plan.workers):
            self.new_worker(f"w{index}")
        for _ in range(plan.clients):
            self.new_user()

    # Who is there.

    def living_workers(self) -> list[Worker]:
        """Return the workers that live."""
        return [worker for worker in self.workers.values() if worker.alive]

    def nodes(self) -> list[Node]:
        """Return all processes that live."""
        clients = [user.client for user in self.users]
        schedulers = [self.scheduler] if self.scheduler.alive else []
        return [*schedulers, *self.zombies, *self.living_workers(), *clients]

    def worker_at(self, address: str) -> Worker | None:
        """Return the worker that serves its data at an address, if it lives."""
        for worker in self.workers.values():
            if worker.address == address and worker.alive:
                return worker
        return None

    # Coming and going.

    def new_worker(self, name: str) -> None:
        """A worker starts, and joins."""
        self._lives += 1
        plan = self.plan
        worker = Worker(
            self,
            name,
            runners=plan.runners,
            threads=plan.threads,
            address=f"tcp://{name}:{self._lives}",
            resources={"gpu": 1.0},
        )
        worker.ahead = self.rng.choice(CLOCKS)
        self.workers[name] = worker
        worker.on_quit = self._let_go
        patience = WorkerSettings().reconnect_seconds
        worker.uplink = self._uplink(worker, ToWorker, Role.WORKER, patience)

    def _uplink(self, owner: Owner, union: Any, role: Role, patience: float) -> Uplink:
        uplink = Uplink(
            owner,
            union,
            role,
            self,
            self.network,
            self.timeline,
            self.rng,
            patience,
            corked=self.plan.corked,
        )
        uplink.start()
        return uplink

    def _new_scheduler(self) -> Scheduler:
        self.epoch += 1
        scheduler = Scheduler(
            self.timeline,
            self.rng,
            epoch=self.epoch,
            checks=self.plan.checks,
            journal=self.journal,
        )
        scheduler.on_given_up = self._lost_one
        scheduler.on_late = self.oracle.late.add
        scheduler.is_overtaken = lambda it: it is not self.scheduler
        scheduler.on_overtaken = self._end_zombie
        return scheduler

    def _lost_one(self) -> None:
        self.oracle.losses += 1

    def door(self) -> End | None:
        """Return the scheduler's end of a new connection, if it is there.

        While an earlier life lingers, some still find their way to that.
        """
        if self.zombies and self.rng.random() < 0.3:
            return self.rng.choice(self.zombies).accept()
        return self.scheduler.accept() if self.scheduler.alive else None

    def lose_scheduler(self, *, back_in: float) -> None:
        """The scheduler ends at once, and another life of it begins later."""
        if self.scheduler.alive:
            self.oracle.restarts += 1
            self.scheduler.die()
            self.network.gone(self.scheduler)
            self.timeline.after(back_in, self._next_life)

    def replace_scheduler(self, replaced_in: float, back_in: float) -> None:
        """The scheduler stands still, is taken for dead, and comes back after all."""
        old = self.scheduler
        # Whoever keeps a journal holds it for as long as it lives.
        if old.alive and not old.paused and self.journal is None:
            old.pause()
            self.timeline.after(replaced_in, self._replace, old)
            self.timeline.after(back_in, self._wake, old)

    def _replace(self, old: Scheduler) -> None:
        if old is self.scheduler and old.alive and old.paused:
            self.oracle.restarts += 1
            # Nothing of what was said to it last need have come there.
            self.oracle.losses += 1
            self.zombies.append(old)
            self.scheduler = self._new_scheduler()

    def _wake(self, old: Scheduler) -> None:
        if old.alive and old.paused:
            old.resume()
            if old in self.zombies:
                # Some look for the scheduler just now, and may find this one.
                for connection in list(self.network.connections):
                    if self.rng.random() < 0.5:
                        self.network.break_(connection)

    def _end_zombie(self, old: Scheduler) -> None:
        """An earlier life has heard of a later one: it ends, without a word."""
        if old in self.zombies:
            self.zombies.remove(old)
            old.die()
            self.network.gone(old)

    def _next_life(self) -> None:
        if not self.scheduler.alive:
            self.scheduler = self._new_scheduler()

    def _let_go(self, worker: Worker) -> None:
        """The scheduler lets a worker go that wanted to leave."""
        if worker.alive:
            state = self.scheduler.core.state
            if all(other.leaving for other in state.workers.values()):
                # Nobody was left who could take what only it had.
                self.oracle.losses += 1
            self.oracle.late |= {
                task
                for task in self.oracle.brought & set(worker.store)
                if task not in state.spans
            }
            worker.die()
            self.network.gone(worker)
        if self._healed:
            self._come_back(worker.name)

    def lose_worker(self, worker: Worker, *, back_in: float) -> None:
        """A worker ends as it is; one of the same name comes later."""
        if worker.alive:
            self.oracle.losses += 1
            worker.die()
            self.network.gone(worker)
            self.timeline.after(back_in, self._come_back, worker.name)

    def _come_back(self, name: str) -> None:
        if not self.workers[name].alive:
            self.new_worker(name)

    def new_user(self) -> User:
        """A user comes, with a client."""
        self._last_client += 1
        number = ClientId(2 * self._last_client + 1)
        client = Client(self, number, f"client{self._last_client}")
        client.ahead = self.rng.choice(CLOCKS)
        user = User(self, client, self.plan, self.oracle, lambda: self.users)
        self.users.append(user)
        client.on_gone = lambda: self.lose_client(user)
        patience = ClientSettings().reconnect_seconds
        client.uplink = self._uplink(client, ToClient, Role.CLIENT, patience)
        return user

    def lose_client(self, user: User) -> None:
        """A client ends, and with it all its wishes."""
        if user in self.users:
            self.users.remove(user)
            user.client.die()
            self.network.gone(user.client)

    # Running.

    def run(self) -> None:
        """Carry the plan out.

        Raises:
            AssertionError: something came out wrong, or never; or an invariant of a
                core does not hold.
        """
        plan = self.plan
        for wish in plan.wishes:
            self.timeline.at(wish.at, self._wish, wish)
        for fault in plan.faults:
            self.timeline.at(fault.at, self._fault, fault)
        times = [wish.at for wish in plan.wishes] + [fault.at for fault in plan.faults]
        last = max(times, default=0.0)
        self._until(last + 0.001)
        longest = max((lasts(fault) for fault in plan.faults), default=0.0)
        self._until(last + min(longest, 45.0))
        self._heal()
        self._finish()
        self._let_go_of_all()

    def _until(self, time: float) -> None:
        self.timeline.run(time, at_most=CALLS_MAX)

    def _look_on(self) -> None:
        """Let a little time pass in which nothing goes wrong."""
        self._until(self.timeline.now + LOOK_SECONDS)
        self._idleness.look(self.scheduler, self.living_workers(), self.timeline.now)

    def _wish(self, wish: Wish) -> None:
        while len(self.users) <= wish.client:
            self.new_user()
        user = self.users[wish.client]
        user.client.run(user.do, wish)

    def _fault(self, fault: Fault) -> None:
        self.trace.note(self.timeline.now, f"fault {fault.kind}")
        DO[fault.kind](self, fault, Random(fault.seed))

    def _heal(self) -> None:
        """From now on nothing goes wrong any more."""
        self._healed = True
        self.trace.note(self.timeline.now, "all heals")
        self.network.heal_all()
        self._next_life()
        for node in self.nodes():
            if node.paused:
                node.resume()
        for worker in self.living_workers():
            worker.slowness = 1.0
            worker.disk_full = False
        if self.journal is not None:
            self.journal.full = False
        for name in list(self.workers):
            self._come_back(name)

    def _finish(self) -> None:
        """Everything that somebody waits for comes to its end."""
        self._until_all_is_here()
        self._until_nobody_is_missed()
        # What was lost may have turned up meanwhile.
        self._until_all_is_here()
        if self.plan.seed % 2:
            # What has failed may be tried once more, whatever it failed of.
            for user in self.users:
                user.retry_all()
            self._until_all_is_here()
            self._until_nobody_is_missed()
        self._check_stores()

    def _until_nobody_is_missed(self) -> None:
        """Who has gone is waited for, and what is still said and dropped ends."""
        deadline = self.timeline.now + GRACE_SECONDS
        restless = self.timeline.now
        while restless + SETTLE_SECONDS > self.timeline.now < deadline:
            self._look_on()
            if not self._is_at_rest():
                restless = self.timeline.now

    def _is_at_rest(self) -> bool:
        """Whether all are here, and nothing is to happen at a later time."""
        scheduler = self.scheduler
        edges: list[Worker | Client] = [user.client for user in self.users]
        edges += self.living_workers()
        return not (
            self.zombies
            or scheduler.core.wake_at
            or scheduler.attendance.waits
            or any(worker.assigned for worker in scheduler.core.state.workers.values())
            or any(not edge.uplink or not edge.uplink.connected for edge in edges)
        )

    def _until_all_is_here(self) -> None:
        # As if a single slot were left to run them all, one after the other.
        deadline = self.timeline.now + LIVENESS_SECONDS + self.oracle.seconds
        # A list, for all of them are to look and fetch.
        while not all([user.look() for user in self.users]):  # noqa: C419
            if self.timeline.now > deadline:
                raise Wrong(f"stuck: {self._pending()}")
            self._look_on()

    def _pending(self) -> str:
        for user in self.users:
            for task, (wish, index) in user.held.items():
                if wish.failure(index) is None and (
                    user.client.value(wish, index) is None
                ):
                    state = self.scheduler.core.state
                    span = state.spans.get(task)
                    return f"task {task:x} of {user.client.name} waits: {span}"
        return "nothing that is held"

    def _check_stores(self) -> None:
        """What the scheduler believes that workers hold is what they hold."""
        state = self.scheduler.core.state
        invariants.check(state)
        by_address = {w.addresses[0]: w for w in state.workers.values()}
        for worker in self.living_workers():
            record = by_address.get(worker.address)
            believed: set[TaskId] = set()
            for span in record.holds if record is not None else ():
                believed |= set(range(span.base, span.base + span.n))
            brought = self.oracle.brought
            odd = (believed ^ set(worker.store)) - brought
            if odd or not believed <= set(worker.store):
                names = ", ".join(f"{task:x}" for task in sorted(odd)[:5])
                raise Wrong(
                    f"{worker.name} is not thought to hold what it does: {names}"
                )

    def _let_go_of_all(self) -> None:
        """Nobody wants anything any more, so nothing may be left."""
        for user in self.users:
            user.release(list(user.held))
        self._until(self.timeline.now + 10.0)
        # What runs on a slow worker runs to its end, though nobody wants it any more.
        deadline = self.timeline.now + LIVENESS_SECONDS
        while self.timeline.now < deadline and any(
            worker.core.state.runs for worker in self.living_workers()
        ):
            self._until(self.timeline.now + LOOK_SECONDS)
        state = self.scheduler.core.state
        if self.journal is not None and self.journal.unfinished():
            raise Wrong(f"not run to its end: {self.journal.unfinished()[0][1]}")
        tables = (state.spans, state.starts, state.names, state.aliases, state.ids_of)
        if any(tables):
            raise Wrong(f"the scheduler keeps {next(iter(state.spans.values()), '')}")
        for worker in self.living_workers():
            left = set(worker.store) - self.oracle.brought
            if left or worker.core.state.runs or worker.keeps_arguments:
                raise Wrong(f"{worker.name} keeps what nobody wants")
