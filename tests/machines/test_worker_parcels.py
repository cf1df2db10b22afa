"""Short nodes that came together: as one, as long as nothing happens to one of them."""

from __future__ import annotations

import gc
import os
import sys

import pytest

from covey.wire.worker_link import Running, Stop
from covey.worker.core import orders, parcels, reporting
from covey.worker.core.state import Parcel, ParcelFlight

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120

from worker_world import World, world_of

sys.path.pop(0)

SHORT = 1e-5


def node(world, *awaits, seconds=SHORT, **more):
    how = {"aligned": awaits, "awaits": awaits, "digests": True, "reply": False}
    return world.message_of(1, seconds=seconds, **{**how, **more})


def chain(world, n, **more):
    """Return nodes of which each takes the one before."""
    nodes = [node(world, **more)]
    while len(nodes) < n:
        nodes.append(node(world, nodes[-1].base, **more))
    return nodes


def watched(world, *kinds):
    found = []
    world.watch = lambda order: (
        found.append(order) if isinstance(order, kinds) else None
    )
    return found


@pytest.fixture
def world():
    return world_of(runners=2)


def test_a_chain_of_nodes_is_sent_and_told_of_as_one(world):
    seen = watched(world, orders.DispatchNodes, orders.Dispatch, orders.ReportNodes)
    nodes = chain(world, 5)
    world.tell(*nodes)
    (sent,) = seen
    assert sent.nodes == nodes
    assert sent.keeps == sent.owns == {m.base for m in nodes[:-1]}
    world.settle()
    _, told = seen
    assert told.tasks == tuple(m.base for m in nodes)
    assert not world.kept, "the arguments of what is a parcel go with the order"
    world.check_ends()


def parcels_in_memory():
    return [o for o in gc.get_objects() if type(o) in {Parcel, ParcelFlight}]


def test_a_parcel_that_is_over_is_gone_without_the_collector(world):
    gc.collect()
    gc.disable()
    try:
        before = parcels_in_memory()
        world.tell(*chain(world, 5))
        world.settle()
        world.tell(*chain(world, 5), node(world))
        parcels.separate_all(world.state)
        world.settle()
        after = parcels_in_memory()
    finally:
        gc.enable()
    assert len(after) <= len(before)
    world.check_ends()


def test_what_can_begin_does_not_wait_with_what_cannot(world):
    slow = world.run(1, seconds=SHORT, digests=True)
    first = world.runs[slow].base
    seen = watched(world, orders.DispatchNodes)
    world.slots[0].read()  # It executes, and has not ended.
    nodes = [node(world), node(world, first), node(world), node(world, first)]
    world.tell(*nodes)
    assert [m.nodes for m in seen] == [[nodes[0], nodes[2]]]
    world.settle()
    assert sum(len(m.nodes) for m in seen) == 4
    world.check_ends()


def test_nothing_is_in_a_parcel_that_waits_for_something_long(world):
    long = world.run(1, seconds=3.0)
    last = node(world, world.runs[long].base)
    world.tell(last, node(world, last.base), node(world, last.base))
    assert not world.state.parcels
    world.settle()
    world.check_ends()


def test_a_parcel_takes_no_longer_than_is_worth_sharing(world):
    seen = watched(world, orders.DispatchNodes)
    world.tell(*[node(world, seconds=0.0001) for _ in range(10)])
    world.settle()
    assert all(len(m.nodes) * 0.0001 < parcels.PARCEL_SECONDS * 1.01 for m in seen)
    assert {m.slot for m in seen} == {0, 1}


def test_a_parcel_rides_behind_the_one_that_it_takes_values_of(world):
    seen = watched(world, orders.DispatchNodes)
    nodes = chain(world, parcels.NODES_MAX + 6, seconds=1e-7)
    world.tell(*nodes)
    first, second = seen
    assert first.slot == second.slot
    assert nodes[parcels.NODES_MAX - 1].base in first.keeps & second.owns
    world.settle()
    world.check_ends()


@pytest.mark.parametrize("at", [0, 2, 4])
def test_of_a_stopped_node_nothing_is_kept_and_the_others_go_on(world, at):
    nodes = [node(world) for _ in range(5)]
    world.tell(*nodes)
    assert world.state.parcels
    world.stop(nodes[at].run, nodes[at].base, 1)
    assert not world.state.parcels
    world.settle()
    assert world.ends[nodes[at].run, nodes[at].base] == "stopped"
    assert list(world.ends.values()).count("ran") == 4
    world.check_ends()


def test_news_of_a_node_that_had_ended_stops_no_other(world):
    nodes = [node(world) for _ in range(4)]
    world.tell(*nodes)
    slot = next(s for s in world.slots if s.inbox)
    slot.run(2)
    slot.report()
    world.hear(slot)
    world.step(orders.Told([Stop(nodes[0].run, nodes[0].base, 1)]))
    world.store.discard(nodes[0].base)
    assert world.state.parcels
    world.settle()
    assert set(world.ends.values()) == {"ran"}


def test_one_that_fails_fails_alone(world):
    nodes = [node(world) for _ in range(4)]
    world.tell(*nodes)
    slot = next(s for s in world.slots if s.inbox)
    slot.run(1)
    slot.fail()
    world.settle()
    assert list(world.ends.values()) == ["ran", "failed", "ran", "ran"]
    world.check_ends()


def test_only_what_executed_is_blamed_for_the_end_of_its_process(world):
    nodes = chain(world, 4)
    world.tell(*nodes)
    slot = next(s for s in world.slots if s.inbox)
    slot.run(2)
    slot.report()
    runner = world.runners[slot.number]
    world.die(runner)
    world.settle()
    assert list(world.ends.values())[:3] == ["ran", "ran", "failed"]
    world.check_ends()


def test_what_waits_in_a_parcel_can_be_asked_back():
    world = world_of()
    nodes = [node(world, seconds=0.0002) for _ in range(100)]
    world.tell(*nodes)
    assert world.state.parcels and world.state.queued
    world.ask_back(3)
    ends = list(world.ends.values())
    assert ends == [None] * 97 + ["returned"] * 3
    assert world.state.parcels, "only what lay in the queue is taken apart"
    world.settle()
    world.check_ends()


def test_patience_ends_where_what_should_come_soon_does_not(world):
    slow = world.run(1, seconds=SHORT, digests=True)
    other = world.run(1, seconds=SHORT, digests=True)
    slow, other = world.runs[slow].base, world.runs[other].base
    quick = [slot for slot in world.slots if slot.tasks()][-1]
    nodes = [node(world, slow), node(world, other), node(world, slow, other)]
    world.tell(*nodes)
    assert world.state.waiting
    quick.run(1)
    quick.report()
    world.hear(quick)
    world.tick(parcels.PATIENCE_SECONDS - 0.1)
    assert world.state.waiting
    world.tick(0.2)
    assert not world.state.waiting
    sent = [d.run for slot in world.slots for d in slot.inbox]
    assert len({m.run for m in nodes[:2]} & {*sent}) == 1
    world.settle()
    world.check_ends()


def test_memory_that_is_short_takes_parcels_apart(world):
    world.step(orders.MemoryShort(True))
    nodes = [node(world) for _ in range(3)]
    world.tell(*nodes)
    assert not world.state.parcels
    world.step(orders.MemoryShort(False))
    world.settle()
    world.check_ends()


def test_a_scheduler_that_knows_nothing_is_told_of_each_node(world):
    nodes = chain(world, 3)
    world.tell(*nodes)
    told = reporting.in_hand(world.state, [])
    assert told == [Running(m.run, m.base, 1, m.awaits) for m in nodes]


def test_what_others_see_is_what_singles_would_have_said():
    """A slot tells in an order that no parcel has: nothing of it is lost."""
    world = World(1, 1)
    world.start(0)
    nodes = [node(world, digests=True) for _ in range(3)]
    world.tell(*nodes)
    mixed = [nodes[1], nodes[0], nodes[2]]
    runs, tasks = [m.run for m in mixed], [m.base for m in mixed]
    world.slots[0].inbox.clear()
    world.step(orders.SlotRanNodes(0, runs, tasks, [0.1] * 3, [8] * 3, 50))
    assert set(world.ends.values()) == {"ran"}
    assert not world.state.runs and not world.state.soon


# A copy comes of what is being made.


def overtaken(world, nodes):
    """Let a copy of what the first of *nodes* makes come while a slot makes it."""
    world.fetch((nodes[0].base, 1), 7)
    sent = watched(world, orders.DispatchNodes, orders.Dispatch)
    world.tell(*nodes)
    slot = next(s for s in world.slots if s.inbox)
    assert len({order.slot for order in sent}) == 1
    world.fetched((nodes[0].base, 1))
    return slot, sent


def runs_of(sent, message):
    """Return how often a task was sent to a slot."""
    tasks = []
    for order in sent:
        if isinstance(order, orders.DispatchNodes):
            tasks += [node.base for node in order.nodes]
        else:
            tasks += range(order.base, order.base + order.n)
    return tasks.count(message.base)


@pytest.mark.parametrize("seconds", [SHORT, parcels.PARCEL_SECONDS])
def test_what_took_another_value_than_the_copy_that_came_runs_again(world, seconds):
    """Together in one parcel, or each riding behind the other."""
    nodes = chain(world, 3, seconds=seconds)
    slot, sent = overtaken(world, nodes)
    slot.run(3)
    slot.report()
    world.hear(slot)
    ends = [world.ends[node.run, node.base] for node in nodes]
    assert ends == ["ran", None, None], "what they took is not what is here"
    world.settle()
    assert [runs_of(sent, node) for node in nodes] == [1, 2, 2]
    assert set(world.ends.values()) == {"ran"}
    world.check_ends()


@pytest.mark.parametrize("seconds", [SHORT, parcels.PARCEL_SECONDS])
@pytest.mark.parametrize("n", [1, 2])
def test_what_takes_several_of_those_runs_again_once(world, seconds, n):
    """The last but one takes both before it, and copies of one or of both come."""
    first = node(world, base=100, seconds=seconds)
    second = node(world, 100, base=101, seconds=seconds)
    both = node(world, 100, 101, base=102, seconds=seconds)
    nodes = [first, second, both, node(world, 102, base=103, seconds=seconds)]
    world.fetch((100, n), 7)
    sent = watched(world, orders.DispatchNodes, orders.Dispatch)
    world.tell(*nodes)
    world.fetched((100, n))
    world.settle()
    assert set(world.ends.values()) == {"ran"}
    assert [runs_of(sent, node) for node in nodes] == [1, 2, 2, 2]
    world.check_ends()


def test_what_waits_in_a_parcel_takes_the_copy_that_comes():
    world = World(runners=1)
    nodes = chain(world, 3)
    world.fetch((nodes[0].base, 1), 7)
    sent = watched(world, orders.DispatchNodes, orders.Dispatch)
    world.tell(*nodes)
    assert world.state.parcels
    assert not sent, "no runner is ready"
    world.fetched((nodes[0].base, 1))
    world.start(0)
    world.settle()
    assert not any(nodes[0].base in order.owns for order in sent)
    assert set(world.ends.values()) == {"ran"}


def test_a_copy_stays_when_what_makes_the_same_is_stopped(world):
    nodes = chain(world, 2)
    world.fetch((nodes[0].base, 1), 7)
    world.tell(nodes[0])
    world.fetched((nodes[0].base, 1))
    world.step(orders.Told([Stop(nodes[0].run, nodes[0].base, 1)]))
    assert world.state.copies.covers(nodes[0].base, 1)
    assert nodes[0].base in world.store


def test_what_failed_with_another_value_than_the_copy_runs_again(world):
    nodes = chain(world, 2, seconds=parcels.PARCEL_SECONDS)
    slot, sent = overtaken(world, nodes)
    slot.run(1)
    slot.fail()
    while slot.out:
        world.hear(slot)
    world.settle()
    assert runs_of(sent, nodes[1]) == 2
    assert set(world.ends.values()) == {"ran"}


def test_what_comes_back_of_those_takes_the_copy_like_any_other(world):
    nodes = chain(world, 2, seconds=parcels.PARCEL_SECONDS)
    slot, sent = overtaken(world, nodes)
    slot.read()
    for event in slot.retract():
        world.comes_back = True
        world.step(event)
        world.comes_back = False
    world.settle()
    assert not world.state.slots[slot.number].overtaken
    assert set(world.ends.values()) == {"ran"}
    assert runs_of(sent, nodes[1]) == 2


def test_what_is_overtaken_and_dies_is_like_any_other(world):
    nodes = chain(world, 2, seconds=parcels.PARCEL_SECONDS)
    slot, _ = overtaken(world, nodes)
    slot.run(1)
    world.die(next(r for r in world.runners if slot in r.slots))
    world.settle()
    assert not world.state.slots[slot.number].overtaken
    world.check_ends()


def test_what_is_here_already_is_in_no_parcel_with_those_that_take_it(world):
    nodes = chain(world, 3)
    world.fetch((nodes[0].base, 1), 7)
    world.fetched((nodes[0].base, 1))
    sent = watched(world, orders.DispatchNodes, orders.Dispatch)
    world.tell(*nodes)
    world.settle()
    for order in sent:
        owns = order.owns
        assert nodes[0].base not in owns
    assert set(world.ends.values()) == {"ran"}
