"""Ranges against a plain list: what a client knows of its tasks."""

from __future__ import annotations

import inspect
import sys
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from covey.client.core import invariants, stretches
from covey.client.core.ranges import RELEASED, Range, Status, Wishes
from covey.client.core.stretches import Stretches
from covey.payload import Pack
from covey.wire.base import Failure

RAISED = Failure("raised", "ValueError", "no")
CANCELLED = Failure("cancelled", "TaskCancelled", "by somebody")

places = st.integers(0, 40)
lengths = st.integers(1, 15)


class RangesMachine(RuleBasedStateMachine):
    """News of stretches that do not care where one range ends."""

    @initialize(sizes=st.lists(st.integers(1, 12), min_size=1, max_size=6))
    def begin(self, sizes):
        self.wishes = Wishes()
        self.model = {}
        self.ranges = []
        self.ended = []
        #: Tasks that nobody holds any more.
        self.gone = set()
        #: Ranges all of whose tasks have ended once: nobody watches them any more.
        self.complete = set()
        #: What a runner has told of, and the scheduler has not.
        self.untold = set()
        self.wishes.when_all_told = self._all_told
        base = 0
        for n in sizes:
            wish = Range(base, n, "f", None)
            wish.watchers.append(self._watch)
            self.wishes.add(wish)
            self.ranges.append(wish)
            self.model |= dict.fromkeys(range(base, base + n), (Status.PENDING, None))
            base += n + n % 2

    def _all_told(self):
        assert not self.wishes.untold

    def _watch(self, wish, lo, n):
        self.ended.append((wish.base + lo, n))

    def _known(self, base, n):
        return [task for task in range(base, base + n) if task in self.model]

    def _expect(self, tasks):
        """Whoever watches is told of all ends, until the last task of a range ends."""
        told = [t for base, n in self.ended for t in range(base, base + n)]
        watched = [t for t in tasks if self.wishes.find(t).base not in self.complete]
        assert sorted(told) == watched
        self.ended.clear()
        self.complete |= {wish.base for wish in self.ranges if not wish.pending}

    def _pending(self, base, n):
        return [t for t in self._known(base, n) if self.model[t][0] == Status.PENDING]

    @rule(task=places, payload=st.binary(max_size=4))
    def ended_early(self, task, payload):
        wish = self.wishes.find(task)
        news = wish is not None and wish.n == 1 and task not in self.untold
        news = news and self.model[task][0] == Status.PENDING
        assert self.wishes.ends_early(task) is (wish if news else None)
        if news:
            self.untold.add(task)
            wish.finish_one(payload)
            self.model[task] = (Status.FINISHED, payload)
        self._expect([task] if news else [])

    @rule(base=places, payloads=st.lists(st.binary(max_size=4), min_size=1, max_size=9))
    def finished(self, base, payloads):
        pending = self._pending(base, len(payloads))
        self.wishes.finished(base, Pack.of(payloads))
        self.untold -= {*range(base, base + len(payloads))}
        for task in pending:
            self.model[task] = (Status.FINISHED, payloads[task - base])
        self._expect(pending)

    @rule(base=places, n=lengths, worker=st.integers(1, 3))
    def stored(self, base, n, worker):
        pending = self._pending(base, n)
        self.wishes.stored(base, n, worker, 100 * n)
        self.untold -= {*range(base, base + n)}
        for task in pending:
            self.model[task] = (Status.STORED, worker)
        self._expect(pending)

    @rule(base=places, n=lengths, failure=st.sampled_from([RAISED, CANCELLED]))
    def failed(self, base, n, failure):
        pending = self._pending(base, n)
        self.wishes.failed(base, n, failure)
        self.untold -= {*range(base, base + n)}
        status = Status.CANCELLED if failure is CANCELLED else Status.ERROR
        for task in pending:
            self.model[task] = (status, failure)
        self._expect(pending)

    @rule(base=places, n=lengths)
    def reverted(self, base, n):
        self.wishes.reverted(base, n)
        for task in self._known(base, n):
            self.model[task] = (Status.PENDING, None)
        self._expect([])

    @rule(base=places, n=lengths)
    def let_go(self, base, n):
        """Each task once, and never all of a range."""
        for wish, lo, count, _ in self.wishes.parts(base, n):
            tasks = range(wish.base + lo, wish.base + lo + count)
            if count < wish.n and not self.gone & set(tasks):
                wish.let_go(lo, count)
                self.gone |= set(tasks)

    @rule(base=places, n=lengths)
    def given_up(self, base, n):
        pending = self._pending(base, n)
        for wish, lo, count, _ in self.wishes.parts(base, n):
            wish.give_up(lo, count)
        self.model |= dict.fromkeys(pending, (Status.CANCELLED, RELEASED))
        self._expect(pending)

    @rule(index=st.integers(0, 5))
    def removed(self, index):
        if len(self.ranges) > 1:
            wish = self.ranges.pop(index % len(self.ranges))
            self.wishes.remove(wish)
            self.wishes.remove(wish)
            for task in range(wish.base, wish.base + wish.n):
                del self.model[task]

    @invariant()
    def everything_is_as_it_was_told(self):
        for task in range(60):
            wish = self.wishes.find(task)
            assert (wish is not None) == (task in self.model)
            if wish is None:
                continue
            index = task - wish.base
            status, what = self.model[task]
            assert wish.status[index] == status
            assert wish.n == 1 or wish.is_let_go(index) == (task in self.gone)
            if task in self.gone:
                continue
            if status == Status.FINISHED:
                assert bytes(wish.payload(index)) == what
            elif status == Status.STORED:
                lo, n, worker, _ = wish.place(index)
                assert lo <= index < lo + n
                assert worker == what
            elif status in {Status.ERROR, Status.CANCELLED}:
                assert wish.failure(index) == what
        invariants.check(self.wishes)
        assert self.wishes.untold == self.untold
        assert self.wishes.all() == self.ranges


TestRanges = RangesMachine.TestCase
TestRanges.settings = settings(
    derandomize=True, deadline=None, max_examples=25, stateful_step_count=20
)


def test_a_range_costs_a_byte_a_task_until_results_come():
    wish = Range(0, 1_000_000, "f", None)
    assert len(wish.status) == 1_000_000
    assert not wish.values
    assert not wish.packs()


def test_a_pack_that_came_is_kept_packed():
    wish = Range(100, 10, "f", None)
    pack = Pack.of([b"%d" % i for i in range(10)])
    wish.finish(0, pack)
    ((lo, kept),) = wish.packs()
    assert (lo, kept) == (0, pack)
    assert bytes(wish.payload(7)) == b"7"


def test_values_of_a_second_attempt_replace_those_of_the_first():
    wish = Range(0, 6, "f", None)
    wish.store(0, 6, 3, 600)
    wish.revert(2, 3)
    wish.finish(2, Pack.of([b"c", b"d", b"e"]))
    assert wish.pending == 0
    assert bytes(wish.payload(3)) == b"d"
    lo, n, worker, _ = wish.place(5)
    assert lo + n > 5
    assert worker == 3


@pytest.mark.parametrize("step", [1, 7, -1])
def test_who_holds_every_hundredth_value_keeps_no_more(step):
    wish = Range(0, 10_000, "f", None)
    data = [b"%04d" % i * 25 for i in range(10_000)]
    for lo in range(0, 10_000, 2_500):
        wish.finish(lo, Pack.of(data[lo : lo + 2_500]))
    wish.values |= dict.fromkeys(range(300), "decoded")
    gone = [i for i in range(10_000) if i % 100]
    assert len(gone) % 7
    for at in range(len(gone)):
        wish.let_go(gone[at * step % len(gone)], 1)
    kept = {lo + i: bytes(v) for lo, pack in wish.packs() for i, v in enumerate(pack)}
    assert {i: kept[i] for i in range(0, 10_000, 100)} == {
        i: data[i] for i in range(0, 10_000, 100)
    }
    assert sum(pack.nbytes for _, pack in wish.packs()) <= 4 * 100 * 100
    assert [bytes(wish.payload(i)) for i in (0, 2_500, 9_900)] == [
        data[i] for i in (0, 2_500, 9_900)
    ]
    assert set(wish.values) == {0, 100, 200}


def test_who_reads_while_others_are_let_go_finds_what_is_held():
    """Whatever step the I/O thread has come to."""
    wish = Range(0, 100, "f", None)
    data = [b"%d" % i for i in range(100)]
    wish.finish(0, Pack.of(data))
    held = (0, 1, 40, 99)

    def look(frame, event, argument):
        return look

    steps = Counter()

    def read(frame, event, argument):
        sys.settrace(None)
        steps[frame.f_code.co_qualname] += 1
        assert [bytes(wish.payload(i)) for i in held] == [data[i] for i in held]
        sys.settrace(tracer)
        return read

    def tracer(frame, event, argument):
        inside = frame.f_code.co_filename in {*map(inspect.getfile, (Range, Stretches))}
        return read if inside else look

    sys.settrace(tracer)
    try:
        for index in range(100):
            if index not in held:
                wish.let_go(index, 1)
    finally:
        sys.settrace(None)
    assert len(wish.packs()) == 3
    assert steps["Range.let_go"] and steps["Stretches._swap"]


def news(wish):
    wish.finish(2, Pack.of([b"c"]))


def letting_go(wish):
    wish.let_go(4, 1)
    wish.let_go(5, 1)
    wish.let_go(6, 1)


def a_loss(wish):
    wish.revert(4, 3)


@pytest.mark.parametrize("meanwhile", [news, letting_go, a_loss])
def test_what_is_looked_up_while_other_stretches_come_and_go_is_found(
    monkeypatch, meanwhile
):
    """Its place among them may be another one a moment later."""
    wish = Range(0, 20, "f", None)
    wish.finish(0, Pack.of([b"a"]))
    wish.finish(4, Pack.of([b"e", b"f", b"g"]))
    wish.finish(10, Pack.of([b"k", b"l"]))
    wish.finish(15, Pack.of([b"p"]))
    look_up = stretches.bisect_right
    looked_up = []

    def slow(los, index):
        at = look_up(los, index)
        monkeypatch.setattr(stretches, "bisect_right", look_up)
        looked_up.append(index)
        meanwhile(wish)
        return at

    monkeypatch.setattr(stretches, "bisect_right", slow)
    assert wish.payload(11) == b"l"
    assert looked_up == [11]


def test_what_becomes_shorter_just_when_it_is_looked_up_is_found():
    meanwhile = []

    class Slow(dict):
        def __getitem__(self, lo):
            while meanwhile:
                meanwhile.pop()()
            return super().__getitem__(lo)

    some = Stretches(len, lambda text, lo, hi: text[lo:hi])
    some.put(10, "kl")
    some._by_lo = Slow(some._by_lo)
    meanwhile.append(lambda: some.replace(10, {11: "l"}))
    assert some.at(11) == (11, "l")
    assert not meanwhile


def test_all_are_told_but_one_that_changes_just_then():
    some = Stretches(len, lambda text, lo, hi: text[lo:hi])
    some.put(10, "kl")
    some.put(20, "uv")
    del some._by_lo[20]  # As if that came behind the look at where they begin.
    assert some.all() == [(10, "kl")]


def test_parts_tell_where_they_are_in_the_range_and_in_the_news():
    wishes = Wishes()
    first, second = Range(0, 4, "f", None), Range(10, 4, "g", None)
    wishes.add(first)
    wishes.add(second)
    assert wishes.parts(2, 10) == [(first, 2, 2, 0), (second, 0, 2, 8)]
    assert wishes.parts(20, 5) == []


@pytest.mark.parametrize(("name", "key"), [(None, "f-1f"), ("mine", "mine")])
def test_keys_are_the_same_everywhere(name, key):
    assert Range(0x10, 32, "f", name).key(15) == key


def test_what_is_lost_one_by_one_costs_as_much_in_a_large_range():
    def calls(n):
        wish = Range(0, n, "f", None)
        for index in range(n):
            if index % 2:
                wish.store(index, 1, 7, 1000)
            else:
                wish.fail(index, 1, Failure("raised", "ValueError", str(index)))
        count = 0

        def profile(frame, event, argument):
            nonlocal count
            # Also those of built-in functions: sorting is one of them.
            count += event in {"call", "c_call"}

        sys.setprofile(profile)
        try:
            for index in range(0, 200, 2):
                assert wish.failure(index).message == str(index)
                wish.revert(index, 1)
        finally:
            sys.setprofile(None)
        return count

    assert calls(4_000) < 1.2 * calls(400)


@pytest.mark.parametrize("length", [1, 7, 300])
def test_who_watches_one_task_is_told_of_that_one_only(length):
    """However many there are: all were told of every stretch."""
    n = 300
    wish = Range(0, n, "f", None)
    told = []
    for index in reversed(range(n)):
        wish.watch(
            index, lambda _, lo, count, index=index: told.append((index, lo, count))
        )
    for lo in range(0, n, length):
        wish.finish(lo, Pack.of([b"x"] * min(length, n - lo)))
    assert [index for index, _, _ in told] == list(range(n))
    assert all(lo <= index < lo + count for index, lo, count in told)


def test_several_who_watch_one_task_are_told_once_each():
    wish = Range(0, 3, "f", None)
    told = []
    first, second, third = (
        lambda _, lo, n, name=name: told.append((name, lo, n)) for name in "abc"
    )
    for watcher in (first, second, second, third, first):
        wish.watch(1, watcher)
    wish.watch(2, first)
    wish.unwatch(1, third)
    wish.finish(0, Pack.of([b"x"] * 3))
    assert told == [("a", 0, 3), ("b", 0, 3)]


def test_who_watches_after_the_first_left_is_told():
    wish = Range(0, 2, "f", None)
    told = []
    first, second = (lambda *_, name=name: told.append(name) for name in "ab")
    wish.watch(0, first)
    wish.watch(0, second)
    wish.unwatch(0, first)
    assert wish.watched
    wish.finish(0, Pack.of([b"x"]))
    assert told == ["b"]
    assert not wish.watched


def test_what_is_given_up_one_by_one_in_any_order_is_no_list_of_its_own():
    """Each was put at its place in a list of all of them, which moved each time."""
    n = 300
    wish = Range(0, n, "f", None)
    wish.fail(7, 2, RAISED)
    for index in sorted(range(n), key=lambda index: index * 77 % n):
        wish.give_up(index, 1)
        assert wish.failure(index) is (RAISED if index in {7, 8} else RELEASED)
    assert sorted(wish.stretches()) == [
        (0, 7, Status.CANCELLED),
        (7, 2, Status.ERROR),
        (9, n - 9, Status.CANCELLED),
    ]
    assert not wish.pending
    wish.revert(5, 5)
    assert [wish.failure(index) for index in range(4, 11)] == [
        RELEASED,
        *[None] * 5,
        RELEASED,
    ]


# Early words.


@pytest.mark.parametrize("told", ["finished", "stored", "failed", "by itself"])
def test_what_ended_early_stays_so_whatever_is_told_of_it(told):
    wishes, calls = Wishes(), []
    wishes.when_all_told = lambda: calls.append(set(wishes.untold))
    wish = Range(7, 1, "f", None)
    wishes.add(wish)
    assert wishes.ends_early(7) is wish
    assert wish.finish_alone(b"x", type(None))
    assert wishes.untold == {7} and not calls
    if told == "finished":
        wishes.finished(6, Pack.of([b"a", b"b", b"c"]))
    elif told == "stored":
        wishes.stored(7, 1, 1, 100)
    elif told == "failed":
        wishes.failed(0, 10, RAISED)
    else:
        assert wishes.ended_alone(7, b"y", type(None))
    assert (wish.status[0], wish.payload(0), wish.pending) == (1, b"x", 0)
    assert calls == [set()]


def test_it_is_no_news_if_the_scheduler_was_faster_or_it_was_told_before():
    wishes = Wishes()
    wish = Range(7, 1, "f", None)
    wishes.add(wish)
    wishes.add(Range(20, 3, "map", None))
    assert wishes.ends_early(8) is None, "nobody wants it"
    assert wishes.ends_early(20) is None, "it is of many"
    assert wishes.ends_early(7) is wish
    assert wishes.ends_early(7) is None
    wishes.finished(7, Pack.of([b"x"]))
    assert wishes.ends_early(7) is None
    assert not wishes.untold


def test_an_end_that_is_told_in_the_midst_of_an_early_word_is_told():
    """By the handler of a signal that waits, which has the turn meanwhile."""
    wishes = Wishes()

    class Meanwhile(set):
        def add(self, task):
            wishes.finished(task, Pack.of([b"x"]))
            super().add(task)

    wishes.untold = Meanwhile()
    wishes.add(Range(7, 1, "f", None))
    assert wishes.ends_early(7) is None
    assert not wishes.untold


class Interrupted(set):
    def add(self, task):
        super().add(task)
        raise KeyboardInterrupt


def test_an_interrupt_in_a_word_that_comes_late_leaves_nothing_untold():
    """Nobody would tell of it any more, and all questions would wait for that."""
    wishes = Wishes()
    wishes.untold = Interrupted()
    wishes.add(Range(7, 1, "f", None))
    wishes.finished(7, Pack.of([b"x"]))
    assert wishes.ends_early(7) is None
    assert not wishes.untold


def test_an_interrupt_in_a_word_that_is_early_leaves_it_to_the_scheduler():
    wishes = Wishes()
    wishes.untold = Interrupted()
    wishes.add(Range(7, 1, "f", None))
    with pytest.raises(KeyboardInterrupt):
        wishes.ends_early(7)
    wishes.finished(7, Pack.of([b"x"]))
    assert not wishes.untold


@pytest.mark.parametrize("told", ["finished", "stored", "failed", "by itself"])
def test_a_word_in_the_midst_of_what_is_told_is_told_of(told):
    """A thread that leads over a lost link has looked at the task before it ended."""
    wishes = Wishes()
    wish = Range(7, 1, "f", None)
    wishes.add(wish)
    wish.watchers.append(lambda *_: wishes.untold.add(7))
    if told == "finished":
        wishes.finished(7, Pack.of([b"a"]))
    elif told == "stored":
        wishes.stored(7, 1, 1, 100)
    elif told == "failed":
        wishes.failed(7, 1, RAISED)
    else:

        class Waits:
            def fire(self):
                wishes.untold.add(7)

        wish.watchers[:] = [Waits()]
        assert wishes.ended_alone(7, b"y", Waits)
    assert not wishes.untold


def test_who_begins_anew_is_told_no_more_of_what_has_ended():
    wishes, calls = Wishes(), []
    wishes.add(Range(7, 1, "f", None))
    assert wishes.ends_early(7)
    wishes.when_all_told = lambda: calls.append(set(wishes.untold))
    wishes.all_told()
    assert calls == [set()]
