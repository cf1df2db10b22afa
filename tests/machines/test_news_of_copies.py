"""What workers tell of values under ids that stand for tasks elsewhere.

A worker knows a shared task by the task's own id.  Another life of the scheduler may
have told it one that is only another client's id for the task in this life.
"""

from __future__ import annotations

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120

from scheduler_world import SHARED

from covey.scheduler.core.spans import find
from covey.wire.client_link import Answer, Ask, Placed
from covey.wire.worker_link import Drop, Holds, Lacks, Returned, Unfetched

sys.path.pop(0)


def orders_to(side, kind):
    """Collect the messages of one kind that are sent to *side* from now on."""
    found = []

    def watch(peer, message):
        if peer is side and isinstance(message, kind):
            found.append(message)

    side.world.watch = watch
    return found


def shared(world, order):
    """Return the one task of two clients, and its id with the second of them."""
    first, second = (world.new_client(number) for number in order)
    return first.submit(1, name="shared"), second.submit(1, name="shared")


@pytest.mark.parametrize("order", [(3, 5), (5, 3)])
def test_a_copy_under_another_id_is_dropped_under_that_id(world, order):
    task, alias = shared(world, order)
    worker = world.new_worker()
    before = [m for m in worker.inbox if isinstance(m, Drop)]
    worker.store[alias] = SHARED
    worker.say(Holds(alias, 1, 8))
    assert not before
    assert [m for m in worker.inbox if isinstance(m, Drop)] == [Drop(((alias, 1),))]
    assert not find(world.state, task).replicas
    worker.do_everything()
    assert task in worker.store
    assert alias not in worker.store


@pytest.mark.parametrize("order", [(3, 5), (5, 3)])
def test_who_lacks_another_id_still_has_the_value(world, order):
    task, alias = shared(world, order)
    worker = world.new_worker()
    world.settle()
    other = world.new_worker(name="other")
    span = find(world.state, task)
    for news in (
        Lacks(((alias, 1),)),
        Unfetched(((alias, 1),), worker.peer),
        Returned(9, 9, 1, ((alias, 1, worker.peer),)),
    ):
        worker.say(news)
    assert [holder.peer for holder in span.replicas] == [worker.peer]
    assert not other.inbox


def test_a_copy_stays_where_a_run_was_stopped_since_another_copy_was_told_of(world):
    """All is lost with its holder, but two workers have fetched it before, unheard."""
    client = world.new_client()
    holder = world.new_worker(1, name="holder")
    task = client.submit(1)
    world.settle()
    value = holder.store[task]
    one, two = (world.new_worker(1, name=name) for name in ("one", "two"))
    user = client.submit(1, aligned=(task,))
    world.lose(holder.peer)
    maker = world.workers[find(world.state, task).worker.peer]
    other = two if maker is one else one
    maker.read(len(maker.inbox))
    for worker in (other, maker):
        worker.store[task] = value
        worker.copies.add(task)
        worker.say(Holds(task, 1, 8))
    maker.read(len(maker.inbox))
    assert task in maker.store
    world.settle()
    assert client.status[user] == "finished"


def test_who_waits_for_copies_of_what_is_released_is_answered(world):
    client = world.new_client()
    holder, _ = world.new_worker(name="holder"), world.new_worker(name="other")
    answers = orders_to(client, Answer)
    task = client.new_ids(1)
    client.hold(task, SHARED)
    world.arguments[task] = holder.store[task] = SHARED
    client.say(Placed(task, holder.peer, 100, broadcast=True))
    client.say(Ask(9, "spread", ((task, 1),)))
    assert not answers
    client.release((task, 1))
    assert [answer.request for answer in answers] == [9]
    assert not world.state.spreads
