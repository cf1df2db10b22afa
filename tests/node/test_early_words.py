"""What a runner tells straight to who waits for a result, and what it does not."""

from __future__ import annotations

import os
import select
import sys
import threading
from array import array

import pytest

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120

from runner_harness import Call, Pack

from covey.ids import first_task_id
from covey.serde.packing import loads_pack
from covey.store.early import VALUE_BYTES, Ear, make_page

sys.path.pop(0)

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere no thread leads"
)

CLIENT = 11
TASK = first_task_id(CLIENT) + 5


@pytest.fixture
def ear(tmp_path):
    make_page(str(tmp_path))
    ear = Ear(str(tmp_path), CLIENT)
    yield ear
    ear.close()


@pytest.fixture(params=[True, False], ids=["process", "threads"])
def agent(request, start, ear, tmp_path):
    return start(process=request.param, early=str(tmp_path))


def heard(ear):
    """Return what was told, decoded, once the worker has been told more after that."""
    words = []
    while (word := ear.hear()) is not None:
        task, value = word
        words.append((task, *loads_pack(Pack(array("I", [len(value)]), value))))
    return words


def settled(agent, task=TASK + 1000):
    """Have the runner do something else, so that it is done with all before."""
    agent.run(abs, [(-7,)], run=99, base=task)
    assert agent.slots[0].outcomes(1) == {task: 7}


def test_who_waits_is_told_behind_the_worker(agent, ear):
    ear.ask(TASK)
    agent.run(abs, [(-5,)], base=TASK)
    assert agent.slots[0].outcomes(1) == {TASK: 5}
    settled(agent)
    assert heard(ear) == [(TASK, 5)]


def test_the_worker_has_been_told_by_then(start, ear, tmp_path):
    """All that a runner has written is read before its end is noticed."""
    agent, seen = start(process=False, early=str(tmp_path)), []
    told = threading.Event()

    def tell(task, _):
        there, _, _ = select.select([agent.slots[0].sock], [], [], 0)
        seen.append((task, bool(there)))
        told.set()

    agent.shared.configured.wait()
    agent.shared.tell_early = tell
    agent.run(abs, [(-5,)], base=TASK)
    assert told.wait(30)
    assert seen == [(TASK, True)]
    assert agent.slots[0].outcomes(1) == {TASK: 5}


def test_a_single_task_of_a_graph_counts_as_well(agent, ear):
    ear.ask(TASK)
    agent.run_nodes((1, TASK, abs, (-5,)))
    assert agent.slots[0].outcomes(1) == {TASK: 5}
    settled(agent)
    assert heard(ear) == [(TASK, 5)]


def test_who_does_not_wait_is_not_told(agent, ear):
    for task in (TASK, TASK + 1):
        ear.ask(TASK + 2)
        agent.run(abs, [(-5,)], base=task)
        assert agent.slots[0].outcomes(1) == {task: 5}
    settled(agent)
    assert heard(ear) == []


@pytest.mark.parametrize(
    ("function", "call"),
    [
        pytest.param(bytes, (VALUE_BYTES,), id="long"),
        pytest.param(bytes, (1 << 20,), id="large"),
        pytest.param(int, ("x",), id="failed"),
    ],
)
def test_what_is_not_a_small_value_goes_by_the_worker_alone(agent, ear, function, call):
    ear.ask(TASK)
    agent.run(function, [call], base=TASK)
    assert [*agent.slots[0].outcomes(1)] == [TASK]
    settled(agent)
    assert heard(ear) == []


def test_what_comes_with_others_goes_by_the_worker_alone(agent, ear):
    ear.ask(TASK + 1)
    agent.run(abs, [(0,)], base=TASK + 7)
    agent.slots[0].outcomes(1)  # That is loaded now, and these take no time.
    agent.run(abs, [(-i,) for i in range(100)], base=TASK)
    assert len(agent.slots[0].outcomes(100)) == 100
    settled(agent)
    assert heard(ear) == []


@pytest.mark.parametrize("end", ["", "\n"], ids=["waits", "has left"])
def test_who_prints_has_it_told_first(start, ear, tmp_path, end):
    agent = start(early=str(tmp_path))
    ear.ask(TASK)
    agent.run(print, [Call(("hello",), {"end": end})], base=TASK)
    operation, _ = agent.slots[0].expect("printed")
    assert operation[2] == TASK
    assert agent.slots[0].outcomes(1) == {TASK: None}
    settled(agent)
    assert heard(ear) == []
    # That is of this task only.
    ear.ask(TASK + 1)
    agent.run(abs, [(-5,)], base=TASK + 1)
    agent.slots[0].outcomes(1)
    settled(agent)
    assert heard(ear) == [(TASK + 1, 5)]


def test_where_nobody_reads_the_runner_goes_on(agent, ear):
    ear.ask(TASK)
    for run in range(1, 40):
        agent.run(abs, [(-run,)], run=run, base=TASK)
        assert agent.slots[0].outcomes(1) == {TASK: run}
    settled(agent)
    assert 0 < len(heard(ear)) < 39


def test_where_there_is_no_page_the_runner_works_all_the_same(start, tmp_path):
    agent = start(process=False, early=str(tmp_path / "nowhere"))
    settled(agent)
