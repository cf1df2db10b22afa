"""The client's ledger: what would have to be said again, and nothing else."""

from __future__ import annotations

import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from covey.client.core.ledger import Ledger, untold
from covey.client.core.ranges import Range, Wishes
from covey.payload import Pack
from covey.wire.base import Failure
from covey.wire.client_link import (
    Cancel,
    DefineFunction,
    Detach,
    Ended,
    ForgetFunction,
    Held,
    Over,
    Placed,
    Publish,
    Recall,
    Recalled,
    Release,
    Scatter,
    Submit,
    SubmitGraph,
    Tried,
    Unpublish,
)

FAILURE = Failure("raised", "ValueError", "no")


def submit(base, n=1, **inputs):
    return Submit(base, n, 1, b"", b"", **inputs)


def graph(base, needs, wanted):
    n = len(needs)
    return SubmitGraph(base, (1,) * n, b"", b"", needs, tuple(range(n)), wanted)


def wishes_of(*ranges):
    wishes = Wishes()
    for base, n in ranges:
        wishes.add(Range(base, n, "f", None))
    return wishes


def recalled(ledger, wishes=None):
    """Return submissions, and what is held as a mapping from kind to extents."""
    report = ledger.recall(wishes or Wishes(), [(7, 1)])
    assert isinstance(report[0], Recall)
    assert report[-1] == Recalled(((7, 1),))
    made = [m for m in report if isinstance(m, Submit | SubmitGraph | Scatter | Placed)]
    held = {"wanted": [], "had": [], "detached": []}
    for message in report:
        if isinstance(message, Held):
            for kind in held:
                held[kind] += getattr(message, kind)
    held["ended"] = [(m.base, m.n) for m in report if isinstance(m, Ended)]
    return made, held


def test_what_came_of_other_clients_tasks_is_not_asked_for_again():
    wishes = wishes_of((7, 3))
    wishes.find(7).finish(1, Pack.of([b"a"]))
    last = Ledger().recall(wishes, [(7, 3)], [b"7", b"8", b"9"])[-1]
    assert last == Recalled(((7, 1), (9, 1)), (b"7", b"9", b"8"), ((8, 1),))


def test_what_was_tried_is_told_of_stretches_and_of_their_parts_the_latest_last():
    ledger = Ledger()
    ledger.note(submit(100, 10))
    whole, part = Tried(100, 10, 1, 0), Tried(100, 1, 2, 0)
    for news in (whole, part, Tried(103, 1, 2, 0), Tried(103, 1, 3, 0), part):
        ledger.hear(news)
    report = ledger.recall(wishes_of((100, 10)), [])
    told = [message for message in report if isinstance(message, Tried)]
    assert told == [whole, Tried(103, 1, 3, 0), part]


def test_what_is_held_is_asked_for_again():
    ledger = Ledger()
    ledger.note(DefineFunction(1, b"d", "f", b"p"))
    ledger.note(submit(100, 10))
    wishes = wishes_of((100, 10))
    wish = wishes.find(100)
    wish.finish(0, Pack.of([b"a", b"b"]))
    wish.store(4, 2, 9, 100)
    wish.fail(8, 1, FAILURE)
    report = ledger.recall(wishes, [])
    assert report[1:3] == [DefineFunction(1, b"d", "f", b"p"), submit(100, 10)]
    _, held = recalled(ledger, wishes)
    assert held["had"] == [(100, 2)]
    assert held["wanted"] == [(102, 6), (109, 1)]
    assert held["ended"] == [(108, 1)]


def test_what_is_let_go_is_not():
    ledger = Ledger()
    ledger.note(submit(100, 10))
    ledger.note(submit(200))
    ledger.note(Release(((102, 3), (200, 1))))
    made, held = recalled(ledger, wishes_of((100, 10)))
    assert made == [submit(100, 10)]
    assert held["wanted"] == [(100, 2), (105, 5)]
    ledger.note(Release(((100, 2), (105, 5))))
    assert not len(ledger)


def test_inputs_stay_as_long_as_their_users():
    ledger = Ledger()
    ledger.note(submit(100, 10))
    ledger.note(submit(200, 10, aligned=(100,)))
    ledger.note(submit(300, whole=((200, 10),)))
    ledger.note(Release(((100, 10), (200, 10))))
    made, held = recalled(ledger, wishes_of((300, 1)))
    assert [m.base for m in made] == [100, 200, 300]
    assert held["wanted"] == [(300, 1)]
    ledger.note(Release(((300, 1),)))
    assert not len(ledger)


def test_a_graph_holds_what_was_wanted_of_it():
    ledger = Ledger()
    ledger.note(submit(50))
    ledger.note(graph(100, ((), (100,), (101, 50), ()), ((102, 2),)))
    ledger.note(Release(((50, 1),)))
    made, held = recalled(ledger, wishes_of((102, 1), (103, 1)))
    assert [m.base for m in made] == [50, 100]
    assert held["wanted"] == [(102, 1), (103, 1)]
    ledger.note(Release(((102, 1),)))
    assert len(ledger) == 2
    ledger.note(Release(((103, 1),)))
    assert not len(ledger)


def test_a_graph_of_which_nothing_is_wanted_is_not_kept():
    ledger = Ledger()
    ledger.note(graph(100, ((),), ()))
    assert not len(ledger)


def test_what_was_brought_and_what_was_detached():
    ledger = Ledger()
    ledger.note(Scatter(100, 5, b"", b""))
    ledger.note(Placed(200, 3, 1000))
    ledger.note(Placed(200, 4, 1000))
    ledger.note(Detach(((101, 2),)))
    made, held = recalled(ledger, wishes_of((100, 5), (200, 1)))
    assert made == [Scatter(100, 5, b"", b""), Placed(200, 3, 1000)]
    assert held["detached"] == [(101, 2)]


def test_what_was_let_go_of_and_had_back_from_others_is_asked_for_like_theirs():
    ledger = Ledger()
    ledger.note(submit(100, 5))
    ledger.note(submit(200))
    ledger.note(submit(300, aligned=(200,)))
    ledger.note(Detach(((102, 1),)))
    ledger.note(Release(((100, 5), (200, 1))))
    # The one is still to run to its end, the other one is taken by what is held.
    wishes = wishes_of((102, 1), (200, 1), (300, 1), (900, 1))
    assert ledger._find(102)
    assert ledger._find(200)
    taken = {102, 200, 900}
    assert ledger.not_ours(wishes, taken) == [(102, 1), (200, 1), (900, 1)]


def test_what_was_submitted_just_now_is_not_asked_for_like_that_of_others():
    """The outbox tells the ledger of it as it is sent, after the link has come back."""
    ledger = Ledger()
    ledger.note(submit(100, 5))
    ledger.note(Release(((100, 2),)))
    wishes = wishes_of((100, 5), (400, 1))
    assert ledger.not_ours(wishes, set()) == []
    assert ledger.not_ours(wishes, {400}) == [(400, 1)]


ranges = st.lists(st.integers(1, 6), min_size=1, max_size=8)


@given(ranges, st.data())
@settings(derandomize=True, deadline=None, max_examples=200)
def test_exactly_what_can_be_needed_is_kept(lengths, data):
    """Against a plain model: entries that are held, or lead to such."""
    ledger = Ledger()
    entries = []
    held = set()
    base = 100
    for n in lengths:
        inputs = []
        if entries:
            inputs = data.draw(st.lists(st.sampled_from(entries), max_size=2))
            # What was let go cannot be taken.
            inputs = [e for e in inputs if set(range(e[0], e[0] + e[1])) & held]
        ledger.note(submit(base, n, whole=tuple((b, m) for b, m, _ in inputs)))
        entries.append((base, n, [e[0] for e in inputs]))
        held |= set(range(base, base + n))
        base += n + data.draw(st.integers(0, 2))
        lo = data.draw(st.integers(100, base))
        count = data.draw(st.integers(1, 10))
        ledger.note(Release(((lo, count),)))
        held -= set(range(lo, lo + count))
    inputs_of = {b: inputs for b, _, inputs in entries}
    needed = [b for b, n, _ in entries if set(range(b, b + n)) & held]
    for b in needed:
        needed += [i for i in inputs_of[b] if i not in needed]
    wishes = wishes_of(*((task, 1) for task in sorted(held)))
    made, told = recalled(ledger, wishes)
    assert [m.base for m in made] == sorted(set(needed))
    assert {t for b, n in told["wanted"] for t in range(b, b + n)} == held


def test_what_a_task_calls_is_known_as_long_as_it_is():
    ledger = Ledger()
    ledger.note(DefineFunction(1, b"", "inc", b""))
    ledger.note(graph(10, ((), (10,)), ((11, 1),)))
    ledger.note(submit(20, 3))
    assert [ledger.key_of(task) for task in (10, 11, 22)] == [
        "inc-a",
        "inc-b",
        "inc-16",
    ]
    assert ledger.key_of(12) is None
    ledger.note(Release(((11, 1),)))
    assert ledger.key_of(10) is None


def test_a_function_is_told_again_as_long_as_something_may_need_it():
    ledger = Ledger()
    for fn in (1, 2):
        ledger.note(DefineFunction(fn, b"digest", "f", b"bytes"))
    ledger.note(submit(10, 2))
    for fn in (1, 2):
        ledger.note(ForgetFunction(fn))
    told = [m for m in ledger.recall(Wishes(), []) if isinstance(m, DefineFunction)]
    assert [m.fn for m in told] == [1]
    # Whoever is told it anew is told as well that nothing more of it comes.
    assert ForgetFunction(1) in ledger.recall(Wishes(), [])
    ledger.note(Release(((10, 2),)))
    report = ledger.recall(Wishes(), [])
    assert not [m for m in report if isinstance(m, DefineFunction | ForgetFunction)]


def test_what_no_ledger_keeps_is_said_again_if_it_has_not_come_there():
    kept = Publish("name", b"value", ((7, 1),))
    taken_back = Unpublish("other")
    unless_running = Cancel(((8, 1),), running=False)
    in_the_ledger = [Release(((9, 1),)), Cancel(((9, 1),)), ForgetFunction(1)]
    said = [kept, *in_the_ledger, taken_back, unless_running]
    assert untold(said) == [kept, taken_back, unless_running]


def test_what_was_detached_and_has_ended_is_not_run_again():
    ledger = Ledger()
    ledger.note(submit(100, 10))
    ledger.note(submit(200))
    ledger.note(Detach(((102, 6), (104, 1), (200, 1))))
    ledger.note(Release(((100, 10), (200, 1))))
    ledger.hear(Over(((103, 2), (100, 1))))
    made, held = recalled(ledger)
    assert made == [submit(100, 10), submit(200)]
    assert held["detached"] == [(102, 1), (105, 3), (200, 1)]
    ledger.hear(Over(((200, 1), (102, 1), (103, 1), (105, 3))))
    assert not len(ledger)


def test_the_end_of_one_of_many_detached_tasks_is_no_look_at_all_of_them():
    """However they end: of what is left, each was written down anew each time."""
    n = 2000
    ledger = Ledger()
    ledger.note(submit(100, n))
    ledger.note(Detach(((100, n),)))
    ledger.note(Release(((100, n),)))
    steps = 0

    def count(frame, event, arg):
        nonlocal steps
        steps += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        for start in (0, 1):
            for task in range(100 + start, 100 + n, 2):
                ledger.hear(Over(((task, 1),)))
    finally:
        sys.setprofile(None)
    assert not len(ledger)
    assert steps <= 40 * n
