"""An edge and its scheduler: found again whenever it was lost, and not for ever."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covey.errors import (
    Closed,
    Disconnected,
    NoScheduler,
    Refused,
    RemoteProtocolError,
)
from covey.wire import edge
from covey.wire.edge import (
    FIRST_GREETING_SECONDS,
    GREETING_SECONDS,
    LONGEST_PAUSE_SECONDS,
    REFUSED_SECONDS,
    STEP_SECONDS,
    Dial,
    Edge,
    End,
    GoOn,
    Greet,
    Hang,
    Introduce,
    Open,
    Phase,
    Search,
)
from covey.wire.introductions import Gone, Refusal, Resumed, Welcome

NOBODY = Disconnected("nobody is there")
BROKE = ConnectionResetError("it broke")


def welcome(epoch=1, session=7):
    return Welcome(3, "c", epoch, "0", 0, session)


def opened(patience_seconds=60.0, draw=lambda: 1.0, epoch=1):
    one = Edge(patience_seconds, draw)
    assert one.connected(0.0) == [Introduce(0)]
    assert one.heard(welcome(epoch), 0.0) == [Open(welcome(epoch))]
    return one


def dialing(one, now=1.0):
    """Let the link break, and the pause pass; return when."""
    assert one.lost(BROKE, now) == [Search(BROKE)]
    at = one.wake_at
    assert one.tick(at) == [Dial()]
    return at


def test_a_lost_link_is_looked_for_and_the_session_goes_on():
    one = opened()
    at = dialing(one)
    (greet,) = one.connected(at)
    assert (greet.words.session, greet.words.received) == (7, 0)
    assert one.heard(Resumed(4), at) == [GoOn(4)]
    assert one.phase is Phase.OPEN and one.wake_at == 0.0


def test_a_scheduler_that_has_forgotten_is_told_the_highest_epoch():
    one = opened(epoch=5)
    at = dialing(one)
    one.connected(at)
    assert one.heard(Gone(6), at) == [Introduce(5)]
    assert one.heard(welcome(6, 9), at) == [Open(welcome(6, 9))]
    assert one.epoch == 6 and one.session.number == 9


def misread(one, why):
    """Let a frame come that cannot be read; return which order is given."""
    (order,) = one.lost(why, 1.0)
    assert order.why is why
    if type(order) is Search:
        at = one.wake_at
        assert one.tick(at) == [Dial()]
        one.connected(at)
        assert one.heard(Resumed(0), at) == [GoOn(0)]
    return type(order)


def test_what_cannot_be_read_is_read_once_more_and_not_for_ever():
    one, why = opened(), RemoteProtocolError("nonsense")
    assert misread(one, why) is Search
    # It had been damaged on its way: the second time it could be read.
    one.session.take(100)
    assert misread(one, why) is Search
    assert misread(one, why) is End
    assert one.phase is Phase.ENDED


def test_an_older_life_is_hung_up_on():
    one = opened(epoch=5)
    at = dialing(one)
    one.connected(at)
    one.heard(Gone(4), at)
    assert one.heard(welcome(4), at) == [Hang()]
    assert one.epoch == 5 and one.phase is Phase.AWAY and one.wake_at > at


def test_a_greeting_without_an_answer_is_given_up():
    one = opened()
    at = dialing(one)
    one.connected(at)
    assert one.tick(at + GREETING_SECONDS - 0.1) == []
    assert one.tick(at + GREETING_SECONDS) == [Hang()]
    assert one.phase is Phase.AWAY


def test_pauses_grow_up_to_a_limit_and_begin_anew():
    one = opened()
    now = dialing(one)
    pauses = []
    for _ in range(12):
        assert one.not_found(NOBODY, now) == []
        pauses.append(one.wake_at - now)
        now = one.wake_at
        assert one.tick(now) == [Dial()]
    assert pauses == sorted(pauses) and pauses[-1] == LONGEST_PAUSE_SECONDS
    one.connected(now)
    one.heard(Resumed(0), now)
    one.lost(None, now)
    assert one.wake_at - now == pytest.approx(edge.FIRST_PAUSE_SECONDS)


def test_edges_do_not_come_back_at_once():
    pauses = set()
    for share in (0.0, 0.5, 1.0):
        one = opened(draw=lambda share=share: share)
        one.lost(None, 0.0)
        pauses.add(one.wake_at)
    assert len(pauses) == 3 and min(pauses) >= edge.FIRST_PAUSE_SECONDS / 2


def until_it_ends(one, now, step):
    """Nobody is ever there; return when the edge gives up, and why."""
    for _ in range(10_000):
        now += step
        orders = one.not_found(NOBODY, now)
        if orders:
            return now, orders[0].why
        now = max(now, one.wake_at)
        assert one.tick(now) == [Dial()]
    raise AssertionError("it never gives up")


def test_patience_ends():
    one = opened(patience_seconds=30.0)
    now, why = until_it_ends(one, dialing(one, 100.0), 0.01)
    assert isinstance(why, NoScheduler) and "within 30 s" in str(why)
    assert 130.0 < now < 131.0
    assert one.phase is Phase.ENDED and one.wake_at == 0.0


def test_an_hour_of_sleep_is_not_an_hour_of_looking():
    """Who was stopped itself cannot say that the scheduler was not there."""
    one = opened(patience_seconds=2 * STEP_SECONDS)
    dialing(one, 100.0)
    assert one.not_found(NOBODY, 3700.0) == []
    assert one.tick(7300.0) == [Dial()]
    one.connected(7300.0)
    assert one.heard(Resumed(0), 7300.0) == [GoOn(0)]


def test_a_refusal_may_pass_but_not_for_long():
    one = opened()
    now = dialing(one)
    no = Refused("another secret")
    assert one.not_found(no, now) == []
    one.tick(one.wake_at)
    assert one.not_found(no, now + REFUSED_SECONDS - 0.1) == []
    # Nobody there for a moment: it may be starting anew.
    one.tick(one.wake_at)
    assert one.not_found(NOBODY, now + REFUSED_SECONDS) == []
    one.tick(one.wake_at)
    assert one.not_found(no, now + REFUSED_SECONDS + 1) == []
    one.tick(one.wake_at)
    assert one.not_found(no, now + 2 * REFUSED_SECONDS + 2) == [End(no)]


def test_nothing_to_be_found_any_more_ends_it():
    one = opened()
    now = dialing(one)
    closed = Closed("the cluster was closed")
    assert one.not_found(closed, now) == [End(closed)]


@pytest.mark.parametrize("answer", [Refusal("taken"), None])
def test_who_was_never_taken_in_does_not_look_for_it(answer):
    one = Edge(60.0, lambda: 1.0)
    one.connected(0.0)
    orders = one.heard(answer, 1.0) if answer else one.lost(BROKE, 1.0)
    assert isinstance(orders[-1], End)
    assert one.phase is Phase.ENDED


def test_who_has_closed_orders_nothing():
    one = opened()
    one.close()
    assert one.lost(None, 1.0) == one.not_found(NOBODY, 1.0) == one.tick(1e9) == []


HAPPENINGS = st.lists(
    st.tuples(
        st.sampled_from(["lost", "connect", "nobody", "refuse", "answer", "wait"]),
        st.floats(0, 30),
        st.integers(0, 9),
    ),
    max_size=60,
)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(HAPPENINGS)
def test_whatever_happens_it_looks_is_greeting_open_or_has_ended(happenings):
    """An edge is never without a plan, and never goes back to an older life."""
    one, now, highest = opened(epoch=3), 0.0, 3
    has_link, sessions = True, {7}
    for what, seconds, number in happenings:
        now += seconds
        before, orders = one.phase, []
        if what == "lost" and has_link:
            has_link = False
            orders = one.lost(None, now)
        elif what == "connect" and before is Phase.DIALING:
            has_link = True
            orders = one.connected(now)
            assert isinstance(orders[0], Greet)
            assert orders[0].words.session in sessions
        elif what in {"nobody", "refuse"} and before is Phase.DIALING:
            why = NOBODY if what == "nobody" else Refused("no")
            orders = one.not_found(why, now)
        elif what == "answer" and before is Phase.GREETING and has_link:
            answers = [Resumed(0), Gone(number), welcome(number, 100 + number)]
            orders = one.heard(answers[number % 3], now)
        elif what == "wait":
            orders = one.tick(now)
        for order in orders:
            if isinstance(order, Open):
                assert order.welcome.epoch >= highest
                highest = order.welcome.epoch
                sessions = {order.welcome.session}
            has_link = has_link and not isinstance(order, Hang)
        assert one.epoch == highest
        assert (one.wake_at > 0) == (one.phase in {Phase.AWAY, Phase.GREETING})
        assert (one.phase in {Phase.GREETING, Phase.OPEN}) == has_link
        if orders and isinstance(orders[-1], End):
            assert one.phase is Phase.ENDED


def test_a_scheduler_that_never_welcomes_us_is_given_up():
    """It may be stopped, just when it has let us in."""
    one = Edge(60.0, lambda: 1.0)
    assert one.connected(10.0) == [Introduce(0)]
    assert one.wake_at == 10.0 + FIRST_GREETING_SECONDS
    hang, end = one.tick(one.wake_at)
    assert hang == Hang()
    assert "does not answer" in str(end.why)
