"""What outlives its clients, and the scheduler: detached tasks, and published ones."""

from __future__ import annotations

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120

from scheduler_world import World

from covey.scheduler.core import journaling
from covey.scheduler.core.spans import find
from covey.scheduler.core.state import State
from covey.wire.base import Failure, Options
from covey.wire.client_link import (
    Detach,
    Over,
    Publish,
    Retry,
    Unpublish,
)
from covey.wire.worker_link import Ran, RanStored

sys.path.pop(0)


class Journaled(World):
    """A world whose scheduler writes down what is to outlive it."""

    def __init__(self):
        super().__init__()
        self.state.journal.kept = True
        self.written = []

    def step(self, event):
        super().step(event)
        self.written += self.core.take_records()

    def start_anew(self, *, without=()):
        """Scheduler and some clients die; another life goes on with the journal."""
        for client in without:
            del self.clients[client.peer]
        written = journaling.essence(self.written)
        self.written = written
        self.restart(late=[*self.clients, *self.workers])
        self.core.restore(list(written), self.now)
        for side in list(self.away):
            self.come_back(side)
        self.close_window()


def published(state, names):
    found = state.publications.by_name
    return [found[names[0]].payload] if names[0] in found else None


@pytest.fixture
def world():
    return Journaled()


@pytest.fixture
def client(world):
    return world.new_client()


def test_detached_tasks_go_on_without_client_and_scheduler(world, client):
    data = client.submit(1)
    user = client.submit(3, whole=((data, 1),))
    client.submit(5)
    client.say(Detach(((user, 2),)))
    world.start_anew(without=[client])
    worker = world.new_worker()
    world.settle()
    ran = [
        task
        for message in worker.said
        if isinstance(message, Ran | RanStored)
        for task in range(message.base, message.base + message.n)
    ]
    # What nobody wants any more was not even entered.
    assert sorted(ran) == [data, user, user + 1]
    assert not world.state.spans
    # All is over, and a third life has nothing to do.
    assert journaling.essence(world.written) == []


def test_a_shared_task_that_was_detached_by_another_id_of_it_comes_to_its_end(
    world, client
):
    other = world.new_client()
    client.submit(name="x", fn=3)
    theirs = other.submit(name="x", fn=3)
    other.say(Detach(((theirs, 1),)))
    other.release_all()
    # Should it be written anew now, nothing tells of that other id any more.
    world.written = journaling.live(world.state, world.written)
    client.release_all()
    world.start_anew(without=[client, other])
    worker = world.new_worker()
    world.settle()
    assert [type(m) for m in worker.said if isinstance(m, Ran | RanStored)]
    assert not world.state.spans
    assert journaling.essence(world.written) == []


def test_who_detached_a_shared_task_is_told_its_end(world, client):
    other = world.new_client()
    client.submit(name="x", fn=3)
    theirs = other.submit(name="x", fn=3)
    told = []
    world.watch = lambda peer, message: told.append((peer, message))
    other.say(Detach(((theirs, 1),)))
    other.release_all()
    world.new_worker()
    world.settle()
    assert (other, Over(((theirs, 1),))) in told
    assert not world.state.detached_as


def test_what_has_ended_is_not_done_again(world, client):
    world.new_worker()
    task = client.submit(2)
    client.say(Detach(((task, 2),)))
    world.settle()
    assert journaling.essence(world.written) == []
    # What had ended before it was detached is over at once.
    client.say(Detach(((task, 2),)))
    assert journaling.essence(world.written) == []


def test_published_values_are_kept_and_not_made_again(world, client):
    worker = world.new_worker()
    base = client.submit(4)
    world.settle()
    client.say(Publish("four", b"payload", ((base, 4),)))
    client.release_all()
    assert find(world.state, base).state is State.DONE
    said = len(worker.said)
    world.start_anew(without=[client])
    assert published(world.state, ["four"])[0] == b"payload"
    assert find(world.state, base).state is State.DONE
    world.settle()
    assert not [m for m in worker.said[said:] if type(m).__name__.startswith("Ran")]
    # The last holder dies: the values are made again, since they are kept.
    world.lose(worker.peer)
    assert find(world.state, base).unfinished
    world.new_worker()
    world.settle()
    assert find(world.state, base).state is State.DONE
    other = world.new_client()
    other.say(Unpublish("four"))
    assert not world.state.spans


def test_workers_die_as_well_and_all_is_made_again(world, client):
    worker = world.new_worker()
    base = client.submit(3)
    sums = client.submit(1, whole=((base, 3),))
    world.settle()
    client.say(Publish("sum", b"p", ((sums, 1),)))
    del world.workers[worker.peer]
    world.start_anew(without=[client])
    world.new_worker()
    world.settle()
    assert find(world.state, sums).state is State.DONE


def test_a_graph_and_its_inputs_of_another_client(world, client):
    other = world.new_client()
    data = other.submit(1)
    client.want(data, other.values[data])
    base = client.submit_graph([[], [0]], wanted=[1], external=((data,), ()))
    client.say(Publish("end", b"p", ((base + 1, 1),)))
    world.start_anew(without=[client, other])
    span = find(world.state, base + 1)
    assert span.unfinished and find(world.state, data).unfinished


def test_a_client_that_lives_finds_what_it_had(world, client):
    world.new_worker()
    base = client.submit(3)
    client.say(Publish("three", b"p", ((base, 3),)))
    world.start_anew()
    world.settle()
    assert {client.status[base + i] for i in range(3)} == {"finished"}
    client.release_all()
    assert find(world.state, base).state is State.DONE


def test_a_failure_that_is_kept_stays_one_until_it_is_tried_again(world, client):
    worker = world.new_worker()
    task = client.submit(1)
    client.say(Publish("it", b"p", ((task, 1),)))
    worker.read(10)
    worker.fail(next(iter(worker.runs)), failure=Failure("raised", "E", "no"))
    world.start_anew(without=[client])
    assert find(world.state, task).state is State.FAILED
    other = world.new_client()
    other.hold(task, b"")
    other.say(Retry(((task, 1),)))
    world.start_anew(without=[other])


def test_a_name_that_is_taken_stays_with_what_it_names(world, client):
    one, two = client.submit(1), client.submit(1)
    client.say(Publish("it", b"1", ((one, 1),)), Publish("it", b"2", ((two, 1),)))
    assert published(world.state, ["it"])[0] == b"1"
    world.start_anew()
    assert published(world.state, ["it"])[0] == b"1"
    assert published(world.state, ["nothing"]) is None


def test_a_journal_that_has_grown_is_written_with_what_is_left(world, client):
    world.new_worker()
    gone = client.submit(5)
    kept = client.submit(2, options=Options(priority=1))
    client.say(Detach(((gone, 5),)))
    client.say(Publish("two", b"p", ((kept, 2),)))
    world.settle()
    client.release((gone, 5))
    left = journaling.live(world.state, world.written)
    assert [type(m).__name__ for _, m in left] == [
        "DefineFunction",
        "Submit",
        "Publish",
    ]
    # It says the same to another life.
    assert journaling.essence(left) == left


def test_what_a_client_may_not_hold_it_cannot_publish(world, client):
    world.new_worker()
    secret = client.submit(4)
    world.settle()
    thief = world.new_client()
    own = thief.submit(3)
    thief.say(Publish("loot", b"p", ((secret, 4), (own, 1 << 32))))
    assert world.state.publications.by_name["loot"].extents == ((own, 3),)
    # Nor does the journal make it so.
    world.start_anew()
    assert world.state.publications.by_name["loot"].extents == ((own, 3),)
    client.release_all()
    assert find(world.state, secret) is None


def test_what_is_published_by_another_id_is_kept_by_that_id(world, client):
    world.new_worker()
    task = client.submit(1, name="shared")
    other = world.new_client()
    alias = other.submit(1, name="shared")
    other.say(Publish("it", b"p", ((alias, 1),)))
    assert world.state.publications.by_name["it"].extents == ((alias, 1),)
    client.release_all()
    other.release_all()
    world.settle()
    assert find(world.state, task).state is State.DONE
