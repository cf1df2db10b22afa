"""What goes wrong: each fault of a plan, carried out on a world."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Final

from covey.settings import SchedulerSettings
from covey.sim.network import Node
from covey.sim.plan import Fault
from covey.sim.tasks import decode

if TYPE_CHECKING:
    from covey.sim.world import World


def lasts(fault: Fault) -> float:
    """Return for how many seconds a fault goes on."""
    if fault.kind == "outage":
        return SchedulerSettings().worker_grace_seconds + 1.0 + 0.5 * fault.seconds
    return fault.seconds


def _worker_crash(world: World, fault: Fault, rng: Random) -> None:
    """A worker ends at once, and another one takes its place later."""
    workers = world.living_workers()
    if workers:
        world.lose_worker(rng.choice(workers), back_in=fault.seconds)


def _runner_crash(world: World, fault: Fault, rng: Random) -> None:
    """Something kills a runner: the system, for want of memory."""
    del fault
    workers = world.living_workers()
    if not workers:
        return
    worker = rng.choice(workers)
    runner = rng.choice(worker.runners)
    for slot in runner.slots:
        for doing in [slot.doing, *slot.parked]:
            if doing is not None:
                payload = bytes(doing.batch.pack[doing.task - doing.batch.base])
                world.oracle.killed.add(decode(payload).number)
    # A suspect is tried alone: what it was sent to dies again, and it is to blame, even
    # if it had not arrived.
    for payload in worker.suspects_of(runner):
        world.oracle.killed.add(decode(payload).number)
    worker.run(runner.crash, "SIGKILL")


def _any_node(world: World, rng: Random) -> Node | None:
    """Return a process that lives; at times none does."""
    nodes = world.nodes()
    return rng.choice(nodes) if nodes else None


def _pause(world: World, fault: Fault, rng: Random) -> None:
    """A process is stopped for a while, as a laptop is that sleeps."""
    node = _any_node(world, rng)
    if node is not None and not node.paused:
        node.pause()
        # The clock of a machine that sleeps stands still; that of one process does not.
        asleep = fault.seconds if rng.random() < 0.5 else 0.0
        world.timeline.after(fault.seconds, _resume, node, node.pauses, asleep)


def _resume(node: Node, pauses: int, asleep: float) -> None:
    if node.alive and node.paused and node.pauses == pauses:
        if asleep:
            node.step_clock(-asleep)
        node.resume()


def _clock(world: World, fault: Fault, rng: Random) -> None:
    """The clock of a process jumps ahead: for so long its machine was not run."""
    node = _any_node(world, rng)
    if node is not None:
        node.step_clock(100.0 * fault.seconds * rng.random())


def _partition(world: World, fault: Fault, rng: Random) -> None:
    """Some processes cannot reach the others, nor be reached."""
    nodes = [node.name for node in world.nodes()]
    inside = [name for name in nodes if rng.random() < 0.5]
    for name in inside:
        for other in nodes:
            if other not in inside:
                _block(world, name, other, fault.seconds)
                _block(world, other, name, fault.seconds)


def _one_way(world: World, fault: Fault, rng: Random) -> None:
    """One process hears another, but is not heard."""
    nodes = [node.name for node in world.nodes()]
    if len(nodes) > 1:
        source, target = rng.sample(nodes, 2)
        _block(world, source, target, fault.seconds)


def _block(world: World, source: str, target: str, seconds: float) -> None:
    world.oracle.out_of_reach = True
    world.network.block(source, target)
    world.timeline.after(seconds, world.network.heal, source, target)


def _outage(world: World, fault: Fault, rng: Random) -> None:
    """A worker cannot reach its scheduler for longer than it is waited for.

    It works on meanwhile, on what has long been given to others.
    """
    workers = world.living_workers()
    if workers:
        name = rng.choice(workers).name
        for path in ((name, world.scheduler.name), (world.scheduler.name, name)):
            _block(world, *path, lasts(fault))


def _swizzle(world: World, fault: Fault, rng: Random) -> None:
    """Paths stop one by one, and heal one by one in another order."""
    nodes = [node.name for node in world.nodes()]
    paths = [(a, b) for a in nodes for b in nodes if a != b and rng.random() < 0.4]
    world.oracle.out_of_reach = True
    for path in paths:
        begin = rng.random() * fault.seconds
        world.timeline.after(begin, world.network.block, *path)
        world.timeline.after(
            begin + rng.random() * fault.seconds, world.network.heal, *path
        )


def _clog(world: World, fault: Fault, rng: Random) -> None:
    """A path is slow for a while."""
    nodes = [node.name for node in world.nodes()]
    if len(nodes) > 1:
        source, target = rng.sample(nodes, 2)
        world.network.clog(source, target, rng.random() * 2.0)
        world.timeline.after(fault.seconds, world.network.clog, source, target, 0.0)


def _cut(world: World, fault: Fault, rng: Random) -> None:
    """A connection breaks, in the middle of a byte stream."""
    del fault
    if world.network.connections:
        world.network.break_(rng.choice(world.network.connections))


def _slow(world: World, fault: Fault, rng: Random) -> None:
    """Tasks on one worker take long."""
    workers = world.living_workers()
    if workers:
        worker = rng.choice(workers)
        worker.slowness = 1.0 + 20.0 * rng.random()
        world.timeline.after(fault.seconds, setattr, worker, "slowness", 1.0)


def _slow_node(world: World, fault: Fault, rng: Random) -> None:
    """A machine is busy: all that comes and goes is late, and tasks take long."""
    node = _any_node(world, rng)
    if node is None:
        return
    late = rng.random() * 0.5
    for other in world.nodes():
        for path in ((node.name, other.name), (other.name, node.name)):
            world.network.clog(*path, late)
            world.timeline.after(fault.seconds, world.network.clog, *path, 0.0)
    for worker in world.living_workers():
        if worker is node:
            worker.slowness = 1.0 + 10.0 * rng.random()
            world.timeline.after(fault.seconds, setattr, worker, "slowness", 1.0)


def _disk_full(world: World, fault: Fault, rng: Random) -> None:
    """On one worker nothing large fits any more, for a while."""
    workers = world.living_workers()
    if workers:
        worker = rng.choice(workers)
        worker.disk_full = world.oracle.disk_full = True
        world.timeline.after(fault.seconds, setattr, worker, "disk_full", False)


def _rot(world: World, fault: Fault, rng: Random) -> None:
    """What a worker has on disk cannot be read any more, or is something else.

    What its own tasks have mapped they still read.
    """
    del fault
    workers = [worker for worker in world.living_workers() if worker.sizes]
    if workers:
        worker = rng.choice(workers)
        rotten = [task for task in worker.sizes if rng.random() < 0.5]
        worker.rotten.update(rotten)
        world.oracle.rotten.update(rotten)
        if rng.random() < 0.7:
            # Somebody looks at once.
            worker.run(worker.lend, tuple((task, 1) for task in rotten))


def _garble(world: World, fault: Fault, rng: Random) -> None:
    """Large values do not all come as they were sent, for a while."""
    # Whoever asks again and again gives up at last.
    world.oracle.out_of_reach = True
    world.network.garbles = rng.choice((0.2, 0.8))
    world.timeline.after(fault.seconds, setattr, world.network, "garbles", 0.0)


def _join(world: World, fault: Fault, rng: Random) -> None:
    """One more worker comes."""
    del fault, rng
    world.new_worker(f"extra{len(world.workers)}")


def _retire(world: World, fault: Fault, rng: Random) -> None:
    """A worker wants to leave in good order."""
    del fault
    workers = world.living_workers()
    if workers:
        worker = rng.choice(workers)
        worker.run(worker.leave)


def _scheduler_crash(world: World, fault: Fault, rng: Random) -> None:
    """The scheduler is killed; another life of it begins later."""
    del rng
    world.lose_scheduler(back_in=min(fault.seconds, 20.0))


def _zombie(world: World, fault: Fault, rng: Random) -> None:
    """The scheduler stands still until it is replaced, and then goes on."""
    until_replaced = 1.0 + 9.0 * rng.random()
    world.replace_scheduler(until_replaced, until_replaced + fault.seconds)


def _power(world: World, fault: Fault, rng: Random) -> None:
    """The scheduler's machine goes down, and comes up again later."""
    if world.scheduler.alive and world.journal is not None:
        world.journal.lose_power(rng)
    world.lose_scheduler(back_in=min(fault.seconds, 20.0))


def _journal_full(world: World, fault: Fault, rng: Random) -> None:
    """There is no room for the journal, for a while."""
    del rng
    if world.journal is not None:
        world.journal.full = True
        world.timeline.after(fault.seconds, setattr, world.journal, "full", False)


def _client_gone(world: World, fault: Fault, rng: Random) -> None:
    """A client's process is killed."""
    del fault
    if world.users:
        world.lose_client(rng.choice(world.users))


#: What carries out each kind of fault.
DO: Final[dict[str, Callable[[World, Fault, Random], None]]] = {
    "crash": _worker_crash,
    "runner-crash": _runner_crash,
    "pause": _pause,
    "partition": _partition,
    "one-way": _one_way,
    "clog": _clog,
    "cut": _cut,
    "slow": _slow,
    "swizzle": _swizzle,
    "outage": _outage,
    "join": _join,
    "retire": _retire,
    "client-gone": _client_gone,
    "scheduler-crash": _scheduler_crash,
    "zombie": _zombie,
    "clock": _clock,
    "slow-node": _slow_node,
    "disk-full": _disk_full,
    "rot": _rot,
    "garble": _garble,
    "power": _power,
    "journal-full": _journal_full,
}
