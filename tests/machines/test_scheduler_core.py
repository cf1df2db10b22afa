"""The scheduler's core, one behaviour at a time: what the machine once found.

Each test is a short story in the same world in which Hypothesis plays.
"""

from __future__ import annotations

import math
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120

from scheduler_world import SHARED, World, pack_of

from covey.errors import RemoteProtocolError
from covey.ids import COUNTER_BITS
from covey.scheduler.core import overview, pauses
from covey.scheduler.core.machine import Away, Back, Joined, Left, Said
from covey.scheduler.core.retrying import LOSSES_MAX
from covey.scheduler.core.spans import covering, find, isolate
from covey.scheduler.core.state import ORPHAN_SECONDS, State
from covey.wire import worker_link
from covey.wire.base import Failure, Options
from covey.wire.client_link import (
    Answer,
    Ask,
    Cancel,
    DefineFunction,
    Detach,
    Failed,
    Notice,
    Placed,
    Release,
    Retry,
    Scatter,
    Stored,
    Submit,
    SubmitGraph,
    Want,
)
from covey.wire.introductions import ClientIntroduction
from covey.wire.worker_link import (
    Fetch,
    Holds,
    Lacks,
    Leave,
    Leaving,
    Ran,
    Reported,
    Return,
    Run,
    Running,
    Stop,
)

sys.path.pop(0)


def orders_to(side, kind):
    """Collect the messages of one kind that are sent to *side* from now on."""
    found = []
    before = side.world.watch

    def watch(peer, message):
        before(peer, message)
        if peer is side and isinstance(message, kind):
            found.append(message)

    side.world.watch = watch
    return found


# What makes no sense is refused, and nothing is changed.


def snapshot(state):
    return (
        {b: (s.n, s.state, s.wanted, s.aligned) for b, s in state.spans.items()},
        dict(state.unused),
        dict(state.names),
        state.last_submission,
        state.ready_count,
        len(state.functions),
    )


OWN = 3 << COUNTER_BITS


def submit(base=OWN + 500, n=1, fn=1, payloads=(b"x",), **more):
    return Submit(base, n, fn, **pack_of(payloads), **more)


def graph(needs, *, base=OWN + 500, fns=None, n=None, **more):
    n = len(needs) if n is None else n
    more.setdefault("wanted", ())
    more.setdefault("order", tuple(range(len(needs))))
    fns = (1,) * len(needs) if fns is None else fns
    return SubmitGraph(base, fns, **pack_of([b"x"] * n), needs=tuple(needs), **more)


@pytest.mark.parametrize(
    ("message", "match"),
    [
        (submit(fn=9), "function 9 was never defined"),
        (submit(payloads=(b"x", b"y")), "1 tasks came with 2 payloads"),
        (Submit(OWN + 500, 1, 1, b"\5\0\0\0", b"x"), "do not add up"),
        (Submit(OWN + 500, 1, 1, b"\5\0", b"x"), "multiple|bytes"),
        (submit(base=5 << COUNTER_BITS), "not those of client"),
        (
            submit(base=(4 << COUNTER_BITS) - 1, n=2, payloads=(b"a", b"b")),
            "not those of",
        ),
        (submit(base=OWN), "in use"),
        (submit(base=OWN + 2, n=2, payloads=(b"x", b"y")), "in use"),
        (submit(n=2, payloads=(b"x", b"y"), name="two"), "a name is for one"),
        (submit(whole=((OWN, 0),)), "Expected `int` >= 1"),
        (submit(whole=((OWN, -5),)), "Expected `int` >= 1"),
        (submit(whole=((-1, 5),)), "Expected `int` >= 0"),
        (submit(whole=(((1 << 63) - 1, 5),)), "there are no 5 tasks"),
        (submit(aligned=(-1,)), "Expected `int` >= 0"),
        (
            submit(n=2, payloads=(b"a", b"b"), aligned=((1 << 63) - 1,)),
            "there are no 2 tasks",
        ),
        (submit(options=Options(timeout_seconds=math.inf)), "Expected `float` <="),
        (submit(options=Options(timeout_seconds=math.nan)), "Expected `float` >="),
        (submit(options=Options(retries=1 << 40)), "Expected `int` <="),
        (submit(options=Options(resources={"GPU": 1e300})), "Expected `float` <="),
        (submit(aligned=(OWN + 500,)), "take themselves"),
        (submit(whole=((OWN + 400, 200),)), "take themselves"),
        (graph([()], fns=(9,)), "function 9 was never defined"),
        (graph([()], n=2), "1 tasks came with 2 payloads"),
        (graph([(), ()], fns=(1,), n=1), "came with 2 lists"),
        (graph([()], order=()), "0 places in the order"),
        (graph([()], options_of=(3,)), "options that did not come"),
        (graph([()], options_of=(0, 0)), "not one for each task"),
        (graph([()], options=()), "options that did not come"),
        (graph([()], wanted=((OWN + 500, 1 << 31),)), "not part of it"),
        (graph([()], wanted=((OWN, 1),)), "not part of it"),
        (graph([(OWN + 500,)]), "comes before one of its inputs"),
        (graph([(OWN + 501,), ()]), "comes before one of its inputs"),
        (graph([()], base=OWN + 1), "in use"),
        (Scatter(OWN, 1, **pack_of([b"x"])), "in use"),
        (Scatter(OWN + 500, 2, **pack_of([b"x"])), "2 tasks came with 1 payloads"),
        (Placed(OWN, 1, 8), "something else"),
        (Placed(OWN + 2, 1, 8), "something else"),
        (Placed(7 << COUNTER_BITS, 1, 8), "not those of client"),
        (Release(((OWN, 0),)), "Expected `int` >= 1"),
        (Release(((OWN, 1 << 33),)), "Expected `int` <= 4294967296"),
        (Release((((1 << 63) - 2, 3),)), "there are no 3 tasks"),
        (Cancel(((OWN, -1),)), "Expected `int` >= 1"),
        (Retry(((-5, 1),)), "Expected `int` >= 0"),
        (Want(((OWN, 1 << 62),)), "Expected `int` <="),
        (Detach(((OWN, 0),)), "Expected `int` >= 1"),
        (Ask(1, "explain"), "does not say which"),
        (Ask(1, "who_has", ((OWN, 0),)), "Expected `int` >= 1"),
        (Placed(OWN + 500, 1, 1 << 60), "Expected `int` <="),
    ],
    ids=lambda value: None if isinstance(value, str) else type(value).__name__,
)
def test_what_makes_no_sense_is_refused_before_anything_is_changed(
    world, client, message, match
):
    assert client.submit(5) == OWN
    before = snapshot(world.state)
    with pytest.raises(RemoteProtocolError, match=match):
        client.say(message)
    assert snapshot(world.state) == before
    # The link would be closed now; the rest of the cluster goes on.
    world.lose(client.peer)
    world.check_empty()


@pytest.mark.parametrize("number", [0, 3])
def test_a_client_number_that_is_taken_is_refused(world, client, number):
    hello = ClientIntroduction(number, "again", "0", "3", "here")
    with pytest.raises(RemoteProtocolError, match="is there already"):
        world.step(Joined(99, hello))


@pytest.mark.parametrize(
    "message",
    [
        Ran(1, OWN, 5, 0.1, b"\1\0\0\0", b"x"),
        Holds(OWN, 1 << 32, 8),
        Lacks(((OWN, 0),)),
        worker_link.Returned(1, OWN, 5, ((OWN, -1, 2),)),
        worker_link.Unfetched(((OWN, 0),), 2),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_a_worker_says_without_sense_is_refused(world, client, message):
    worker = world.new_worker()
    client.submit(5)
    before = snapshot(world.state)
    if isinstance(message, Holds):
        # As large as may be: it is legal, and costs what is known.
        worker.inbox.append(None)
        worker.say(message)
    else:
        with pytest.raises(RemoteProtocolError):
            worker.say(message)
        assert snapshot(world.state) == before


def test_huge_extents_cost_what_is_known_and_not_what_is_claimed(world, client):
    """Four thousand million tasks, of which a handful exist."""
    base = client.submit(3)
    far = client.next_task = base + (1 << 31)
    client.submit(1)
    everything = (base, 1 << 32)
    assert [s.base for s in covering(world.state, *everything)] == [base, far]
    client.say(Cancel((everything,)))
    assert set(client.status.values()) == {"failed"}
    client.held.clear()
    client.say(Release((everything,)))
    world.check_empty()


def test_ids_may_come_out_of_order(world, client):
    """Threads of one client overtake each other between drawing and sending."""
    late = client.new_ids(10)
    client.submit(4)
    client.next_task, after = late, client.next_task
    client.submit(10)
    client.next_task = after
    client.submit(2)
    world.new_worker(2)
    world.settle()
    assert set(client.status.values()) == {"finished"}


# Cutting.


def test_a_cut_that_cuts_a_part_of_the_same_extent(world, client):
    """Releasing from the middle of an input on to its users, ids side by side."""
    inputs = client.submit(11)
    users = client.submit(3, aligned=(inputs,))
    client.release((inputs + 2, 10))
    assert find(world.state, users + 2) is not None
    world.new_worker(2)
    world.settle()
    world.check_ends()
    assert client.status[users + 2] == "finished"


def test_tied_spans_with_an_edge_to_the_whole_of_each_other(world, client):
    """c takes b one to one and all of a, and b takes a one to one."""
    a = client.submit(10)
    b = client.submit(10, aligned=(a,))
    c = client.submit(10, aligned=(b,), whole=((a, 10),))
    isolate(world.state, c + 3, 4)
    client.release((b, 5))
    world.new_worker(3)
    world.settle()
    world.check_ends()
    assert all(client.status[c + i] == "finished" for i in range(10))


@pytest.mark.parametrize("offset", [1, 2, 5])
def test_a_range_tied_to_two_overlapping_stretches_of_one_input(world, client, offset):
    """As ``map(f, xs[:-1], xs[1:])`` does."""
    xs = client.submit(12)
    pairs = client.submit(12 - offset, aligned=(xs, xs + offset))
    again = client.submit(6, aligned=(pairs, xs + 1))
    world.new_worker(2)
    world.settle()
    world.check_ends()
    assert all(client.status[again + i] == "finished" for i in range(6))


def test_inputs_that_are_known_in_part_fail_only_who_needs_the_rest(world, client):
    xs = client.submit(4)
    client.new_ids(100)
    ys = client.submit(8, aligned=(xs - 2,))
    world.new_worker(1)
    world.settle()
    statuses = [client.status[ys + i] for i in range(8)]
    assert statuses == ["failed"] * 2 + ["finished"] * 4 + ["failed"] * 2
    assert "not known" in client.failures[ys].message
    client.say(Retry(((ys, 8),)))
    world.settle()
    assert [client.status[ys + i] for i in range(8)] == statuses


def test_a_graph_on_top_of_the_first_task_of_a_range(world, client):
    """The base of a longer span is its id as well."""
    xs = client.submit(5)
    node = client.submit_graph([[]], external=((xs,),))
    world.new_worker(1)
    world.settle()
    assert client.status[node] == "finished"


def test_a_whole_input_is_its_extent_and_not_its_neighbours(world, client):
    xs = client.submit(100)
    total = client.submit(1, whole=((xs + 50, 10),))
    client.release((xs, 50), (xs + 60, 40))
    worker = world.new_worker(1)
    worker.read(10)
    ran = orders_to(worker, Run)
    world.settle()
    assert client.status[total] == "finished"
    assert sum(run.n for run in ran) <= 12


# Ends, told once.


def test_a_value_that_was_delivered_is_not_told_again(world, client):
    """Another client's wish makes a lost value again; the first one has its own."""
    other = world.new_client()
    worker = world.new_worker()
    task = client.submit()
    world.settle()
    world.lose(worker.peer)
    assert client.status[task] == "finished"
    other.want(task, world.arguments[task])
    world.new_worker()
    world.settle()
    assert other.status[task] == "finished"


def test_a_lost_value_is_made_again_with_what_it_takes(world, client):
    first, second = world.new_worker(), None
    base = client.submit_graph([[], [0], [1]], wanted=[2])
    first.read(10)
    for _ in range(2):
        first.finish(first.ready_runs()[0])
        first.read(10)
    second = world.new_worker()
    world.lose(first.peer)
    second.do_everything()
    world.settle()
    assert client.status[base + 2] == "finished"


@pytest.mark.parametrize("kind", ["map", "graph", "scatter"])
def test_what_is_let_go_of_a_message_does_not_stay_for_what_is_kept(
    world, client, kind
):
    world.new_worker(slots=4)
    n = 400
    if kind == "map":
        base = client.submit(n)
    elif kind == "graph":
        base = client.submit_graph([[]] * n, wanted=range(n))
    else:
        base = client.scatter(n)
    world.settle()
    kept = range(0, n, 50)
    for task in range(n):
        if task not in kept:
            client.release((base + task, 1))
    spans = [find(world.state, base + task) for task in kept]
    packs = {id(span.pack): span.pack for span in spans}
    assert sum(len(pack) for pack in packs.values()) <= 4 * len(kept)
    # They are what they were, and can be made again.
    before = {client.status[base + task] for task in kept}
    world.lose(next(iter(world.workers)))
    world.new_worker(slots=4)
    world.settle()
    assert {client.status[base + task] for task in kept} == before
    assert before <= {"finished", "stored"}


def test_a_retry_reaches_the_failed_input(world, client):
    worker = world.new_worker()
    base = client.submit_graph([[], [0], [1]], wanted=[0, 1, 2])
    worker.read(10)
    worker.fail(worker.ready_runs()[0])
    assert [client.status[base + i] for i in range(3)] == ["failed"] * 3
    assert client.failures[base + 2].origin == base
    client.say(Retry(((base + 2, 1),)))
    world.settle()
    assert [client.status[base + i] for i in range(3)] == ["finished"] * 3


def test_what_was_detached_runs_to_its_end_and_goes(world, client):
    task = client.submit(10)
    client.say(Detach(((task, 10),)))
    client.release_all()
    assert world.state.spans
    worker = world.new_worker()
    world.settle()
    world.check_empty()
    assert sum(isinstance(m, Ran) for m in worker.said) >= 1


def test_what_a_later_message_takes_is_made_and_kept_until_it_came(world, client):
    first = client.submit_graph([[], []], wanted=[], coming=[0, 1])
    world.new_worker()
    world.settle()
    made = [world.state.spans[first + i] for i in (0, 1)]
    assert all(span.state is State.DONE for span in made), "work begins at once"
    assert not client.notices and first not in client.status, "nobody is told"
    last = client.submit_graph([[]], external=((first,),))
    client.release((first, 2))
    assert first + 1 not in world.state.spans, "nobody takes it: it goes"
    world.settle()
    assert client.status[last] == "finished"
    assert made[0].state is State.RELEASED
    client.release_all()
    world.settle()
    world.check_empty()


def test_no_client_has_a_number_that_stands_for_something_else(world):
    client = world.new_client(number=1)
    world.new_worker()
    client.submit_graph([()], wanted=[], coming=[0])
    # It would be told of tasks that it has no future of.
    world.settle()
    client.release_all()
    world.settle()
    world.check_empty()


def test_a_client_that_leaves_amid_a_graph_leaves_nothing(world, client):
    client.submit_graph([[], [0]], wanted=[], coming=[0, 1])
    world.new_worker()
    world.settle()
    world.step(Left(client.peer))
    assert not world.state.spans


def test_a_failed_want_is_told_once(world, client):
    """The recipe is there, but its own input never was."""
    other = world.new_client()
    node = client.submit_graph([[], [0]], external=((OWN + 999,), ()), wanted=[1])
    other.want(node, world.arguments[node])
    assert other.status[node] == "failed"
    other.want(node + 50, b"")
    assert other.status[node + 50] == "failed"


# Names.


def test_a_shared_task_is_known_to_each_client_by_its_own_id(world, client):
    other = world.new_client()
    mine = client.submit(name="x", fn=3)
    theirs = other.submit(name="x", fn=3)
    found = orders_to(other, Stored)
    worker = world.new_worker()
    worker.read(10)
    ran = orders_to(worker, Run)
    worker.finish(worker.ready_runs()[0], stored=True)
    assert not ran
    assert (client.status[mine], other.status[theirs]) == ("stored", "stored")
    # Where the value rests it has the id of the task itself.
    assert [(m.base, m.source) for m in found] == [(theirs, mine)]


def test_who_takes_a_shared_task_by_its_other_id(world, client):
    """Arguments name the id that the client has chosen: a run says what it means."""
    other = world.new_client()
    mine = client.submit(name="x", fn=3)
    theirs = other.submit(name="x", fn=3)
    aligned = other.submit(aligned=(theirs,))
    whole = other.submit(whole=((theirs, 1),))
    node = other.submit_graph([[]], external=((theirs,),))
    other.release((theirs, 1))
    worker = world.new_worker(4)
    # Some were sent ahead of their input, as soon as the worker came.
    sent = [message for message in worker.inbox if isinstance(message, Run)]
    found = orders_to(worker, Run)
    world.settle()
    runs = {run.base: run for run in [*sent, *found]}
    for task in (aligned, whole, node):
        assert runs[task].renamed == ((theirs, mine),)
        assert other.status[task] == "finished"
    assert runs[aligned].aligned == (mine,)
    assert runs[whole].whole == ((mine, 1),)


def test_releasing_one_id_of_a_shared_task_keeps_the_other(world, client):
    other = world.new_client()
    mine = client.submit(name="x", fn=3)
    again = client.submit(name="x", fn=3)
    third = other.submit(name="x", fn=3)
    client.release((mine, 1))
    world.new_worker()
    world.settle()
    assert (client.status[again], other.status[third]) == ("finished", "finished")
    client.release((again, 1))
    other.release((third, 1))
    world.settle()
    world.check_empty()


def test_a_name_with_other_arguments_is_a_conflict(world, client):
    other = world.new_client()
    client.submit(name="x", fn=3)
    other.define(3)
    other.hold(other.next_task, b"")
    named = pack_of([SHARED])
    other.say(Submit(other.new_ids(1), 1, 3, **named, name="x", identity=b"else"))
    (failure,) = other.failures.values()
    assert failure.type_name == "KeyConflict"
    assert "choose another key" in failure.message
    assert SHARED != b"else"


def test_a_name_is_shared_though_the_arguments_came_by_another_way(world, client):
    """Large ones are named by the ids under which each client has brought them."""
    other = world.new_client()
    client.submit(name="x", fn=3)
    other.define(3)
    task = other.new_ids(1)
    other.hold(task, SHARED)
    by_ids = pack_of([b"by other ids"])
    other.say(Submit(task, 1, 3, **by_ids, name="x", identity=SHARED))
    world.new_worker()
    world.settle()
    assert not other.failures
    assert other.status[task] == "finished"


@pytest.mark.parametrize("identity", [SHARED, b"else"])
def test_a_name_is_free_when_its_value_went_though_a_dependent_leads_to_it(
    world, client, identity
):
    world.new_worker()
    first = client.submit(name="x", fn=3)
    user = client.submit(aligned=(first,))
    world.settle()
    client.release((first, 1))
    assert find(world.state, first).state is State.RELEASED
    task = client.new_ids(1)
    client.hold(task, SHARED)
    world.arguments[task], world.takes[task] = SHARED, set()
    named = pack_of([SHARED])
    client.say(Submit(task, 1, 3, **named, name="x", identity=identity))
    world.settle()
    assert client.status[task] == "finished"
    assert world.state.names["x"].base == task
    client.release((task, 1), (user, 1))
    world.settle()
    world.check_empty()


@pytest.mark.parametrize("done", [True, False])
def test_a_name_is_shared_by_those_who_tell_of_it_to_another_life(world, client, done):
    """Of one that the scheduler has just heard of nothing is made yet, and yet it is held."""
    other = world.new_client()
    world.new_worker()
    mine = client.submit(name="x", fn=3)
    theirs = other.submit(name="x", fn=3)
    if done:
        world.settle()
    world.restart()
    for side in list(world.away):
        world.come_back(side)
    world.close_window()
    world.settle()
    assert world.state.aliases == {theirs: mine}
    assert (client.status[mine], other.status[theirs]) == ("finished", "finished")
    assert world.state.names["x"].base == mine


def test_a_held_name_is_not_free_though_its_value_went_with_a_worker(world, client):
    first = world.new_worker()
    mine = client.submit(name="x", fn=3)
    world.settle()
    world.give_up(first)
    world.new_worker()
    world.settle()
    assert find(world.state, mine).state is State.RELEASED
    other = world.new_client()
    theirs = other.submit(name="x", fn=4)
    assert other.failures[theirs].type_name == "KeyConflict"
    again = client.submit(name="x", fn=3)
    world.settle()
    assert client.status[again] == "finished"


@pytest.mark.parametrize("identity", [b"", bytes(65)])
def test_a_name_that_does_not_tell_its_call_is_refused(world, client, identity):
    client.define(3)
    named = pack_of([SHARED])
    with pytest.raises(RemoteProtocolError, match="is identified by"):
        client.say(
            Submit(client.new_ids(1), 1, 3, **named, name="x", identity=identity)
        )


# Placement.


def test_a_value_needs_a_place_and_no_slot(world, client):
    """Tasks that fill every slot may be waiting for what is being scattered."""
    worker = world.new_worker(1)
    client.submit(10)
    data = client.scatter(3)
    assert worker.peer in {w.peer for w in find(world.state, data).replicas}
    assert client.status[data] == "stored"


def test_a_task_that_waits_for_others_gives_its_slot_back(world, client):
    """Else those it waits for would wait for it, once all slots are taken."""
    worker = world.new_worker(1)
    found = orders_to(worker, Run)
    for _ in range(6):
        client.submit(1)
        worker.read(10)
        worker.block(worker.ready_runs()[-1], 0)
    assert len(found) == 6
    world.settle()
    assert set(client.status.values()) == {"finished"}
    assert not world.state.workers[worker.peer].blocked


def test_resources_are_never_overcommitted(world, client):
    worker = world.new_worker(4, {"gpu": 1.0})
    client.submit(40, options=Options(resources={"gpu": 0.3}))
    worker.read(100)
    assert sum(len(run.todo) for run in worker.runs.values()) == 3
    client.submit(4)
    world.settle()
    assert set(client.status.values()) == {"finished"}
    assert world.state.workers[worker.peer].free == pytest.approx({"gpu": 1.0})


def test_amounts_that_do_not_add_up_in_floats_block_nobody(world, client):
    worker = world.new_worker(4, {"gpu": 1.0})
    for amount in (0.1, 0.7, 0.2, 0.3, 0.6, 0.1):
        client.submit(3, options=Options(resources={"gpu": amount, "none": 0.0}))
    world.settle()
    client.submit(1, options=Options(resources={"gpu": 1.0}))
    world.settle()
    assert set(client.status.values()) == {"finished"}
    assert worker.runs == {}


def test_a_task_that_does_not_fit_now_holds_up_no_other(world, client):
    """The first in a worker's own queue waits for a resource that is in use."""
    worker = world.new_worker(2, {"gpu": 1.0})
    need = Options(resources={"gpu": 1.0})
    data = client.scatter(1)
    worker.read(10)
    client.submit(1, options=need, aligned=(data,))
    client.submit(1, options=need, aligned=(data,))
    other = client.submit(1)
    worker.read(10)
    assert other in {t for run in worker.runs.values() for t in run.todo}


def test_nobody_can_serve_it_and_somebody_is_told(world, client):
    world.new_worker()
    base = client.submit_graph(
        [[], [0]], wanted=[1], options=Options(resources={"gpu": 1.0})
    )
    (notice,) = client.notices
    assert "gpu=1" in notice
    assert "no resources" in notice
    world.new_worker(1, {"gpu": 1.0})
    world.settle()
    assert client.status[base + 1] == "finished"


def test_work_that_nobody_else_can_take_is_not_asked_for_again_and_again(world, client):
    """Only one worker may run it; another one idles; the two must not argue."""
    world.new_worker(1, name="idler")
    worker = world.new_worker(1)
    returns = orders_to(worker, Return)
    client.submit(6, options=Options(workers=("worker",)))
    for _ in range(30):
        worker.read(100)
        client.say(Cancel(((OWN + 900, 1),)))
    assert len(returns) <= 3
    world.settle()
    assert set(client.status.values()) == {"finished"}


def test_a_straggler_gives_its_queue_to_an_idle_worker(world, client):
    first = world.new_worker(1)
    client.submit(2)
    first.read(10)
    assert sum(len(run.todo) for run in first.runs.values()) == 2
    second = world.new_worker(1)
    first.read(10)
    second.read(10)
    assert [sum(len(r.todo) for r in w.runs.values()) for w in (first, second)] == [
        1,
        1,
    ]


# Losing.


def test_two_workers_that_cannot_reach_each_other_do_not_try_for_ever(world, client):
    one = world.new_worker(1, name="one")
    two = world.new_worker(1, name="two")
    left = client.submit(1, options=Options(workers=("one",)))
    right = client.submit(1, options=Options(workers=("two",)))
    for worker in (one, two):
        worker.do_everything()
    both = client.submit(1, whole=((left, 1), (right, 1)))
    begun = world.now
    for _ in range(40 * LOSSES_MAX):
        for worker in (one, two):
            worker.read(10)
            for number in list(worker.runs):
                if worker.runs[number].missing:
                    worker.fetch(number, ok=False)
                else:
                    worker.finish(number)
        if pauses.paused(world.state, find(world.state, both)):
            world.pass_time(world.core.wake_at - world.now)
    assert world.now < begun + 60.0
    assert client.status[both] == "failed"
    assert client.failures[both].kind == "lost"
    assert "data ports" in client.failures[both].message
    # What it takes is as good as ever.
    assert {client.status[left], client.status[right]} == {"finished"}


def test_workers_that_cannot_reach_each_other_agree_on_one_of_them(world, client):
    """What each has the other lacks: all ends up with the one that joined first."""
    first, second = (
        world.new_worker(1, name="first"),
        world.new_worker(1, name="second"),
    )
    here, there = Options(workers=("first",)), Options(workers=("second",))
    a = client.submit(options=here)
    b = client.submit(options=there)
    for worker in (first, second):
        worker.do_everything()
    state = world.state
    for task, options in ((a, here), (b, there)):
        # From now on they may be made anywhere.
        assert find(state, task).options == options
        find(state, task).options = Options()
    both = client.submit(whole=((a, 1), (b, 1)))
    for _ in range(12):
        for worker in (first, second):
            worker.read(len(worker.inbox))
            for number in list(worker.runs):
                if worker.runs[number].missing:
                    worker.fetch(number, ok=False)
                else:
                    worker.finish(number)
        if world.state.pauses:
            world.pass_time(max(0.0, world.core.wake_at - world.now))
    assert client.status[both] == "finished"
    assert find(state, both).replicas == (state.workers[first.peer],)
    assert not state.shy


def test_a_holder_that_does_not_deliver_loses_its_copy(world, client):
    one = world.new_worker(1, name="one")
    data = client.submit(1, options=Options(workers=("one",)))
    one.do_everything()
    two = world.new_worker(1, name="two")
    user = client.submit(1, aligned=(data,), options=Options(workers=("two",)))
    two.read(10)
    two.fetch(
        two.ready_runs()[0] if two.ready_runs() else next(iter(two.runs)), ok=False
    )
    assert find(world.state, data).state is not State.DONE
    world.settle()
    assert client.status[user] == "finished"
    assert data not in one.store or find(world.state, data).replicas


def test_what_a_client_placed_is_not_given_up_for_one_failed_fetch(world, client):
    one, two = world.new_worker(1, name="one"), world.new_worker(1, name="two")
    data = client.new_ids(1)
    client.hold(data, b"large")
    world.arguments[data] = one.store[data] = b"large"
    client.say(Placed(data, one.peer, 1000))
    user = client.submit(1, aligned=(data,), options=Options(workers=("two",)))
    two.read(10)
    two.fetch(next(iter(two.runs)), ok=False)
    assert find(world.state, data).state is State.DONE
    world.settle()
    assert client.status[user] == "finished"
    world.lose(one.peer)
    world.lose(two.peer)
    assert client.status[data] == "failed"
    assert client.failures[data].kind == "lost"


def test_a_task_that_goes_down_with_every_worker_fails(world, client):
    task = client.submit(1)
    for _ in range(LOSSES_MAX + 1):
        assert client.status[task] == "pending"
        world.lose(world.new_worker().peer)
    assert client.status[task] == "failed"
    assert client.failures[task].type_name == "WorkerDied"


def place_on(world, client, *workers):
    """Return a value that all of *workers* hold, and nobody can make again."""
    data = client.new_ids(1)
    client.hold(data, b"large")
    world.arguments[data] = b"large"
    for worker in workers:
        worker.store[data] = b"large"
        client.say(Placed(data, worker.peer, 1000))
    return data


def test_other_holders_are_named_for_when_the_first_one_fails(world, client):
    holders = [world.new_worker(1, name=f"w{i}") for i in range(5)]
    data = place_on(world, client, *holders)
    user = world.new_worker(1, name="user")
    runs = orders_to(user, Run)
    for _ in range(2):
        client.submit(1, aligned=(data,), options=Options(workers=("user",)))
    user.read(10)
    for run in runs:
        named = [*run.sources, *run.spares]
        assert len({holder for _, _, holder in named}) == len(named) == 3
        assert len(run.sources) == 1
    assert len(runs) >= 2
    assert runs[0].sources != runs[1].sources


def test_who_failed_where_another_one_delivered_is_not_asked_again(world, client):
    one, two = world.new_worker(1, name="one"), world.new_worker(1, name="two")
    data = place_on(world, client, one, two)
    user = world.new_worker(1, name="user")
    client.submit(1, aligned=(data,), options=Options(workers=("user",)))
    user.read(10)
    (number,) = user.runs
    user.fetch(number, ok=False)
    holders = {holder.name for holder in find(world.state, data).replicas}
    assert "user" in holders
    assert len(holders) == 2
    assert world.state.counters["sources_failed"] == 1
    world.settle()
    assert data not in one.store or data not in two.store


def test_a_client_that_finds_nothing_is_sent_to_another_holder(world, client):
    one, two = world.new_worker(1, name="one"), world.new_worker(1, name="two")
    data = place_on(world, client, one, two)
    told = orders_to(client, Stored)
    for _ in range(3):
        client.status[data] = "pending"
        client.say(Want(((data, 1),)))
    first, second = (int(world.state.workers[w.peer].number) for w in (one, two))
    assert [message.worker for message in told] == [second, first, second]


def test_who_wants_what_went_with_the_task_that_made_it_is_told_what_to_do(
    world, client
):
    told = orders_to(client, Failed)
    client.want(OWN + 77, "nothing")
    (message,) = told
    assert (message.base, message.n, message.failure.kind) == (OWN + 77, 1, "cancelled")
    assert "return their values" in message.failure.message
    assert "publish_dataset" in message.failure.message


def test_a_value_that_is_lost_is_brought_again_by_its_client(world, client):
    one, two = world.new_worker(1, name="one"), world.new_worker(1, name="two")
    data = client.place(one)
    world.settle()
    used = client.submit(1, whole=((data, 1),))
    held = client.submit(1, whole=((data, 1),))
    world.lose(one.peer)
    assert client.asked == [data]
    assert client.status[data] == "pending"
    client.say(Ask(5, "explain", ((data, 1),)))
    world.settle()
    assert data in two.store
    assert client.status[data] == "stored"
    assert {client.status[used], client.status[held]} <= {"finished", "stored"}
    client.release_all()
    world.settle()
    world.check_empty()
    assert not world.state.brought


def test_what_its_client_has_not_kept_either_is_lost(world, client):
    one = world.new_worker(1, name="one")
    data = client.place(one)
    world.settle()
    world.lose(one.peer)
    used = client.submit(1, whole=((data, 1),))
    client.bring_asked(able=False)
    assert client.failures[data].type_name == "DataLost"
    assert client.failures[used].type_name == "DataLost"
    # From now on nobody is asked.
    client.say(Retry(((data, 1),)))
    assert not client.asked
    client.release_all()
    world.settle()
    world.check_empty()


def test_nobody_is_asked_for_what_nobody_needs(world, client):
    one = world.new_worker(1, name="one")
    data = client.place(one)
    world.settle()
    client.release((data, 1))
    world.lose(one.peer)
    assert not client.asked
    world.settle()
    world.check_empty()


def test_what_waits_for_its_client_fails_when_that_is_gone(world, client):
    one = world.new_worker(1, name="one")
    data = client.place(one)
    world.settle()
    other = world.new_client()
    other.want(data, b"large")
    world.lose(one.peer)
    assert client.asked == [data]
    world.lose(client.peer)
    assert other.failures[data].type_name == "DataLost"
    other.release_all()
    world.settle()
    world.check_empty()


@pytest.mark.parametrize("again", [(0, 3), (4, 2), (7, 3)])
def test_what_is_let_go_of_twice_in_one_message_is_forgotten_all_the_same(
    world, client, again
):
    """The second time cuts what has been let go of, and not been looked at yet."""
    base = client.submit(10)
    first, n = again
    client.release((base, 10), (base + first, n))
    assert not world.state.spans
    assert not world.state.ready_count


def test_what_is_released_while_it_is_awaited_is_forgotten(world, client):
    one = world.new_worker(1, name="one")
    data = client.place(one)
    world.settle()
    world.lose(one.peer)
    client.release((data, 1))
    two = world.new_worker(1, name="two")
    client.bring_asked()
    world.settle()
    world.check_empty()
    assert data not in two.store


def test_another_life_of_the_scheduler_asks_for_what_is_lost(world, client):
    one = world.new_worker(1, name="one")
    data = client.place(one)
    world.settle()
    world.restart(late={one.peer})
    world.close_window()
    assert client.asked == [data]
    two = world.new_worker(1, name="two")
    world.settle()
    assert data in two.store
    assert client.status[data] == "stored"
    world.come_back(one)
    world.settle()
    client.release_all()
    world.settle()
    world.check_empty()


def test_copies_of_what_was_brought_again_are_made_again(world, client):
    one, two = world.new_worker(1, name="one"), world.new_worker(1, name="two")
    data = client.place(one, copies=2)
    world.settle()
    world.lose(two.peer)
    world.lose(one.peer)
    world.new_worker(1, name="three")
    world.new_worker(1, name="four")
    world.settle()
    assert holders_of(world, data) == {"three", "four"}


def spread(world, client, worker, **how):
    """Place a value on a worker, to be copied to others."""
    data = client.new_ids(1)
    client.hold(data, b"large")
    world.arguments[data] = worker.store[data] = b"large"
    client.say(Placed(data, worker.peer, 1000, **how))
    return data


def holders_of(world, task):
    return {holder.name for holder in find(world.state, task).replicas}


def test_a_broadcast_is_passed_on_by_those_that_have_it(world, client):
    workers = [world.new_worker(1, name=f"w{i}") for i in range(8)]
    data = spread(world, client, workers[0], broadcast=True)
    rounds = []
    while any(worker.inbox for worker in workers):
        for worker in workers:
            worker.read(10)
        at_work = [worker for worker in workers if worker.fetches]
        sources = [holder for w in at_work for _, holder in w.fetches]
        # Nobody serves two at a time.
        assert len(set(sources)) == len(sources)
        rounds.append(len(at_work))
        for worker in at_work:
            worker.fetch_asked(ok=True)
    assert rounds[:3] == [1, 2, 4]
    assert sum(rounds) == 7
    assert len(holders_of(world, data)) == 8
    client.release((data, 1))
    world.settle()
    world.check_empty()
    assert not world.state.spreads


def test_a_copy_that_is_lost_with_a_worker_is_made_anew(world, client):
    one, two = world.new_worker(1, name="one"), world.new_worker(1, name="two")
    data = spread(world, client, one, copies=2)
    world.settle()
    assert holders_of(world, data) == {"one", "two"}
    world.lose(one.peer)
    # There is no third one yet.
    assert holders_of(world, data) == {"two"}
    world.new_worker(1, name="three")
    world.settle()
    assert holders_of(world, data) == {"two", "three"}
    world.lose(two.peer)
    assert client.status[data] == "stored"


@pytest.mark.parametrize("how", [{"copies": 2}, {"broadcast": True}])
def test_another_life_of_the_scheduler_keeps_up_the_number_of_copies(
    world, client, how
):
    one, two = world.new_worker(1, name="one"), world.new_worker(1, name="two")
    data = spread(world, client, one, **how)
    world.settle()
    fetched = []
    world.watch = lambda peer, message: fetched.append(message)
    world.restart()
    world.settle()
    # What is there is not copied again; what is lost after that is.
    assert not [message for message in fetched if isinstance(message, Fetch)]
    assert holders_of(world, data) == {"one", "two"}
    world.lose(two.peer)
    world.new_worker(1, name="three")
    world.settle()
    assert holders_of(world, data) == {"one", "three"}


def test_a_copy_that_was_lost_with_the_scheduler_is_made_anew(world, client):
    one, two = world.new_worker(1, name="one"), world.new_worker(1, name="two")
    data = spread(world, client, one, copies=2)
    world.settle()
    three = world.new_worker(1, name="three")
    world.restart(late={two.peer})
    world.close_window()
    world.settle()
    assert data in three.store
    world.come_back(two)
    world.settle()
    assert holders_of(world, data) == {"one", "two", "three"}
    client.release((data, 1))
    world.settle()
    world.check_empty()
    assert not world.state.spreads


def test_a_copy_under_way_from_who_dies_comes_from_another_one(world, client):
    workers = [world.new_worker(1, name=f"w{i}") for i in range(4)]
    data = spread(world, client, workers[0], copies=3)
    world.settle()
    copies = holders_of(world, data)
    assert len(copies) == 3
    (spare,) = (w for w in workers if w.name not in copies)
    source = workers[0]
    world.lose(next(w for w in workers[1:] if w.name in copies).peer)
    spare.read(10)
    if spare.fetches and spare.fetches[0][1] == source.peer:
        world.lose(source.peer)
        spare.fetch_asked(ok=True)
    world.settle()
    assert len(holders_of(world, data)) == min(3, len(world.workers))


def test_a_copy_that_cannot_be_made_is_tried_again_and_not_for_ever(world, client):
    one, two = world.new_worker(1, name="one"), world.new_worker(1, name="two")
    data = spread(world, client, one, copies=2)
    tries = 0
    two.read(10)
    while two.fetches:
        two.fetch_asked(ok=False)
        two.read(10)
        tries += 1
    assert 1 < tries < 10
    assert holders_of(world, data) == {"one"}
    assert client.status[data] == "stored"


def test_whoever_asks_is_told_when_the_copies_are_there(world, client):
    one, two = world.new_worker(1, name="one"), world.new_worker(1, name="two")
    answers = orders_to(client, Answer)
    data = spread(world, client, one, copies=2)
    client.say(Ask(5, "spread", ((data, 1),)))
    assert not answers
    two.read(10)
    two.fetch_asked(ok=True)
    assert [answer.request for answer in answers] == [5]
    client.say(Ask(6, "spread", ((data, 1),)))
    client.say(Ask(7, "spread", ((data + 1, 1),)))
    assert [answer.request for answer in answers] == [5, 6, 7]
    world.lose(two.peer)
    world.new_worker(1, name="three")
    client.say(Ask(8, "spread", ((data, 1),)))
    assert len(answers) == 3
    # The last one that could have got a copy is gone.
    world.lose(world.workers[max(world.workers)].peer)
    assert len(answers) == 4


def test_copies_go_to_the_workers_that_were_named(world, client):
    workers = [world.new_worker(1, name=f"w{i}") for i in range(4)]
    names = ("w0", "w2")
    large = spread(world, client, workers[0], workers=names, broadcast=True)
    base = client.scatter(3, workers=names, broadcast=True)
    world.settle()
    assert holders_of(world, large) == holders_of(world, base) == set(names)


def test_a_copy_that_turns_up_is_taken_for_the_value(world, client):
    """Its maker died while it was copied; a task at its new place counts on it."""
    one = world.new_worker(1, name="one")
    data = client.submit_graph([[]])
    one.read(10)
    one.finish(one.ready_runs()[0], stored=True)
    two = world.new_worker(1, name="two")
    user = client.submit(1, aligned=(data,), options=Options(workers=("two",)))
    two.read(10)
    (number,) = two.runs
    two.runs[number].missing.clear()
    two.store[data] = world.arguments[data]
    two.copies.add(data)
    two.inbox.append(worker_link.Drop(((OWN + 900, 1),)))
    world.lose(one.peer)
    assert client.status[data] == "pending"
    stops = orders_to(two, Stop)
    two.say(Holds(data, 1, 8))
    assert client.status[data] == "stored"
    assert not [stop for stop in stops if stop.run == number]
    world.settle()
    assert client.status[user] == "finished"


def test_stale_news_is_dropped_in_one_line(world, client):
    worker = world.new_worker()
    task = client.submit(1)
    worker.read(10)
    (number,) = worker.runs
    client.release((task, 1))
    again = client.submit(1)
    messages = orders_to(worker, object)
    worker.finish(number)
    assert not messages
    world.settle()
    assert client.status[again] == "finished"
    client.release_all()
    world.settle()
    world.check_empty()


# Leaving.


def test_a_worker_leaves_when_its_work_is_done_and_its_data_moved(world, client):
    one, two = world.new_worker(1, name="one"), world.new_worker(1, name="two")
    base = client.submit(6, options=Options(workers=("one",), allow_other_workers=True))
    data = client.scatter(4)
    one.read(100)
    one.say(Leaving())
    left = orders_to(one, Leave)
    world.settle()
    assert left
    assert one.peer not in world.workers
    assert all(client.status[base + i] == "finished" for i in range(6))
    spans = list(covering(world.state, data, 4))
    assert all(s.state is State.DONE for s in spans)
    assert {w.peer for s in spans for w in s.replicas} == {two.peer}
    assert world.state.counters["tasks_recomputed"] == 0


def test_data_finds_another_place_when_its_new_one_vanishes(world, client):
    one = world.new_worker(1, name="one")
    data = client.scatter(2)
    one.read(10)
    two, three = world.new_worker(1), world.new_worker(1)
    one.say(Leaving())
    assert sum(len(w.inbox) > 0 for w in (two, three)) == 1
    target = two if two.inbox else three
    fetches = orders_to(three if target is two else two, Fetch)
    world.lose(target.peer)
    assert fetches
    world.settle()
    assert one.peer not in world.workers
    assert find(world.state, data).state is State.DONE


def test_who_cannot_be_copied_from_leaves_nevertheless(world, client):
    one = world.new_worker(1, name="one")
    data = client.scatter(1)
    one.read(10)
    others = [world.new_worker(1), world.new_worker(1)]
    one.say(Leaving())
    for _ in others:
        for other in others:
            other.read(10)
            if other.fetches:
                other.fetch_asked(ok=False)
    one.read(10)
    assert one.peer not in world.workers
    world.settle()
    # A client's bytes are their own recipe.
    assert find(world.state, data).state is State.DONE


def test_the_last_worker_may_leave(world, client):
    worker = world.new_worker()
    client.scatter(1)
    worker.read(10)
    worker.say(Leaving())
    worker.read(10)
    assert not world.workers
    world.check_ends()


def test_two_workers_that_leave_at_once_do_not_wait_for_each_other(world, client):
    one, two = world.new_worker(1), world.new_worker(1)
    client.submit(4)
    for worker in (one, two):
        worker.do_everything()
    one.say(Leaving())
    two.say(Leaving())
    world.settle()
    for worker in (one, two):
        worker.read(10)
    assert not world.workers


# Another life of the scheduler.


def test_who_comes_back_amid_a_graph_leaves_nothing(world, client):
    world.new_worker()
    base = client.submit_graph([[], [0]], wanted=(1,), coming=(0,))
    world.settle()
    world.restart()
    world.settle()
    assert client.status[base + 1] == "finished"
    client.release_all()
    world.check_empty()


def test_what_is_let_go_while_others_are_waited_for_leaves_nothing(world, client):
    late = world.new_worker()
    world.restart(late={late.peer})
    client.scatter(3)
    client.release_all()
    client.submit(2)
    client.release_all()
    world.new_worker()
    world.settle()
    world.check_empty()


def test_a_lost_value_that_nobody_asked_for_is_not_counted_on(world, client):
    worker = world.new_worker()
    task = client.submit(3)
    world.settle()
    world.restart(late={client.peer})
    world.close_window()
    del worker.store[task + 1]
    worker.say(Lacks(((task + 1, 1),)))
    other = world.new_client()
    for index in (0, 2):
        other.want(task + index, world.arguments[task + index])
    world.come_back(client)
    client.status[task + 1] = "pending"
    client.release((task, 3))
    other.release_all()
    world.check_empty()


@pytest.mark.parametrize("known", [[0], [2], [1, 3], [0, 1, 2, 3]])
@pytest.mark.parametrize("kind", ["range", "graph", "data", "tied"])
def test_what_is_known_of_a_submission_does_not_hide_the_rest(
    world, client, kind, known
):
    other = world.new_client()
    world.restart()
    world.close_window()
    if kind == "range":
        base = client.submit(4)
    elif kind == "graph":
        base = client.submit_graph([(), (0,), (1,), (0, 2)])
    elif kind == "data":
        base = client.scatter(4)
    else:
        base = client.submit(4, aligned=[client.submit(4)])
    for index in known:
        other.want(base + index, world.arguments[base + index])
    # It is given up, and what nobody else holds is forgotten.
    world.lose(client.peer)
    world.away.append(client)
    world.come_back(client)
    world.new_worker()
    world.settle()
    told = {*client.status.values(), *other.status.values()}
    assert told <= {"finished", "stored"}
    client.release_all()
    other.release_all()
    world.settle()
    world.check_empty()


def test_values_of_a_worker_that_died_are_not_given_to_who_comes_late(world, client):
    worker = world.new_worker()
    task = client.submit(1)
    worker.read(10)
    worker.finish(next(iter(worker.runs)), stored=True)
    world.restart(late={client.peer})
    world.close_window()
    assert world.state.orphans
    world.lose(worker.peer)
    assert not world.state.orphans
    world.new_worker()
    world.come_back(client)
    world.settle()
    assert client.status[task] == "finished"


def test_old_news_of_a_failure_takes_no_value_that_waits_for_its_client(world, client):
    worker = world.new_worker()
    task = client.submit(1, options=Options(retries=1))
    worker.read(10)
    worker.unheard.append(worker.fail(next(iter(worker.runs))))
    worker.read(10)
    worker.finish(next(iter(worker.runs)), stored=True)
    world.restart(late={client.peer})
    world.close_window()
    worker.read(10)
    assert task in worker.store
    world.come_back(client)
    world.settle()
    assert client.status[task] == "stored"
    client.release_all()
    world.settle()
    world.check_empty()


def test_a_copy_fetched_for_an_earlier_life_waits_for_its_client(world, client):
    one = world.new_worker()
    two = world.new_worker()
    task = client.submit(1)
    for worker in (one, two):
        worker.read(10)
        for number in list(worker.runs):
            worker.finish(number, stored=True)
    holder = one if task in one.store else two
    other = two if holder is one else one
    world.restart(late={client.peer})
    world.close_window()
    # What was fetched for the earlier life has come only now, and is told once more.
    for worker in (other, holder):
        worker.store[task] = world.arguments[task]
        worker.say(Holds(task, 1, 8, holder.peer, 0.1))
    for worker in (one, two):
        worker.read(10)
        assert task in worker.store
    world.come_back(client)
    world.settle()
    assert client.status[task] == "stored"
    client.release_all()
    world.settle()
    world.check_empty()


def test_what_could_not_be_read_is_not_there_though_its_client_says_so_later(
    world, client
):
    worker = world.new_worker()
    data = client.new_ids(1)
    client.hold(data, b"large")
    world.arguments[data] = b"large"
    worker.say(Lacks(((data, 1),)))
    client.say(Placed(data, worker.peer, 1000))
    assert client.failures[data].kind == "lost"
    client.release_all()
    world.check_empty()


@pytest.mark.parametrize("lost_first", [False, True])
@pytest.mark.parametrize("taken", [False, True])
def test_what_was_claimed_before_its_maker_came_back_can_be_made_again(
    world, client, lost_first, taken
):
    other = world.new_client()
    worker = world.new_worker()
    base = client.submit(3)
    task = base + 1
    other.want(task, world.arguments[task])
    if taken:
        other.submit(1, aligned=(task,), options=Options(resources={"gpu": 1.0}))
    for _ in range(9):
        worker.read(10)
        for number in list(worker.runs):
            worker.finish(number, length=1, stored=True)
    world.restart(late={client.peer})
    world.close_window()
    assert find(world.state, task).function is None
    if lost_first:
        world.lose(worker.peer)
        assert other.status[task] == "failed"
    world.come_back(client)
    assert find(world.state, task).function is not None
    if not lost_first:
        world.lose(worker.peer)
    world.new_worker()
    world.settle()
    assert other.status[task] in {"finished", "stored"}
    assert {client.status[base + i] for i in range(3)} <= {"finished", "stored"}
    client.release_all()
    other.release_all()
    world.settle()
    world.check_empty()


def test_who_leaves_waits_for_those_who_may_want_what_only_it_has(world, client):
    leaves = world.new_worker(name="leaves")
    task = client.submit(1)
    leaves.read(10)
    leaves.finish(next(iter(leaves.runs)), stored=True)
    world.restart(late={client.peer})
    world.close_window()
    leaves.say(Leaving())
    leaves.read(10)
    assert leaves.peer in world.workers
    other = world.new_worker(name="other")
    world.come_back(client)
    other.read(10)
    while other.fetches:
        other.fetch_asked(ok=True)
    leaves.read(10)
    assert leaves.peer not in world.workers
    assert client.status[task] == "stored"


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("how", ["ran", "failed"])
def test_a_failure_that_not_all_had_heard_of_is_reverted_when_it_is_tried_again(
    world, client, ends, how
):
    other = world.new_client()
    worker = world.new_worker()
    task = client.submit(1, name="it")
    same = other.submit(1, name="it")
    worker.read(10)
    worker.fail(next(iter(worker.runs)))
    # The news was lost on its way to one of them, who has it run once more.
    other.status[same] = "pending"
    world.restart(late={client.peer})
    world.close_window()

    def end():
        worker.read(10)
        (number,) = worker.runs
        worker.fail(number) if how == "failed" else worker.finish(number)

    if ends:
        end()
    world.come_back(client)
    if not ends:
        assert client.status[task] == "pending"
        end()
    world.settle()
    assert other.status[same] in {"finished", "stored", "failed"}
    assert (client.status[task] == "failed") == (how == "failed")
    assert (other.status[same] == "failed") == (how == "failed")
    client.release_all()
    other.release_all()
    world.settle()
    world.check_empty()


def test_a_cancelled_task_that_two_share_stays_cancelled(world, client):
    other = world.new_client()
    task = client.submit(1, name="it")
    client.say(Cancel(((task, 1),)))
    same = other.submit(1, name="it")
    world.restart()
    world.new_worker()
    world.settle()
    assert (client.status[task], other.status[same]) == ("failed", "failed")
    client.release_all()
    other.release_all()
    world.check_empty()


def test_a_shared_name_that_is_only_taken_as_an_input_is_not_held_for_ever(
    world, client
):
    other = world.new_client()
    client.submit(1, name="it")
    same = other.submit(1, name="it")
    other.submit(1, aligned=(same,))
    other.release((same, 1))
    world.restart()
    world.new_worker()
    world.settle()
    client.release_all()
    other.release_all()
    world.check_empty()


def test_a_value_of_another_client_that_came_is_not_taken_back(world, client):
    other = world.new_client()
    worker = world.new_worker()
    task = client.submit(2)
    other.want(task, world.arguments[task])
    other.want(task + 1, world.arguments[task + 1])
    worker.read(10)
    for number in list(worker.runs):
        worker.finish(number, length=1)
    assert other.status[task] == "finished"
    # Who made it does not come back, but what is here is here.
    world.restart(late={client.peer})
    world.close_window()
    assert other.status[task] == "finished"
    world.come_back(client)
    world.settle()
    client.release_all()
    other.release_all()
    world.check_empty()


def test_who_comes_back_is_told_that_a_worker_has_gone(world, client):
    worker = world.new_worker()
    world.restart()
    world.close_window()
    world.lose(worker.peer)
    assert client.known_workers == set()


def test_a_worker_that_reports_nonsense_is_given_nothing(world, client):
    worker = world.new_worker()
    task = client.submit(1)
    world.restart(late={worker.peer})
    hello = worker.introduction(world.epoch - 1)
    world.step(Joined(worker.peer, hello))
    world.away.clear()
    nonsense = Holds((1 << 63) - 1, 1 << 33, 8)
    report = [nonsense, Running(1, task, 1), Reported()]
    world.step(Said(worker.peer, report))
    world.close_window()
    assert not world.state.workers
    assert find(world.state, task).state is State.READY


# Odds and ends.


def test_news_from_nobody_is_nothing(world):
    world.step(Said(17, [Release(((1, 1),))]))


def test_cancelled_tasks_are_stopped_and_fail_with_their_reason(world, client):
    worker = world.new_worker()
    task = client.submit(1)
    user = client.submit(1, aligned=(task,))
    worker.read(10)
    stops = orders_to(worker, Stop)
    client.say(Cancel(((task, 1),), "no more"))
    # What takes it had been sent ahead, and had not begun.
    told = [(s.base, s.n, s.kill) for s in stops]
    assert told == [(task, 1, True), (user, 1, False)]
    assert (client.status[task], client.status[user]) == ("failed", "failed")
    assert "no more" in client.failures[user].message
    worker.read(10)
    assert not worker.runs


def test_retries_are_counted_for_each_task(world, client):
    worker = world.new_worker()
    base = client.submit(2, options=Options(retries=1))
    for _ in range(2):
        worker.read(10)
        run = next(n for n, r in worker.runs.items() if base in r.todo)
        worker.fail(run, worker.runs[run].todo.index(base))
    world.settle()
    assert (client.status[base], client.status[base + 1]) == ("failed", "finished")


def test_a_cancelled_failure_is_not_tried_again(world, client):
    worker = world.new_worker()
    task = client.submit(1, options=Options(retries=5))
    worker.read(10)
    failure = Failure("cancelled", "TaskCancelled", "it cancelled itself")
    worker.fail(next(iter(worker.runs)), failure=failure)
    assert client.status[task] == "failed"


def test_equal_functions_are_one(world, client):
    other = world.new_client()
    other.say(DefineFunction(8, b"digest 1", "f1", b"payload"))
    client.define(1)
    assert len(world.state.functions) == 1


def test_a_function_that_nothing_leads_to_is_forgotten_everywhere(world, client):
    worker = world.new_worker()
    other = world.new_client()
    for who in (client, other):
        who.define(1)
    task = client.submit(1, fn=1)
    client.forget(1)
    worker.read(10)
    assert len(world.state.functions) == 1
    other.forget(1)
    # A task of it is known, and may have to be run again.
    assert len(world.state.functions) == 1
    world.settle()
    client.release((task, 1))
    world.settle()
    assert not world.state.functions
    assert not worker.functions
    line = overview.overview(world.state)["functions"]["f1"]
    assert (line["submitted"], line["done"]) == (1, 1)


def test_a_client_that_leaves_takes_its_functions_along(world, client):
    client.define(1)
    world.lose(client.peer)
    assert not world.state.functions


def test_a_notice_goes_once_for_many_tasks(world, client):
    world.new_worker()
    notices = orders_to(client, Notice)
    for _ in range(5):
        client.submit(3, options=Options(resources={"tpu": 2.0}))
    assert len(notices) == 1


def asks_for_python(client, environment, n=1):
    """Submit tasks of a function that asks for an environment."""
    number = 900 + len(client.functions)
    client.functions.add(number)
    client.say(DefineFunction(number, environment.encode(), "f", b"p", environment))
    return client.submit(n, fn=number)


@pytest.mark.parametrize("version", ["3.13", "3.13.1"])
def test_a_task_goes_where_its_python_is(world, client, version):
    poor = world.new_worker(4, name="poor", pythons=("3.11", "3.12"))
    notices = orders_to(client, Notice)
    ran = orders_to(poor, Run)
    asks_for_python(client, f'{{"python": "{version}"}}', 3)
    (notice,) = notices
    assert "it asks for Python 3.13." in notice.text
    assert notice.text.endswith("workers offer: poor (Python 3.11 3.12)")
    rich = world.new_worker(4, name="rich", pythons=("3.13",))
    assert world.state.workers[rich.peer].count == 3
    assert not ran
    # Who asks for nothing, and who asks for packages only, runs anywhere.
    client.submit(2)
    asks_for_python(client, '{"requirements": "numpy"}', 2)
    assert ran


@pytest.mark.parametrize("wish", ['{"python": "9"}', '{"python": 3}', "nonsense", "[]"])
def test_a_wish_that_makes_no_sense_is_for_workers_to_refuse(world, client, wish):
    worker = world.new_worker(pythons=("3.11",))
    ran = orders_to(worker, Run)
    asks_for_python(client, wish)
    assert ran


def test_a_worker_that_tells_nothing_of_its_pythons_is_tried(world, client):
    ran = orders_to(world.new_worker(), Run)
    asks_for_python(client, '{"python": "3.13"}')
    assert ran


def brought_while_nobody_heard(world, client, away):
    """A client brings a value, its worker is lost and comes back; then it tells of it."""
    one = world.new_worker(1, name="one")
    world.lose(one.peer)
    data = client.new_ids(1)
    client.hold(data, b"large")
    world.arguments[data] = one.store[data] = b"large"
    if away:
        world.step(Away(client.peer))
    hello = one.introduction(world.epoch)
    one.peer = world.core.peer_for(hello)
    world.workers[one.peer] = one
    world.step(Joined(one.peer, hello))
    one.report()
    return one, data


def test_a_value_that_its_client_had_no_chance_to_tell_of_is_kept(world, client):
    one, data = brought_while_nobody_heard(world, client, away=True)
    world.pass_time(3 * ORPHAN_SECONDS)
    world.settle()
    world.step(Back(client.peer))
    client.say(Placed(data, one.peer, 8))
    world.settle()
    assert client.status[data] == "stored"
    assert one.store == {data: b"large"}
    client.release((data, 1))
    world.settle()
    assert not one.store
    world.pass_time(2 * ORPHAN_SECONDS)
    assert not world.state.orphans


def test_a_value_that_nobody_tells_of_when_its_client_is_back_is_dropped(world, client):
    one, _ = brought_while_nobody_heard(world, client, away=True)
    world.step(Back(client.peer))
    world.settle()
    assert one.store
    world.pass_time(2 * ORPHAN_SECONDS)
    world.settle()
    assert not one.store
    assert not world.core.wake_at


def test_nobody_believes_in_a_value_that_was_dropped_before_it_was_told_of(
    world, client
):
    one, data = brought_while_nobody_heard(world, client, away=False)
    two = world.new_worker(1, name="two")
    world.settle()
    assert not one.store
    client.say(Placed(data, one.peer, 8))
    assert client.failures[data].kind == "lost"
    # Another copy, of which it tells next, is as good.
    two.store[data] = b"large"
    client.say(Placed(data, two.peer, 8))
    world.settle()
    assert client.status[data] == "stored"
    assert [holder.name for holder in find(world.state, data).replicas] == ["two"]


def test_what_a_lost_worker_had_told_of_does_not_turn_up_there(world, client):
    one, data = brought_while_nobody_heard(world, client, away=True)
    world.lose(one.peer)
    world.step(Back(client.peer))
    client.say(Placed(data, one.peer, 8))
    world.pass_time(2 * ORPHAN_SECONDS)
    assert client.failures[data].kind == "lost"


def test_what_a_client_brings_goes_to_workers_that_are_here():
    """From one that is away nobody could fetch it, and it may not come back."""
    world = World()
    client = world.new_client()
    gone, here = world.new_worker(), world.new_worker()
    world.step(Away(gone.peer))
    data = client.scatter(4)
    places = {w.peer for s in covering(world.state, data, 4) for w in s.replicas}
    assert places == {here.peer}
    world.step(Away(here.peer))
    more = client.scatter(1)
    assert find(world.state, more).state is State.READY
    world.step(Back(gone.peer))
    assert find(world.state, more).replicas == (world.state.workers[gone.peer],)


def test_what_was_refused_for_its_key_does_not_take_it_in_another_life(world, client):
    world.new_worker()
    other = world.new_client()
    mine = client.submit(1, name="k")
    theirs = other.submit(1, fn=2, name="k")
    assert other.failures[theirs].type_name == "KeyConflict"
    # Who was refused comes back first, and must not take the key.
    world.restart(late=[client.peer])
    world.close_window()
    world.come_back(client)
    world.settle()
    assert client.status[mine] in {"finished", "stored"}
    assert other.status[theirs] == "failed"
