"""``as_completed`` and ``wait`` over ranges that end by the test's hand."""

from __future__ import annotations

import asyncio
import gc
import sys
from types import SimpleNamespace

import pytest

from covey import clock
from covey.client import interrupts
from covey.client.core.ranges import Range, Wishes
from covey.client.countdown import End
from covey.client.fetching import Session
from covey.client.future import Future, Futures
from covey.client.waiting import FIRST_COMPLETED, FIRST_EXCEPTION, as_completed, wait
from covey.errors import Closed, UsageError
from covey.payload import Pack
from covey.wire.base import Failure

BASE = 100


@pytest.fixture
def here():
    sent = []
    engine = SimpleNamespace(
        name="test",
        wishes=Wishes(),
        kept_as={},
        tokens={},
        closed=False,
        lull_is_coming=False,
        look=lambda: None,
        loop=SimpleNamespace(call_soon_threadsafe=lambda call: None),
        sent=sent,
        post=sent.append,
        outbox=SimpleNamespace(catch_up=None),
        asker=SimpleNamespace(tidy=lambda: None),
        check_process=lambda: None,
        check_free=lambda: None,
    )
    return Session(engine)


def calls_of(work):
    """Return how many functions *work* calls, in Python or in C."""
    calls = 0

    def count(frame, event, arg):
        nonlocal calls
        calls += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


def a_map(here, n, base=BASE):
    wish = Range(base, n, "f", None)
    here.enter(wish)
    return Futures(here, wish), wish


def ends(wish, lo, n=1):
    wish.finish(lo, Pack.of([b"x"] * n))


def released(here):
    """Return what the cluster is told to let go of: a list of extents."""
    gc.collect()
    here._send_dropped()
    return [extent for said in here.engine.sent for extent in said.extents]


# Lists that change meanwhile.


def test_who_takes_each_out_of_the_list_gets_all_of_it(here):
    futures, wish = a_map(here, 6)
    coming = as_completed(futures)
    ends(wish, 2, 2)
    seen = []
    for done in coming:
        assert done.done()
        seen.append(done.id - BASE)
        futures.remove(done)
        if len(seen) == 1:
            ends(wish, 5)
        elif len(seen) == 3:
            ends(wish, 0, 2)
            ends(wish, 4)
    assert seen == [2, 3, 5, 0, 1, 4]
    assert not futures


@pytest.mark.parametrize(
    "change",
    [lambda fs: fs.reverse(), lambda fs: fs.clear(), lambda fs: fs.__delitem__(0)],
    ids=["reverse", "clear", "del"],
)
def test_a_list_that_changes_does_not_change_what_is_waited_for(here, change):
    futures, wish = a_map(here, 4)
    third = futures[2]
    coming = as_completed(futures)
    change(futures)
    ends(wish, 2)
    assert next(coming) is third
    assert not coming.has_ready()
    ends(wish, 0, 2)
    ends(wish, 3)
    assert [future.id - BASE for future in coming] == [0, 1, 3]


# Letting go.


WAYS = {
    "map": as_completed,
    "list": lambda futures: as_completed(list(futures)),
    "one by one": lambda futures: as_completed(futures[i] for i in range(len(futures))),
}


@pytest.mark.parametrize("way", WAYS)
def test_who_breaks_out_lets_go_of_the_rest(here, way):
    futures, wish = a_map(here, 50)
    coming = WAYS[way](futures)
    del futures
    ends(wish, 3)
    for done in coming:
        assert done.id == BASE + 3
        break
    assert released(here) == []
    del coming, done
    assert not wish.watched
    assert released(here) == [(BASE, 50)]


@pytest.mark.parametrize("way", WAYS)
def test_what_was_cleared_is_let_go(here, way):
    futures, wish = a_map(here, 50)
    coming = WAYS[way](futures)
    del futures
    ends(wish, 3)
    coming.clear()
    assert coming.is_empty() and coming.count() == 0
    assert released(here) == [(BASE, 50)]
    ends(wish, 4)
    assert list(coming) == []


def test_what_has_not_ended_in_time_is_let_go_with_it(here):
    futures, _ = a_map(here, 50)
    coming = as_completed(futures, timeout=0)
    del futures
    with pytest.raises(TimeoutError, match="50 futures have not ended"):
        next(coming)
    del coming
    assert released(here) == [(BASE, 50)]


def test_who_breaks_out_of_single_tasks_lets_go_of_the_rest(here):
    coming = as_completed()
    for task in range(3):
        wish = Range(BASE + task, 1, "f", None)
        here.enter(wish)
        coming.add(Future(here, wish, 0))
    del coming
    assert released(here) == [(BASE, 3)]


@pytest.mark.parametrize("form", [lambda fs: fs, list], ids=["map", "list"])
def test_who_polls_leaves_nothing_behind(here, form):
    futures, wish = a_map(here, 5)
    ends(wish, 2)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            list(as_completed(form(futures), timeout=0))
        done, pending = wait(futures, 5, FIRST_COMPLETED)
        assert (len(done), len(pending)) == (1, 4)
        with pytest.raises(TimeoutError, match="none of 4 futures"):
            wait(pending, 0, FIRST_COMPLETED)
    gc.collect()
    assert not wish.watched


def test_an_interrupt_as_it_is_dropped_is_brought_again(here, monkeypatch):
    futures, _ = a_map(here, 5)
    again = []
    monkeypatch.setattr(interrupts, "_installed", [])
    monkeypatch.setattr(interrupts, "_interrupt_soon", lambda: again.append(True))
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)

    def interrupted(*_):
        raise KeyboardInterrupt

    interrupts.bring_again()
    coming = as_completed(list(futures))
    monkeypatch.setattr(Range, "unwatch", interrupted)
    del coming
    assert again == [True]


def test_an_interrupt_behind_what_was_taken_lets_go_of_it_once(here, monkeypatch):
    """The I/O thread has emptied the list by then: no other handle is meant by it."""
    futures, _ = a_map(here, 2)
    future = futures[0]
    told = []

    def taken(handles):
        handles.clear()
        raise KeyboardInterrupt

    monkeypatch.setattr(future.session, "let_go", taken)
    monkeypatch.setattr(future.session, "let_go_once_more", told.append)
    with pytest.raises(KeyboardInterrupt):
        future.__del__()
    monkeypatch.undo()
    assert told == [[]]


def test_an_interrupt_as_a_list_begins_to_drop_leaves_nothing_undone(here):
    futures, _ = a_map(here, 2)
    session = futures[0].session

    class Dropping(list):
        def append(self, item):
            super().append(item)
            raise KeyboardInterrupt

    session._dropping = Dropping()
    with pytest.raises(KeyboardInterrupt):
        session.drop_in_order({0: futures[0]}, None)
    left, session._dropping = session._dropping, []
    assert left == []


def test_what_could_not_be_made_is_dropped_without_a_word():
    with pytest.raises(UsageError):
        as_completed(timeout="soon")


# What is yielded, and what it costs.


def test_each_is_yielded_once_however_it_was_given(here):
    futures, wish = a_map(here, 4)
    coming = as_completed([futures[1], futures[1]])
    assert coming.count() == 1
    coming.update(futures)
    assert coming.count() == 4
    coming.add(futures[2])
    assert coming.count() == 4
    ends(wish, 0, 4)
    assert coming.count() == 4
    assert [future.id - BASE for future in coming] == [0, 1, 2, 3]


def test_a_dict_of_what_each_future_is_for(here):
    """It was taken for empty."""
    futures, wish = a_map(here, 3)
    what_for = {future: index for index, future in enumerate(futures)}
    coming = as_completed(what_for)
    assert coming.count() == 3
    ends(wish, 1)
    ended = next(coming)
    assert what_for[ended] == 1
    done, not_done = wait(what_for, return_when="FIRST_COMPLETED")
    assert (done, not_done) == ({ended}, {futures[0], futures[2]})


def test_what_is_no_future_is_refused_before_any_is_waited_for(here):
    """It was passed over in silence."""
    futures, wish = a_map(here, 2)
    coming = as_completed()
    for mistake in ([3], [futures[0], 3], {"x": futures[0], "y": None}):
        with pytest.raises(UsageError, match="among these is"):
            coming.update(mistake)
        with pytest.raises(UsageError, match="among these is"):
            wait(mistake)
    assert coming.is_empty() and not wish.watched
    assert wait([]) == (set(), set())
    assert list(as_completed({})) == []


def test_two_futures_of_one_task_are_two(here):
    futures, wish = a_map(here, 2)
    other = Range(BASE, 1, "f", None)  # Another client's, of the same task.
    theirs = Future(here, other, 0)
    coming = as_completed([futures[0], theirs, Future(here, wish, 0)])
    other.finish_one(b"x")
    assert next(coming) is theirs
    assert not coming.has_ready()
    ends(wish, 0)
    assert len(list(coming)) == 2


def test_a_map_is_watched_without_making_its_futures(here):
    futures, wish = a_map(here, 1000)
    gc.collect()
    gc.disable()
    try:
        before = gc.get_count()[0]
        coming = as_completed(futures)
        ends(wish, 10, 900)
        assert gc.get_count()[0] - before < 80
    finally:
        gc.enable()
    assert coming.count() == 1000
    assert next(coming).id == BASE + 10


def test_to_wait_for_a_first_failure_looks_at_each_once(here, monkeypatch):
    """It looked at all of them each time that one had ended."""
    n = 200
    futures, wish = a_map(here, n)
    looks = []
    look = Future.done
    monkeypatch.setattr(Future, "done", lambda self: looks.append(1) or look(self))
    todo = iter(range(n))

    def next_one_ends(_):
        index = next(todo)
        if index < 150:
            ends(wish, index)
        else:
            wish.fail(index, 1, Failure("raised", "ValueError", "no"))

    monkeypatch.setattr(as_completed, "_left", next_one_ends)
    monkeypatch.setattr(clock, "LOOK_UP_SECONDS", 0.0)
    done, not_done = wait(futures, return_when=FIRST_EXCEPTION)
    assert (len(done), len(not_done)) == (151, 49)
    assert len(looks) <= 3 * n


# Released meanwhile.


KINDS = {"map": 0, "single": 1}


@pytest.mark.parametrize("single", KINDS.values(), ids=KINDS)
def test_who_waits_for_what_is_released_is_told(here, single):
    if single:
        wish = Range(BASE, 1, "f", None)
        here.enter(wish)
        futures = [Future(here, wish, 0)]
    else:
        futures, wish = a_map(here, 3)
    future = futures[0]
    coming = as_completed(futures)
    fired, called = [], []
    here.countdown(futures, lambda: fired.append(True))
    here.watch(future, called.append)
    end = End(wish, 0)
    future.release()
    assert released(here) == [(BASE, 1)]
    assert end.wait(0.0)
    assert called == [future]
    assert next(coming) is future
    assert future.cancelled() and fired == [True] * single
    with pytest.raises(Closed, match="released"):
        future.result()
    with pytest.raises(Closed, match="released"):
        here.countdown([future], print)
    if not single:
        ends(wish, 0, 3)  # The others go on, and late news of that one are none.
        assert fired == [True]
        assert len(list(coming)) == 2
        assert future.cancelled()


def test_wait_tells_of_what_was_released_meanwhile(here, monkeypatch):
    futures, wish = a_map(here, 2)

    def is_released(session, waiting, timeout):
        waiting[1].release()
        released(here)
        ends(wish, 0)

    monkeypatch.setattr(Session, "wait", is_released)
    with pytest.raises(Closed, match="released"):
        wait(futures)


def test_futures_of_one_task_of_one_client_are_equal(here):
    futures, wish = a_map(here, 2)
    a, copied, b = futures[0], Future(here, wish, 0), futures[1]
    theirs = Future(here, Range(BASE, 2, "f", None), 0)  # Of another client.
    assert a == copied and hash(a) == hash(copied)
    assert {a: "x"}[copied] == "x"
    assert a not in (b, theirs, a.id)
    before = {a}
    a.release()
    assert a in before and copied in before


def test_wait_has_one_of_those_that_are_equal(here):
    futures, wish = a_map(here, 2)
    copied = Future(here, wish, 0)
    ends(wish, 0)
    done, not_done = wait([*futures, copied], return_when=FIRST_COMPLETED)
    assert (len(done), not_done) == (1, {futures[1]})
    assert copied in done


def test_a_copy_of_what_is_released_is_waited_for(here):
    futures, wish = a_map(here, 2)
    other = here.hold(wish, 1)
    coming = as_completed([futures[1], other])
    futures[1].release()
    assert released(here) == []
    assert not coming.has_ready()
    ends(wish, 1)
    assert len(list(coming)) == 2
    assert not other.given_up


def test_who_is_told_that_nobody_holds_a_task_may_hold_another(here):
    """It is told when the lock under which handles are counted is free."""
    futures, _ = a_map(here, 2)
    held = []
    here.watch(futures[0], lambda _: held.append(here._holding._is_owned()))
    futures[0].release()
    released(here)
    assert held == [False]


# Kept until they are done.


def test_what_is_detached_is_kept_until_each_has_ended(here):
    futures, wish = a_map(here, 6)
    here.detach(list(futures))
    here.engine.sent.clear()
    del futures
    assert released(here) == []
    ends(wish, 1, 2)
    assert released(here) == [(BASE + 1, 2)]
    for index in (5, 0, 4, 3):
        ends(wish, index)
    assert sorted(released(here)[1:]) == [(BASE, 1), (BASE + 3, 3)]
    assert not wish.watched


def test_what_is_kept_is_found_by_what_ended(here):
    """All of it was gone through for each that ended."""
    n = 300
    futures, wish = a_map(here, n)
    here.detach(list(futures))
    del futures

    def work():
        for index in range(n):
            ends(wish, index)

    assert calls_of(work) < 40 * n
    assert not wish.watched


def test_callbacks_on_all_of_a_map_cost_the_same_each(here):
    n = 300
    futures, wish = a_map(here, n)
    called = []
    for future in futures:
        here.watch(future, called.append)

    def work():
        for index in range(n):
            ends(wish, index)

    assert calls_of(work) < 60 * n
    assert called == list(futures)


# Tasks of an event loop.


def test_a_task_that_nobody_refers_to_waits_on(here):
    """An event loop itself refers to its tasks weakly."""
    futures, wish = a_map(here, 3)
    single, alone = a_map(here, 1, BASE + 100)
    seen = []
    note = seen.append

    async def consume(coming):
        async for future in coming:
            note(future.id - BASE)

    async def story():
        for coming in (as_completed(futures), as_completed([single[0]])):
            asyncio.create_task(consume(coming))  # noqa: RUF006  (the point of it)
        del coming
        await asyncio.sleep(0)
        gc.collect()
        for lo in (1, 2, 0):
            ends(wish, lo)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            gc.collect()
        ends(alone, 0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    asyncio.run(story())
    assert seen == [1, 2, 0, 100]


@pytest.mark.parametrize("how", ["cancelled", "too late", "cleared"])
def test_who_waits_no_more_lets_go_of_it(here, how):
    futures, wish = a_map(here, 3)

    async def story(futures):
        coming = as_completed(futures, timeout=0.0 if how == "too late" else None)
        waiting = asyncio.ensure_future(anext(coming))
        await asyncio.sleep(0)
        if how == "cancelled":
            waiting.cancel()
        elif how == "cleared":
            coming.clear()
        return (await asyncio.gather(waiting, return_exceptions=True))[0]

    error = asyncio.run(story(futures))
    expected = {"cancelled": asyncio.CancelledError, "too late": TimeoutError}
    assert isinstance(error, expected.get(how, StopAsyncIteration))
    del futures, error
    assert released(here) == [(BASE, 3)]
    assert not wish.watchers


def test_who_polls_has_news_read(here):
    """A thread that led may have left them for later."""
    looks = []
    here.engine.look = lambda: looks.append(1)
    wish = Range(7, 1, "f", None)
    here.enter(wish)
    future = Future(here, wish, 0)
    assert not future.done() and len(looks) == 1
    coming = as_completed([future])
    assert coming.next_batch(block=False) == [] and len(looks) == 2
    here.countdown([future], list).stop()
    assert len(looks) == 3
    polls = [
        *(lambda: future.status, future.cancelled, lambda: repr(future)),
        *(coming.has_ready, coming.is_empty, coming.count),
    ]
    for poll in polls:
        before = len(looks)
        poll()
        assert len(looks) > before

    async def awaited():
        looks.clear()
        waits = asyncio.ensure_future(coming.__anext__())
        await asyncio.sleep(0)
        assert looks
        waits.cancel()

    asyncio.run(awaited())
    wish.finish_one(b"x")
    del looks[:]
    assert future.done() and coming.next_batch(block=False) == [future]
    assert not looks, "what is there need not be looked for"
