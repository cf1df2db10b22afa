"""A call from a user's thread into the I/O thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
import traceback

import pytest

from covey import errors
from covey.client.calling import Call, Calls
from covey.net.loop import close_event_loop

PATIENCE_SECONDS = 30


@pytest.fixture
def loop():
    """Yield a loop that runs in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    if not loop.is_closed():
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE_SECONDS)
        loop.close()


def ended(call):
    call.begin()
    assert call.ended.wait(PATIENCE_SECONDS)
    return call


def test_what_it_came_to_is_returned_and_what_it_raised_is_raised(loop):
    async def there():
        await asyncio.sleep(0)
        return threading.current_thread()

    assert ended(Call(there(), loop)).result() is not threading.current_thread()

    problem = ValueError("nothing of the kind")

    async def fail():
        raise problem

    with pytest.raises(ValueError, match="of the kind") as raised:
        ended(Call(fail(), loop)).result()
    assert raised.value is problem

    async def nothing():
        """Return nothing."""

    assert ended(Call(nothing(), loop)).result() is None


def test_what_takes_too_long_is_stopped_when_nobody_waits(loop):
    seen = []
    began, stopped = threading.Event(), threading.Event()

    async def forever():
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            stopped.set()
            raise

    call = Call(forever(), loop)
    call.begin()
    assert began.wait(PATIENCE_SECONDS)
    assert not call.ended.wait(0.0)
    with pytest.raises(TimeoutError):
        call.result()
    call.cancel()
    assert stopped.wait(PATIENCE_SECONDS)
    assert call.ended.wait(PATIENCE_SECONDS)
    # To whoever waits in another thread it is no order to stop, too.
    with pytest.raises(concurrent.futures.CancelledError):
        call.result()
    assert seen == ["cancelled"]


def test_after_its_end_there_is_nothing_to_stop(loop):
    async def there():
        return 1

    call = ended(Call(there(), loop))
    call.cancel()
    assert call.result() == 1
    assert ended(Call(there(), loop)).result() == 1


def test_a_loop_that_was_closed_runs_nothing(loop):
    async def there():
        return 1

    loop.call_soon_threadsafe(loop.stop)
    while loop.is_running():
        time.sleep(0)
    loop.close()
    call = Call(there(), loop)
    with pytest.raises(errors.Closed):
        call.begin()
    call.cancel()
    with pytest.raises(errors.Closed):
        Calls(loop).wait_for(there(), None)


def test_neither_futures_nor_callbacks_are_made_for_it(loop):
    """One task of the loop, one callback of its thread: what a user waits for often."""
    posted, tasks = [], []
    post, create = loop.call_soon_threadsafe, loop.create_task

    def noted_post(callback, *args):
        posted.append(callback)
        return post(callback, *args)

    def noted_create(work):
        tasks.append(work)
        return create(work)

    loop.call_soon_threadsafe, loop.create_task = noted_post, noted_create

    async def there():
        return 1

    assert ended(Call(there(), loop)).result() == 1
    assert (len(posted), len(tasks)) == (1, 1)


def test_what_is_stopped_before_it_has_begun_has_ended_too(loop):
    async def there():
        raise AssertionError("it should not run")

    call = Call(there(), loop)
    together = threading.Event()

    def both():
        call._start()
        call._stop()
        together.set()

    loop.call_soon_threadsafe(both)
    assert together.wait(PATIENCE_SECONDS)
    assert call.ended.wait(PATIENCE_SECONDS)
    with pytest.raises(concurrent.futures.CancelledError):
        call.result()


@pytest.fixture
def in_thread():
    """Have a call waited for in a thread; return what it comes to there."""

    def in_thread(calls, work):
        outcome = []

        def wait():
            try:
                outcome.append(calls.wait_for(work, None))
            except Exception as error:
                outcome.append(type(error))

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()

        def join():
            thread.join(PATIENCE_SECONDS)
            assert not thread.is_alive()
            return outcome

        return join

    return in_thread


def test_a_call_that_waits_ends_with_its_loop(in_thread):
    loop = asyncio.new_event_loop()
    calls, seen = Calls(loop), []

    async def forever():
        loop.stop()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            seen.append("stopped in order")
            raise

    outcome = in_thread(calls, forever())
    loop.run_forever()
    calls.end(close_event_loop)
    assert outcome() == [errors.Closed]
    assert seen == ["stopped in order"]


def test_a_call_that_came_too_late_ends_with_its_loop(in_thread):
    loop = asyncio.new_event_loop()
    calls, begun = Calls(loop), threading.Event()
    post = loop.call_soon_threadsafe

    def noted(*args):
        post(*args)
        begun.set()

    loop.call_soon_threadsafe = noted

    async def there():
        raise AssertionError("it should not run")

    def close(loop):
        # The loop looks no more at what was posted.
        outcomes.append(in_thread(calls, there()))
        assert begun.wait(PATIENCE_SECONDS)
        loop.close()

    outcomes = []
    calls.end(close)
    assert outcomes[0]() == [errors.Closed]


def test_who_does_not_stop_is_not_waited_for(in_thread, monkeypatch):
    monkeypatch.setattr("covey.client.calling.STOPPING_SECONDS", 0.0)
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    calls = Calls(loop)

    async def stubborn():
        loop.stop()
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue

    work = stubborn()
    outcome = in_thread(calls, work)
    loop.run_forever()
    calls.end(close_event_loop)
    assert outcome() == [errors.Closed]


def test_what_has_ended_with_its_value_before_its_loop_is_returned(in_thread):
    loop = asyncio.new_event_loop()
    calls = Calls(loop)

    async def there():
        loop.stop()
        return 1

    outcome = in_thread(calls, there())
    loop.run_forever()
    calls.end(close_event_loop)
    assert outcome() == [1]


# Calls for which an event loop waits.


def test_what_is_started_comes_to_a_future(loop):
    calls = Calls(loop)

    async def there():
        return threading.current_thread()

    async def fail():
        raise ValueError("nothing of the kind")

    future = calls.start(there())
    assert future.result(PATIENCE_SECONDS) is not threading.current_thread()
    failing = calls.start(fail())
    with pytest.raises(ValueError, match="of the kind"):
        failing.result(PATIENCE_SECONDS)
    assert not calls._open


def test_who_cancels_the_future_stops_what_was_started(loop):
    began, stopped = threading.Event(), threading.Event()

    async def forever():
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    calls = Calls(loop)
    future = calls.start(forever())
    assert began.wait(PATIENCE_SECONDS)
    assert future.cancel()
    assert stopped.wait(PATIENCE_SECONDS)


@pytest.mark.parametrize("begun", [True, False])
def test_what_was_started_ends_with_its_loop(begun):
    """The loop ends before it has begun, or while it waits."""
    loop = asyncio.new_event_loop()
    calls = Calls(loop)

    async def forever():
        loop.stop()
        await asyncio.Event().wait()

    if not begun:
        loop.call_soon(loop.stop)
        loop.run_forever()
    future = calls.start(forever())
    if begun:
        loop.run_forever()
    calls.end(close_event_loop)
    with pytest.raises(errors.Closed):
        future.result(0)
    with pytest.raises(errors.Closed):
        calls.start(forever())
    assert not calls._open


def test_an_error_of_what_was_started_is_no_garbage(loop):
    async def fail():
        raise ValueError("nothing of the kind")

    future = Calls(loop).start(fail())
    error = future.exception(PATIENCE_SECONDS)
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    assert frames and not any(future in f.f_locals.values() for f in frames)
