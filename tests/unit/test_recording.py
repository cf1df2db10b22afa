"""Recordings: what was written comes back, and damage is told."""

from __future__ import annotations

import stat

import msgspec
import pytest

from covey.errors import UsageError
from covey.recording import MAGIC, Batch, Head, Writer, read

EVENTS = [(1.0, "ran", 7, 1, "inc", "alice", 0.5, 12, 0), (1.5, "lost", 7, 1, "inc")]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "run.covey"
    writer = Writer(path)
    writer.head(1e9, {"next": 3})
    writer.batch(3, 2, 0, msgspec.msgpack.encode(EVENTS), 2.0)
    writer.batch(9, 0, 4, msgspec.msgpack.encode([]), 3.0)
    writer.close()
    return path


def test_what_was_written_comes_back(path):
    head, first, second = read(path)
    assert head == Head(1e9, {"next": 3})
    assert first == Batch(3, 0, 2.0, [list(event) for event in EVENTS])
    assert second == Batch(9, 4, 3.0, [])


def test_others_cannot_read_what_tasks_printed(path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_writer_that_was_killed_leaves_a_whole_beginning(path):
    whole = path.read_bytes()
    for end in range(len(MAGIC), len(whole)):
        path.write_bytes(whole[:end])
        assert len(list(read(path))) <= 3


def test_no_recording_at_all(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        list(read(tmp_path / "none"))
    other = tmp_path / "other"
    other.write_bytes(b"something else")
    with pytest.raises(UsageError, match="is no recording"):
        list(read(other))
    with pytest.raises(UsageError, match="cannot be written"):
        Writer(tmp_path / "no" / "such" / "folder")


@pytest.mark.parametrize(
    "record", [b"\xc1", msgspec.msgpack.encode(["tail"]), b"\x91" * 5000]
)
def test_damage_is_told(path, record):
    with path.open("ab") as file:
        file.write(len(record).to_bytes(4, "little") + record)
    with pytest.raises(UsageError, match="damaged"):
        list(read(path))
