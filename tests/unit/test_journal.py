"""The journal: what was written is read again, what is damaged is never believed."""

from __future__ import annotations

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.errors import RemoteProtocolError, UsageError
from covey.scheduler.journal import JournalFile
from covey.wire import records
from covey.wire.base import Failure
from covey.wire.client_link import DefineFunction, Detach, Ended, Over, Publish, Submit
from covey.wire.extents import without

RECORDS = [
    (5, DefineFunction(1, b"digest", "inc", b"\x80function")),
    (5, Submit(50, 3, 1, b"\4\0\0\0" * 3, b"argument")),
    (5, Detach(((50, 2),))),
    (6, Publish("sum", b"\x80payload", ((52, 1),))),
    (5, Over(((50, 1),))),
    (5, Ended(51, 1, Failure("raised", "ValueError", "no", details={"worker": "w"}))),
]
WHOLE = records.MAGIC + records.encode(RECORDS)


def test_what_was_written_is_read():
    contents = records.decode(WHOLE)
    assert contents.records == RECORDS
    assert contents.whole == len(WHOLE)
    assert records.decode(b"") == ([], 0)


@pytest.mark.parametrize("n", range(len(WHOLE)))
def test_a_journal_that_was_cut_anywhere_gives_what_is_whole(n):
    contents = records.decode(WHOLE[:n])
    assert contents.records == RECORDS[: len(contents.records)]
    assert records.decode(WHOLE[: contents.whole]).records == contents.records


@given(st.integers(0, 8 * len(WHOLE) - 1))
def test_no_flipped_bit_is_believed(bit):
    data = bytearray(WHOLE)
    data[bit // 8] ^= 1 << bit % 8
    try:
        found = records.decode(bytes(data)).records
    except RemoteProtocolError:
        return
    # In the last record it may be a write that did not come to its end.
    assert found == RECORDS[:-1]


@given(st.binary(max_size=200), st.integers(0, len(WHOLE)))
def test_garbage_is_refused_or_cut_off(garbage, at):
    try:
        found = records.decode(WHOLE[:at] + garbage).records
    except RemoteProtocolError:
        return
    assert found[: len(RECORDS)] == RECORDS[: len(found)]


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)), max_size=4),
    st.sets(st.integers(0, 50)),
)
def test_extents_without_others(extents, gone):
    left = list(without(extents, [(task, 1) for task in gone]))
    tasks = [task for base, n in extents for task in range(base, base + n)]
    assert [t for base, n in left for t in range(base, base + n)] == [
        task for task in tasks if task not in gone
    ]
    assert all(n > 0 for _, n in left)


# The file.


def test_one_scheduler_at_a_time(tmp_path):
    first = JournalFile(tmp_path / "j")
    with pytest.raises(UsageError, match="in use by another scheduler"):
        JournalFile(tmp_path / "j")
    assert first.begin([]) == ""
    with pytest.raises(UsageError, match="in use by another scheduler"):
        JournalFile(tmp_path / "j")
    first.close()
    JournalFile(tmp_path / "j").close()


def test_what_was_cut_short_is_written_over(tmp_path):
    path = tmp_path / "j"
    path.write_bytes(WHOLE[:-3])
    journal = JournalFile(path)
    assert journal.before == RECORDS[:-1]
    journal.begin(journal.before)
    journal.write(RECORDS[-1:])
    journal.close()
    assert path.read_bytes() == WHOLE
    assert path.stat().st_mode & 0o077 == 0


def test_damage_is_refused_with_its_place_and_nothing_is_changed(tmp_path):
    path = tmp_path / "j"
    data = bytearray(WHOLE)
    data[40] ^= 1
    path.write_bytes(data)
    with pytest.raises(UsageError, match=r"byte 16 is damaged.*truncate"):
        JournalFile(path)
    assert path.read_bytes() == data
    path.write_text("a letter")
    with pytest.raises(UsageError, match="no journal of this version"):
        JournalFile(path)


def test_a_full_disk_ends_the_journal_and_leaves_it_valid(tmp_path, monkeypatch):
    journal = JournalFile(tmp_path / "j")
    journal.begin(RECORDS[:2])
    write = os.write

    def only_some(fd, data):
        if len(data) < 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data[:20])

    monkeypatch.setattr(os, "write", only_some)
    problem = journal.write(RECORDS[2:])
    assert "No space left" in problem and "does not survive" in problem
    monkeypatch.undo()
    # It is over: a gap would be worse than an end.
    assert journal.write(RECORDS[4:]) == problem
    journal.close()
    assert JournalFile(tmp_path / "j").before == RECORDS[:2]


def test_a_flush_that_failed_is_not_tried_again(tmp_path, monkeypatch):
    journal = JournalFile(tmp_path / "j")
    journal.begin([])

    def broken(fd):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    assert "Input/output error" in journal.write(RECORDS[3:4])
    monkeypatch.undo()
    assert journal.write(RECORDS[:1])
    journal.close()


class EverySecond:
    """Keeps every second record, and has a last word."""

    def __init__(self):
        self.seen = []

    def look(self, place, record):
        self.seen.append((place, record))

    def places(self):
        return [place for place, _ in self.seen[1::2]]

    def last_words(self):
        return RECORDS[3:4]


def begun(path, monkeypatch, piece=200):
    monkeypatch.setattr("covey.scheduler.journal._PIECE_BYTES", piece)
    journal = JournalFile(path)
    journal.begin([])
    for _ in range(20):
        journal.write(RECORDS)
    return journal


@pytest.mark.parametrize("piece", [20, 200, 100_000])
def test_a_journal_is_written_anew_while_more_is_written(tmp_path, monkeypatch, piece):
    journal = begun(tmp_path / "j", monkeypatch, piece)
    survey, pieces, came = EverySecond(), 0, []
    for _ in journal.rewrite(survey):
        pieces += 1
        if pieces % 7 == 1:
            journal.write(RECORDS[4:])
            came += RECORDS[4:]
    assert [record for _, record in survey.seen] == RECORDS * 20
    size = (tmp_path / "j").stat().st_size
    journal.write(RECORDS[:1])
    assert (tmp_path / "j").stat().st_size > size
    journal.close()
    expected = [*(RECORDS * 20)[1::2], *RECORDS[3:4], *came, *RECORDS[:1]]
    assert JournalFile(tmp_path / "j").before == expected
    assert [path.name for path in tmp_path.iterdir()] == ["j"]
    if piece == 20:
        assert pieces > 100  # One at a time, however much there is.


def test_what_is_rewritten_when_it_ends_leaves_the_old_one(tmp_path, monkeypatch):
    journal = begun(tmp_path / "j", monkeypatch)
    pieces = journal.rewrite(EverySecond())
    next(pieces)
    pieces.close()
    journal.write(RECORDS[:1])
    journal.close()
    assert JournalFile(tmp_path / "j").before == [*(RECORDS * 20), RECORDS[0]]
    assert [path.name for path in tmp_path.iterdir()] == ["j"]


@pytest.mark.parametrize("broken", ["write", "fsync", "open"])
def test_a_full_disk_while_it_is_rewritten_leaves_the_old_one(
    tmp_path, monkeypatch, broken
):
    journal = begun(tmp_path / "j", monkeypatch)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, broken, full)
    for _ in journal.rewrite(EverySecond()):
        pass
    monkeypatch.undo()
    assert not journal.problem and not journal.is_due
    journal.write(RECORDS[:1])
    journal.close()
    assert JournalFile(tmp_path / "j").before == [*(RECORDS * 20), RECORDS[0]]
    assert [path.name for path in tmp_path.iterdir()] == ["j"]


def test_damage_that_is_found_while_it_is_rewritten_is_told(tmp_path, monkeypatch):
    journal = begun(tmp_path / "j", monkeypatch)
    path = tmp_path / "j"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    for _ in journal.rewrite(EverySecond()):
        pass
    assert "is damaged" in journal.problem
    assert path.read_bytes() == data
    journal.close()
