"""The bytes of values: packs of small ones, and the layout of a large one.

Everything outside client and runner treats a value as opaque bytes, a
*payload*.  There are two forms:

* small payloads travel end to end in a ``Pack``: one run of bytes and the size
  of each.  A pack of ten thousand results is three Python objects.
* a large payload is laid out in one block of memory, so that it can be mapped
  by a reader without a copy: a table of frame sizes, then the frames.  Frame 0
  is the pickle stream, the others are the buffers that it refers to
  (PEP 574), each aligned for vector instructions, large ones to pages::

      magic u32 | count u32 | stamp u64 | size u64 x count | pad | frame 0 | pad ...

  The stamp is a random number that tells this content from what lay in the same
  memory before, or will lie there next.

Such a block may be handed on as a small payload, too: its first byte tells.

The standard library is all this file needs, because runners import it.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final, TypeAlias

Buffer: TypeAlias = bytes | bytearray | memoryview

#: Frames start at multiples of this, so that NumPy sees aligned memory.
ALIGNMENT: Final = 64

#: Large frames start at whole pages.  Where source and target of a copy lie just beside
#: each other within their pages, processors take what is read next for what was written
#: last: 400 MB took 110 ms at an offset of 192 bytes, and 34 ms at none.
PAGE_BYTES: Final = 4096
LARGE_BYTES: Final = 1 << 20

#: More frames than this in one payload means that the table is garbage.
MAX_FRAMES: Final = 1 << 20

_MAGIC: Final = 0x59564F43
_HEAD: Final = struct.Struct("<IIQ")
_SIZE: Final = struct.Struct("=I")

#: The first byte of a payload that is laid out so.
LAYOUT_BYTE: Final = _MAGIC & 0xFF

#: How long the part of a payload is that holds its stamp.
HEAD_BYTES: Final = _HEAD.size


class Pack:
    """Payloads of consecutive tasks, end to end.

    Attributes:
        sizes: the length of each payload in bytes, as an ``array("I")``.
        data: the payloads, one after the other.
        dropped: how many of them are not needed any more, where somebody counts them.
    """

    __slots__ = ("_ends", "data", "dropped", "sizes")

    def __init__(self, sizes: array[int], data: Buffer) -> None:
        self.sizes = sizes
        self.data = data
        self.dropped = 0
        self._ends: array[int] | None = None

    @classmethod
    def of(cls, payloads: Sequence[bytes]) -> Pack:
        """Join *payloads* into a pack."""
        return cls(array("I", map(len, payloads)), b"".join(payloads))

    @classmethod
    def single(cls, payload: Buffer) -> Pack:
        """Return a pack of one payload."""
        return cls(array("I", (len(payload),)), payload)

    @classmethod
    def from_wire(cls, sizes: Buffer, data: Buffer) -> Pack:
        """Read a pack from its two byte strings.

        Raises:
            ValueError: the sizes do not add up to the data.
        """
        table = array("I")
        table.frombytes(sizes)
        if sum(table) != len(data):
            raise ValueError("the sizes of a pack do not add up to its data")
        return cls(table, data)

    def sizes_bytes(self) -> bytes:
        """Return the table of sizes as the wire carries it: little-endian u32."""
        return self.sizes.tobytes()

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def nbytes(self) -> int:
        """The bytes of all payloads together."""
        return len(self.data)

    def ends(self) -> array[int]:
        """Return the offset in ``data`` at which each payload ends."""
        if self._ends is None:
            self._ends = array("Q", accumulate(self.sizes))
        return self._ends

    def bytes_of(self, lo: int, hi: int) -> int:
        """Return how long the payloads *lo* to *hi* (exclusive) are together."""
        if lo == 0 and hi == len(self.sizes):
            return len(self.data)
        ends = self.ends()
        return (ends[hi - 1] if hi else 0) - (ends[lo - 1] if lo else 0)

    def __getitem__(self, index: int) -> Buffer:
        if len(self.sizes) == 1:
            return self.data
        ends = self.ends()
        return self.data[(ends[index - 1] if index else 0) : ends[index]]

    def __iter__(self) -> Iterator[Buffer]:
        start = 0
        data = self.data
        for end in self.ends():
            yield data[start:end]
            start = end

    def view(self) -> Pack:
        """Return the same payloads, to be cut without copying them."""
        same = Pack(self.sizes, memoryview(self.data))
        # Who takes one value after the other would add them all up for each.
        same._ends = self.ends()
        return same

    def cut(self, lo: int, hi: int) -> Pack:
        """Return the payloads *lo* to *hi* (exclusive) as a pack of their own."""
        if lo == 0 and hi == len(self.sizes):
            return self
        ends = self.ends()
        start = ends[lo - 1] if lo else 0
        end = ends[hi - 1] if hi else 0
        return Pack(self.sizes[lo:hi], self.data[start:end])

    def on_wire(self, lo: int, hi: int) -> tuple[bytes, bytes]:
        """Return the payloads *lo* to *hi* (exclusive) as the wire carries a pack."""
        sizes = self.sizes
        if lo == 0 and hi == len(sizes):
            return sizes.tobytes(), bytes(self.data)
        ends = self._ends
        if ends is None:
            ends = self.ends()
        start = ends[lo - 1] if lo else 0
        end = ends[hi - 1] if hi else 0
        if hi - lo == 1:
            return _SIZE.pack(end - start), bytes(self.data[start:end])
        return sizes[lo:hi].tobytes(), bytes(self.data[start:end])

    def copy(self, lo: int, hi: int) -> Pack:
        """The same, in memory of its own: what is around it need not stay for it."""
        part = self.view().cut(lo, hi)
        return Pack(part.sizes[:], bytes(part.data))

    def drop(self, n: int) -> bool:
        """*n* more are not needed; say whether the few that are should be copied out.

        As long as one value of a pack is kept, all of its bytes are.  To copy what is
        left when it is less than a quarter costs each value a copy or two in its life.
        Where none is, there is nothing to copy.
        """
        self.dropped += n
        known = len(self.sizes)
        return 0 < 4 * (known - self.dropped) < known


def _start(offset: int, size: int) -> int:
    """Return where a frame of *size* bytes starts, from *offset* on."""
    unit = ALIGNMENT if size < LARGE_BYTES else PAGE_BYTES
    return (offset + unit - 1) & -unit


def layout_size(sizes: Sequence[int]) -> int:
    """Return how many bytes a payload with frames of these *sizes* takes."""
    offset = _HEAD.size + 8 * len(sizes)
    for size in sizes:
        offset = _start(offset, size) + size
    return offset


def layout_parts(frames: Sequence[Buffer], stamp: int) -> list[Buffer]:
    """Return what a payload consists of, in order: table, padding and *frames*."""
    views = [memoryview(frame).cast("B") for frame in frames]
    sizes = [len(view) for view in views]
    table = _HEAD.pack(_MAGIC, len(views), stamp)
    table += struct.pack(f"<{len(sizes)}Q", *sizes)
    parts: list[Buffer] = [table]
    offset = len(table)
    for view in views:
        start = _start(offset, len(view))
        if start > offset:
            parts.append(bytes(start - offset))
        parts.append(view)
        offset = start + len(view)
    return parts


def empty_head(stamp: int) -> bytes:
    """Return the head of a payload without frames: memory that waits for one."""
    return _HEAD.pack(_MAGIC, 0, stamp)


def read_stamp(head: Buffer) -> int:
    """Return the stamp of the payload that starts with *head*; 0 if it is none."""
    if len(head) < _HEAD.size:
        return 0
    magic, _, stamp = _HEAD.unpack_from(head)
    return int(stamp) if magic == _MAGIC else 0


def read_layout(source: memoryview) -> list[memoryview]:
    """Return the frames of a payload as views into *source*, without a copy.

    Raises:
        ValueError: *source* is no payload, or is cut short.
    """
    length = len(source)
    if length < _HEAD.size:
        raise ValueError("a payload is shorter than its head")
    magic, count, _ = _HEAD.unpack_from(source)
    if magic != _MAGIC or count > MAX_FRAMES:
        raise ValueError("these bytes are not a payload")
    end = _HEAD.size + 8 * count
    if length < end:
        raise ValueError("the table of a payload is cut short")
    frames = []
    for size in struct.unpack_from(f"<{count}Q", source, _HEAD.size):
        unit = ALIGNMENT if size < LARGE_BYTES else PAGE_BYTES  # As in ``_start``.
        start = (end + unit - 1) & -unit
        end = start + size
        if end > length:
            raise ValueError("a frame of a payload is cut short")
        frames.append(source[start:end])
    return frames
