"""What goes wrong: each fault of a plan, carried out on a world."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Final

from covey.sim.network import Node
from covey.sim.plan import Fault
from covey.sim.tasks import decode

if TYPE_CHECKING:
    from covey.sim.world import World


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
    worker.run(runner.crash, "SIGKILL")


def _pause(world: World, fault: Fault, rng: Random) -> None:
    """A process is stopped for a while, as a laptop is that sleeps."""
    node = rng.choice(world.nodes())
    if not node.paused:
        node.pause()
        world.timeline.after(fault.seconds, _resume, node)


def _resume(node: Node) -> None:
    if node.alive and node.paused:
        node.resume()


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
    "join": _join,
    "retire": _retire,
    "client-gone": _client_gone,
    "scheduler-crash": _scheduler_crash,
}
