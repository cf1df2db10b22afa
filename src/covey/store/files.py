"""Bytes of payloads, into open files and out of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from covey.payload import Buffer, layout_parts
from covey.store.checksum import crc32

_HAS_PREADV: Final = hasattr(os, "preadv")

#: Bytes are written in pieces of this size; parts below it are joined first.
_PIECE_BYTES: Final = 64 << 20
_JOIN_BYTES: Final = 1 << 16
_SMALL_PARTS_BYTES: Final = 8 << 20
#: And copied in such ones, which stay in the processor's cache.
_COPY_BYTES: Final = 1 << 20


def write_frames(fd: int, frames: Sequence[Buffer]) -> int:
    """Lay *frames* out in a file, with a stamp of their own; return that.

    Raises:
        OSError: there is no room left.
    """
    # Written, not copied into a mapping: that would end the process when memory
    # runs out, and hold the interpreter lock meanwhile.
    stamp = new_stamp()
    write_joined(fd, layout_parts(frames, stamp))
    return stamp


def write_joined(fd: int, parts: Sequence[Buffer]) -> int:
    """Write *parts* to a file, one after the other; return where the last one ends.

    Raises:
        OSError: there is no room left.
    """
    joined = bytearray()
    offset = 0
    for part in parts:
        if len(part) < _JOIN_BYTES:
            joined += part
            if len(joined) < _SMALL_PARTS_BYTES:
                continue
            part = b""
        offset += write(fd, joined, offset)
        joined = bytearray()
        offset += write(fd, part, offset)
    return offset + write(fd, joined, offset)


def new_stamp() -> int:
    """Return a number that no payload has had before."""
    return int.from_bytes(os.urandom(8), "little") | 1


def write(fd: int, data: Buffer, offset: int) -> int:
    """Write *data* from *offset* on; return how long it is.

    Raises:
        OSError: there is no room left.
    """
    with memoryview(data) as view:
        done = 0
        while done < len(view):
            piece = view[done : done + _PIECE_BYTES]
            done += os.pwrite(fd, piece, offset + done)
    return done


def copy(source: int, target: int, nbytes: int) -> int:
    """Copy the first *nbytes* bytes of a file, without the interpreter lock.

    Returns:
        Their CRC-32.

    Raises:
        OSError: there is no room left.
    """
    done = checksum = 0
    buffer = memoryview(bytearray(min(_COPY_BYTES, nbytes)))
    while done < nbytes:
        piece = _read(source, buffer[: nbytes - done], done)
        if not piece:
            raise OSError(f"a segment ends at {done:,} bytes, not at {nbytes:,}")
        checksum = crc32(piece, checksum)
        done += write(target, piece, done)
    return checksum


def _read(fd: int, buffer: memoryview, offset: int) -> Buffer:
    """Read as much as fits into *buffer*; return what was read, there if that goes."""
    if not _HAS_PREADV:
        return os.pread(fd, len(buffer), offset)
    return buffer[: os.preadv(fd, [buffer], offset)]


def read_all(fd: int, buffer: memoryview) -> None:
    """Fill *buffer* with the beginning of a file.

    Raises:
        OSError: the file is shorter, or cannot be read.
    """
    done = 0
    while done < len(buffer):
        piece = _read(fd, buffer[done : done + _PIECE_BYTES], done)
        if not piece:
            raise OSError(f"a segment ends at {done:,} bytes, not at {len(buffer):,}")
        if not _HAS_PREADV:
            buffer[done : done + len(piece)] = piece
        done += len(piece)
