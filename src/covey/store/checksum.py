"""CRC-32, the checksum of values on disk and between machines.

The standard library computes it at about 2 GB/s.  Where ``isal`` is installed (``pip
install covey[network]``) the same number comes four times as fast; the other side need
not know.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from typing import TypeAlias, cast

from covey.payload import Buffer

_Crc32: TypeAlias = Callable[[Buffer, int], int]


def crc32(data: Buffer, before: int = 0) -> int:
    """Return the CRC-32 of *data* behind other bytes, of which it was *before*."""
    return _quickest()(data, before)


@functools.cache
def _quickest() -> _Crc32:
    # Not at the top: runners start without it, and never need it.
    try:
        from isal import isal_zlib
    except ImportError:
        return zlib.crc32
    return cast("_Crc32", isal_zlib.crc32)
