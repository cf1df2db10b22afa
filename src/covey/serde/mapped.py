"""A value in a segment, read without a copy.

The buffers of the value are views into the mapped segment, so its arrays are
read-only, and the memory stays mapped for as long as one of them is alive.
"""

from __future__ import annotations

from typing import Any

from covey.payload import read_layout
from covey.serde.values import loads
from covey.store.segments import open_segment


def read_value(path: str, size: int) -> Any:
    """Return the value in the segment at *path*.

    Raises:
        OSError: the segment is gone, or belongs to somebody else.
        ValueError: what is there is no payload of that size.
    """
    return loads(read_layout(open_segment(path, size).view))
