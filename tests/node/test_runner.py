"""A runner, driven over its sockets by a tiny agent: as a process, and in threads."""

from __future__ import annotations

import functools
import operator
import os
import pickle
import signal
import sys
import threading
from contextlib import closing

import pytest

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120

from runner_harness import Call, Pack

from covey.errors import (
    NotPicklable,
    RunnerDied,
    TaskCancelled,
    TaskError,
    TaskUnreadable,
)
from covey.runner.context import TaskInterrupted, current
from covey.serde.call import call_value
from covey.serde.packing import Packer
from covey.serde.refs import resolve, resolve_function
from covey.serde.values import dumps
from covey.stacks import Tree
from covey.store.segments import Segment

sys.path.pop(0)


@pytest.fixture
def process(start):
    return start()


class Ref:
    """Pickles itself as a future does while arguments are captured."""

    def __init__(self, task_id):
        self.task_id = task_id

    def __reduce__(self):
        return (resolve, (self.task_id,))


class FunctionRef(Ref):
    """The same, for what is to be called."""

    def __reduce__(self):
        return (resolve_function, (self.task_id,))


def by_path(fd):
    """Name a descriptor of this process so that a child can open it."""
    return f"/proc/{os.getpid()}/fd/{fd}"


needs_proc = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="opens pipes through /proc"
)


class Gate:
    """Holds a task of another process until it is told to go on."""

    def __init__(self):
        self.began, self.go = os.pipe(), os.pipe()
        self.paths = by_path(self.began[1]), by_path(self.go[0])

    def wait_began(self):
        assert os.read(self.began[0], 1) == b"b"

    def release(self, count=1):
        os.write(self.go[1], b"g" * count)

    def close(self):
        for fd in (*self.began, *self.go):
            os.close(fd)


@pytest.fixture
def held():
    gate = Gate()
    yield gate
    gate.close()


def make_hold():
    # By value, so that the runner needs no module of the tests.
    def hold(paths, value):
        import os

        began, go = paths
        fd = os.open(began, os.O_WRONLY)
        os.write(fd, b"b")
        os.close(fd)
        fd = os.open(go, os.O_RDONLY)
        os.read(fd, 1)
        os.close(fd)
        return value

    return by_value(hold)


def by_value(function):
    """Make cloudpickle write *function* out."""
    function.__module__ = "__main__"
    return function


# Calls and results.


def test_a_pack_of_calls(agent):
    assert agent.introduction["cloudpickle"]
    agent.run(divmod, [(i, 7) for i in range(1000)])
    assert agent.slots[0].outcomes(1000) == {100 + i: divmod(i, 7) for i in range(1000)}


def test_keyword_arguments(agent):
    agent.run(sorted, [Call(([1, 3, 2],), {"reverse": True}), ([2, 1],)])
    assert agent.slots[0].outcomes(2) == {100: [3, 2, 1], 101: [1, 2]}


def test_small_results_travel_together(agent):
    """The first may go alone, where loading the function took its time."""
    agent.run(abs, [(-1,)] * 1000)
    counts = []
    while sum(counts) < 1000:
        operation, body = agent.slots[0].expect("ran")
        assert operation[:3] == ["ran", 1, 100 + sum(counts)]
        assert len(body) == 4 * operation[3] + operation[5]
        counts.append(operation[3])
    assert sum(counts) == 1000
    assert len(counts) < 100


def test_several_runs_of_one_message_use_the_function_once_sent(agent):
    for run in (1, 2, 3):
        agent.run(abs, [(-run,)], run=run, base=run)
    assert agent.slots[0].outcomes(3) == {1: 1, 2: 2, 3: 3}


def test_a_function_by_value(agent):
    factor = 3
    agent.run(by_value(lambda x: x * factor), [(2,)])
    assert agent.slots[0].outcomes(1) == {100: 6}


def test_a_large_result_rests_in_a_segment(agent):
    numpy = pytest.importorskip("numpy")
    agent.run(numpy.arange, [(3,), (1 << 20,), (2,)])
    found = agent.slots[0].outcomes(3)
    assert found[101][-1] == (1 << 20) - 1
    assert not found[101].flags.writeable
    assert list(found[100]) == [0, 1, 2]
    assert list(found[102]) == [0, 1]


def test_a_large_plain_value_too(agent):
    agent.run(bytes, [(1 << 20,)])
    assert agent.slots[0].outcomes(1) == {100: bytes(1 << 20)}


def test_an_async_task(agent):
    async def double(x):
        import asyncio

        await asyncio.sleep(0)
        return 2 * x

    agent.run(by_value(double), [(1,), (2,)])
    assert agent.slots[0].outcomes(2) == {100: 2, 101: 4}


def test_inputs_from_packs_and_segments(agent):
    numpy = pytest.importorskip("numpy")
    packer = Packer()
    for value in ("a", "b"):
        packer.add(value)
    pack = packer.take()
    with_segment = Segment.of(dumps(numpy.ones(1000)))
    inputs = [
        ["in", 7, 2, len(pack.data)],
        ["seg", 50, place := with_segment.place, with_segment.size],
    ]
    calls = [([Ref(8), Ref(7)],), ([Ref(50)],)]
    agent.run(list, calls, inputs=inputs, extra=pack.sizes_bytes() + pack.data)
    found = agent.slots[0].outcomes(2)
    assert found[100] == ["b", "a"]
    assert found[101][0].sum() == 1000
    with_segment.close()

    # What was mapped stays mapped, until the agent says that it is gone.
    agent.run(len, [(Ref(50),)], inputs=[["seg", 50, place, 1]], base=200)
    assert agent.slots[0].outcomes(1) == {200: 1000}
    agent.slots[0].send([["forget", [[50, 1]]]])
    agent.run(len, [(Ref(50),)], inputs=[["seg", 50, place, 1]], base=300)
    assert isinstance(agent.slots[0].outcomes(1)[300], FileNotFoundError)


def grow(values, *others):
    """Change a list, and tell how long it is now."""
    for each in (values, *others):
        each.append(0)
    return len(values)


@pytest.fixture
def large_list():
    """A list too large for a message, of one item."""
    with closing(Segment.of(dumps(["a" * (1 << 17)]))) as segment:
        yield ["seg", 50, segment.place, segment.size]


def test_each_task_has_its_inputs_for_itself(agent, large_list):
    pack = Pack.of([pickle.dumps([1])])
    inputs = [["in", 7, 1, len(pack.data)], large_list]
    extra = pack.sizes_bytes() + pack.data
    calls = [(Ref(7),), (Ref(50),), (Ref(7),), (Ref(50),)]
    agent.run(by_value(grow), calls, inputs=inputs, extra=extra)
    agent.run(by_value(grow), [(Ref(50),)], inputs=[large_list], base=200)
    found = agent.slots[0].outcomes(5)
    assert found == {100: 2, 101: 2, 102: 2, 103: 2, 200: 2}


def test_a_task_that_takes_an_input_twice_is_given_one_object(agent, large_list):
    calls = [(Ref(50), Ref(50)), (Ref(50), Ref(50))]
    agent.run(by_value(grow), calls, inputs=[large_list])
    assert agent.slots[0].outcomes(2) == {100: 3, 101: 3}


def test_a_function_that_came_as_a_value_is_loaded_once(agent):
    adds = functools.partial(operator.iadd, ["a" * (1 << 17)])
    with closing(Segment.of(dumps(adds))) as segment:
        inputs = [["seg", 50, segment.place, segment.size]]
        calls = [(FunctionRef(50), [0]), (FunctionRef(50), [0])]
        agent.run(call_value, calls, inputs=inputs)
        agent.run(call_value, calls[:1], inputs=inputs, base=200)
        found = agent.slots[0].outcomes(3)
    assert {task: len(sums) for task, sums in found.items()} == {100: 2, 101: 3, 200: 4}


def test_what_a_slot_made_serves_what_follows_there(agent):
    agent.run(list, [("ab",)], flags=1)
    agent.run(lambda made: made.append("c") or made, [(Ref(100),)], base=200, own=[100])
    agent.run(len, [(Ref(100),)], base=300, own=[100])
    # Each gets a value of its own: what one does to it, the next does not see.
    assert agent.slots[0].outcomes(3) == {100: ["a", "b"], 200: [*"abc"], 300: 2}


def test_what_a_slot_has_not_made_sends_the_next_one_back(agent):
    agent.run(int, [("no number",)], flags=1)
    agent.run(abs, [(Ref(100),)], base=200, own=[100], flags=1)
    agent.run(abs, [(Ref(200),)], base=300, own=[200])
    agent.run(abs, [(-1,)], base=400)
    slot = agent.slots[0]
    operations = [slot.next()[0] for _ in range(4)]
    assert [operation[0] for operation in operations] == [
        "failed",
        "returned",
        "returned",
        "ran",
    ]
    assert [operation[3:] for operation in operations[1:3]] == [[200, 1], [300, 1]]


def test_an_input_that_did_not_come_along(agent):
    agent.run(len, [(Ref(8),)])
    error = agent.slots[0].outcomes(1)[100]
    assert isinstance(error, LookupError)
    assert "task 8" in str(error)


# Failures.


def test_an_exception_comes_back_as_itself(agent):
    agent.run(int, [("1",), ("x",), ("3",)])
    found = agent.slots[0].outcomes(3)
    assert (found[100], found[102]) == (1, 3)
    assert isinstance(found[101], ValueError)
    (note,) = found[101].__notes__
    assert "worker alice, runner" in note
    assert "covey" not in note


def test_sys_exit_ends_the_task_only(agent):
    agent.run(sys.exit, [(3,)])
    error = agent.slots[0].outcomes(1)[100]
    assert isinstance(error, TaskError)
    assert "sys.exit(3)" in str(error)
    agent.run(abs, [(-1,)], base=200)
    assert agent.slots[0].outcomes(1) == {200: 1}


def test_a_result_that_cannot_be_pickled(agent):
    agent.run(threading.Lock, [()])
    error = agent.slots[0].outcomes(1)[100]
    assert isinstance(error, NotPicklable)
    assert "cannot pickle result (_thread.lock)" in str(error)


def test_a_module_that_is_missing(process, tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("def f(): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    import only_here

    process.run(only_here.f, [(), ()])
    found = process.slots[0].outcomes(2)
    for error in found.values():
        assert isinstance(error, ModuleNotFoundError)
        assert error.name == "only_here"
        assert "worker alice" in str(error)


def test_a_function_that_cannot_be_loaded_fails_every_task(agent):
    agent.slots[0].send([["fn", 1, 1]], b"?")
    agent.slots[0].send([["run", 1, 1, 5, 2, 2, [], 0]], b"\1\0\0\0" * 2 + b"NN")
    found = agent.slots[0].outcomes(2)
    assert all(isinstance(error, TaskUnreadable) for error in found.values())


def test_setup_reaches_the_tasks(tmp_path, start):
    (tmp_path / "mine.py").write_text(
        "import os\n"
        "from covey.runner.context import current\n"
        "def look():\n"
        "    task = current()\n"
        "    return (os.getcwd(), os.environ['HUE'], task.worker, task.address,\n"
        "            task.token, task.run, task.task_id)\n"
    )
    agent = start(
        sys_path=[str(tmp_path)],
        cwd=str(tmp_path),
        environ={"HUE": "blue"},
        address="there",
        token="secret",
    )
    sys.path.insert(0, str(tmp_path))
    try:
        import mine

        agent.run(mine.look, [()], run=9)
    finally:
        sys.path.remove(str(tmp_path))
    assert agent.slots[0].outcomes(1)[100] == (
        str(tmp_path),
        "blue",
        "alice",
        "there",
        "secret",
        9,
        100,
    )


# Retraction.


@needs_proc
@pytest.mark.parametrize(
    ("count", "returned"),
    [
        (-1, [(2, 200, 3), (1, 101, 4)]),
        (3, [(2, 200, 3)]),
        (5, [(2, 200, 3), (1, 103, 2)]),
        (1, [(2, 202, 1)]),
    ],
)
def test_what_has_not_begun_is_given_back(agent, held, count, returned):
    hold = make_hold()
    agent.run(hold, [(held.paths, i) for i in range(5)])
    held.wait_began()
    # This one stays in the socket: the slot is busy.
    agent.run(abs, [(1,), (2,), (3,)], run=2, base=200)
    agent.control.send([["retract", 0, count]])
    for part in returned:
        operation, _ = agent.control.expect("returned")
        assert operation == ["returned", 0, *part]
    held.release(8)
    gone = {base + i for _, base, n in returned for i in range(n)}
    kept = {100, 101, 102, 103, 104, 200, 201, 202} - gone
    assert agent.slots[0].outcomes(len(kept)).keys() == kept


def test_there_may_be_nothing_to_give_back(agent):
    agent.control.send([["retract", 0, -1], ["retract", 77, -1]])
    assert agent.control.expect("returned")[0] == ["returned", 0, 0, 0, 0]
    assert agent.control.expect("returned")[0] == ["returned", 77, 0, 0, 0]


@needs_proc
def test_a_short_task_need_not_wait_behind_a_long_one(agent, held):
    hold = make_hold()
    agent.run(hold, [(held.paths, i) for i in range(3)])
    held.release()
    held.wait_began()
    held.wait_began()
    agent.control.send([["flush", 0], ["flush", 7]])
    assert agent.slots[0].outcomes(1) == {100: 0}
    held.release(2)
    assert agent.slots[0].outcomes(2) == {101: 1, 102: 2}


# Crashes.


def crash_by_exit():
    os._exit(3)


def crash_by_signal():
    os.kill(os.getpid(), signal.SIGKILL)


def crash_by_segfault():
    import faulthandler

    faulthandler._sigsegv()


@pytest.mark.parametrize(
    ("crash", "status"),
    [
        (crash_by_exit, 3),
        (crash_by_signal, -signal.SIGKILL),
        (crash_by_segfault, -signal.SIGSEGV),
    ],
)
def test_the_marks_tell_who_was_to_blame(crash, status, start):
    agent = start()

    def trip(index):
        if index == 2:
            crash()

    agent.run(by_value_deep(trip, crash), [(i,) for i in range(5)], run=6)
    assert agent.process.wait(30) == status
    assert agent.mark() == (6, 102)
    if crash is crash_by_segfault:
        assert b"Segmentation fault" in agent.process.stderr.read()


def by_value_deep(function, *inner):
    for each in inner:
        each.__module__ = "__main__"
    return by_value(function)


def test_an_idle_slot_has_no_mark(agent):
    agent.run(abs, [(-1,)])
    agent.slots[0].outcomes(1)
    assert agent.mark()[0] == 0


@pytest.mark.parametrize("which", ["control", "slot", "slot while busy"])
@needs_proc
def test_the_runner_ends_with_its_agent(held, which, start):
    agent = start()
    if which == "slot":
        agent.slots[0].sock.close()
    else:
        if "busy" in which:
            agent.run(make_hold(), [(held.paths, 1)])
            held.wait_began()
        agent.control.sock.close()
    assert agent.process.wait(30) == 0
    assert agent.process.stderr.read() == b""


def test_stop_lets_the_runner_leave_in_order(process):
    process.run(abs, [(-1,)])
    process.slots[0].send([["stop"]])
    assert process.slots[0].outcomes(1) == {100: 1}
    assert process.process.wait(30) == 0


# Cancelling.


@needs_proc
def test_a_task_is_interrupted_in_the_main_thread(process, held):
    process.run(make_hold(), [(held.paths, 1), (held.paths, 2)])
    held.wait_began()
    process.control.send([["cancel", 0, 1, 100], ["cancel", 0, 1, 101]])
    operation, _ = process.slots[0].next()
    assert operation[:3] == ["failed", 1, 100]
    assert operation[4] == "covey.errors.TaskCancelled"
    held.wait_began()
    held.release()
    assert process.slots[0].outcomes(1) == {101: 2}


def spin_until_interrupted(path):
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, b"b")
    os.close(fd)
    while True:
        pass


@needs_proc
def test_a_task_is_interrupted_in_another_thread(held, start):
    agent = start(process=False)
    agent.run(by_value(spin_until_interrupted), [(held.paths[0],)])
    held.wait_began()
    agent.control.send([["cancel", 0, 1, 100]])
    assert isinstance(agent.slots[0].outcomes(1)[100], TaskCancelled)
    agent.run(abs, [(-1,)], base=200)
    assert agent.slots[0].outcomes(1) == {200: 1}


def test_a_large_result_that_is_being_written_is_not_interrupted(start):
    """What half of it stands in would stay lent, or open, as long as the runner lives."""
    agent = start(process=False)
    begun, go_on = threading.Event(), threading.Event()
    export = agent.shared.export

    def slowly(frames):
        begun.set()
        go_on.wait(30)
        return export(frames)

    agent.shared.export = slowly
    agent.run(bytes, [(1 << 20,), (3,)])
    assert begun.wait(30)
    agent.control.send([["cancel", 0, 1, 100], ["dump"]])
    agent.control.expect("stacks")
    go_on.set()
    # It came too late; and nobody else is hit by it.
    assert agent.slots[0].outcomes(2) == {100: bytes(1 << 20), 101: bytes(3)}
    agent.run(abs, [(-1,)], base=200)
    assert agent.slots[0].outcomes(1) == {200: 1}
    assert not agent.shared._segments


class LoadsOnce:
    """A function that does not finish loading the first time."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        def load(folder):
            mark = folder / "mark"
            if mark.exists():
                return abs
            mark.touch()
            while True:
                pass

        return by_value(load), (self.folder,)

    def __call__(self):
        raise NotImplementedError


def test_whoever_follows_an_interrupted_one_gets_its_own_arguments(agent, tmp_path):
    """It was interrupted before its arguments were taken."""
    agent.run(LoadsOnce(tmp_path), [(-1,), (-2,), (-3,)])
    while not (tmp_path / "mark").exists():
        threading.Event().wait(0.001)
    agent.control.send([["cancel", 0, 1, 100]])
    found = agent.slots[0].outcomes(3)
    assert isinstance(found.pop(100), TaskCancelled)
    assert found == {101: 2, 102: 3}


def test_interrupts_at_any_moment_hit_whom_they_are_meant_for(agent):
    """Each element ends once, with its own value, or cancelled if it was asked to."""

    def work(x):
        for _ in range(x % 5 * 100_000):
            pass
        return x

    wanted, hit = set(), 0
    for number in range(5):
        base, count = 1000 * (number + 1), 40
        agent.run(by_value(work), [(base + i,) for i in range(count)], base=base, run=1)
        task = 0
        while task != base + count - 1:
            # Whoever executes at this moment, or has just ended.
            task = int.from_bytes(agent.marks[8:16], sys.byteorder)
            if base <= task < base + count and task not in wanted:
                agent.control.send([["cancel", 0, 1, task]])
                wanted.add(task)
            threading.Event().wait(0.0003)
        found = agent.slots[0].outcomes(count)
        assert set(found) == set(range(base, base + count))
        wrong = {task: value for task, value in found.items() if value != task}
        assert set(wrong) <= wanted
        assert all(isinstance(error, TaskCancelled) for error in wrong.values())
        hit += len(wrong)
    assert hit
    agent.run(abs, [(-1,)], base=200)
    assert agent.slots[0].outcomes(1) == {200: 1}


def test_a_late_cancel_hits_nobody(agent):
    agent.run(abs, [(-1,)])
    agent.slots[0].outcomes(1)
    agent.control.send([["cancel", 0, 1, 100], ["cancel", 5, 1, 100], ["dump"]])
    agent.control.expect("stacks")
    agent.run(abs, [(-1,)], base=200)
    assert agent.slots[0].outcomes(1) == {200: 1}


@needs_proc
def test_stacks(agent, held):
    agent.run(make_hold(), [(held.paths, 1)])
    held.wait_began()
    agent.control.send([["dump"]])
    assert "in hold" in agent.control.expect("stacks")[0][1]
    held.release()
    agent.slots[0].outcomes(1)


@needs_proc
def test_a_profile_shows_what_tasks_do(agent, held):
    agent.control.send([["profile", 20]])
    assert agent.control.expect("profiled")[0][1] == [], "nothing runs"
    agent.run(make_hold(), [(held.paths, 1)])
    held.wait_began()
    # What was seen before is how the function was read.
    agent.control.send([["profile", 20]])
    agent.control.expect("profiled")
    seen = []
    while not seen:
        agent.control.send([["profile", 20]])
        seen = agent.control.expect("profiled")[0][1]
    ((function, names, numbers),) = seen
    assert function == 1
    tree = Tree()
    tree.add_flat(names, numbers)
    # From the task's own frame on, without those of the runner around it.
    assert names[0].startswith("make_hold.<locals>.hold\t")
    assert 0 < tree.seconds < 60
    held.release()
    agent.slots[0].outcomes(1)


# Waiting for subtasks.


@needs_proc
def test_a_blocked_task_gives_its_slot_away(agent, held):
    hold = make_hold()

    def wait(index):
        from covey.runner.context import blocking, current

        if index:
            return index
        task = current()
        values = []
        for _ in range(2):
            with blocking(), blocking():
                values.append(hold(held_paths, "held"))
        assert (current().run, current().task_id) == (task.run, task.task_id)
        return values

    held_paths = held.paths
    agent.run(by_value(wait), [(0,), (1,), (2,)])
    assert agent.slots[0].expect("blocked")[0] == ["blocked", 1, 100]
    held.wait_began()
    # The slot goes on: with the same batch, then with the next one.
    assert agent.slots[0].outcomes(2) == {101: 1, 102: 2}
    agent.run(abs, [(-1,)], base=200, run=2)
    assert agent.slots[0].outcomes(1) == {200: 1}
    held.release()
    assert agent.slots[0].expect("resumed")[0] == ["resumed", 1, 100]
    assert agent.slots[0].expect("blocked")[0] == ["blocked", 1, 100]
    held.wait_began()
    held.release()
    assert agent.slots[0].expect("resumed")[0] == ["resumed", 1, 100]
    assert agent.slots[0].outcomes(1) == {100: ["held", "held"]}
    agent.run(abs, [(-2,)], base=300, run=3)
    assert agent.slots[0].outcomes(1) == {300: 2}
    agent.slots[0].send([["stop"]])
    if agent.process:
        assert agent.process.wait(30) == 0


@needs_proc
def test_a_blocked_task_can_be_cancelled(process, held):
    hold = make_hold()
    held_paths = held.paths

    def wait():
        from covey.runner.context import blocking

        with blocking():
            hold(held_paths, 1)

    process.run(by_value(wait), [()])
    process.slots[0].expect("blocked")
    held.wait_began()
    process.control.send([["cancel", 0, 1, 100]])
    process.slots[0].expect("resumed")
    assert isinstance(process.slots[0].outcomes(1)[100], TaskCancelled)


@needs_proc
def test_two_slots(held, start):
    agent = start(slots=2)
    agent.run(make_hold(), [(held.paths, 1)], slot=0)
    held.wait_began()
    agent.slots[1].send([["fn", 9, 2]], b"N.")
    agent.run(abs, [(-1,)], slot=1)
    assert agent.slots[1].outcomes(1) == {100: 1}
    assert agent.mark(0) == (1, 100)
    held.release()
    assert agent.slots[0].outcomes(1) == {100: 1}
    for slot in agent.slots:
        slot.send([["stop"]])
    assert agent.process.wait(30) == 0


def test_outside_of_tasks_there_is_no_context():
    assert current() is None
    assert not issubclass(TaskInterrupted, Exception)
    assert issubclass(RunnerDied, TaskError)
    assert len(Pack.of([b"1"])) == 1
