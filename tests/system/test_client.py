"""What users type, on a real cluster of two runners."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import itertools
import operator
import os
import sys
import threading
import time
from typing import NamedTuple

import numpy as np
import pytest

import covey
from covey import Client, as_completed, errors, fire_and_forget, wait
from covey.serde.packing import Packer


def inc(x):
    return x + 1


def add(x, y=0):
    return x + y


def boom(x):
    raise ValueError(f"no {x}")


@dataclasses.dataclass
class Box:
    inner: object


def open_box(box):
    return box.inner


def fib(n):
    if n < 2:
        return n
    client = covey.get_client()
    one, two = client.submit(fib, n - 1), client.submit(fib, n - 2)
    return one.result() + two.result()


async def later(x):
    await asyncio.sleep(0)
    return x * 2


def pid_of_runner():
    return os.getpid()


class Unpicklable:
    def __init__(self):
        self.lock = threading.Lock()


def test_submit_and_result(client):
    future = client.submit(inc, 1)
    assert future.result(timeout=20) == 2
    assert future.done()
    assert future.status == "finished"
    assert future.exception() is None


def test_a_map_keeps_its_order_and_every_element_its_own_future(client):
    futures = client.map(inc, range(5000))
    assert len(futures) == 5000
    assert client.gather(futures) == list(range(1, 5001))
    assert futures[4321].result() == 4322
    assert [f.result() for f in futures[10:13]] == [11, 12, 13]


PLAIN = [True, -7, 1 << 80, 0.5, 1j, "__main__", b"bytes", None]


@pytest.mark.parametrize("more", [[], ["x" * 100_000], [[1]]], ids=["", "long", "list"])
def test_plain_arguments_come_as_they_went(client, more):
    args = [*PLAIN, *more]
    named = {f"n{index}": value for index, value in enumerate(args)}
    took = client.submit(lambda *a, **k: (a, k), *args, **named).result()
    assert took == (tuple(args), named)
    assert [*map(type, took[0])] == [*map(type, args)]


@pytest.mark.parametrize("make", [list, iter, tuple, lambda r: (x for x in r)])
def test_map_reads_any_iterable(client, make):
    assert client.gather(client.map(add, make(range(5)), y=10)) == [10, 11, 12, 13, 14]


class Frame(list):
    """Like a data frame: its length is not that of what it yields."""

    def __len__(self):
        return 2


def test_map_reads_what_comes_and_nothing_for_ever(client):
    assert client.gather(client.map(inc, Frame([1, 2, 3]))) == [2, 3, 4]
    assert client.gather(client.map(add, [1, 2], itertools.repeat(2))) == [3, 4]
    named = client.map(add, [1, 2], itertools.repeat(2), key="named")
    assert client.gather(named) == [3, 4]
    with client.get_executor() as executor:
        assert list(executor.map(add, [1, 2], itertools.repeat(2))) == [3, 4]


class Shrinks:
    """An argument that takes the rest of its list away while it is pickled."""

    def __init__(self, rest):
        self.rest = rest

    def __reduce__(self):
        if self.rest:
            del self.rest[1:]
        return (int, ())


def test_a_map_whose_arguments_become_fewer_is_refused(client):
    rest = [0] * 100
    rest[0] = Shrinks(rest)
    with pytest.raises(errors.UsageError, match="became fewer"):
        client.map(inc, rest)
    assert client.submit(inc, 1).result(20) == 2


def test_an_empty_map(client):
    assert client.gather(client.map(inc, [])) == []


def test_lambdas_closures_and_partials(client):
    offset = 5
    assert client.submit(lambda x: x + offset, 1).result(20) == 6
    offset = 7
    assert client.submit(lambda x: x + offset, 1).result(20) == 8


def test_a_function_with_a_large_closure(client):
    table = np.arange(1_000_000)
    futures = client.map(lambda i: int(table[i]), [0, 500_000, 999_999])
    assert client.gather(futures) == [0, 500_000, 999_999]


def test_futures_anywhere_in_arguments_become_values(client):
    one, two = client.submit(inc, 0), client.submit(inc, 1)
    assert client.submit(add, one, y=two).result(20) == 3
    assert client.submit(sum, [one, two, 3]).result(20) == 6
    assert client.submit(dict.get, {"a": one}, "a").result(20) == 1
    assert client.submit(open_box, Box([two])).result(20) == [2]


def test_a_call_of_results_alone_pickles_nothing(client, monkeypatch):
    small = client.submit(list, "ab")
    large = client.scatter(np.arange(100_000.0))
    failed = client.submit(boom, 1)
    wait([small, failed])
    written = []
    monkeypatch.setattr(Packer, "add", lambda *call: written.append(call))
    same, both, lost = (
        client.submit(operator.is_, small, small),
        client.submit(tuple, small),
        client.submit(operator.is_, small, failed),
    )
    total = client.submit(np.sum, large)
    monkeypatch.undo()
    assert not written
    assert same.result(20) is True
    assert both.result(20) == ("a", "b")
    assert total.result(20) == np.arange(100_000.0).sum()
    with pytest.raises(ValueError, match="no 1"):
        lost.result(20)


def test_maps_over_futures(client):
    first = client.map(inc, range(3000))
    assert client.gather(client.map(inc, first)) == list(range(2, 3002))
    assert client.gather(client.map(add, first, first)) == [
        2 * i for i in range(1, 3001)
    ]
    mixed = client.map(add, list(first[:5]), range(5))
    assert client.gather(mixed) == [1, 3, 5, 7, 9]
    backwards = list(first)[::-1]
    assert client.gather(client.map(inc, backwards))[0] == 3001
    assert client.submit(sum, first).result(20) == sum(range(1, 3001))


def test_gather_keeps_the_shape(client):
    one, two = client.submit(inc, 0), client.submit(inc, 1)
    nested = {"a": [one, (two, 5)], "b": {one}}
    assert client.gather(nested) == {"a": [1, (2, 5)], "b": {1}}


def test_scatter_in_every_shape(client):
    assert client.gather(client.scatter([1, 2, 3])) == [1, 2, 3]
    assert client.gather(client.scatter({"x": 1})) == {"x": 1}
    assert client.gather(client.scatter((1, 2))) == (1, 2)
    assert client.scatter(7).result(20) == 7
    spread = client.scatter(list(range(5000)), broadcast=True)
    assert client.gather(client.map(inc, spread)) == list(range(1, 5001))


def test_large_arrays_come_and_go_without_a_copy(client):
    array = np.arange(500_000, dtype=float)
    there = client.scatter(array)
    assert client.submit(np.sum, there).result(20) == array.sum()
    back = client.submit(np.multiply, there, 2).result(20)
    assert np.array_equal(back, array * 2)
    assert not back.flags.writeable
    assert client.submit(np.sum, array).result(20) == array.sum()


def test_a_users_exception_comes_out_as_itself(client):
    future = client.submit(boom, 3)
    with pytest.raises(ValueError, match="no 3") as caught:
        future.result(20)
    assert "Remote traceback" in "".join(caught.value.__notes__)
    assert future.status == "error"


def test_a_dependents_error_says_whose_it_is(client):
    bad = client.submit(boom, 4)
    worse = client.submit(inc, client.submit(inc, bad))
    with pytest.raises(ValueError, match="no 4") as caught:
        worse.result(20)
    assert bad.key in "".join(caught.value.__notes__)


def test_gather_can_skip_or_return_errors(client):
    futures = [client.submit(inc, 1), client.submit(boom, 1)]
    assert client.gather(futures, errors="skip") == [2]
    value, error = client.gather(futures, errors="return")
    assert value == 2
    assert isinstance(error, ValueError)


def test_what_cannot_be_pickled_is_named_before_it_is_sent(client):
    with pytest.raises(errors.NotPicklable, match=r"kwargs\['y'\].*lock"):
        client.submit(add, 1, y=Unpicklable())


def test_a_result_that_cannot_be_pickled_is_the_tasks_error(client):
    with pytest.raises(errors.NotPicklable, match="lock"):
        client.submit(Unpicklable).result(20)


def test_sys_exit_ends_the_task_and_nothing_else(client):
    with pytest.raises(errors.TaskError, match=r"sys\.exit\(3\)"):
        client.submit(exit, 3).result(20)
    assert client.submit(inc, 1).result(20) == 2


def test_a_crash_is_blamed_on_exactly_the_task_that_crashed(client):
    def maybe(x):
        if x == 77:
            os._exit(9)
        return x

    futures = client.map(maybe, range(200))
    wait(futures)
    bad = [i for i, f in enumerate(futures) if f.status == "error"]
    assert bad == [77]
    error = futures[77].exception()
    assert isinstance(error, errors.RunnerDied)
    assert error.exit_code == 9
    assert [f.result() for i, f in enumerate(futures) if i != 77] == [
        i for i in range(200) if i != 77
    ]


def test_retries_run_a_failing_task_again(client, tmp_path):
    def twice(path):
        if not path.exists():
            path.touch()
            raise OSError("not yet")
        return "done"

    path = tmp_path / "mark"
    assert client.submit(twice, path, retries=2).result(20) == "done"


def test_a_timeout_really_stops_the_task(client):
    def forever():
        while True:
            pass

    futures = [
        client.submit(forever, timeout=0.3),
        client.submit(time.sleep, 60, timeout=0.3),
    ]
    for future in futures:
        with pytest.raises(errors.TaskTimedOut):
            future.result(20)
    assert client.gather(client.map(inc, range(10))) == list(range(1, 11))


def test_cancel_stops_a_running_task(client, until):
    future = client.submit(time.sleep, 60)
    assert until(lambda: "was given it" in future.explain())
    assert future.cancel("enough")
    assert future.cancelled()
    with pytest.raises(errors.TaskCancelled, match="enough"):
        future.result()
    with pytest.raises(errors.TaskCancelled):
        client.gather([future])
    assert client.gather(client.map(pid_of_runner, [])) == []
    assert (
        len(set(client.gather([client.submit(pid_of_runner) for _ in range(20)]))) >= 1
    )


def test_as_completed_yields_each_once(client):
    futures = client.map(inc, range(500))
    seen = [result for _, result in as_completed(futures, with_results=True)]
    assert sorted(seen) == list(range(1, 501))
    waiting = as_completed([client.submit(inc, 1)])
    waiting.add(client.submit(inc, 2))
    assert sorted(f.result() for f in waiting) == [2, 3]


def test_wait_in_its_variants(client):
    done, not_done = wait(client.map(inc, range(10)))
    assert len(done) == 10
    assert not not_done
    slow = client.submit(time.sleep, 60)
    quick = client.submit(inc, 1)
    done, not_done = wait([slow, quick], return_when="FIRST_COMPLETED")
    assert quick in done
    assert slow in not_done
    with pytest.raises(TimeoutError, match="sleep"):
        slow.result(timeout=0.05)
    slow.cancel()


def test_callbacks_are_called_once_with_the_future(client):
    called = threading.Event()
    seen = []

    def callback(future):
        seen.append(future.key)
        called.set()

    future = client.submit(inc, 1)
    future.add_done_callback(callback)
    assert called.wait(20)
    assert seen == [future.key]


def test_async_tasks_and_awaiting(client):
    async def main():
        future = client.submit(later, 21)
        return await future, await asyncio.gather(*client.map(inc, range(5)))

    assert asyncio.run(main()) == (42, [1, 2, 3, 4, 5])


def test_a_client_serves_many_threads(client):
    results = []

    def work(number):
        results.append(client.gather(client.map(add, range(100), y=number)))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(r[0] for r in results) == list(range(8))


def test_tasks_wait_for_their_own_subtasks(client):
    assert client.submit(fib, 8).result(60) == 21


def test_what_nobody_holds_is_forgotten(client, until):
    futures = client.map(inc, range(100))
    wait(futures)
    before = sum(client.scheduler_info()["tasks"].values())
    assert before >= 100
    del futures
    gc.collect()
    assert until(lambda: sum(client.scheduler_info()["tasks"].values()) <= before - 100)


def test_keys_name_and_share_tasks(client):
    one = client.submit(inc, 1, key="the-one")
    again = client.submit(inc, 1, key="the-one")
    assert one.key == again.key == "the-one"
    assert one.id == again.id
    with pytest.raises(errors.KeyConflict, match="the-one"):
        client.submit(inc, 2, key="the-one")
    pure = client.submit(inc, 5, pure=True)
    assert client.submit(inc, 5, pure=True).key == pure.key
    assert client.submit(inc, 5).key != client.submit(inc, 5).key


def test_long_arguments_go_along_as_long_as_futures_are_held(client, until):
    value = bytes(100_000)
    futures = [client.submit(len, value) for _ in range(60)]
    assert client.gather(futures) == [100_000] * 60
    along = client._submitter._along
    assert 3_500_000 < along.nbytes < 5_000_000
    futures.clear()
    assert until(lambda: not along.nbytes)


def test_keys_name_calls_with_large_arguments(client):
    array = np.arange(500_000)
    one = client.submit(np.sum, array, key="large-one")
    again = client.submit(np.sum, array.copy(), key="large-one")
    assert one.id == again.id
    with pytest.raises(errors.KeyConflict, match="large-one"):
        client.submit(np.sum, array + 1, key="large-one")
    pure = client.submit(np.sum, array, pure=True)
    assert client.submit(np.sum, array, pure=True).id == pure.id
    assert client.submit(np.sum, array + 1, pure=True).key != pure.key
    assert one.result(20) == pure.result(20) == array.sum()


def test_a_name_keeps_no_value_alive(client, until):
    future = client.submit(bytes, 50_000, key="kept-by-nobody")
    assert len(future.result(20)) == 50_000
    wish = future._range
    del future
    until(lambda: client.session.engine.wishes.find(wish.base) is None)
    gc.collect()
    # What is left: this variable, and the argument of the function.
    assert sys.getrefcount(wish) == 2


def submit_and_wait_for_notice(client):
    future = client.submit(inc, 1, resources={"GPU": 1})
    # The notice came before this answer.
    assert "no worker can run it" in covey.explain(future)
    return future


def test_what_nobody_offers_is_said_at_once(client):
    with pytest.warns(UserWarning, match="GPU"):
        future = submit_and_wait_for_notice(client)
    assert "no worker can run it" in covey.explain(future)
    future.cancel()


def test_looking_at_the_cluster(client):
    future = client.submit(inc, 1)
    future.result(20)
    assert list(client.who_has([future]).values()) == [["local"]]
    assert client.ncores() == {"local": 2}
    with pytest.warns(UserWarning, match="'local' has 2 runners, and the others do"):
        assert list(client.run(pid_of_runner)) == ["local"]
    client.wait_for_workers(1, timeout=5)
    info = client.scheduler_info()
    assert [worker["slots"] for worker in info["workers"]] == [2]


def test_fire_and_forget(client, tmp_path, until):
    path = tmp_path / "mark"
    fire_and_forget(client.submit(path.write_text, "x"))
    assert until(path.exists)


def test_the_executor(client):
    with client.get_executor() as executor:
        assert executor.submit(inc, 1).result(20) == 2
        assert list(executor.map(inc, range(5))) == [1, 2, 3, 4, 5]
        with pytest.raises(ValueError, match="no 1"):
            executor.submit(boom, 1).result(20)


def test_a_graph_with_a_cycle_or_a_missing_key_is_refused(client):
    with pytest.raises(errors.UsageError, match="cycle: 'a' -> 'b'"):
        client.get({"a": (inc, "b"), "b": (inc, "a")}, "a")
    with pytest.raises(errors.UsageError, match="'nowhere'"):
        client.get({"a": 1}, "nowhere")


def test_dask_collections(client):
    da = pytest.importorskip("dask.array")
    x = da.random.random((400, 400), chunks=(100, 100))
    total, other = client.compute([x.sum(), (x + x.T).sum()], sync=True)
    assert other == pytest.approx(2 * total)
    kept = client.persist(x)
    assert kept.sum().compute(scheduler=client) == pytest.approx(total)


def test_gather_knows_three_words_about_errors(client):
    future = client.submit(abs, -1)
    with pytest.raises(errors.UsageError, match="errors= is one of 'raise', 'skip'"):
        client.gather([future], errors="ignore")
    with pytest.raises(errors.UsageError, match="not 'ignore'"):
        client.gather(future, errors="ignore")


def test_a_keyword_that_nobody_knows():
    with pytest.raises(errors.UsageError, match="did you mean n_workers="):
        Client(n_worker=2)
    with pytest.raises(errors.UsageError, match="AsyncClient"):
        Client(asynchronous=True)


def test_resources_are_amounts_by_name(client):
    with pytest.raises(errors.UsageError, match="amounts by name"):
        client.submit(abs, -1, resources="GPU")


def test_what_cannot_be_sent_is_refused_at_the_call_and_hurts_nobody(client):
    waiting = client.submit(later, 4)
    for key in (3, ("a", 1), "x" * 20_000_000, "\ud800"):
        with pytest.raises(errors.UsageError, match="key="):
            client.submit(inc, 1, key=key)
        with pytest.raises(errors.UsageError, match="key="):
            client.map(inc, [1, 2], key=[key, "two"])
        with pytest.raises(errors.UsageError, match="key="):
            client.explain(key)
        with pytest.raises(errors.UsageError, match="name="):
            client.publish_dataset(key, 1)
    with pytest.raises(errors.UsageError, match="Scatter"):
        client.publish_dataset("large", bytes(17 << 20))
    for number in (-1, "x"):
        with pytest.raises(errors.UsageError, match="since="):
            client.events(number)
    with pytest.raises(errors.UsageError, match="reason="):
        waiting.cancel(3)
    with pytest.raises(errors.UsageError, match="reason="):
        client.cancel([waiting], "\ud800")
    odd = lambda: 5  # noqa: E731
    odd.__name__ = "half \ud800"
    assert client.submit(odd).result(20) == 5
    assert waiting.result(20) == 8


class Point(NamedTuple):
    x: object
    y: object


def test_a_named_tuple_is_scattered_into_one(client):
    there = client.scatter(Point(1, bytes(200_000)))
    assert isinstance(there, Point)
    assert client.gather(there) == Point(1, bytes(200_000))


@pytest.mark.filterwarnings("ignore:client.run runs once")
def test_run_takes_one_worker_by_its_name_and_no_strangers(client):
    name, *_ = client.ncores()
    assert list(client.run(pid_of_runner, workers=name)) == [name]
    assert list(client.run(pid_of_runner, workers=[name])) == [name]
    for workers in ("nobody", [name, "nobody"]):
        with pytest.raises(errors.UsageError, match=f"no worker nobody.*{name}"):
            client.run(pid_of_runner, workers=workers)
    with pytest.raises(errors.UsageError, match="workers="):
        client.run(pid_of_runner, workers=3)


def test_values_of_the_wrong_kind_are_refused_by_name(client):
    future = client.submit(inc, 1)
    for wrong in ("1", [1], float("nan")):
        with pytest.raises(errors.UsageError, match="timeout= takes"):
            future.result(wrong)
        with pytest.raises(errors.UsageError, match="timeout= takes"):
            future.exception(wrong)
        with pytest.raises(errors.UsageError, match="timeout= takes"):
            wait([future], wrong)
        with pytest.raises(errors.UsageError, match="timeout= takes"):
            as_completed([future], timeout=wrong)
        with pytest.raises(errors.UsageError, match="timeout= takes"):
            client.wait_for_workers(1, wrong)
        with pytest.raises(errors.UsageError, match="timeout= takes"):
            client.retire_workers("local", wrong)
        with pytest.raises(errors.UsageError, match="timeout= takes"):
            Client(timeout=wrong)
    with pytest.raises(errors.UsageError, match="n_workers= takes"):
        client.wait_for_workers("1")
    assert future.result(20) == 2
    with pytest.raises(errors.UsageError, match="takes no bad=.*priority, retries"):
        client.get_executor(bad=2)
    with client.get_executor(priority=1, pure=True) as executor:
        assert list(executor.map(inc, [1])) == [2]


def test_a_pure_call_with_large_arguments_is_known_again_when_it_was_let_go(
    client, until
):
    """They are brought anew; what the dependent keeps of it has lost the old ones."""
    array = np.arange(40_000)
    total = client.submit(np.sum, array, pure=True)
    user = client.submit(inc, total)
    assert user.result() == array.sum() + 1
    first, key = total.id, total.key
    del total
    assert until(lambda: client.session.engine.wishes.find(first) is None)
    again = client.submit(np.sum, array, pure=True)
    assert (again.key, again.result()) == (key, array.sum())
    assert again.id != first
    assert user.result() == array.sum() + 1


def test_two_clients_share_a_named_call_with_large_arguments(client):
    array = np.arange(40_000)
    mine = client.submit(np.sum, array, key="large-and-shared")
    assert mine.result() == array.sum()
    before = client.scheduler_info()["counters"]["tasks_submitted"]
    with covey.Client(client.cluster, set_as_default=False) as other:
        theirs = other.submit(np.sum, array, key="large-and-shared")
        assert theirs.result() == array.sum()
        assert client.scheduler_info()["counters"]["tasks_submitted"] == before
        del theirs
    with covey.Client(client.cluster, set_as_default=False) as other:
        conflict = other.submit(np.sum, array + 1, key="large-and-shared")
        user = other.submit(inc, conflict)
        with pytest.raises(errors.KeyConflict, match="large-and-shared"):
            conflict.result()
        with pytest.raises(errors.TaskCancelled, match="its key was refused"):
            user.result()
