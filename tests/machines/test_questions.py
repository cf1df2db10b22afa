"""What may be asked about tasks, their graph, and the values in memory."""

from __future__ import annotations

import pytest

from covey.scheduler.core import graph, portions
from covey.scheduler.core.machine import Said
from covey.wire.client_link import Answer, Ask
from covey.wire.framing import FRAME_BYTES_MAX, encode_frame
from covey.wire.worker_link import Printed


def ask(world, client, topic, **fields):
    orders = world.core.step(Said(client.peer, [Ask(1, topic, **fields)]), world.now)
    return orders[client.peer][-1].body


def test_the_graph_names_inputs_by_their_place(world):
    client = world.new_client()
    first = client.submit(fn=1)
    second = client.submit(fn=2, aligned=(first,))
    client.submit(fn=2, whole=((first, 1), (second, 1)))
    answer = ask(world, client, "graph")
    assert [node[6] for node in answer["nodes"]] == [[], [0], [0, 1]]
    assert [node[1:4] for node in answer["nodes"]] == [
        ("f1", "ready", 1),
        ("f2", "waiting", 1),
        ("f2", "waiting", 1),
    ]
    assert sorted(answer["edges"]) == [("f1", "f2", 2), ("f2", "f2", 1)]
    assert (answer["total"], answer["looked"], answer["inputs_left_out"]) == (3, 3, 0)


def test_the_graph_looks_at_so_much_and_says_so(world, monkeypatch):
    monkeypatch.setattr(graph, "_LOOKED_MAX", 3)
    monkeypatch.setattr(graph, "_NEEDS_MAX", 1)
    client = world.new_client()
    first = client.submit()
    for _ in range(4):
        client.submit(aligned=(first,))
    answer = ask(world, client, "graph")
    assert (answer["total"], answer["looked"]) == (5, 3)
    assert answer["inputs_left_out"] == 1


def test_memory_is_told_by_function_by_worker_and_by_holder(world):
    client, other = world.new_client(), world.new_client()
    worker = world.new_worker()
    first = client.submit(fn=1)
    worker.do_everything()
    client.submit(fn=2, aligned=(first,), options=None)
    answer = ask(world, other, "memory")
    (line,) = [line for line in answer["labels"] if line["label"] == "f1"]
    assert line["n"] == line["wanted"] == 1
    assert line["workers"] == {worker.name: line["bytes"]}
    assert line["bytes"] == line["needed_bytes"] > 0
    (value,) = answer["largest"]
    assert value["workers"] == [worker.name]
    assert value["holders"] == [
        world.state.clients[client.peer].name,
        "1 unfinished task",
    ]
    assert answer["held"] == answer["looked"] == 1


def test_a_task_is_told_with_its_neighbours(world):
    client = world.new_client()
    worker = world.new_worker()
    first = client.submit(fn=1)
    worker.do_everything()
    second = client.submit(fn=2, aligned=(first,))
    client.submit(fn=3, aligned=(second,))
    answer = ask(world, client, "task", names=(f"f2-{second:x}",))
    assert answer["task"] == second
    (need,) = answer["needs"]
    assert (need["key"], need["state"]) == (f"f1-{first:x}", "done")
    assert need["workers"] == [worker.name]
    (user,) = answer["needed_by"]
    assert user["label"] == "f3"
    assert answer["holders"][-1] == "1 unfinished task"
    assert answer["options"]["retries"] == 0
    assert ask(world, client, "task", names=("nobody-1",))["state"] == "forgotten"
    assert ask(world, client, "task")["state"] == "forgotten"


@pytest.mark.parametrize("topic", ["logs", "events", "watch", "prints"])
def test_whatever_was_printed_an_answer_fits_into_a_message(world, topic):
    """Who asks for more than that must not be taken for one that cannot be told."""
    client, worker = world.new_client(), world.new_worker()
    task = client.submit()
    for number in range(400):
        worker.say(Printed(task, "stdout", f"{number:04}" + "é" * 30_000, 0))
    orders = world.core.step(Said(client.peer, [Ask(1, topic)]), world.now)
    if topic in {"watch", "prints"}:
        orders = world.core.tell_audience(world.now + 1, None)
    (answer,) = (m for m in orders[client.peer] if isinstance(m, Answer))
    assert len(encode_frame([answer])) < FRAME_BYTES_MAX / 2
    if topic == "logs":
        assert answer.body[-1][6].startswith("0399")


def test_an_answer_that_does_not_fit_says_so(world, monkeypatch):
    monkeypatch.setattr(portions, "ANSWER_BYTES_MAX", 100)
    client = world.new_client()
    assert "fit into a message" in ask(world, client, "overview")["error"]
