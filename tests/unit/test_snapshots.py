"""What a recording has beside the events: when it is asked for, and what a replay shows."""

from __future__ import annotations

import asyncio
import itertools

import msgspec
import pytest

from covey.dashboard.past import ReplayFeed
from covey.dashboard.questions import Questions
from covey.errors import UsageError
from covey.recording import Seen, Told, Writer, read
from covey.serde.failures import describe
from covey.snapshots import CAUSES_MAX, Question, Snapshots

OVERVIEW = {
    "next": 0,
    "now": 0.0,
    "cluster": "c",
    "workers": [],
    "functions": {},
    "impossible": [],
    "clients": [],
    "running": {},
    "ready": 0,
    "known": 0,
    "slots": 1,
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.covey"


@pytest.fixture
def writer(path):
    made = Writer(path)
    made.head(1e9, OVERVIEW)
    yield made
    made.close()


def failed(base, message="no 1", label="inc", origin=-1):
    return [1.0, "failed", base, 1, label, "w", "raised", "KeyError", message, origin]


def batch(*events):
    return msgspec.msgpack.encode(list(events))


def graph(total):
    return {"groups": [], "edges": [], "nodes": [], "total": total, "looked": total}


def test_looks_become_rare_as_a_run_goes_on(writer):
    snapshots = Snapshots(writer, 0.0)
    looks = []
    looked = 0
    for second in range(3_600):
        topics = [question.topic for question in snapshots.due(float(second))]
        looked += "profile" in topics
        if "graph" in topics:
            looks.append(second)
    assert looks[:3] == [2, 4, 6]
    assert looked == 60 + 59 * 10, "all of the first minute, and some of the others"
    gaps = [after - before for before, after in itertools.pairwise(looks)]
    assert gaps == sorted(gaps)
    assert len(looks) < 70, "an hour adds little to the first minute"


def test_one_task_of_each_cause_is_asked_for(writer):
    snapshots = Snapshots(writer, 0.0)
    ran = [1.0, "ran", 7, 1, "inc", "w", 0.5, 12, 0]
    assert snapshots.failures(batch(ran)) == []
    events = (
        failed(7),
        ran,
        failed(8, "no 2"),
        failed(9, "other"),
        failed(10, "x", origin=7),
    )
    keys = [question.key for question in snapshots.failures(batch(*events))]
    assert keys == ["inc-7", "inc-9"], "numbers make no other cause, nor do dependents"
    assert snapshots.failures(batch(failed(11))) == []
    many = [failed(n, label=f"f{n}") for n in range(100, 100 + 2 * CAUSES_MAX)]
    assert len(snapshots.failures(batch(*many))) == CAUSES_MAX - 2
    assert snapshots.failures(batch(failed(1, "news"))) == []


def test_code_that_ran_is_written_in_slices(writer, path):
    snapshots = Snapshots(writer, 0.0)
    question = Question("profile")
    for second in range(25):
        seen = [[float(second), "w", "inc", ["f\tm.py\t1"], [0, 0, 0, 1000]]]
        answer = {"next": second + 1, "dropped": 0, "seen": seen}
        snapshots.answered(question, float(second), answer)
    assert snapshots.due(25.0)[0].number == 25, "it goes on where the last answer ended"
    snapshots.write_profile(25.0)
    slices = [record for record in read(path) if isinstance(record, Seen)]
    assert [record.now for record in slices] == [10.0, 20.0, 25.0]
    feed = ReplayFeed(path)
    assert feed.profiles.tree("inc", "w").seconds == pytest.approx(0.025)
    assert feed.profiles.subjects() == [("w", "inc", pytest.approx(0.025))]


def test_nothing_is_written_of_code_that_nobody_saw(writer, path):
    Snapshots(writer, 0.0).write_profile(5.0)
    assert not [record for record in read(path) if isinstance(record, Seen)]


def test_the_graph_is_shown_as_it_was_while_there_was_much(writer, path):
    for now, total in ((1.0, 10), (2.0, 100), (3.0, 60), (4.0, 3)):
        writer.told("graph", "", now, graph(total))
    feed = ReplayFeed(path)
    found = asyncio.run(feed.ask("graph"))
    assert (found["total"], found["as_of"]) == (60, 3.0)
    with pytest.raises(UsageError, match="ended before anybody looked"):
        asyncio.run(feed.ask("memory"))
    with pytest.raises(UsageError, match="nothing can be changed"):
        feed.act(1, lambda future: future)


def test_a_replay_knows_tracebacks_and_tasks(writer, path):
    try:
        raise KeyError("no 7", "x" * 1_000_000)
    except KeyError as error:
        payload = describe(error, where="here")
    writer.batch(
        0,
        3,
        0,
        batch(failed(7), failed(8, "no 2"), [1.0, "ran", 9, 2, "inc", "w", 0.5, 12, 0]),
        1.0,
    )
    told = {"task": 7, "state": "failed", "text": "it failed", "payload": payload}
    Snapshots(writer, 0.0).answered(Question("task", key="inc-7"), 1.0, told)
    assert path.stat().st_size < 600_000, "no more than the text is needed"
    questions = Questions(ReplayFeed(path))
    first = asyncio.run(questions.task("inc-7"))
    assert "KeyError: ('no 7'" in first["traceback"]
    assert [what for _, what, _, _ in first["life"]] == ["failed"]
    other = asyncio.run(questions.task("inc-8"))
    assert other["traceback"] == first["traceback"]
    assert "that of inc-7" in other["text"] and "no 2" in other["text"]
    inside = asyncio.run(questions.task("inc-a"))
    assert (inside["state"], inside["n"], inside["workers"]) == ("done", 2, ["w"])
    assert asyncio.run(questions.task("else-1"))["state"] == "unknown"


def test_a_report_keeps_what_its_pages_ask_for(writer, path):
    writer.batch(
        0, 2, 0, batch(failed(7), [1.0, "ran", 9, 1, "a b", "w", 0.5, 12, 0]), 1.0
    )
    writer.told("graph", "", 1.0, {**graph(0), "inputs_left_out": 0})
    writer.seen(1.0, [["w", "a b", ["f\tm.py\t1"], [0, 0, 0, 1000]]])
    answers = asyncio.run(Questions(ReplayFeed(path)).to_keep())
    assert set(answers) == {
        "api/search",
        "api/graph",
        "api/profile?function=&worker=&seconds=0",
        "api/profile?function=a+b&worker=&seconds=0",
        "api/profile?function=&worker=w&seconds=0",
        "api/task?key=inc-7",
        "api/task?key=a%20b-9",
    }
    assert [row["key"] for row in answers["api/search"]] == ["a b-9"]


def test_what_was_told_comes_back(writer, path):
    writer.told("memory", "", 2.5, {"bytes": 1})
    assert list(read(path))[1:] == [Told("memory", "", 2.5, {"bytes": 1})]
