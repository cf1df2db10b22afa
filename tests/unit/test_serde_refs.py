"""Futures inside arguments: noted when pickled, resolved when unpickled."""

from __future__ import annotations

import threading

import pytest

from covey.serde.refs import MissingInput, capture, inputs_as, note, resolve
from covey.serde.values import dumps_inline, loads_inline


class Future:
    def __init__(self, task_id):
        self.task_id = task_id

    def __reduce__(self):
        if note(self.task_id):
            return (resolve, (self.task_id,))
        return (Future, (self.task_id,))


def test_futures_become_their_values():
    with capture() as found:
        data = dumps_inline({"a": [Future(7)], "b": (Future(8), Future(7))})
    assert found.task_ids == [7, 8, 7]
    with inputs_as({7: "seven", 8: "eight"}):
        assert loads_inline(data) == {"a": ["seven"], "b": ("eight", "seven")}


def test_nothing_is_noted_outside_a_capture():
    assert not note(1)
    assert isinstance(loads_inline(dumps_inline(Future(1))), Future)


def test_captures_nest_and_belong_to_a_thread():
    with capture() as outer:
        note(1)
        with capture() as inner:
            note(2)
        noted = []
        thread = threading.Thread(target=lambda: noted.append(note(3)))
        thread.start()
        thread.join()
        note(4)
    assert (outer.task_ids, inner.task_ids, noted) == ([1, 4], [2], [False])


def test_a_missing_input_says_which():
    with pytest.raises(MissingInput, match="task 9"):
        resolve(9)
    with inputs_as({1: "one"}):
        with inputs_as(None), pytest.raises(LookupError):
            resolve(1)
        assert resolve(1) == "one"
