"""Arguments that are nothing but the results of other tasks.

``map(f, futures)`` pairs task ``t`` with the results ``t + d``, for the same
``d`` all along; ``map(f, futures[::2], futures[1::2])`` pairs it with results that are
two apart from task to task.  Such arguments are not pickled at all: the payload of each
task is a codec byte and where its inputs lie, the same bytes for every task of
the range, and the runner walks through the inputs side by side.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, TypeAlias

from covey.payload import Buffer, Pack

#: The first byte of such a payload: with distances, or with strides.  A pickle starts
#: with 0x80.
COLUMNS_CODEC: Final = 0x01
STRIDES_CODEC: Final = 0x04

CODECS: Final = frozenset({COLUMNS_CODEC, STRIDES_CODEC})

Column: TypeAlias = tuple[int, int]
"""Where an argument is: task ``t`` takes the result ``offset + stride * t``."""


def columns_payload(distances: Sequence[int]) -> bytes:
    """Return the payload of a task whose arguments lie at these distances."""
    return bytes((COLUMNS_CODEC,)) + struct.pack(f"<{len(distances)}q", *distances)


def strides_payload(base: int, columns: Sequence[tuple[int, int]]) -> bytes:
    """Return the payload of the tasks from *base* on, for inputs with strides.

    Args:
        base: the first task.
        columns: for each argument, the result that *base* takes, and how far apart
            those of neighbours are.
    """
    numbers = [base]
    for first, stride in columns:
        numbers += (first - base, stride)
    return bytes((STRIDES_CODEC,)) + struct.pack(f"<{len(numbers)}q", *numbers)


def columns_of(pack: Pack) -> tuple[Column, ...] | None:
    """Return the columns, if all payloads of *pack* are of this kind and equal."""
    if not len(pack) or pack.data[0] not in CODECS:
        return None
    size = pack.sizes[0]
    if size % 8 != 1 or pack.sizes.count(size) != len(pack):
        return None
    first = bytes(pack.data[:size])
    if bytes(pack.data) != first * len(pack):
        return None
    return columns_in(first)


def columns_in(payload: Buffer) -> tuple[Column, ...]:
    """Return the columns that a payload of this kind holds."""
    numbers = struct.unpack_from(f"<{len(payload) // 8}q", payload, 1)
    if payload[0] == COLUMNS_CODEC:
        return tuple([(distance, 1) for distance in numbers])
    base, *rest = numbers
    pairs = zip(rest[::2], rest[1::2], strict=True)
    return tuple([(base + far - stride * base, stride) for far, stride in pairs])
