"""Handles are counted by users' threads and by the I/O thread, and none gets lost."""

from __future__ import annotations

from types import SimpleNamespace

from covey.client.core.ranges import Range, Wishes
from covey.client.fetching import Session
from covey.client.future import Future
from covey.wire.client_link import Release


class Counted(Range):
    """A range whose count is looked at only by who may change it."""

    __slots__ = ("count", "session")

    @property
    def held(self):
        assert self.session is None or self.session._holding.locked()
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
        post=sent.append,
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
    assert here.hold(wish)
    second = Future(here, wish, 0)
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
    assert not here.hold(wish)
    assert sent == [Release(((7, 1),))]
