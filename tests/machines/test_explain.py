"""``explain``: the true reason, in the scheduler's own words."""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120

from scheduler_world import RAISED

from covey.scheduler.core import explain
from covey.wire.base import Options
from covey.wire.client_link import DefineFunction
from covey.wire.worker_link import Blocked, RunFailed, Status

sys.path.pop(0)


def why(world, task):
    # As when a client asks: the question is an event of its own.
    world.state.now = world.now
    return explain.task(world.state, task)


def test_nobody_is_there(world, client):
    task = client.submit()
    assert "no worker; it runs as soon as one joins" in why(world, task)["text"]
    assert why(world, -1)["state"] == "forgotten"


def test_inputs_with_place_time_and_what_is_usual(world, client):
    world.new_worker(name="alice")
    first = client.submit(fn=2)
    world.settle()  # Now it is known how long calls of f2 take.
    source = client.submit(fn=2)
    user = client.submit(aligned=(source,))
    world.now += 12.0
    answer = why(world, user)
    (found,) = answer["inputs"]
    assert found["worker"] == "alice"
    assert found["seconds"] == 12.0
    assert (
        f"f2-{source:x} (assigned on alice for 12 s; calls of f2 take"
        in (answer["text"])
    )
    assert why(world, first)["state"] == "done"


def test_many_inputs_are_summed_up(world, client):
    sources = [client.submit() for _ in range(8)]
    user = client.submit(whole=tuple((task, 1) for task in sources))
    assert why(world, user)["text"].endswith("and 3 more")


def test_what_goes_before_it_by_priority_and_by_order(world, client):
    world.new_worker(name="alice")
    client.submit(3)
    low = client.submit(options=Options(priority=-5))
    client.submit(4, options=Options(priority=7))
    late = client.submit(options=Options(priority=-5))
    answer = why(world, late)
    assert (answer["ahead_higher_priority"], why(world, low)["ahead"]) == (
        answer["ahead"] - 1,
        answer["ahead"] - 1,
    )
    assert answer["ahead"] >= 5
    assert "of higher priority than its -5" in answer["text"]


def test_of_a_range_those_before_it_go_first_and_what_workers_have(world, client):
    world.new_worker(name="alice", slots=2)
    client.submit(100)
    base = client.submit(1000)
    first, last = why(world, base), why(world, base + 999)
    assert last["ahead"] == first["ahead"] + 999
    assert last["given"] == first["given"] > 0
    assert last["ahead"] + last["given"] == 100 + 999
    assert f"beside {last['given']} tasks that lie there already" in last["text"]


def test_a_resource_that_nobody_offers(world, client):
    world.new_worker(name="alice", resources={"GPU": 1})
    task = client.submit(options=Options(resources={"GPU": 2.0}))
    answer = why(world, task)
    assert answer["asks"] == "GPU=2"
    assert "alice (GPU=1)" in answer["offers"]
    assert "no worker can run it" in answer["text"]


def test_a_python_that_nobody_has(world, client):
    world.new_worker(name="alice", pythons=("3.11",))
    client.functions.add(9)
    client.say(DefineFunction(9, b"d", "f", b"p", '{"python": "3.13"}'))
    answer = why(world, client.submit(fn=9))
    assert answer["asks"] == "Python 3.13"
    assert "alice (Python 3.11)" in answer["offers"]


def test_a_resource_that_is_in_use(world, client):
    world.new_worker(slots=4, name="alice", resources={"GPU": 1})
    client.submit(options=Options(resources={"GPU": 1.0}))
    second = client.submit(options=Options(resources={"GPU": 1.0}))
    assert why(world, second)["short_of"] == "GPU (1 of 1 in use)"


def test_pinned_to_a_worker_that_left(world, client):
    alice = world.new_worker(name="alice")
    world.new_worker(name="bob")
    world.lose(alice.peer)
    task = client.submit(options=Options(workers=("alice",)))
    world.now += 180.0
    answer = why(world, task)
    assert answer["departed"] == ["alice left 3m 00s ago"]
    assert "alice left 3m 00s ago" in answer["text"]
    world.new_worker(name="alice")
    assert "departed" not in why(world, task)


def test_workers_paused_because_memory_is_short(world, client):
    worker = world.new_worker(name="alice")
    client.submit(3)
    task = client.submit(options=Options(priority=-1))
    worker.say(Status({"memory": {"paused": True}}))
    assert "paused, because memory is short there: alice" in why(world, task)["text"]


def test_which_try_and_the_last_error(world, client):
    worker = world.new_worker(name="alice")
    task = client.submit(options=Options(retries=3))
    world.now = 1.0
    worker.say(RunFailed(1, task, 0.1, RAISED))
    answer = why(world, task)
    assert answer["attempts"] == 1
    assert answer["last_error"] == "ValueError: as it was told to"
    assert "failed 1 of at most 4 times" in answer["text"]


def test_it_runs_and_waits_for_tasks_of_its_own(world, client):
    worker = world.new_worker(name="alice")
    task = client.submit(options=Options(timeout_seconds=60.0))
    world.now = 5.0
    text = why(world, task)["text"]
    assert "alice was given it 5 s ago, and it runs, or is about to;" in text
    assert "stopped when it has run for 1m 00s" in text
    worker.say(Blocked(1, task))
    assert "waits for tasks of its own" in why(world, task)["text"]


def test_what_a_worker_runs_tells_who_runs_and_who_waits(world, client):
    world.new_worker(name="alice")
    task = client.submit()
    (alice,) = world.state.workers.values()
    alice.facts = {"running": [[0, 1 << 40, "f", 9.0]]}
    assert why(world, task)["text"].endswith(
        "it runs, or is about to; 1 slot there finishes what nobody waits for any more"
    )
    alice.facts = {"running": [[0, task, "f", 9.0]]}
    assert why(world, task)["text"].endswith("ago, and it runs")


def test_a_failure_names_the_input_where_it_began(world, client):
    worker = world.new_worker(name="alice")
    source = client.submit(fn=2)
    user = client.submit(aligned=(source,))
    worker.say(RunFailed(1, source, 0.1, RAISED))
    assert why(world, user)["origin"] == f"f2-{source:x}"


def test_a_task_is_found_by_the_name_that_users_see(world, client):
    world.new_worker()
    plain = client.submit(3)
    named = client.submit(name="total")
    assert explain.by_key(world.state, f"f1-{plain + 2:x}") == plain + 2
    assert explain.by_key(world.state, "total") == named
    for wrong in ("", "f1", "f1-", f"f9-{plain:x}", "f1-zz", "-"):
        assert explain.by_key(world.state, wrong) is None
    assert explain.named(world.state, "nothing")["state"] == "forgotten"
