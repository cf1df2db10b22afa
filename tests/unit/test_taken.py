"""Keywords that ``submit`` takes, and that the function may have been meant to get."""

from __future__ import annotations

import functools
import warnings

import pytest

from covey.client import taken
from covey.client.columns import columns_of
from covey.errors import UsageError

NOTHING = dict.fromkeys(taken.MEANINGS)


#: Where ``Client.submit`` stands, as far as frames can tell.
ROOM = {"__name__": "covey.client.stand_in", "taken": taken}
exec("def submit(fn, args, *values): taken.tell(fn, args, *values)", ROOM)


def submit(fn, *args, **given):
    """As ``Client.submit`` does, one call below its user."""
    ROOM["submit"](fn, args, *(NOTHING | given).values())


def get(url, timeout=1, *, priority=0):
    return url, timeout, priority


def test_what_both_take_is_told_once_with_the_line_of_the_user():
    def fresh(url, timeout=1):
        return url, timeout

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        submit(fresh, "u", timeout=5)
        submit(fresh, "u", timeout=5)
    (warning,) = told
    assert warning.filename == __file__
    text = str(warning.message)
    assert "timeout=5 is taken by submit and map (seconds the task may run)" in text
    assert "functools.partial(fresh, timeout=5)" in text


def test_each_name_is_told_of():
    def fresh(url, timeout=1, *, priority=0):
        return url, timeout, priority

    with pytest.warns(UserWarning, match="is taken") as told:
        submit(fresh, "u", timeout=5, priority=7)
    assert len(told) == 2


@pytest.mark.parametrize(
    ("fn", "args", "given"),
    [
        (get, ("u", 3), {"timeout": 5}),  # It has been told its own.
        (get, ("u",), {"retries": 5}),
        (lambda **kw: kw, (), {"timeout": 5}),
        (lambda *timeout: timeout, (), {"timeout": 5}),
        (print, ("u",), {"timeout": 5}),
        (type, (), {"timeout": 5}),
        (3, (), {"timeout": 5}),
        (get, ("u",), {"timeout": None, "priority": 0}),
    ],
)
def test_what_only_one_can_mean_is_not_worth_a_word(fn, args, given):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        submit(fn, *args, **given)


def test_what_covey_gives_was_typed_by_nobody():
    code = "def run(fn): submit(fn, (), *values)"
    space = ROOM | {"values": (NOTHING | {"priority": 1}).values()}
    exec(code, space)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        space["run"](get)


def test_a_slip_is_told_at_the_call():
    with pytest.raises(UsageError, match=r"get\(\) takes no worker=.*mean workers="):
        taken.check_slips(get, {"worker": "a"})
    taken.check_slips(lambda worker: worker, {"worker": "a"})
    taken.check_slips(lambda **any_of_them: any_of_them, {"worker": "a"})
    taken.check_slips(get, {"other": "a"})
    taken.check_slips(functools.partial(get, timeout=3), {"other": "a"})


def test_nothing_is_kept_of_a_function_that_is_gone():
    def fresh(timeout=1):
        return timeout

    with pytest.warns(UserWarning, match="is taken"):
        submit(fresh, timeout=5)
    assert fresh in taken._seen
    before = len(taken._seen)
    del fresh
    assert len(taken._seen) == before - 1


def test_what_is_no_iterable_is_named():
    with pytest.raises(UsageError, match="number 2 of them is none: 5"):
        columns_of(([1], 5))
