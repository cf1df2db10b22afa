"""When a slot that has more to do sends what it has settled."""

from __future__ import annotations

import pytest

from covey.runner.pace import EVEN, FLUSH_MOST_SECONDS, FLUSH_SECONDS, Pace


@pytest.fixture
def steady():
    """Return the pace of a slot that has been busy for long, and the time."""
    pace = Pace()
    pace.begin(0.0)
    now = 0.0
    while pace.deadline - now < FLUSH_MOST_SECONDS:
        now = pace.deadline
        pace.sent(now)
    assert pace.steady
    return pace, now


def test_who_has_just_begun_is_in_a_hurry():
    pace = Pace()
    pace.begin(5.0)
    assert not pace.steady
    assert pace.deadline == 5.0 + FLUSH_SECONDS


def test_the_end_of_a_batch_is_waited_for_if_it_is_near_and_once_only(steady):
    pace, now = steady
    now = pace.deadline
    assert not pace.waits(now, EVEN, FLUSH_MOST_SECONDS)
    assert pace.waits(now, EVEN, FLUSH_MOST_SECONDS / 4)
    assert pace.deadline == now + FLUSH_MOST_SECONDS / 2
    assert not pace.waits(pace.deadline, EVEN, FLUSH_MOST_SECONDS / 4)
    pace.sent(pace.deadline)
    assert pace.waits(pace.deadline, EVEN, FLUSH_MOST_SECONDS / 4)


def test_what_was_waited_for_is_sent_at_the_end_of_the_batch(steady):
    pace, now = steady
    assert not pace.is_due(now)
    assert pace.is_due(pace.deadline - FLUSH_MOST_SECONDS / 4)
    now = pace.deadline
    assert pace.waits(now, EVEN, FLUSH_MOST_SECONDS / 4)
    assert pace.is_due(now)


def test_a_round_number_is_waited_for_but_not_for_long(steady):
    pace, _ = steady
    now, far = pace.deadline, 1.0
    assert pace.waits(now, EVEN - 1, far)
    assert not pace.waits(now, EVEN, far)
    assert not pace.waits(now + FLUSH_MOST_SECONDS, EVEN - 1, far)


def test_who_gave_the_slot_away_waits_for_nothing(steady):
    pace, now = steady
    pace.give_away()
    assert now >= pace.deadline
    assert not pace.waits(now, EVEN - 1, 0.0)
