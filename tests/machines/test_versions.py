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
from covey.scheduler.core import explain, versions
from covey.scheduler.core.spans import find, isolate
from covey.scheduler.core.state import Span, State
from covey.wire.base import Options
from covey.wire.client_link import Cancel
from covey.wire.worker_link import (
    Drop,
    Holds,
    Lacks,
    RanNodes,
    RanStored,
    Stop,
    Vouches,
)

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
    world.give_up(late)
    # It ends what it was given, while others make that anew.
    for number in list(late.runs):
        late.finish(number)
    world.new_worker(4)
    world.settle()
    span = find(world.state, base)
    assert span.state is State.DONE and not span.digests
    dropped = []
    world.watch = lambda peer, message: (
        dropped.extend(message.extents) if type(message) is Drop else None
    )
    world.come_back(late)
    assert base in {task for task, _ in dropped}
    assert world.state.workers[late.peer] not in find(world.state, base).replicas


def given_up(world, client, ends):
    """Give up a worker that has two tasks in hand, of which the second takes the first.

    It goes on, *ends* so many of them, and the first comes out otherwise elsewhere.
    """
    late = world.new_worker(1)
    a = client.submit()
    b = client.submit(aligned=(a,))
    late.read(len(late.inbox))
    world.give_up(late)
    for number in list(late.runs)[:ends]:
        late.finish(number, gave=1)
    assert [a, b][:ends] == [*late.store]
    make(world.new_worker(1), a, stored=True)
    return late, a, b


def test_what_was_made_of_a_refused_value_is_refused_as_well(world, client):
    """Who was given up has made both; only the first has been made anew meanwhile."""
    late, a, b = given_up(world, client, 2)
    world.come_back(late)
    assert state_of(world, a) is State.DONE
    assert state_of(world, b) is not State.DONE
    both = client.submit(whole=((a, 1), (b, 1)))
    world.settle()
    assert client.status[both] == "finished"


def test_what_runs_with_a_refused_value_is_stopped(world, client):
    late, a, b = given_up(world, client, 1)
    world.come_back(late)
    late.read(len(late.inbox))
    assert not any(b in run.todo for run in late.runs.values() if not run.missing)
    both = client.submit(whole=((a, 1), (b, 1)))
    world.settle()
    assert client.status[both] == "finished"


def test_what_was_cancelled_is_killed_if_it_runs_with_a_refused_value(world, client):
    late, _, b = given_up(world, client, 1)
    (second,) = late.runs
    client.say(Cancel(((b, 1),), "a user"))
    stopped = []
    world.watch = lambda peer, message: (
        stopped.append(message) if type(message) is Stop else None
    )
    world.come_back(late)
    assert Stop(second, b, 1, True) in stopped


def test_a_copy_of_which_no_digest_is_known_is_refused(world, client):
    """Its worker cannot read it, perhaps, and nobody can tell what it is."""
    late = world.new_worker(1)
    a = client.submit()
    client.submit(aligned=(a,))
    make(late, a, stored=True)
    world.give_up(late)
    make(world.new_worker(1), a, stored=True, gave=1)
    late.made_of[a] = {}
    world.come_back(late)
    (replica,) = find(world.state, a).replicas
    assert replica is not world.state.workers[late.peer]
    late.read(len(late.inbox))
    assert a not in late.store


def test_of_a_long_chain_that_is_refused_each_task_is_looked_at_once(
    world, client, monkeypatch
):
    n = 300
    late = world.new_worker(1)
    base = client.submit_graph([[i - 1] if i else [] for i in range(n)])
    late.do_everything()
    world.give_up(late)
    other = world.new_worker(1)
    while any(client.status[base + i] == "pending" for i in range(n)):
        other.read(len(other.inbox))
        for number in [k for k in other.runs if other.is_ready(k)]:
            other.finish(number, stored=True, gave=1)
    looked = []
    real = Span.dependents
    monkeypatch.setattr(
        Span,
        "dependents",
        property(
            lambda span: looked.append(span) or real.__get__(span),
            real.__set__,
        ),
    )
    versions.made_of(world.state, [(base + i, 1) for i in range(n)])
    assert len(looked) < 3 * n


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


def test_what_would_make_a_value_of_which_a_copy_has_come_is_stopped(world, client):
    """It waits for what nobody makes any more, where that was ahead of it."""
    holder = world.new_worker(1, name="holder")
    x = client.submit_graph([[], [0]], wanted={1}) + 1
    holder.read(len(holder.inbox))
    holder.finish_together([0, 0])
    client.submit(9, options=Options(workers=("holder",)))
    other = world.new_worker(3, name="other")
    for _ in range(2):
        client.submit(aligned=(x,), options=Options(workers=("other",)))
    other.read(len(other.inbox))
    first, second = other.runs
    # Nobody has it, as far as is known: it is made anew, together with what it takes.
    other.fetch(first, ok=False)
    other.read(len(other.inbox))
    assert any(x in run.todo and run.message.awaits for run in other.runs.values())
    other.fetch(second, ok=True)
    other.read(len(other.inbox))
    assert not any(x in run.todo for run in other.runs.values())
    world.settle()


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
        act(chance.choice(list(world.workers.values())), chance, turn)
        if chance.random() < 0.06:
            world.lose(chance.choice(list(world.workers)))
            world.new_worker(2)
    world.settle()
    # Some have seen too many workers die; nobody was told of a mixture.
    assert all(failure.kind == "died" for failure in client.failures.values())
    assert "pending" not in {client.status[task] for task in client.held}


@pytest.mark.parametrize("seed", range(40))
def test_nothing_mixes_whoever_comes_back(seed):
    """Ranges and graphs, and workers that are given up, go on, and come back."""
    chance = random.Random(seed)
    world = World()
    client = world.new_client()
    for _ in range(3):
        world.new_worker(2)
    n = chance.choice([1, 2, 5])
    ranges = [client.submit(n)]
    for _ in range(chance.randint(1, 3)):
        taken = chance.sample(ranges, min(len(ranges), chance.randint(1, 2)))
        ranges.append(client.submit(n, aligned=tuple(taken)))
    ranges.append(client.submit(whole=tuple((base, n) for base in ranges)))
    needs = [
        sorted(chance.sample(range(i), min(i, chance.randint(0, 3)))) for i in range(10)
    ]
    client.submit_graph(needs, wanted=sorted(chance.sample(range(10), 4)))
    for turn in range(150):
        everybody = [*world.workers.values(), *world.away]
        act(chance.choice(everybody), chance, turn)
        what = chance.random()
        if what < 0.05 and len(world.workers) > 1:
            world.give_up(chance.choice(list(world.workers.values())))
        elif what < 0.12 and world.away:
            world.come_back(chance.choice(world.away))
        elif what < 0.14:
            world.lose(chance.choice(list(world.workers)))
            world.new_worker(2)
        elif what < 0.18:
            # What has been read stays as it is; what is made from now on does not mix.
            ranges.append(client.submit(n, aligned=(chance.choice(ranges[:2]),)))
    for worker in list(world.away):
        world.come_back(worker)
    last = [task for task in client.held if task < ranges[0] + n]
    client.submit(whole=tuple((task, 1) for task in sorted(last)))
    world.settle()
    assert {failure.kind for failure in client.failures.values()} <= {"died"}
    assert "pending" not in {client.status[task] for task in client.held}


@pytest.mark.parametrize("seed", range(40))
def test_nothing_mixes_whoever_runs_ahead(seed):
    """Chains and trees of single tasks, told of together, and made again elsewhere."""
    chance = random.Random(seed)
    world = World()
    client = world.new_client()
    world.new_worker(1)
    needs = [
        sorted(chance.sample(range(max(0, i - 3), i), min(i, chance.randint(0, 2))))
        for i in range(12)
    ]
    wanted = {11, *chance.sample(range(11), 2)}
    client.submit_graph(needs, wanted=sorted(wanted))
    for turn in range(60):
        worker = chance.choice(list(world.workers.values()))
        worker.read(len(worker.inbox))
        if len(worker.singles()) > 1:
            worker.finish_together(some_other(chance, turn))
        else:
            act(worker, chance, turn)
        if chance.random() < 0.3:
            world.new_worker(chance.randint(1, 2))
            world.lose(chance.choice(list(world.workers)))
    world.settle()
    assert {failure.kind for failure in client.failures.values()} <= {"died"}
    assert "pending" not in {client.status[task] for task in client.held}


def some_other(chance, turn):
    """Draw what tasks give that are told of together: the same as ever, or another."""
    return [chance.choice([0, 0, turn]) for _ in range(chance.randint(2, 6))]


def act(worker, chance, turn):
    """Let a worker read some of its messages, and fetch or run something."""
    worker.read(chance.randint(0, len(worker.inbox)))
    if chance.random() < 0.4 and len(worker.singles()) > 1:
        worker.finish_together(some_other(chance, turn))
        return
    for number, run in list(worker.runs.items()):
        if run.missing:
            worker.fetch(number, ok=chance.random() < 0.9)
        elif worker.is_ready(number):
            worker.finish(number, stored=chance.random() < 0.7, gave=turn)
        if number not in worker.runs:
            break


def tell_together(worker, ends):
    """Have *worker* tell of several single tasks in one message: (task, digest) each."""
    worker.read(len(worker.inbox))
    runs = []
    for task, digest in ends:
        (number,) = [n for n, run in worker.runs.items() if task in run.todo]
        worker.store[task] = worker.world.arguments[task]
        worker.made_of[task] = {task: digest}
        runs.append(number)
    for number, (task, _) in zip(runs, ends, strict=True):
        worker._done(number, task, 1)
    n = len(ends)
    digests = b"".join(digest for _, digest in ends)
    tasks = tuple(task for task, _ in ends)
    worker.say(RanNodes(tuple(runs), tasks, (0.1,) * n, (8,) * n, 0, digests))


def test_what_only_another_version_needed_was_told_of_just_before(world, client):
    first = world.new_worker(1)
    a = client.submit_graph([[], [0]], wanted={1})
    tell_together(first, [(a, b"aaaa"), (a + 1, b"bbbb")])
    second = world.new_worker(1)
    world.lose(first.peer)
    # The other value of the second lets go of the first, which has just ended as well.
    tell_together(second, [(a, b"aaaa"), (a + 1, b"BBBB")])
    world.settle()
    assert client.status[a + 1] == "stored"
    assert world.state.counters["results_changed"] == 1


def test_what_was_made_of_another_version_was_told_of_just_before(world, client):
    worker = world.new_worker(4)
    a = client.submit()
    b = client.submit(aligned=(a,))
    make(worker, a, stored=True)
    lose(worker, a)
    worker.read(len(worker.inbox))
    tell_together(worker, [(b, b"bbbb"), (a, b"aaaa")])
    world.settle()
    assert client.status[a] == "stored"
    # It ran with the first value, and has run with the other one since.
    assert client.status[b] == "finished"
