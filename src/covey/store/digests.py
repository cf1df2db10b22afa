"""Digests of values: to tell whether a task that runs again gives the same.

Four bytes for each value, of the bytes that it is pickled to.  Of a small value all bytes
count.  Of a large one that would cost about as much as to bring it, so the digest is
that of samples, from its beginning to its end::

    small   [##########################]
    large   [#####     #####     #####     #####     #####]    32 of 2 KiB each

What a task draws by chance, reads from a clock, or adds up in another order differs
nearly everywhere, so that samples show it.  A difference in less than a 32nd of a
large value, and nowhere else, may be missed.

The digest of a value is the same wherever a copy of it lies.
"""

from __future__ import annotations

import os
import sys
from array import array
from collections.abc import Callable, Iterator
from typing import Final
from zlib import crc32

from covey.payload import HEAD_BYTES, LAYOUT_BYTE, Buffer, Pack
from covey.store.segments import Segment
from covey.store.shelf import Shelf, Stretch

_SAMPLES: Final = 32
_SAMPLE_BYTES: Final = 2048


#: What a large value begins with that is kept as a small one.
_LARGE: Final = bytes((LAYOUT_BYTE,))


def of_small(value: Buffer) -> int:
    """Return the digest of one small value, as a number."""
    if value[:1] != _LARGE:
        return crc32(value)
    view = memoryview(value)
    return crc32(b"".join(_samples(len(view), lambda n, at: view[at : at + n])))


def of_one(value: Buffer) -> bytes:
    """Return the digest of one small value."""
    return of_small(value).to_bytes(4, sys.byteorder)


def of_pack(pack: Pack) -> bytes:
    """Return the digests of small values, one after the other."""
    # One that is large is never among others.
    one = crc32 if pack.data[:1] != _LARGE else of_small
    return array("I", map(one, pack)).tobytes()


def of_segment(segment: Segment) -> bytes:
    """Return the digest of a large value.

    Raises:
        OSError: the disk that it lies on cannot be read.
    """
    samples = _samples(segment.size, lambda n, at: os.pread(segment.fd, n, at))
    return array("I", [crc32(b"".join(samples))]).tobytes()


def _samples(size: int, read: Callable[[int, int], Buffer]) -> Iterator[Buffer]:
    # Each payload begins with a stamp of its own, which is none of the value.
    start = HEAD_BYTES
    yield size.to_bytes(8, "little")
    if size - start <= _SAMPLES * _SAMPLE_BYTES:
        yield read(size - start, start)
        return
    last = size - _SAMPLE_BYTES
    for i in range(_SAMPLES):
        at = start + (last - start) * i // (_SAMPLES - 1)
        yield read(_SAMPLE_BYTES, at)


def of_stretch(stretch: Stretch, base: int, n: int) -> bytes:
    """Return the digests of some values of a stretch; nothing if they cannot be read."""
    try:
        segment = stretch.segment
        known = (
            of_pack(stretch.view(base, n)) if segment is None else of_segment(segment)
        )
    except OSError:
        return b""  # Whoever wants the value will hear of it.
    file = stretch.unwritten
    # What the disk has refused may have been read as something else.
    return b"" if file is not None and file.in_doubt() else known


def of_stored(shelf: Shelf, base: int, n: int) -> bytes:
    """Return the digests of the given tasks' values; nothing if one of them is missing."""
    found = [of_stretch(s, start, k) for start, k, s in shelf.find(base, n)]
    known = b"".join(found)
    return known if len(known) == 4 * n else b""
