"""Arguments that are nothing but the results of other tasks, one for one.

``map(f, futures)`` pairs task ``t`` with the results ``t + d``, for the same
``d`` all along.  Such arguments are not pickled at all: the payload of each
task is the codec byte and these distances, the same bytes for every task of
the range, and the runner walks through the inputs side by side.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from covey.payload import Buffer, Pack

#: The first byte of such a payload.  A pickle starts with 0x80.
COLUMNS_CODEC: Final = 0x01


def columns_payload(distances: Sequence[int]) -> bytes:
    """Return the payload of a task whose arguments lie at these distances."""
    return bytes((COLUMNS_CODEC,)) + struct.pack(f"<{len(distances)}q", *distances)


def columns_of(pack: Pack) -> tuple[int, ...] | None:
    """Return the distances, if all payloads of *pack* are of this kind and equal."""
    if not len(pack) or pack.data[:1] != b"\x01":
        return None
    size = pack.sizes[0]
    if size % 8 != 1 or pack.sizes.count(size) != len(pack):
        return None
    first = bytes(pack.data[:size])
    if bytes(pack.data) != first * len(pack):
        return None
    return distances_of(first)


def distances_of(payload: Buffer) -> tuple[int, ...]:
    """Return the distances that a payload of this kind holds."""
    return struct.unpack_from(f"<{len(payload) // 8}q", payload, 1)
