"""What is done about memory, judged by numbers alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from covey.worker.core.pressure import Judgement, RunnerMemory, judge

LIMIT = 1000
BASE = 20


def runner(number, nbytes, *, idle=False, age=60.0):
    return RunnerMemory(number, nbytes, BASE, idle, age)


def test_below_the_limit_nothing_is_done():
    verdict = judge(LIMIT, 700, 500, [runner(0, 100), runner(1, 400, idle=True)])
    assert verdict == Judgement()


def test_near_it_values_are_released_down_to_a_calm_amount():
    assert judge(LIMIT, 701, 500, [runner(0, 50)]) == Judgement(release=101)


def test_what_is_begun_depends_on_what_was_before():
    tight = judge(LIMIT, 800, 500, [runner(0, 50)])
    assert not tight.pause
    assert judge(LIMIT, 800, 500, [runner(0, 50)], paused=True).pause
    assert judge(LIMIT, 851, 500, [runner(0, 50)]).pause
    assert not judge(LIMIT, 690, 500, [runner(0, 50)], paused=True).pause


def test_the_task_that_grew_is_stopped():
    runners = [runner(0, 100), runner(1, 800), runner(2, 900, idle=True)]
    assert judge(LIMIT, 960, 0, runners).stop == 1
    # While values can go to disk, nobody is stopped for them.
    assert judge(LIMIT, 960, 200, runners).stop == -1
    # Unless it goes faster than any disk.
    assert judge(LIMIT, 1051, 500, runners).stop == 1


def test_nobody_is_stopped_who_has_not_grown():
    assert judge(LIMIT, 1500, 0, [runner(0, 100), runner(1, 100)]).stop == -1
    assert judge(LIMIT, 1500, 0, []).stop == -1


def test_idle_runners_that_have_grown_are_started_anew_when_it_is_tight():
    runners = [
        runner(0, BASE + 101, idle=True),
        runner(1, BASE + 100, idle=True),
        runner(2, 400),
    ]
    assert judge(LIMIT, 750, 500, runners).recycle == (0,)
    assert judge(LIMIT, 650, 500, runners).recycle == ()


def test_a_young_runner_is_started_anew_only_if_nothing_else_helps():
    # It has just imported what its successor will import as well.
    runners = [runner(0, 300, idle=True, age=2), runner(1, 300, idle=True, age=40)]
    assert judge(LIMIT, 840, 100, runners).recycle == (1,)
    assert judge(LIMIT, 900, 100, runners).recycle == (1,)
    assert judge(LIMIT, 900, 0, runners).recycle == (0, 1)
    assert judge(LIMIT, 840, 100, runners, awaited=True).recycle == (0, 1)


numbers = st.integers(0, 2 * LIMIT)


@given(
    total=numbers,
    movable=numbers,
    runners=st.lists(st.tuples(numbers, st.booleans()), max_size=4),
    paused=st.booleans(),
)
def test_never_the_wrong_one(total, movable, runners, paused):
    all_of_them = [runner(i, n, idle=idle) for i, (n, idle) in enumerate(runners)]
    verdict = judge(LIMIT, total, movable, all_of_them, paused=paused)
    busy = {r.runner: r.growth for r in all_of_them if not r.idle}
    if verdict.stop >= 0:
        assert busy[verdict.stop] == max(busy.values()) > 0
        assert total > 0.95 * LIMIT
    assert not set(verdict.recycle) & set(busy)
    assert (verdict.release > 0) == (total > 0.7 * LIMIT)
