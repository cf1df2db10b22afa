"""Handles are counted by users' threads and by the I/O thread, and none gets lost."""

from __future__ import annotations

import signal
import sys
import threading
from types import SimpleNamespace

import pytest
from interrupting import interrupted_at

from covey.client import interrupts
from covey.client.core.ranges import Range, Wishes
from covey.client.dropping import FEW
from covey.client.fetching import Session
from covey.client.future import Future, Futures
from covey.payload import Pack
from covey.wire.client_link import Release


class Counted(Range):
    """A range whose count is looked at only by who may change it."""

    __slots__ = ("count", "session")

    @property
    def held(self):
        assert self.session is None or self.session._holding._is_owned()
        return self.count

    @held.setter
    def held(self, count):
        self.count = count


def session():
    sent = []
    engine = SimpleNamespace(
        name="test",
        wishes=Wishes(),
        kept_as={},
        tokens={},
        closed=False,
        lull_is_coming=True,
        look=lambda: None,
        loop=SimpleNamespace(call_soon_threadsafe=lambda call: None),
        post=sent.append,
        outbox=SimpleNamespace(catch_up=None),
        asker=SimpleNamespace(tidy=lambda: None),  # It keeps nothing here.
    )
    return Session(engine), sent


def entered(here, task):
    wish = Counted.__new__(Counted)
    wish.session = None
    Range.__init__(wish, task, 1, "f", "name")
    wish.held = 1
    wish.session = here
    here.enter(wish)
    return wish


def test_the_count_of_handles_changes_under_a_lock_only():
    here, sent = session()
    wish = entered(here, 7)
    first = Future(here, wish, 0)
    second = here.hold(wish)
    first.release()
    here._send_dropped()
    assert wish.count == 1
    assert sent == []
    assert here.engine.wishes.find(7) is wish
    second.release()
    here._send_dropped()
    assert sent == [Release(((7, 1),))]
    assert here.engine.wishes.find(7) is None


def test_what_was_let_go_is_not_held_again():
    here, sent = session()
    wish = entered(here, 7)
    Future(here, wish, 0).release()
    # Somebody finds the name of the task here; the I/O thread is quicker.
    here._send_dropped()
    assert here.hold(wish) is None
    assert sent == [Release(((7, 1),))]


def test_what_ended_early_is_let_go_when_the_scheduler_has_told_of_it():
    """Or it would hear first that nobody wants it, and cancel what has ended."""
    here, sent = session()
    wishes = here.engine.wishes
    early, other = entered(here, 7), entered(here, 8)
    assert wishes.ends_early(7) is early
    early.finish_one(b"x")
    for wish in (early, other):
        Future(here, wish, 0).release()
    for _ in range(2):
        here._send_dropped()
        assert sent == [Release(((8, 1),))]
    again = here.hold(early)
    assert again is not None, "somebody may have it back meanwhile"
    wishes.finished(7, Pack.of([b"x"]))
    here._send_dropped()
    assert early.count == 1 and wishes.find(7) is early
    again.release()
    here._send_dropped()
    assert sent == [Release(((8, 1),)), Release(((7, 1),))]
    assert wishes.find(7) is None


# Told by who drops them.


def ended(here, task, name=None):
    """Return a future of a task that has ended, which the scheduler has told of."""
    wish = Range(task, 1, "f", name)
    here.enter(wish)
    wish.finish_one(b"x")
    return Future(here, wish, 0)


def parting(here, parted):
    here.engine.outbox.part = parted.append
    return here


def test_who_drops_some_tells_of_them_by_himself():
    here, sent = session()
    parted = []
    parting(here, parted)
    for task in range(7, 7 + FEW):
        here.part()
        assert not parted
        ended(here, task).release()
    here.part()
    assert parted == [Release(tuple((task, 1) for task in range(7, 7 + FEW)))]
    assert not here.engine.wishes.all()
    here.part()
    here._send_dropped()
    assert len(parted) == 1 and not sent, "it is told once"


@pytest.mark.parametrize(
    "kind", ["pending", "named", "untold", "held", "map", "stored", "foreign"]
)
def test_what_is_not_simple_is_told_by_the_loop(kind):
    here, sent = session()
    parted = []
    parting(here, parted)
    wishes, other = here.engine.wishes, None
    if kind == "map":
        wish = Range(100, 2, "f", None)
        here.enter(wish)
        wish.finish(0, Pack.of([b"x", b"y"]))
        other = Future(here, wish, 1)
        Future(here, wish, 0).release()
    elif kind in {"pending", "untold", "stored"}:
        wish = Range(100, 1, "f", None)
        here.enter(wish)
        if kind == "untold":
            assert wishes.ends_early(100)
            wish.finish_one(b"x")
        elif kind == "stored":
            wish.store(0, 1, 1, 10)
        Future(here, wish, 0).release()
    else:
        future = ended(here, 100, "name" if kind == "named" else None)
        other = here.hold(future._range) if kind == "held" else other
        if kind == "foreign":
            here.engine.tokens[100] = b"token"
        future.release()
    for task in range(7, 6 + FEW):
        ended(here, task).release()
    here.part()
    assert parted == [Release(tuple((task, 1) for task in range(7, 6 + FEW)))]
    assert wishes.find(100) is not None
    here._send_dropped()
    left = {"untold": [], "held": []}.get(kind, [Release(((100, 1),))])
    assert sent == left and not here.engine.tokens
    del other


def test_nobody_holds_again_what_was_told_of():
    here, _ = session()
    parting(here, [])
    futures = [ended(here, task) for task in range(7, 7 + FEW)]
    wish = futures[0]._range
    for future in futures:
        future.release()
    here.part()
    assert here.hold(wish) is None


def test_an_interrupt_as_it_is_told_loses_nothing():
    event, interrupted, twice = 0, True, 0
    while interrupted:
        event += 1
        here, sent = session()
        parting(here, sent)
        for task in range(7, 7 + FEW):
            ended(here, task).release()
        interrupted = interrupted_at(event, here.part)
        here._send_dropped()
        gone = {
            task
            for m in sent
            for base, n in m.extents
            for task in range(base, base + n)
        }
        assert gone == {*range(7, 7 + FEW)}, event
        twice += len(sent) > 1
        assert not here.engine.wishes.all() and not here._holding._is_owned()
    assert event > 10 and twice


def test_the_handler_of_a_signal_that_comes_in_the_midst_tells_nothing():
    here, sent = session()
    parting(here, sent)
    for task in range(7, 7 + FEW):
        ended(here, task).release()
    with here._holding:
        here.part()
    assert not sent
    here.part()
    assert sent


# Maps.


def entered_map(here, n):
    wish = Range(100, n, "f", None)
    here.enter(wish)
    return wish


def let_go_of(here, sent):
    """Return the tasks that were let go of since it was last asked."""
    here._send_dropped()
    gone = [
        base - 100 + i for told in sent for base, n in told.extents for i in range(n)
    ]
    sent.clear()
    return gone


def test_what_is_taken_out_of_the_list_of_a_map_is_let_go():
    here, sent = session()
    wish = entered_map(here, 6)
    futures = Futures(here, wish)
    assert futures.pop().id == 105
    assert let_go_of(here, sent) == [5]
    del futures[3:]
    assert let_go_of(here, sent) == [3, 4]
    futures[0] = futures[1]
    assert let_go_of(here, sent) == [0]
    kept = futures.pop()
    assert let_go_of(here, sent) == []
    del futures, kept
    assert sorted(let_go_of(here, sent)) == [1, 2]
    assert wish.held == 0


def test_a_changed_list_of_a_map_is_let_go_at_once():
    here, sent = session()
    futures = Futures(here, entered_map(here, 1000))
    del futures[0]
    let_go_of(here, sent)
    # The I/O thread is as quick as can be.
    here.engine.lull_is_coming = False
    here.engine.loop.call_soon_threadsafe = lambda call: call()
    del futures
    assert sent == [Release(((101, 999),))]


def test_the_list_of_a_map_is_walked_through_as_a_list_is():
    here, _ = session()
    futures, numbers = Futures(here, entered_map(here, 9)), list(range(9))
    seen, expected = [], []
    for future in futures:
        seen.append(future.id - 100)
        futures.remove(future)
    for number in numbers:
        expected.append(number)
        numbers.remove(number)
    assert seen == expected
    assert [future.id - 100 for future in futures] == numbers
    assert repr(futures) == "<4 futures of f: 0 ended, 4 pending>"


def test_copies_of_a_future_of_a_map_are_counted_each_by_itself():
    here, sent = session()
    wish = entered_map(here, 6)
    futures = Futures(here, wish)
    copies = [copied(here, futures[index]) for index in (2, 2, 4)]
    del futures
    assert let_go_of(here, sent) == [0, 1, 3, 5]
    copies.pop()
    assert let_go_of(here, sent) == [4]
    copies.pop()
    assert let_go_of(here, sent) == []
    assert here.hold(wish, 4) is None
    copies.pop()
    assert let_go_of(here, sent) == [2]
    assert here.hold(wish, 2) is None
    assert wish.held == 0


def test_a_copy_that_goes_in_one_message_with_its_original_is_counted():
    here, sent = session()
    wish = entered_map(here, 3)
    futures = Futures(here, wish)
    extra = [copied(here, futures[1]) for _ in range(2)]
    del futures
    extra.clear()
    assert sorted(let_go_of(here, sent)) == [0, 1, 2]
    assert wish.held == 0


def copied(here, future):
    return here.hold(future._range, future._index)


class Interrupted:
    """A session that Ctrl-C comes to when it is to let go of something."""

    def __init__(self):
        self.let_go_of = []

    def let_go(self, handles):
        raise KeyboardInterrupt

    def let_go_once_more(self, handles):
        self.let_go_of += handles


@pytest.fixture
def brought_again(monkeypatch):
    """Return what would be done a little later, in another thread."""
    calls = []

    class Timer:
        def __init__(self, seconds, call, args):
            calls.append((call, args))

        def start(self):
            """Nothing: the test looks at what it would do."""

    printed = []
    monkeypatch.setattr(sys, "unraisablehook", printed.append)
    monkeypatch.setattr(interrupts, "_installed", [])
    monkeypatch.setattr(interrupts.threading, "Timer", Timer)
    interrupts.bring_again()
    yield calls
    assert printed == []


@pytest.mark.parametrize("n", [1, 5])
def test_an_interrupt_while_futures_are_dropped_comes_again_once(brought_again, n):
    here = Interrupted()
    wish = Range(0, n, "f", None)
    handle = Future(here, wish, 0) if n == 1 else Futures(here, wish)
    del handle
    assert here.let_go_of == [(wish, 0, n)]
    main = threading.main_thread().ident
    assert brought_again == [(signal.pthread_kill, (main, signal.SIGINT))]


def test_an_interrupt_as_the_dropping_begins_comes_again_too(brought_again):
    early = SimpleNamespace(object=Future.__del__, exc_type=KeyboardInterrupt)
    sys.unraisablehook(early)
    assert len(brought_again) == 1


def test_what_others_raise_as_they_are_dropped_is_printed_as_ever(monkeypatch):
    printed = []
    monkeypatch.setattr(sys, "unraisablehook", printed.append)
    monkeypatch.setattr(interrupts, "_installed", [])
    interrupts.bring_again()
    other = SimpleNamespace(object=print, exc_type=ValueError)
    sys.unraisablehook(other)
    assert printed == [other]
