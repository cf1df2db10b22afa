"""How tasks fail: exceptions of all kinds, crashes, timeouts, cancellation."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import sys
import threading
import time

import pytest

import covey
from covey import Client, errors, wait


def inc(x):
    return x + 1


class WantsTwo(Exception):
    """Its constructor takes other arguments than it passes on."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")
        self.one = one
        self.two = two


class HoldsLock(Exception):
    """It cannot be pickled."""

    def __init__(self):
        super().__init__("it was the lock")
        self.lock = threading.Lock()


class Mute(Exception):
    """It cannot be shown."""

    def __str__(self):
        raise RuntimeError("no words")


class HomeBound:
    """It can be unpickled in the process that pickled it only."""

    def __reduce__(self):
        return (_only_in, (os.getpid(),))


def _only_in(pid):
    if pid != os.getpid():
        raise RuntimeError("not at home")
    return "at home"


def raise_one(make, *args):
    raise make(*args)


def home_bound(x=1):
    return HomeBound() if x == 1 else x


def interrupt_at(x, at, how):
    if x == at:
        sys.stderr.write("famous last words\n")
        sys.stderr.flush()
        how()
    return x


def leave():
    os._exit(3)


def segfault():
    faulthandler.disable()
    faulthandler._sigsegv()


def spin():
    while True:
        pass


def hang(path):
    """Say that it runs, then take for ever."""
    path.touch()
    time.sleep(3600)


def append(path, word):
    with path.open("a") as file:
        file.write(word)


def appeared(path):
    """Wait for a file that a task will make."""
    for _ in range(1000):
        if path.exists():
            return True
        threading.Event().wait(0.01)
    return False


# Exceptions.


def test_an_exception_with_a_constructor_of_its_own(client):
    with pytest.raises(WantsTwo, match="1 and b") as caught:
        client.submit(raise_one, WantsTwo, 1, "b").result(20)
    assert (caught.value.one, caught.value.two) == (1, "b")


def test_an_exception_that_cannot_be_pickled_is_told_in_words(client):
    with pytest.raises(errors.TaskUnreadable, match=r"it was the lock.*lock") as caught:
        client.submit(raise_one, HoldsLock).result(20)
    assert "HoldsLock" in str(caught.value)
    assert "raise make(*args)" in "".join(caught.value.__notes__)


def test_an_exception_that_cannot_be_shown_still_arrives(client):
    future = client.submit(raise_one, Mute)
    assert type(future.exception(20)) is Mute
    assert "raise make(*args)" in future.traceback()


def test_the_remote_traceback_holds_the_users_frames_only(client):
    note = client.submit(raise_one, KeyError, "k").traceback(20)
    assert "raise make(*args)" in note
    assert "covey/runner" not in note
    assert "worker local" in note


@pytest.mark.parametrize("kind", [KeyboardInterrupt, GeneratorExit, SystemExit])
def test_what_would_end_a_process_ends_its_task_only(client, kind):
    with pytest.raises(errors.TaskError):
        client.submit(raise_one, kind).result(20)
    assert client.submit(inc, 1).result(20) == 2


def test_errors_pass_through_a_map_element_by_element(client):
    first = client.map(lambda x: 10 // (x - 3), range(6))
    second = client.map(inc, first)
    wait(second)
    assert [f.status for f in second].count("error") == 1
    error = second[3].exception()
    assert isinstance(error, ZeroDivisionError)
    assert first[3].key in "".join(error.__notes__)
    assert len(client.gather(second, errors="skip")) == 5


def test_a_result_that_cannot_be_unpickled_here(client):
    future = client.submit(home_bound)
    with pytest.raises(errors.TaskUnreadable, match="not at home"):
        future.result(20)
    # The task itself went well: others on the cluster could use its value.
    assert future.status == "finished"
    assert client.gather([future, client.submit(inc, 1)], errors="skip") == [2]
    many = client.map(home_bound, range(3))
    with pytest.raises(errors.TaskUnreadable, match="not at home"):
        client.gather(many)
    assert client.gather(many, errors="skip") == [0, 2]
    zero, error, two = client.gather(many, errors="return")
    assert (zero, two) == (0, 2)
    assert isinstance(error, errors.TaskUnreadable)
    assert client.gather(many[2]) == 2


def test_what_cannot_be_pickled_is_named_at_the_call(client):
    lock = threading.Lock()
    with pytest.raises(errors.NotPicklable, match=r"args\[1\]\['a'\]\[0\].*lock"):
        client.submit(print, 1, {"a": [lock]})
    with pytest.raises(errors.NotPicklable, match=r"args\[0\].*lock") as caught:
        client.map(print, [1, 2, lock])
    assert "element 2" in "".join(caught.value.__notes__)
    with pytest.raises(errors.NotPicklable, match="lock"):
        client.submit(lambda: lock)
    with pytest.raises(errors.NotPicklable, match="lock"):
        client.scatter([1, lock])
    assert client.submit(inc, 1).result(20) == 2


def test_a_module_that_the_runner_does_not_have(client, tmp_path, monkeypatch):
    (tmp_path / "not_on_runners.py").write_text(
        "def f(x):\n    return x\n\n\nclass Thing:\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import not_on_runners

    with pytest.raises(ModuleNotFoundError, match=r"not_on_runners.*worker local"):
        client.submit(not_on_runners.f, 1).result(20)
    with pytest.raises(ModuleNotFoundError, match="not_on_runners") as caught:
        client.submit(repr, not_on_runners.Thing()).result(20)
    assert "worker local" in "".join([str(caught.value), *caught.value.__notes__])
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        client.submit(__import__, "no_such_module").result(20)


# Crashes.


@pytest.mark.parametrize(
    ("how", "code", "signal"), [(leave, 3, None), (segfault, None, "SIGSEGV")]
)
def test_a_crash_costs_exactly_the_task_that_crashed(client, how, code, signal):
    futures = client.map(interrupt_at, range(200), at=77, how=how)
    wait(futures)
    assert [i for i, f in enumerate(futures) if f.status == "error"] == [77]
    error = futures[77].exception()
    assert isinstance(error, errors.RunnerDied)
    assert (error.exit_code, error.signal, error.worker) == (code, signal, "local")
    assert "famous last words" in str(error)
    assert "famous last words" in error.stderr
    assert error.peak is None or 1 << 20 < error.peak < 1 << 40
    assert error.attempts == ()
    good = client.gather(futures, errors="skip")
    assert good == [i for i in range(200) if i != 77]
    assert client.gather(client.map(inc, range(10))) == list(range(1, 11))


def large_and_ended(nbytes):
    ballast = bytearray(nbytes)
    ballast[::4096] = b"x" * len(ballast[::4096])
    os.kill(os.getpid(), 9)
    return len(ballast)


def test_how_large_a_process_was_and_who_ended_it():
    with Client(n_workers=1, set_as_default=False) as one:
        error = one.submit(large_and_ended, 200 << 20).exception(20)
    assert isinstance(error, errors.RunnerDied)
    # Not known where the worker, or who started it, has been as large.
    assert error.peak is None or error.peak >= 200 << 20
    assert error.signal == "SIGKILL"
    # Where nobody counts the victims of the kernel, it may have been one.
    assert error.out_of_memory in {False, None}
    assert ("it had used up to" in str(error)) == (error.peak is not None)


def crash_once(path):
    if not path.exists():
        path.touch()
        os._exit(4)
    return "second time"


def test_a_crash_is_retried_if_asked_for(client, tmp_path):
    future = client.submit(crash_once, tmp_path / "mark", retries=1)
    assert future.result(20) == "second time"


def test_retries_are_counted(client, tmp_path):
    log = tmp_path / "log"

    def fail():
        append(log, "x")
        raise OSError("again")

    with pytest.raises(OSError, match="again"):
        client.submit(fail, retries=2).result(20)
    assert log.read_text() == "xxx"


class OverThere(OSError):
    """Its class is one of the program itself: it travels by value."""


def test_only_failures_that_were_named_are_tried_again(client, tmp_path):
    log = tmp_path / "log"

    def fail(number):
        append(log, str(number))
        raise (OverThere, ValueError)[number]("as told")

    policy = covey.Retry(2, on=OSError, delay=0.01)
    there, value = client.map(fail, range(2), retries=policy)
    assert isinstance(there.exception(20), OverThere)
    assert isinstance(value.exception(20), ValueError)
    assert sorted(log.read_text()) == ["0", "0", "0", "1"]
    assert "failed 2 of at most 3 times" in client.explain(there.key)
    assert "for OSError only" in client.explain(value.key)
    notes = there.exception().__notes__
    assert any("It was tried 3 times" in note for note in notes)
    same = client.submit(crash_once, tmp_path / "m", retries=covey.Retry(1, OverThere))
    assert isinstance(same.exception(20), errors.RunnerDied)
    deaths = client.submit(os._exit, 7, retries=1).exception(20)
    assert [place for place, _ in deaths.attempts] == ["local", "local"]
    assert "exited with code 7" in deaths.attempts[0][1]
    again = covey.Retry(1, (OverThere, errors.RunnerDied))
    assert client.submit(crash_once, tmp_path / "n", retries=again).result(20)


def test_a_failed_task_can_be_retried_by_hand(client, tmp_path):
    mark = tmp_path / "mark"

    def need():
        return mark.read_text()

    future = client.submit(need)
    after = client.submit(len, future)
    with pytest.raises(FileNotFoundError):
        after.result(20)
    mark.write_text("four")
    client.retry([future, after])
    assert after.result(20) == 4


def test_what_is_retried_by_hand_gives_no_value_from_before(client, tmp_path):
    """One that had been brought stays when it is lost, and what makes it anew may fail."""
    mark = tmp_path / "mark"

    def need():
        return mark.read_text()

    future = client.submit(need)
    covey.wait(future, timeout=20)
    assert future.status == "error"
    future._range.values[future._index] = "of another life"
    mark.write_text("new")
    client.retry(future)
    assert future.result(20) == "new"


# Time.


@pytest.mark.parametrize("task", [spin, lambda: time.sleep(3600)])
def test_a_timeout_stops_a_task_and_frees_its_slot(client, task):
    futures = [client.submit(task, timeout="200ms") for _ in range(2)]
    for future in futures:
        with pytest.raises(errors.TaskTimedOut, match=r"0\.2 s") as caught:
            future.result(20)
        assert isinstance(future.exception(), TimeoutError)
        assert caught.value.worker == "local"
        (note,) = caught.value.__notes__
        assert note.startswith("It ran on local.") and "give more with timeout=" in note
    assert client.submit(inc, 1).result(20) == 2


def hold():
    """Let no other thread run."""
    ctypes.PyDLL(None).sleep(3600)


@pytest.mark.parametrize("hangs", [spin, lambda: time.sleep(3600), hold])
def test_of_a_map_only_the_one_that_hangs_is_timed_out(client, tmp_path, hangs):
    def work(x, log):
        with log.open("a") as file:
            file.write(f"{x}\n")
        if x == 321:
            hangs()
        return x

    # It is known how long this takes: many go at once.
    client.gather(client.map(work, range(300), log=tmp_path / "before"))
    log = tmp_path / "log"
    futures = client.map(work, range(300, 600), log=log, timeout="1s")
    wait(futures, 30)
    failed = {x: f.exception() for x, f in enumerate(futures, 300) if f.exception()}
    assert list(failed) == [321]
    assert isinstance(failed[321], errors.TaskTimedOut)
    begun = log.read_text().split()
    assert begun.count("321") == 1
    if hangs is not hold:  # Else what ended before it was not told, and ran again.
        assert len(begun) == 300


# Cancellation.


def test_cancelled_tasks_are_really_stopped(client, tmp_path):
    # Two slots, two tasks that never end, and one that waits behind them.
    paths = [tmp_path / "one", tmp_path / "two"]
    running = [client.submit(hang, path) for path in paths]
    assert all(appeared(path) for path in paths)
    log = tmp_path / "log"
    queued = client.submit(append, log, "queued")
    waiting = client.submit(append, log, queued)
    client.cancel(queued, reason="not needed")
    assert queued.status == "cancelled"
    client.cancel(running)
    # Both slots are free again, and what was cancelled was never begun.
    assert client.gather(client.map(inc, range(50))) == list(range(1, 51))
    with pytest.raises(errors.TaskCancelled, match="not needed"):
        waiting.result(20)
    assert not log.exists()


def test_gather_of_cancelled_futures(client, tmp_path):
    slow = client.submit(hang, tmp_path / "mark")
    good = client.submit(inc, 1)
    assert slow.cancel("enough")
    for nested in (slow, [good, slow], {"a": slow}):
        with pytest.raises(errors.TaskCancelled, match="enough"):
            client.gather(nested)
    assert client.gather([good, slow], errors="skip") == [2]
    value, error = client.gather([good, slow], errors="return")
    assert value == 2
    assert isinstance(error, errors.TaskCancelled)
    with pytest.raises(errors.TaskCancelled):
        slow.exception()


def test_what_has_ended_cannot_be_cancelled(client):
    future = client.submit(inc, 1)
    assert future.result(20) == 2
    assert not future.cancel()
    assert future.result() == 2


def wait_at_gate(begun, gate):
    begun.touch()
    while not gate.exists():
        time.sleep(0.001)
    return "through"


def test_what_has_ended_unknown_to_its_client_is_not_cancelled_either(tmp_path):
    """Its future says so, as what takes its result has it."""
    with (
        Client(n_workers=1) as client,
        Client(client.cluster, set_as_default=False) as other,
    ):
        begun, gate = tmp_path / "begun", tmp_path / "gate"
        deafened, deaf = threading.Event(), threading.Event()
        future = client.submit(wait_at_gate, begun, gate)
        assert appeared(begun)
        taking = client.submit(len, future)
        # Nothing that comes from the scheduler is read by its client.
        loop = client._session.engine.loop
        loop.call_soon_threadsafe(lambda: (deafened.set(), deaf.wait()))
        assert deafened.wait(20)
        gate.touch()
        # They run on one slot, one after the other, and so are told of.
        assert other.submit(inc, 1).result(20) == 2
        said = []
        cancelling = threading.Thread(target=lambda: said.append(future.cancel()))
        cancelling.start()
        assert future.status == "pending"
        deaf.set()
        cancelling.join(20)
        assert said == [False]
        assert future.status == "finished"
        assert taking.result(20) == len("through")
        assert client.submit(len, future).result(20) == len("through")


def test_who_is_told_that_it_is_cancelled_is_told_so_of_what_takes_it(client):
    """At whatever moment of a map one of its elements is cancelled."""
    for at in range(0, 2000, 50):
        futures = client.map(inc, range(2000))
        futures[at].cancel()
        ended = futures[at].status
        assert ended in {"cancelled", "finished"}
        same = client.map(inc, futures)
        wait(same, timeout=20)
        assert same[at].status == futures[at].status == ended


def test_part_of_a_map_is_cancelled(client, tmp_path):
    def hang_at(x, path):
        if x == 3:
            hang(path)
        return x

    path = tmp_path / "mark"
    futures = client.map(hang_at, range(100), path=path)
    assert appeared(path)
    futures[3].cancel()
    wait(futures)
    assert [i for i, f in enumerate(futures) if f.cancelled()] == [3]
    assert len(client.gather(futures, errors="skip")) == 99


def test_a_task_may_not_hide_from_being_cancelled(client, tmp_path):
    def stubborn(path):
        path.touch()
        while True:
            try:
                time.sleep(3600)
            except BaseException:
                continue

    paths = [tmp_path / "one", tmp_path / "two"]
    futures = [client.submit(stubborn, path) for path in paths]
    assert all(appeared(path) for path in paths)
    client.cancel(futures)
    # With both runners in their hands, only killing those gets this one done.
    assert client.submit(inc, 1).result(30) == 2


def pid_here():
    return os.getpid()


def import_slowly(folder, seconds=0):
    sys.path.insert(0, folder)
    import slow_package  # type: ignore[import-not-found]

    time.sleep(seconds)
    return slow_package.NAMES, os.getpid()


def test_no_package_is_left_half_imported(tmp_path):
    package = tmp_path / "slow_package"
    package.mkdir()
    (package / "part.py").write_text("__all__ = ['name']; name = 1")
    (package / "__init__.py").write_text(
        "import time; from .part import *; time.sleep(0.3); NAMES = part.__all__"
    )
    with Client(n_workers=1, set_as_default=False) as one:
        # A function of this module, which takes a while to import itself.
        pid = one.submit(pid_here).result(20)
        with pytest.raises(TimeoutError):
            one.submit(import_slowly, str(tmp_path), 60, timeout=0.1).result(20)
        # The runner is the same, and the package whole.
        assert one.submit(import_slowly, str(tmp_path)).result(20) == (["name"], pid)
