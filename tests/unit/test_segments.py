"""Segments: memory that several processes map."""

from __future__ import annotations

import errno
import gc
import os
import resource
import socket
import sys
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from covey.payload import (
    ALIGNMENT,
    LARGE_BYTES,
    PAGE_BYTES,
    layout_parts,
    layout_size,
    read_layout,
)
from covey.store import files, segments, spool, writeback
from covey.store.pool import Pool
from covey.store.segments import (
    Garbled,
    Segment,
    adopt,
    fill,
    open_segment,
    payload_size,
)
from covey.store.spool import Spool

FRAMES = [b"stream", bytearray(b"x" * 100_000), memoryview(b"")]


@pytest.fixture(params=["memfd", "file"])
def kind(request, monkeypatch, tmp_path):
    if request.param == "file":
        monkeypatch.setattr(segments, "_HAS_MEMFD", False)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    elif not segments._HAS_MEMFD:
        pytest.skip("this system has no memfd")
    yield request.param
    assert not list(tmp_path.iterdir())


def open_files():
    return sum(1 for _ in Path("/dev/fd").iterdir())


def content(path, size):
    return [bytes(frame) for frame in read_layout(open_segment(path, size).view)]


def test_frames_go_in_and_out(kind):
    segment = Segment.of(FRAMES)
    assert content(segment.place, segment.size) == [bytes(f) for f in FRAMES]
    place = segment.place
    segment.close()
    segment.close()
    with pytest.raises(OSError):
        open_segment(place, segment.size)


def test_a_segment_is_private(kind):
    segment = Segment.create(100)
    assert os.fstat(segment.fd).st_size == 100
    if kind == "file":
        assert os.fstat(segment.fd).st_mode & 0o777 == 0o600
    assert not os.get_inheritable(segment.fd)
    segment.close()


def test_a_view_outlives_everybody(kind):
    segment = Segment.of(FRAMES)
    frame = read_layout(open_segment(segment.place, segment.size).view)[1]
    segment.close()
    gc.collect()
    assert bytes(frame[-3:]) == b"xxx"
    with pytest.raises(TypeError):
        frame[0] = 1


def test_whoever_adopts_a_segment_keeps_it(kind):
    made = Segment.of(FRAMES)
    held = adopt(made.place, made.size)
    made.close()
    assert content(held.place, held.size)[0] == b"stream"
    held.close()


def test_what_is_no_segment_is_refused(kind, monkeypatch):
    segment = Segment.create(100)
    for opening in (open_segment, adopt):
        for size in (101, 0, -1):
            with pytest.raises(ValueError):
                opening(segment.path, size)
        why = "with a name" if kind == "memfd" else "not a regular file"
        with pytest.raises(PermissionError, match=why):
            opening("/dev/null", 1)
        nowhere = f"/proc/{os.getpid()}/fd/999999" if kind == "memfd" else "/nowhere"
        with pytest.raises(FileNotFoundError):
            opening(nowhere, 1)
    monkeypatch.setattr(segments.os, "getuid", lambda: 12345)
    with pytest.raises(PermissionError, match="12345"):
        adopt(segment.path, 100)
    segment.close()


@pytest.mark.skipif(not segments._HAS_MEMFD, reason="segments have names here")
def test_no_file_with_a_name_is_opened_for_somebody_who_says_it_is_one(tmp_path):
    """Or a worker that was taken over could have others send or overwrite files."""
    file = tmp_path / "secret"
    file.write_bytes(b"s" * 1000)
    with file.open("rb+") as held:
        places = [str(file), f"/proc/{os.getpid()}/fd/{held.fileno()}"]
        places += [f"/proc/{os.getpid()}/fd/../cwd{file}", f"/proc/self/cwd{file}"]
        for place in places:
            for opening in (open_segment, adopt):
                with pytest.raises(PermissionError, match="with a name"):
                    opening(place, 100)
            with pytest.raises(PermissionError, match="with a name"):
                fill(place, [b"x"])
    assert file.read_bytes() == b"s" * 1000


def test_a_segment_that_cannot_be_made_leaves_nothing(kind, monkeypatch):
    def full(*_):
        raise OSError("full")

    before = open_files()
    monkeypatch.setattr(segments.os, "ftruncate", full)
    with pytest.raises(OSError, match="full"):
        Segment.create(1)
    monkeypatch.undo()
    assert open_files() == before


def test_frames_that_cannot_be_written_leave_nothing(kind, monkeypatch):
    def full(*_):
        raise OSError("full")

    before = open_files()
    monkeypatch.setattr(segments.os, "pwrite", full)
    with pytest.raises(OSError, match="full"):
        Segment.of(FRAMES)
    assert open_files() == before


def test_late_readers_find_that_the_value_is_gone(kind):
    segment = Segment.of(FRAMES)
    place, size = segment.place, segment.size
    segment.write_frames([b"another"])
    for opening in (open_segment, adopt):
        with pytest.raises(FileNotFoundError, match="gone"):
            opening(place, segment.size)
    assert content(segment.place, segment.size) == [b"another"]
    segment.void()
    with pytest.raises(FileNotFoundError):
        open_segment(place, size)
    segment.close()


@pytest.mark.skipif(not segments._HAS_MEMFD, reason="segments have names here")
def test_a_place_whose_number_is_another_files_by_now_is_told_as_gone(tmp_path):
    """Whoever is told so asks again; of an error that is not so he tells his user."""
    segment = Segment.of(FRAMES)
    place, size = segment.place, segment.size
    number = os.dup(segment.fd)
    place = place.replace(f"/fd/{segment.fd}@", f"/fd/{number}@")
    assert content(place, size)[0] == b"stream"
    file = tmp_path / "log"
    file.write_bytes(b"x" * 2 * size)
    read, write = os.pipe()
    shorter = Segment.create(10)
    with file.open("rb") as named, socket.socket() as talk:
        for other in (read, write, talk.fileno(), named.fileno(), shorter.fd):
            os.dup2(other, number)
            for opening in (open_segment, adopt):
                with pytest.raises(FileNotFoundError, match="gone"):
                    opening(place, size)
            with pytest.raises(FileNotFoundError, match="gone"):
                fill(place, FRAMES)
    os.close(write)
    # Nobody writes into this pipe any more: to open it would wait for ever.
    os.dup2(read, number)
    with pytest.raises(FileNotFoundError, match="gone"):
        open_segment(place, size)
    for fd in (number, read):
        os.close(fd)
    shorter.close()
    segment.close()


@pytest.mark.skipif(not segments._HAS_MEMFD, reason="segments have names here")
def test_a_reader_leaves_descriptors_to_others_and_copies_then():
    """Also by raising its limit, as far as that goes."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    base = open_files() + 64
    held = Segment.of(FRAMES)
    kept = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (base, before[1]))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(segments.descriptors, "raise_limit", lambda: None)
            kept += [open_segment(held.place, held.size).view for _ in range(base)]
            assert open_files() < base
            assert all(read_layout(v)[1] == FRAMES[1] for v in kept)
            assert all(v.readonly for v in kept)
        kept += [open_segment(held.place, held.size).view for _ in range(2 * base)]
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == before[1]
        assert open_files() > 2 * base
    finally:
        kept.clear()
        held.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it is done otherwise")
def test_a_reader_asks_the_kernel_for_little(monkeypatch):
    """The first use of a large value waits for each of these; ``mmap`` makes three more."""
    calls = Counter()
    made = Segment.of([b"stream", bytes(1 << 20)])
    place, size = made.place, made.size

    def count(name):
        real = getattr(os, name)

        def counted(*args, **kwargs):
            calls[name] += 1
            return real(*args, **kwargs)

        monkeypatch.setattr(os, name, counted)

    names = {"stat", "open", "fstat", "pread", "dup", "close", "readlink", "lstat"}
    for name in names:
        count(name)
    opened = open_segment(place, size)
    asked = dict(calls)
    assert bytes(opened.view[:8]) == os.pread(made.fd, 8, 0)
    # One descriptor more shows whether some are left.
    assert asked == {"stat": 1, "open": 1, "fstat": 1, "pread": 1, "dup": 1, "close": 2}
    calls.clear()
    adopted = adopt(place, size)
    del calls["fstat"]
    assert adopted.place.partition("@")[2] == place.partition("@")[2]
    # That of the value is known, for it was looked at.
    assert calls == {"stat": 1, "open": 1, "pread": 1}
    for segment in (made, adopted):
        segment.close()


def test_what_is_offered_is_written_by_another(kind):
    segment = Segment.create(200_000)
    offered = segment.offer()
    place = fill(offered, FRAMES)
    with pytest.raises(FileNotFoundError):
        fill(offered, FRAMES)
    segment.filled(payload_size(FRAMES))
    assert segment.place == place
    assert content(place, segment.size) == [bytes(f) for f in FRAMES]
    for size in (0, 200_001):
        with pytest.raises(ValueError):
            segment.filled(size)
    with pytest.raises(ValueError):
        fill(segment.offer(), [bytes(300_000)])
    segment.close()


@pytest.mark.skipif(not segments._HAS_MEMFD, reason="the kernel of Linux knows")
def test_the_kernel_says_who_else_has_a_segment():
    segment = Segment.of(FRAMES)
    assert segment.unshared()
    frame = read_layout(open_segment(segment.place, segment.size).view)[1]
    assert not segment.unshared()
    del frame
    gc.collect()
    assert segment.unshared()
    held = adopt(segment.place, segment.size)
    assert not segment.reclaim()
    assert not held.reclaim()
    # What another process holds is not touched.
    assert content(held.place, held.size) == [bytes(f) for f in FRAMES]
    segment.close()
    assert held.reclaim()
    with pytest.raises(ValueError):
        content(held.path, held.size)
    held.close()


def refuse_leases(monkeypatch, number):
    """Have the kernel refuse leases, as some kernels and some settings do."""
    ask = segments.fcntl.fcntl

    def fcntl(fd, command, argument=0):
        if command == segments.fcntl.F_SETLEASE:
            raise OSError(number, os.strerror(number))
        return ask(fd, command, argument)

    monkeypatch.setattr(segments._Leases, "given", True)
    monkeypatch.setattr(segments.fcntl, "fcntl", fcntl)


@pytest.mark.skipif(not segments._HAS_MEMFD, reason="the kernel of Linux knows")
@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EPERM])
def test_where_the_kernel_gives_no_leases_a_segment_is_used_once(monkeypatch, number):
    segment, other = Segment.of(FRAMES), Segment.of(FRAMES)
    pool = Pool(1 << 30)
    assert segment.reusable
    refuse_leases(monkeypatch, number)
    pool.give(segment, 0.0)
    pool.give(other, 0.0)
    assert (len(pool), pool.lingering_bytes, pool.free_bytes) == (0, 0, 0)
    assert segment.fd == other.fd == -1
    another = Segment.of(FRAMES)
    assert not another.reusable
    assert not another.is_read(), "nobody knows"
    another.close()


@pytest.mark.skipif(not segments._HAS_MEMFD, reason="the kernel of Linux knows")
def test_that_somebody_has_it_does_not_mean_that_there_are_no_leases(monkeypatch):
    segment = Segment.of(FRAMES)
    refuse_leases(monkeypatch, errno.EAGAIN)
    assert segment.is_read()
    monkeypatch.undo()
    assert segment.reusable
    assert segment.reclaim()
    segment.close()


@pytest.mark.skipif(not segments._HAS_MEMFD, reason="the kernel of Linux knows")
def test_whoever_opens_it_while_the_kernel_is_asked_is_not_refused():
    """And nobody is ended by the signal that the kernel sends then."""
    segment = Segment.of(FRAMES)
    place, size = segment.place, segment.size
    child = os.fork()
    if not child:
        for _ in range(2000):
            open_segment(place, size)
        os._exit(0)
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        segment.unshared()
    assert segment.unshared()
    segment.close()


@pytest.mark.skipif(not segments._HAS_MEMFD, reason="the kernel of Linux knows")
def test_what_was_offered_is_withdrawn_before_it_is_written_only():
    segment = Segment.create(200_000)
    offered = segment.offer()
    assert segment.withdraw()
    with pytest.raises(FileNotFoundError):
        fill(offered, FRAMES)
    offered = segment.offer()
    fill(offered, FRAMES)
    assert not segment.withdraw()
    segment.filled(payload_size(FRAMES))
    assert content(segment.place, segment.size) == [bytes(f) for f in FRAMES]
    offered = segment.offer()
    writer = os.open(segment.path, os.O_RDWR)
    assert not segment.withdraw()
    os.close(writer)
    assert segment.withdraw()
    segment.close()


def test_what_a_disk_does_not_give_back_is_told_from_want_of_room(
    tmp_path, monkeypatch
):
    file = Spool(str(tmp_path)).write(Segment.of(FRAMES), through=True)
    room = Segment.create(file.size)
    for why, raised in ((errno.EIO, Garbled), (errno.ENFILE, OSError)):

        def fails(*_, why=why):
            raise OSError(why, "as it was told to")

        with monkeypatch.context() as patch:
            patch.setattr(os, "preadv", fails)
            with pytest.raises(OSError, match="as it was told to") as caught:
                room.copy_from(file)
        assert type(caught.value) is raised
    os.pwrite(file.fd, b"?", 5000)
    with pytest.raises(Garbled, match="not those written"):
        room.copy_from(file)
    os.ftruncate(file.fd, 10)
    with pytest.raises(Garbled, match="cannot be read back"):
        room.copy_from(file)


@pytest.mark.parametrize("through", [True, False])
@pytest.mark.parametrize("says_when_full", [True, False])
def test_a_file_leaves_memory_at_once_where_it_must(
    tmp_path, monkeypatch, through, says_when_full
):
    flushed = []
    monkeypatch.setattr(os, "fsync", flushed.append)
    monkeypatch.setattr(spool, "can_be_asked", lambda _: says_when_full)
    there = Spool(str(tmp_path))
    file = there.write(Segment.of(FRAMES), through=through)
    there.write_small([b"small"], through=through)
    # A file system that would say later that it is full is not believed before.
    assert len(flushed) == (2 if through or not says_when_full else 0)
    room = Segment.create(file.size)
    room.copy_from(file)
    assert [*map(bytes, read_layout(room.map().view))] == [*map(bytes, FRAMES)]


def test_a_file_system_that_nobody_knows_is_not_believed(monkeypatch):
    assert not writeback._is_telling(os.makedev(4095, 77))
    # The root may be on any file system; memory that is mounted says when it is full.
    monkeypatch.setattr(
        Path,
        "read_bytes",
        lambda *_: (
            b"21 1 4095:76 / /\xff\x85\x0c rw - fuse none rw\n\n"
            b"22 1 4095:78 / /a rw - tmpfs none rw\n"
            b"23 1 4095:79 / /b rw shared:1 master:2 - nfs4 host:/b rw\n"
            b"24 1 4095:80 / /c rw - overlay none rw\n"
        ),
    )
    assert writeback._is_telling(os.makedev(4095, 78))
    assert not writeback._is_telling(os.makedev(4095, 79))
    # What is written there is another file, of which it says nothing.
    assert not writeback._is_telling(os.makedev(4095, 80))


def test_a_value_of_many_pieces_is_copied_whole(monkeypatch):
    monkeypatch.setattr(files, "_COPY_BYTES", 1000)
    for has_preadv in (True, False):
        monkeypatch.setattr(files, "_HAS_PREADV", has_preadv)
        one = Segment.of(FRAMES)
        other = Segment.create(one.size)
        other.copy_from(one)
        assert content(other.place, other.size) == [*map(bytes, FRAMES)]


def test_large_frames_start_at_whole_pages_and_small_ones_close_by():
    sizes = [3, LARGE_BYTES + 1, 5, LARGE_BYTES - 1, LARGE_BYTES, 0]
    frames = [bytes([number]) * size for number, size in enumerate(sizes)]
    parts = layout_parts(frames, 1)
    whole = memoryview(b"".join(parts))
    assert len(whole) == layout_size(sizes)
    assert [*map(bytes, read_layout(whole))] == frames
    starts = []
    at = 0
    for part in parts:
        if any(part is frame or bytes(part) == frame for frame in frames if frame):
            starts.append(at)
        at += len(part)
    assert len(starts) == 5
    for start, size in zip(starts, sizes, strict=False):
        unit = PAGE_BYTES if size >= LARGE_BYTES else ALIGNMENT
        assert start % unit == 0
    # No page is wasted on what is small.
    assert starts[2] < starts[1] + sizes[1] + ALIGNMENT
