"""What goes into tasks and how futures behave, on a cluster of two runners."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import itertools
import operator
import pickle
import re
import socket
import threading
import warnings
from typing import NamedTuple

import numpy as np
import pytest

import covey
from covey import Client, as_completed, errors, wait
from covey.client.calls import Calls
from covey.client.placing import CHUNK_TASKS
from covey.serde.packing import Packer


class Pair(NamedTuple):
    """A tuple of the user's own."""

    left: object
    right: object


OFFSET = 10


def inc(x):
    return x + 1


def add(x, y=0):
    return x + y


def add_offset(x):
    return x + OFFSET


class Account:
    """An object of the user's own."""

    def __init__(self, balance):
        self.balance = balance

    def after(self, amount):
        return self.balance + amount

    @classmethod
    def opened(cls, balance):
        return cls(balance)

    def __call__(self, amount):
        return self.after(amount)


def balance_of(account):
    return account.balance


def is_writeable(array):
    return array.flags.writeable, array.flags.owndata


def open_gate(path):
    path.touch()


def wait_at(path, log=None, word=""):
    """Wait for a file, so that a test decides when a task ends."""
    gate = threading.Event()
    while not path.exists():
        gate.wait(0.005)
    if log is not None:
        write(log, word)
    return word


def begin_and_wait(begun, path):
    """Say that a slot is taken, and keep it until the test lets go."""
    begun.touch()
    wait_at(path)


def write(log, word):
    with log.open("a") as file:
        file.write(word)


def by_pickle(value):
    return pickle.loads(pickle.dumps(value))


def known_tasks(client):
    return sum(client.scheduler_info()["tasks"].values())


# Arguments.


def test_futures_hide_in_containers_and_objects(client):
    one, two = client.submit(inc, 0), client.submit(inc, 1)
    assert client.submit(Pair, one, right=[two]).result(20) == Pair(1, [2])
    assert client.submit(balance_of, Account(two)).result(20) == 2
    assert client.submit(add, *[one, two]).result(20) == 3
    deep = one
    for _ in range(30):
        deep = [deep]
    text = client.submit(str, deep).result(20)
    assert text == "[" * 30 + "1" + "]" * 30


def test_kinds_of_callables(client):
    assert client.submit(Account(5).after, 1).result(20) == 6
    assert client.submit(Account(5), 2).result(20) == 7
    assert client.submit(Account.opened, 3).result(20).balance == 3
    assert client.submit(functools.partial(add, y=3), 1).result(20) == 4
    assert client.submit("a-b".split, "-").result(20) == ["a", "b"]
    assert client.submit(np.add, 1, 2).result(20) == 3
    assert client.gather(client.map(int, "123")) == [1, 2, 3]


def test_globals_may_change_between_submits(client, monkeypatch):
    space = {}
    exec("N = 1\ndef f(x):\n    return x + N\n", space)
    assert client.submit(space["f"], 1).result(20) == 2
    space["N"] = 5
    assert client.submit(space["f"], 1).result(20) == 6


def test_a_changed_argument_does_not_change_what_was_submitted(client):
    data = [1, 2]
    future = client.submit(sum, data)
    data.append(100)
    assert future.result(20) == 3


def test_map_over_futures_of_every_sort(client):
    one = client.submit(inc, 0)
    singles = [client.submit(inc, i) for i in range(4)]
    assert client.gather(client.map(inc, singles)) == [2, 3, 4, 5]
    assert client.gather(client.map(add, singles, [one] * 4)) == [2, 3, 4, 5]
    assert client.gather(client.map(add, [one, 5, singles[2]], [1, one, 1])) == [
        2,
        6,
        4,
    ]
    assert client.gather(client.map(add, range(4), y=one)) == [1, 2, 3, 4]
    many = client.map(inc, range(200))
    assert client.gather(client.map(add, many, reversed(many))) == [201] * 200
    assert client.gather(client.map(sum, [[many[i], many[i + 1]] for i in range(3)]))
    assert client.gather(client.map(add, many, range(3))) == [1, 3, 5]
    assert client.gather(client.map(sum, [many, many])) == [20100, 20100]
    many += [one]
    assert client.gather(client.map(inc, many))[-1] == 2


def test_generators_are_read_once_and_to_their_end(client):
    taken = []

    def numbers():
        for i in range(5):
            taken.append(i)
            yield i

    futures = client.map(add, numbers(), y=100)
    assert taken == [0, 1, 2, 3, 4]
    assert client.gather(futures) == [100, 101, 102, 103, 104]
    assert client.gather(client.map(add, numbers(), [10, 10])) == [10, 11]


def test_large_arguments_and_closures(client):
    table = np.arange(700_000, dtype=float)
    assert client.submit(np.sum, table).result(20) == table.sum()
    assert np.array_equal(client.submit(np.take, table, indices=[5]).result(20), [5])
    both = client.submit(np.array_equal, a1=table, a2=table)
    assert both.result(20)
    assert client.gather(client.map(np.sum, [table, table * 2])) == [
        table.sum(),
        2 * table.sum(),
    ]
    assert client.gather(client.map(lambda i, t=table: t[i], range(3))) == [0, 1, 2]
    text = "x" * 3_000_000
    assert client.submit(len, text).result(20) == len(text)
    assert client.submit(lambda: len(text)).result(20) == len(text)
    assert client.gather(client.map(add, ["a", "b"], y=text))[1][:2] == "bx"


def test_large_values_are_mapped_and_cannot_be_written(client, until):
    there = client.scatter(np.arange(500_000))
    assert client.submit(is_writeable, there).result(20) == (False, False)
    here = there.result(20)
    assert is_writeable(here) == (False, False)
    with pytest.raises(ValueError, match="read-only"):
        here[0] = 1
    assert there.result() is here
    copies = client.gather([there, there])
    assert copies[0] is copies[1]
    # The value lives on here though the cluster has forgotten it.
    key = there.key
    there.release()
    assert until(lambda: key not in client.who_has([]))
    assert here[499_999] == 499_999
    frame = client.submit(np.ones, (300, 1000)).result(20)
    assert frame.shape == (300, 1000)


def test_scatter_shapes_and_places(client):
    empty = client.scatter([])
    assert client.gather(empty) == []
    assert client.gather(client.scatter({1, 2})) == {1, 2}
    assert client.gather(client.scatter({"a": np.ones(300_000), "b": 1}))["b"] == 1
    for broadcast in (False, True):
        mixed = client.scatter(
            (np.ones(300_000), "s", np.zeros(300_000)), broadcast=broadcast
        )
        assert isinstance(mixed, tuple)
        assert client.gather(client.map(np.size, mixed)) == [300_000, 1, 300_000]
    assert client.who_has(client.scatter([1], workers="local")) != {}
    with pytest.raises(errors.UsageError, match=r"nobody.*local"):
        client.scatter(np.ones(300_000), workers="nobody")


# Futures.


def test_gather_leaves_other_things_alone(client):
    one = client.submit(inc, 0)
    assert client.gather([one, "text", {"x": (one, None)}]) == [
        1,
        "text",
        {"x": (1, None)},
    ]
    assert client.gather(Pair(one, 5)) == Pair(1, 5)
    assert client.gather([]) == []
    assert client.gather({"a": one}.values()) == client.gather(f for f in [one])
    with pytest.raises(errors.UsageError, match="futures are wanted here"):
        client.gather(5)
    assert client.gather(client.submit(inc, 1)) == 2


def test_what_is_taken_out_of_the_list_of_a_map_is_kept_no_longer(client, until):
    gc.collect()
    assert until(lambda: known_tasks(client) == 0)
    futures = client.map(inc, range(300))
    values = [futures.pop().result(20) for _ in range(290)]
    assert values == list(range(300, 10, -1))
    assert until(lambda: known_tasks(client) == 10)
    assert client.gather(futures) == list(range(1, 11))
    del futures
    assert until(lambda: known_tasks(client) == 0)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, by_pickle])
def test_a_future_of_a_map_is_copied_and_pickled_like_any_other(client, until, again):
    gc.collect()
    assert until(lambda: known_tasks(client) == 0)
    futures = client.map(inc, range(9))
    twin = again(futures[3])
    assert twin.key == futures[3].key
    assert [f.key for f in again(futures)] == [f.key for f in futures]
    assert again(futures) == futures
    del futures
    assert until(lambda: known_tasks(client) == 1)
    assert twin.result(20) == 4
    assert client.submit(inc, twin).result(20) == 5
    del twin
    assert until(lambda: known_tasks(client) == 0)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, by_pickle])
def test_a_future_is_found_by_its_copies(client, again):
    """They were others, so that what they were for was not found."""
    what_for = {client.submit(inc, i): i for i in range(2)}
    what_for.update((future, 9) for future in client.map(inc, [9]))
    assert [what_for[again(future)] for future in what_for] == [0, 1, 9]
    with covey.Client(client.cluster, set_as_default=False) as other:
        theirs = [other.submit(inc, future) for future in what_for]
        assert other.gather(theirs) == [2, 3, 11]
        assert not set(theirs) & set(what_for)


def keep(number):
    here = covey.get_client()
    here.publish_dataset("kept-by-a-task", here.map(inc, range(number)))
    return "kept-by-a-task"


def test_what_a_task_has_published_outlives_it(client):
    name = client.submit(keep, 3).result(20)
    assert client.gather(client.get_dataset(name)) == [1, 2, 3]
    client.unpublish_dataset(name)


def test_as_completed_in_its_forms(client, tmp_path):
    assert list(as_completed([])) == []
    futures = client.map(inc, range(500))
    assert {f.result() for f in as_completed(futures)} == set(range(1, 501))
    held = client.submit(wait_at, tmp_path / "gate")
    quick = client.submit(inc, 1)
    coming = as_completed([held, quick])
    assert next(coming) is quick
    assert coming.count() == 1
    with pytest.raises(TimeoutError, match="1 futures"):
        next(as_completed([held], timeout=0.05))
    more = client.submit(inc, 2)
    coming.add(more)
    assert next(coming) is more
    open_gate(tmp_path / "gate")
    assert list(coming) == [held]
    bad = client.submit(int, "x")
    with pytest.raises(ValueError, match="invalid"):
        next(as_completed([bad], with_results=True))
    ((_, error),) = as_completed([bad], with_results=True, raise_errors=False)
    assert isinstance(error, ValueError)
    batches = list(as_completed(client.map(inc, range(100))).batches())
    assert sum(map(len, batches)) == 100


def test_wait_for_the_first_of_some_kind(client, tmp_path):
    gate = tmp_path / "gate"
    held = client.submit(wait_at, gate)
    quick, bad = client.submit(inc, 1), client.submit(int, "x")
    done, not_done = wait([held, quick, bad], return_when="FIRST_EXCEPTION", timeout=20)
    assert bad in done
    assert held in not_done
    with pytest.raises(TimeoutError):
        wait([held], timeout=0.02)
    with pytest.raises(TimeoutError):
        wait([held], timeout=0, return_when="FIRST_COMPLETED")
    with pytest.raises(errors.UsageError, match="return_when"):
        wait([held], return_when="SOMETIME")
    open_gate(gate)
    done, not_done = wait([held, quick])
    assert done == {held, quick}
    assert not_done == set()
    assert wait([]) == (set(), set())


def test_callbacks_of_ended_failed_and_raising_kinds(client, caplog, until):
    seen = []
    future = client.submit(inc, 1)
    assert future.result(20) == 2
    future.add_done_callback(seen.append)
    assert seen == [future]
    bad, told = client.submit(int, "x"), threading.Event()
    bad.add_done_callback(lambda f: 1 / 0)
    bad.add_done_callback(lambda f: told.set())
    assert told.wait(20)
    assert until(lambda: "callback" in caplog.text)
    answers = []
    asked = threading.Event()

    def ask_back(done):
        answers.append(client.scheduler_info()["address"])
        answers.append(done.result())
        asked.set()

    client.submit(inc, 4).add_done_callback(ask_back)
    assert asked.wait(20)
    assert answers == [client.address, 5]


def test_a_client_works_inside_a_running_loop(client):
    async def main():
        ticks = 0

        async def tick():
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = asyncio.ensure_future(tick())
        first = client.map(inc, range(50))
        one = await client.submit(add, first[0], y=1)
        rest = await asyncio.gather(*first)
        order = [f.key async for f in as_completed(client.map(inc, range(20)))]
        async for _, value in as_completed([first[3]], with_results=True):
            assert value == 4
        with pytest.raises(ValueError, match="invalid"):
            await client.submit(int, "x")
        async with asyncio.timeout(20):
            big = await client.submit(np.ones, 300_000)
        # The blocking calls work as well; they block the loop, as they must.
        assert client.gather(first) == rest
        ticking.cancel()
        return one, len(rest), len(set(order)), big.sum(), ticks > 2

    assert asyncio.run(main()) == (2, 50, 20, 300_000, True)
    # A second loop, of another life, finds the client as it was.
    assert asyncio.run(main())[0] == 2


def test_giving_up_to_await_leaves_the_task_alone(client, tmp_path):
    gate = tmp_path / "gate"
    future = client.submit(wait_at, gate, word="done")

    async def main():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(future, 0.02)

    asyncio.run(main())
    assert not future.done()
    open_gate(gate)
    assert future.result(20) == "done"


def test_many_threads_and_one_future(client, tmp_path):
    gate = tmp_path / "gate"
    future = client.submit(wait_at, gate, word="x")
    futures = client.map(inc, range(300))
    results = []

    def work():
        mine = client.map(add, futures, y=1)
        for _ in range(20):
            client.submit(inc, 1)
        results.append((future.result(20), client.gather(mine) == list(range(2, 302))))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    open_gate(gate)
    for thread in threads:
        thread.join(30)
    assert results == [("x", True)] * 8


# What the cluster keeps.


def test_released_and_collected_futures_are_forgotten(client, until):
    gc.collect()
    assert until(lambda: known_tasks(client) == 0)
    futures = client.map(inc, range(100))
    chained = client.map(inc, futures)
    wait(chained)
    one = chained[7]
    del futures
    gc.collect()
    del chained
    gc.collect()
    # What could make the last one again is known still, by its recipe only.
    assert until(lambda: client.scheduler_info()["tasks"]["done"] == 1)
    assert one.result() == 9
    one.release()
    one.release()
    assert until(lambda: known_tasks(client) == 0)
    assert one.released
    for use in (one.result, one.exception):
        with pytest.raises(errors.Closed, match="released"):
            use()
    with pytest.raises(errors.UsageError, match=r"args\[0\].*was released"):
        client.submit(inc, one)
    with pytest.raises(errors.UsageError, match=r"args\[0\].*was released"):
        client.map(inc, [one])
    assert "released" in repr(one)


def test_a_dropped_task_that_nobody_needs_does_not_run(client, tmp_path):
    gates = [tmp_path / "a", tmp_path / "b"]
    held = [client.submit(wait_at, gate) for gate in gates]
    log = tmp_path / "log"
    unwanted = client.submit(write, log, "no", priority=-5)
    wanted = client.submit(write, log, "yes", priority=-10)
    del unwanted
    gc.collect()
    for gate in gates:
        open_gate(gate)
    wait([*held, wanted])
    assert log.read_text() == "yes"


def test_a_dropped_task_that_runs_comes_to_its_end(client, tmp_path, until):
    def run(begun, gate, log):
        write(begun, "yes")
        wait_at(gate)
        write(log, "yes")

    begun, gate, log = (tmp_path / name for name in ("begun", "gate", "log"))
    unwanted = client.submit(run, begun, gate, log)
    assert until(begun.exists)
    del unwanted
    gc.collect()
    assert until(lambda: known_tasks(client) == 0)
    open_gate(gate)
    assert until(log.exists)


def test_memory_of_dropped_results_comes_back(client, until):
    def nbytes():
        memory = client.scheduler_info()["workers"][0]["facts"]["memory"]
        return memory["small"] + memory["shared"]

    futures = client.map(np.ones, [100, 200_000] * 5)
    wait(futures)
    assert until(lambda: nbytes() > 5 * 8 * 200_000)
    del futures
    gc.collect()
    assert until(lambda: nbytes() == 0)


# Keys.


def test_keys(client, tmp_path, until):
    one = client.submit(inc, 1, key="x")
    same = client.submit(inc, 1, key="x")
    assert one.id == same.id
    one.release()
    assert same.result(20) == 2
    with pytest.raises(errors.KeyConflict, match="'x'"):
        client.submit(add, 1, key="x")
    same.release()
    assert until(lambda: known_tasks(client) == 0 or gc.collect() < 0)
    assert client.submit(inc, 10, key="x").result(20) == 11
    named = client.map(inc, range(3), key="row")
    assert [f.key for f in named] == ["row-0", "row-1", "row-2"]
    named = client.map(inc, range(2), key=["p", "q"])
    assert [f.key for f in named] == ["p", "q"]
    with pytest.raises(errors.UsageError, match="1 key for 2 tasks"):
        client.map(inc, range(2), key=["p"])


def test_pure_tasks_run_once(client, tmp_path):
    log = tmp_path / "log"
    futures = [client.submit(write, log, "x", pure=True) for _ in range(5)]
    futures += client.map(write, [log] * 3, ["x"] * 3, pure=True)
    wait(futures)
    assert log.read_text() == "x"
    assert client.submit(write, log, "y", pure=True).result(20) is None
    assert log.read_text() == "xy"


def test_two_clients_share_a_name(client, tmp_path):
    gate = tmp_path / "gate"
    mine = client.submit(wait_at, gate, word="w", key="shared")
    with Client(client.cluster, set_as_default=False) as other:
        theirs = other.submit(wait_at, gate, word="w", key="shared")
        conflict = other.submit(inc, 1, key="shared-too")
        first = client.submit(inc, 2, key="shared-too")
        open_gate(gate)
        assert theirs.result(20) == "w"
        with pytest.raises(errors.KeyConflict, match="shared-too"):
            client.gather([conflict, first])
    assert mine.result(20) == "w"


# Order and places.


def test_priority_decides_who_is_next(client, tmp_path, until, monkeypatch):
    # Both slots are taken until everything has been submitted: that a worker was given
    # the two is not enough, since one more urgent than they may go before them there.
    gates = [tmp_path / "a", tmp_path / "b"]
    begun = [tmp_path / "a began", tmp_path / "b began"]
    first, second = map(client.submit, [begin_and_wait] * 2, begun, gates)
    assert until(lambda: all(path.exists() for path in begun))
    log = tmp_path / "log"
    # They travel together: of those that come one by one, a worker is given the first
    # ones ahead, before it is known that others are more urgent.
    monkeypatch.setattr(client._engine.outbox, "say", client._engine.post)
    with client._engine.line.lock:
        futures = [
            client.submit(write, log, text, priority=p, resources=None)
            for text, p in (("1", 0.25), ("3", 2), ("2", 0.5), ("5", 1e99), ("4", 2.5))
        ]
    # What is asked behind them is answered behind them: all have arrived.
    client.scheduler_info()
    open_gate(gates[0])
    wait([first, *futures])
    assert log.read_text() == "54321"
    open_gate(gates[1])
    second.result(20)


def submit_unfit(client, **options):
    future = client.submit(inc, 1, **options)
    # The notice comes before the answer to this question.
    text = future.explain()
    return future, text


def test_what_no_worker_may_run(client):
    with pytest.warns(UserWarning, match=r"GPU.*local"):
        future, text = submit_unfit(client, resources={"GPU": 2})
    assert "GPU" in text
    with pytest.raises(TimeoutError, match="GPU"):
        future.result(timeout=0.05)
    future.cancel()
    with pytest.warns(UserWarning, match="nobody"):
        future, text = submit_unfit(client, workers=["nobody"])
    assert "nobody" in text
    wish = client.submit(inc, 1, workers="nobody", allow_other_workers=True)
    assert wish.result(20) == 2
    for name in ("local", socket.gethostname(), "127.0.0.1"):
        assert client.submit(inc, 1, workers=name).result(20) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"retries": -1},
        {"retries": True},
        {"retries": covey.Retry(-1)},
        {"retries": covey.Retry(1, on="OSError")},
        {"retries": covey.Retry(1, delay=-1)},
        {"retries": covey.Retry(1, factor=0.5)},
        {"timeout": 0},
        {"timeout": "soon"},
        {"priority": "high"},
        {"priority": float("nan")},
        {"priority": -float("inf")},
        {"priority": 10**400},
        {"priority": True},
        {"resources": {"GPU": -1}},
        {"workers": [1]},
    ],
)
def test_wrong_options_are_refused_at_the_call(client, wrong):
    with pytest.raises(errors.UsageError):
        client.submit(inc, 1, **wrong)


def test_explain_tells_of_every_stage(client, tmp_path, until):
    gate = tmp_path / "gate"
    held = client.submit(wait_at, gate)
    after = client.submit(inc, held)
    assert until(lambda: "was given it" in held.explain())
    assert held.key in after.explain()
    open_gate(gate)
    held.result(20)
    assert re.search(r"finished; its value \(.*\) rests on local", held.explain())
    failed = client.submit(int, "x")
    failed.exception(20)
    assert re.search("error; it failed with ValueError.*on worker", failed.explain())


def test_a_keyword_that_the_function_wanted_is_told_at_the_users_line(client):
    def patient(x, timeout=1):
        return x, timeout

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        assert client.submit(patient, 1, timeout=50).result(20) == (1, 1)
        client.gather(client.map(patient, [1], timeout=50))
        client.run(patient, 1)
    assert "taken by submit and map" in str(told[0].message)
    assert "client.run runs once on each worker" in str(told[1].message)
    assert [warning.filename for warning in told] == [__file__] * 2


def test_what_is_no_call_says_what_was_meant(client):
    with pytest.raises(errors.UsageError, match=r"did you mean workers="):
        client.submit(inc, 1, worker="local")
    with pytest.raises(errors.UsageError, match=r"not submit\(f\(x\)\)"):
        client.submit(abs(-3))
    with pytest.raises(errors.UsageError, match="the function comes first"):
        client.map([1, 2], abs)
    with pytest.raises(TypeError, match=r"Client.submit\(\) missing"):
        client.submit()


def test_to_gather_a_map_makes_no_futures_whoever_was_asked_before(client):
    futures = client.map(lambda x: [x], range(500))
    first = futures[7].result()
    values = client.gather(futures)
    assert values == [[x] for x in range(500)]
    assert values[7] is first
    assert list(futures._made) == [7]


def test_whole_numbers_with_others_among_them_are_read_a_second_time_once(
    client, monkeypatch
):
    """Looking at each chunk for nothing but whole numbers would cost others dearly."""
    refused, read = [], []

    def add_numbers(packer, numbers, real=Packer.add_numbers):
        added = real(packer, numbers)
        refused.extend(() if added else (len(numbers),))
        return added

    def read_some(calls, start, stop, real=Calls.read):
        batch = real(calls, start, stop)
        read.append((start, len(batch)))
        return batch

    monkeypatch.setattr(Packer, "add_numbers", add_numbers)
    monkeypatch.setattr(Calls, "read", read_some)
    values = [1 << 40 if n == 3000 else n for n in range(9000)]
    assert client.gather(client.map(abs, values)) == values
    assert refused == [CHUNK_TASKS]
    starts, counts = zip(*read, strict=True)
    assert [*starts] == [*itertools.accumulate(counts[:-1], initial=starts[0])]
    assert starts[0] <= 3000
    assert starts[0] + sum(counts) == 9000


def test_an_element_waits_for_its_own_futures_and_not_for_its_neighbours(client):
    """A large one makes all that were pickled together be pickled once more."""
    failed = client.submit(operator.truediv, 1, 0)
    large = np.arange(30_000)
    one, two = client.map(len, [large, failed])
    assert one.result() == 30_000
    with pytest.raises(ZeroDivisionError):
        two.result()
