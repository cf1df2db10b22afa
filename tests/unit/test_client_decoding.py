"""What a client makes of values that it cannot have."""

from __future__ import annotations

import errno

import pytest

from covey.client import decoding
from covey.client.decoding import Unreadable, attempt
from covey.errors import TaskUnreadable
from covey.serde import mapped
from covey.serde.values import dumps
from covey.store.segments import Segment


class Lost:
    """A value that looks for a file when it is rebuilt."""

    def __reduce__(self):
        return (open, ("/nowhere/to/be/found",))


def test_a_value_whose_own_code_finds_no_file_is_unreadable_and_not_asked_for_again():
    segment = Segment.of(dumps(Lost()))
    found = attempt(segment.place, segment.size, plain=False)
    segment.close()
    assert type(found) is Unreadable
    with pytest.raises(TaskUnreadable, match="nowhere.*importable"):
        raise found.error


def test_what_cannot_be_opened_is_told_as_that(monkeypatch):
    def open_segment(place, size):
        raise OSError(errno.EMFILE, "this process may have 7 files open")

    monkeypatch.setattr(mapped, "open_segment", open_segment)
    found = decoding.attempt("/proc/1/fd/1@1", 100, plain=False)
    assert type(found) is Unreadable
    assert "may have 7 files open" in str(found.error)
    assert "importable" not in str(found.error)
