"""A call from a user's thread into the I/O thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time

import pytest

from covey.client.calling import Call

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
    work = there()
    call = Call(work, loop)
    with pytest.raises(RuntimeError):
        call.begin()
    call.cancel()
    work.close()


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
