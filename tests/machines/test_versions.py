"""A task that is made again gives another value: nothing may mix the two.

The workers of this world know what each value was made of, and look at it whenever they
run something: see ``SimWorker._give``.
"""

from __future__ import annotations

import os
import random
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120

from scheduler_world import World

from covey.errors import RemoteProtocolError
from covey.scheduler.core import explain
from covey.scheduler.core.machine import Joined
from covey.scheduler.core.spans import find, isolate
from covey.scheduler.core.state import State
from covey.wire.worker_link import Drop, Holds, Lacks, RanStored, Vouches

sys.path.pop(0)


def state_of(world, task):
    return find(world.state, task).state


def make(worker, task, **how):
    """Have *worker* run one task that it was given."""
    worker.read(len(worker.inbox))
    (number,) = [n for n, run in worker.runs.items() if task in run.todo]
    while worker.runs[number].missing:
        worker.fetch(number, ok=True)
    worker.finish(number, worker.runs[number].todo.index(task), 1, **how)


def lose(worker, task):
    """What *worker* has of *task* is gone."""
    worker.read(len(worker.inbox))
    del worker.store[task], worker.made_of[task]
    worker.say(Lacks(((task, 1),)))


def test_what_comes_out_the_same_changes_nothing(world, client):
    worker = world.new_worker(4)
    a = client.submit()
    b = client.submit(aligned=(a,))
    make(worker, a, stored=True)
    make(worker, b, stored=True)
    lose(worker, a)
    client.submit(aligned=(a,))
    make(worker, a, stored=True)
    assert state_of(world, b) is State.DONE
    assert world.state.counters["results_changed"] == 0
    assert not client.notices
    assert "versions" not in explain.task(world.state, a)


def test_what_took_the_earlier_value_is_made_again(world, client):
    worker = world.new_worker(4)
    a = client.submit()
    b = client.submit(aligned=(a,))
    make(worker, a, stored=True)
    make(worker, b, stored=True)
    lose(worker, a)
    c = client.submit(aligned=(a,))
    assert state_of(world, b) is State.DONE
    make(worker, a, stored=True, gave=1)
    assert client.status[b] == "pending"
    d = client.submit(whole=((b, 1), (c, 1)))
    world.settle()
    assert client.status[d] == client.status[b] == "finished"
    assert world.state.counters["results_changed"] == 1
    (notice,) = client.notices
    assert f"f1-{a:x} was computed again" in notice
    answer = explain.task(world.state, a)
    assert answer["versions"] == 2
    assert "gave another value than before (1 time)" in answer["text"]


def test_what_runs_with_the_earlier_value_begins_anew(world, client):
    worker = world.new_worker(1)
    other = world.new_worker(4)
    a = client.submit()
    b = client.submit(aligned=(a,))
    c = client.submit(aligned=(a,))
    holder = worker if find(world.state, a).worker.peer == worker.peer else other
    make(holder, a, stored=True)
    runner = world.workers[find(world.state, b).worker.peer]
    runner.read(len(runner.inbox))
    before = find(world.state, b).run
    lose(holder, a)
    assert find(world.state, b).run == before
    maker = world.workers[find(world.state, a).worker.peer]
    make(maker, a, stored=True, gave=1)
    assert find(world.state, b).run != before
    world.settle()
    assert {client.status[task] for task in (b, c)} == {"finished"}


def test_who_has_the_value_already_keeps_it(world, client):
    """What a client has read cannot be taken back; what is made of it from now on is new."""
    worker = world.new_worker(4)
    a = client.submit()
    b = client.submit(aligned=(a,))
    make(worker, a, stored=True)
    make(worker, b)
    lose(worker, a)
    c = client.submit(aligned=(a,))
    make(worker, a, stored=True, gave=1)
    assert client.status[b] == "finished"
    assert state_of(world, b) is State.RELEASED
    d = client.submit(whole=((b, 1), (c, 1)))
    world.settle()
    assert client.status[d] == "finished"


def test_a_copy_of_an_earlier_value_is_dropped(world, client):
    worker, late = world.new_worker(4), world.new_worker(4)
    a = client.submit()
    client.submit(aligned=(a,))
    maker = world.workers[find(world.state, a).worker.peer]
    other = late if maker is worker else worker
    make(maker, a, stored=True)
    # Another worker copies it, and is heard late; by then it was made anew.
    known = maker.digests(a, 1)
    lose(maker, a)
    again = world.workers[find(world.state, a).worker.peer]
    make(again, a, stored=True, gave=1)
    other.store[a], other.made_of[a] = world.arguments[a], {a: known}
    dropped = []
    world.watch = lambda peer, message: (
        dropped.append(message) if peer is other and type(message) is Drop else None
    )
    other.say(Holds(a, 1, 8, maker.peer, 0.1, known))
    assert dropped == [Drop(((a, 1),))]
    assert find(world.state, a).replicas == (world.state.workers[again.peer],)


def test_what_a_holder_vouches_for_is_known_from_then_on(world, client):
    worker, other = world.new_worker(4), world.new_worker(4)
    base = client.submit(2)
    world.settle()
    span = find(world.state, base)
    holder, stranger = (
        (worker, other) if worker.peer == span.replicas[0].peer else (other, worker)
    )
    assert span.digests == b"", "nothing takes them"
    stranger.say(Vouches(base, span.n, b"none" * span.n))
    assert find(world.state, base).digests == b"", "it was told to drop them, perhaps"
    holder.say(Vouches(base, span.n, b"this" * span.n))
    assert find(world.state, base).digests == b"this" * span.n


def test_who_vouches_for_another_value_than_is_known_holds_it_no_more(world, client):
    worker = world.new_worker(4)
    base = client.submit(2)
    world.settle()
    span = find(world.state, base)
    worker.say(Vouches(base, span.n, b"this" * span.n))
    before = span.run
    worker.say(Vouches(base, span.n, b"that" * span.n))
    assert find(world.state, base).state is not State.DONE or span.run != before
    assert world.state.workers[worker.peer] not in find(world.state, base).replicas


def test_a_copy_of_what_was_made_anew_without_digests_is_dropped(world, client):
    """Nobody could tell of one who was given up and comes back whether it is the same."""
    late = world.new_worker(4)
    base = client.submit(8)
    late.read(len(late.inbox))
    world.lose(late.peer)
    world.away.append(late)
    late.inbox.clear()
    # It ends what it was given, while others make that anew.
    for run in late.runs.values():
        for task in run.todo:
            late.store[task] = world.arguments[task]
            late._give(task, set(), 0)
    late.runs.clear()
    world.new_worker(4)
    world.settle()
    span = find(world.state, base)
    assert span.state is State.DONE and not span.digests
    dropped = []
    world.watch = lambda peer, message: (
        dropped.extend(message.extents) if type(message) is Drop else None
    )
    world.away.remove(late)
    introduction = late.introduction(world.epoch)
    late.peer = world.core.peer_for(introduction)
    world.workers[late.peer] = late
    world.step(Joined(late.peer, introduction))
    late.report()
    assert base in {task for task, _ in dropped}
    assert world.state.workers[late.peer] not in find(world.state, base).replicas


def test_digests_are_cut_with_their_span(world, client):
    base = client.submit(4)
    client.submit(4, aligned=(base,))
    span = find(world.state, base)
    span.digests = b"aaaabbbbccccdddd"
    world.state.versions.count[span] = 3
    parts = isolate(world.state, base + 1, 2)
    assert [part.digests for part in parts] == [b"bbbbcccc"]
    assert find(world.state, base).digests == b"aaaa"
    assert find(world.state, base + 3).digests == b"dddd"
    assert world.state.versions.count[parts[0]] == 3
    client.release_all()
    world.check_empty()
    assert not world.state.versions.count


def test_digests_of_another_number_of_results_are_refused(world, client):
    worker = world.new_worker(1)
    a = client.submit()
    worker.read(10)
    (run,) = worker.runs
    with pytest.raises(RemoteProtocolError, match="other digests than theirs"):
        worker.say(RanStored(run, a, 1, 0.1, 100, digests=b"12345678"))


@pytest.mark.parametrize("seed", range(20))
def test_nothing_mixes_whatever_is_lost(seed):
    """Graphs of tasks that give something else each time, and workers that die."""
    chance = random.Random(seed)
    world = World()
    client = world.new_client()
    for _ in range(3):
        world.new_worker(2)
    needs = [
        sorted(chance.sample(range(i), min(i, chance.randint(0, 3)))) for i in range(14)
    ]
    wanted = sorted(chance.sample(range(14), 5))
    client.submit_graph(needs, wanted=wanted)
    for turn in range(120):
        worker = chance.choice(list(world.workers.values()))
        worker.read(chance.randint(0, len(worker.inbox)))
        for number, run in list(worker.runs.items()):
            if run.missing:
                worker.fetch(number, ok=chance.random() < 0.9)
            elif worker.is_ready(number):
                worker.finish(number, stored=chance.random() < 0.7, gave=turn)
            if number not in worker.runs:
                break
        if chance.random() < 0.06:
            world.lose(worker.peer)
            world.new_worker(2)
    world.settle()
    # Some have seen too many workers die; nobody was told of a mixture.
    assert all(failure.kind == "died" for failure in client.failures.values())
    assert "pending" not in {client.status[task] for task in client.held}
