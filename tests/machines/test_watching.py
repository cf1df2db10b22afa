"""Reading the event stream along: one question, one answer, nothing silently missed."""

from __future__ import annotations

import os
import sys

import msgspec

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120

from scheduler_world import RAISED, World

from covey.scheduler.core.machine import Left, Said
from covey.wire.base import Options
from covey.wire.client_link import Answer, Ask, Notice
from covey.wire.worker_link import Printed, Profiled, RunFailed, Status, Watched

sys.path.pop(0)


def ask(world, client, number, request=1):
    """Ask for events from *number* on; return what the workers are told."""
    world.state.now = world.now
    message = Ask(request, "watch", number=number)
    orders = world.core.step(Said(client.peer, [message]), world.now)
    return {
        peer: messages[0].seconds
        for peer, messages in orders.items()
        if messages and isinstance(messages[0], Watched)
    }


def answers(world):
    """Return the bodies of all answers that are let out now, by peer."""
    orders = world.core.tell_audience(world.now)
    return {
        peer: [m.body for m in messages if isinstance(m, Answer)]
        for peer, messages in orders.items()
    }


def words(body):
    return [event[1] for event in msgspec.msgpack.decode(body[3])]


def test_a_question_waits_until_something_happens(world):
    reader = world.new_client()
    writer = world.new_client()
    ask(world, reader, 0)
    assert answers(world) == {}
    writer.submit(3)
    (body,) = answers(world)[reader.peer]
    assert words(body) == ["submitted"]
    writer.submit()
    assert answers(world) == {}, "one question, one answer"
    ask(world, reader, body[0] + body[1])
    (body,) = answers(world)[reader.peer]
    assert body[:3] == (1, 1, 0)


def test_readers_at_one_place_share_one_encoding(world):
    readers = [world.new_client() for _ in range(5)]
    readers[0].submit()
    for reader in readers:
        ask(world, reader, 0)
    data = [bodies[0][3] for bodies in answers(world).values()]
    assert len(data) == 5
    assert all(part is data[0] for part in data)


def test_a_late_reader_is_told_what_it_missed():
    world = World()
    world.state.events.capacity = 4
    reader = world.new_client()
    for _ in range(10):
        reader.submit()
    ask(world, reader, 2)
    (body,) = answers(world)[reader.peer]
    assert body[:3] == (6, 4, 4)


def test_a_reader_goes_on_in_the_next_life_of_the_scheduler(world):
    reader = world.new_client()
    for _ in range(20):
        reader.submit()
    ask(world, reader, 0)
    (body,) = answers(world)[reader.peer]
    world.restart()
    world.close_window()
    (reader,) = world.clients.values()
    ask(world, reader, body[0] + body[1])
    (body,) = answers(world)[reader.peer]
    assert body[1] > 0
    assert body[0] == world.state.events.start
    assert body[2] == 0, "it has missed nothing of this life"


def test_workers_speak_more_often_while_somebody_looks_on(world):
    reader = world.new_client()
    workers = [world.new_worker() for _ in range(3)]
    assert ask(world, reader, 0) == {worker.peer: 0.5 for worker in workers}
    assert ask(world, reader, 0) == {}
    orders = world.core.step(Left(reader.peer), 0.0)
    assert {m.seconds for messages in orders.values() for m in messages} == {0.0}


def test_a_run_that_fails_and_what_it_printed_are_in_the_stream(world):
    client = world.new_client()
    worker = world.new_worker(name="alice")
    task = client.submit()
    world.now = 4.0
    worker.say(Printed(task, "stdout", "hello\n"))
    worker.say(RunFailed(1, task, 1.5, RAISED, 0))
    ask(world, client, 0)
    (body,) = answers(world)[client.peer]
    events = msgspec.msgpack.decode(body[3])
    assert [4.0, "printed", task, "f1", "alice", "stdout", "hello\n", 0] in events
    assert [4.0, "erred", task, "f1", "alice", 1.5, 0] in events
    failed = next(event for event in events if event[1] == "failed")
    assert failed[6:9] == ["raised", "ValueError", "as it was told to"]


def test_an_overview_counts_by_function_and_knows_the_impossible(world):
    client = world.new_client()
    client.submit(3)
    client.submit(2, options=Options(resources={"GPU": 1.0}))
    world.new_worker(slots=2)
    world.settle()
    overview = world.core.overview(world.now)
    assert overview["functions"]["f1"]["submitted"] == 5
    assert overview["functions"]["f1"]["done"] == 3
    (impossible,) = overview["impossible"]
    assert (impossible["n"], impossible["asks"]) == (2, "GPU=1")


def profile(world, client, number=0):
    """Ask what code runs; return the answer, and for how long workers look on."""
    world.state.now = world.now
    message = Ask(1, "profile", number=number)
    orders = world.core.step(Said(client.peer, [message]), world.now)
    told = {
        peer: messages[0].profile_seconds
        for peer, messages in orders.items()
        if messages and isinstance(messages[0], Watched)
    }
    return orders[client.peer][-1].body, told


SEEN = Profiled("fit", ("f\tm.py\t1",), (0, 0, 0, 20_000))


def test_workers_look_at_code_while_somebody_asks(world):
    reader = world.new_client()
    first, second = world.new_worker(), world.new_worker()
    first.say(SEEN)
    body, told = profile(world, reader)
    assert body == {"next": 0, "dropped": 0, "seen": []}, "nobody had asked"
    assert told == {first.peer: 10.0, second.peer: 10.0}
    first.say(SEEN)
    body, told = profile(world, reader)
    assert [entry[1:3] for entry in body["seen"]] == [(first.name, "fit")]
    assert told == {}, "it was told a moment ago"
    world.core.profiled(["g\tn.py\t1"], [0, 0, 0, 1])
    body, _ = profile(world, reader, body["next"])
    assert [entry[1:3] for entry in body["seen"]] == [("", "(scheduler)")]
    world.now += 6.0
    _, told = profile(world, reader, body["next"])
    assert told == {first.peer: 10.0, second.peer: 10.0}
    third = world.new_worker()
    assert [m.profile_seconds for m in third.inbox if isinstance(m, Watched)] == [10.0]


def test_nobody_asks_any_more_and_nothing_is_kept(world):
    reader = world.new_client()
    worker = world.new_worker()
    profile(world, reader)
    worker.say(SEEN)
    assert world.core.watched
    world.now += 60.0
    world.core.tell_audience(world.now)
    assert not world.core.watched
    worker.say(SEEN)
    body, told = profile(world, reader)
    assert body == {"next": 1, "dropped": 0, "seen": []}
    assert told == {worker.peer: 10.0}


def test_pauses_and_spills_are_events(world):
    reader = world.new_client()
    worker = world.new_worker()
    for memory in (
        {"paused": False, "spilled": 0},
        {"paused": True, "spilled": 700},
        {"paused": True, "spilled": 500},
        {"paused": False, "spilled": 800},
    ):
        worker.say(Status({"memory": memory}))
    ask(world, reader, 0)
    (body,) = answers(world)[reader.peer]
    events = [e[1:] for e in msgspec.msgpack.decode(body[3]) if e[1] != "sample"]
    assert events[1:] == [
        ["paused", worker.name],
        ["spilled", worker.name, 700],
        ["unpaused", worker.name],
        ["spilled", worker.name, 300],
    ]


def test_clients_are_warned_once_of_what_hinders_a_worker(world):
    client = world.new_client()
    worker = world.new_worker()
    told = []
    world.watch = lambda peer, message: told.append((peer, message))
    for trouble in ("", "no forks", "no forks", "", "no forks"):
        worker.say(Status({"trouble": trouble}))
    texts = [m.text for to, m in told if to is client and isinstance(m, Notice)]
    assert texts == [f"worker {worker.name}: no forks"] * 2


def test_what_was_moved_and_what_was_at_hand_is_counted(world):
    """A task takes two values of one worker and one of another: see ``bytes_local``."""
    reader = world.new_client()
    here, there = world.new_worker(), world.new_worker()
    values = [reader.submit(fn=1) for _ in range(2)]
    for worker in (here, there):
        worker.read(len(worker.inbox))
        for number in list(worker.runs):
            worker.finish(number, stored=True)  # 100 bytes each.
    before = dict(world.state.counters)
    assert {world.state.spans[v].replicas[0].peer for v in values} == {
        here.peer,
        there.peer,
    }
    user = reader.submit(fn=2, whole=tuple((v, 1) for v in values))
    runner = next(w for w in (here, there) if w.inbox)
    runner.read(len(runner.inbox))
    (number,) = runner.runs
    runner.fetch(number, ok=True)  # 8 bytes, as a copy is in this world.
    after = world.state.counters
    assert after["bytes_local"] - before["bytes_local"] == 100
    assert after["bytes_moved"] - before["bytes_moved"] == 8
    runner.finish(number)
    assert reader.status[user] == "finished"
    world.core.tell_audience(world.now, {"cpu": 0.1})
    told = world.state.events.since(0, 1000).events
    (facts,) = [event[2] for event in told if event[1] == "scheduler"]
    assert facts["bytes_local"] == 100 and facts["bytes_moved"] == 8
