"""What the slots of a runner share: functions that several of them call at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from covey.errors import InternalError
from covey.runner.process import RunnerProcess
from covey.serde.functions import dumps_function

_loads = []
_someone_loads = threading.Event()
_go_on = threading.Event()


def _load_slowly():
    _loads.append(threading.get_ident())
    _someone_loads.set()
    assert _go_on.wait(20)
    return len


class Slow:
    """Pickles as a function that takes until ``_go_on`` to load."""

    def __reduce__(self):
        return _load_slowly, ()

    def __call__(self):
        raise NotImplementedError


def test_two_slots_that_need_one_function_load_it_once():
    process = RunnerProcess(own_process=False)
    data = dumps_function(Slow())
    process.add_function(7, data)
    with ThreadPoolExecutor(2) as slots:
        one = slots.submit(process.function, 7)
        assert _someone_loads.wait(20)
        # The second slot reads its own copy and asks while the first one loads.
        process.add_function(7, data)
        two = slots.submit(process.function, 7)
        _go_on.set()
        assert one.result(20) is two.result(20) is len
    process.add_function(7, data)
    assert process.function(7) is len
    assert len(_loads) == 1


def test_a_function_that_never_came_is_a_bug_of_ours():
    with pytest.raises(InternalError, match="function 3"):
        RunnerProcess(own_process=False).function(3)
