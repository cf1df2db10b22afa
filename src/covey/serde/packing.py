"""Many small values into one ``Pack``, and out of it.

A ``Packer`` keeps one C pickler alive and clears its memo between values, so
every payload stands on its own: no two of them share an object.  The pickler
writes into a list and not into a file; a small value arrives there as exactly
one byte string, which makes looking at it, taking it back and joining all of
them cheap::

    add(1) add("two")             chunks = [b"...", b"..."]
    take() ──► Pack(sizes, b"".join(chunks))

What is too large for a pack comes back from ``add`` as frames, for the caller
to lay out in a segment; its buffers have not been copied by then.
"""

from __future__ import annotations

import io
import pickle
from array import array
from collections.abc import Callable, Iterator
from typing import Any, Final

from covey.payload import Buffer, Pack
from covey.serde import registry
from covey.serde.culprit import cannot_pickle
from covey.serde.values import (
    CODECS,
    PROTOCOL,
    dumps,
    loads_inline,
    mentions_main,
    pickle_by_value,
)

#: A stream shorter than this has no room for a reference into ``__main__``:
#: header, frame, two short strings and the opcodes between them take 29 bytes.
_SHORTEST_GLOBAL: Final = 24

#: The largest value that stays in a pack, unless the caller says otherwise.
LIMIT_BYTES: Final = 1 << 16


class _Chunks(list[bytes]):
    """A list that a pickler takes for a file."""

    __slots__ = ("write",)

    def __init__(self) -> None:
        super().__init__()
        self.write: Callable[[Any], None] = self.append


class Packer:
    """Pickles one small value after the other.  For one thread at a time.

    Args:
        limit_bytes: a value whose payload is larger is not packed.
    """

    __slots__ = ("_chunks", "_clear", "_dump", "_kept", "_large", "limit_bytes")

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self._chunks = _Chunks()
        self._kept = 0
        self._large = False
        self._renew()

    def _renew(self) -> None:
        """Make a fresh pickler: after an error, its state cannot be trusted."""
        pickler = pickle.Pickler(
            self._chunks, PROTOCOL, buffer_callback=self._take_buffer
        )
        table = registry.dispatch_table()
        if table is not None:
            pickler.dispatch_table = table
        self._dump = pickler.dump
        self._clear = pickler.clear_memo

    def _take_buffer(self, buffer: pickle.PickleBuffer) -> bool:
        """Keep small buffers in the stream (true), and large ones out of it."""
        self._kept += buffer.raw().nbytes
        if self._kept <= self.limit_bytes:
            return True
        self._large = True
        return False

    def __len__(self) -> int:
        return len(self._chunks)

    @property
    def nbytes(self) -> int:
        """The bytes of all values added so far."""
        return sum(map(len, self._chunks))

    @property
    def sizes(self) -> array[int]:
        """The bytes of each value added so far."""
        return array("I", map(len, self._chunks))

    def add(self, value: Any, name: str = "value") -> list[Buffer] | None:
        """Pickle *value* into the pack.

        Args:
            value: anything.
            name: what to call it in an error message.

        Returns:
            ``None`` if it went into the pack.  The frames of the value, if it
            is too large: then the pack is as it was before.

        Raises:
            NotPicklable: it cannot be pickled; the pack is as it was before.
        """
        chunks = self._chunks
        before = len(chunks)
        try:
            self._dump(value)
            self._clear()
        except Exception:
            del chunks[before:]
            self._renew()
            self._kept = 0
            self._large = False
            return self._add_by_value(value, name)
        except BaseException:
            # Somebody interrupted us; the caller deals with it.
            del chunks[before:]
            self._renew()
            raise
        if len(chunks[before]) < _SHORTEST_GLOBAL and len(chunks) == before + 1:
            return None
        return self._settle(value, name, before)

    def _settle(self, value: Any, name: str, before: int) -> list[Buffer] | None:
        """Look twice at a value that is not tiny."""
        chunks = self._chunks
        large = self._large
        self._kept = 0
        self._large = False
        if large or self._is_large_bytes(value):
            del chunks[before:]
            return dumps(value, name)
        if len(chunks) > before + 1:
            # The pickler hands long strings to its file separately.
            chunks[before:] = [b"".join(chunks[before:])]
        stream = chunks[before]
        if mentions_main(stream):
            del chunks[before:]
            return self._add_by_value(value, name)
        if len(stream) > self.limit_bytes:
            del chunks[before:]
            return [stream]
        return None

    def _is_large_bytes(self, value: Any) -> bool:
        return type(value) in (bytes, bytearray) and len(value) > self.limit_bytes

    def _add_by_value(self, value: Any, name: str) -> list[Buffer] | None:
        """Add what the C pickler could not, or should not, write."""
        try:
            stream = pickle_by_value(value, self._take_buffer)
        except Exception as error:
            raise cannot_pickle(value, name, error) from error
        finally:
            large = self._large
            self._kept = 0
            self._large = False
        if large:
            return dumps(value, name)
        if len(stream) > self.limit_bytes:
            return [stream]
        self._chunks.append(stream)
        return None

    def take(self) -> Pack:
        """Return what was added since the last call, and begin anew."""
        chunks = self._chunks
        pack = Pack(array("I", map(len, chunks)), b"".join(chunks))
        chunks.clear()
        return pack


def loads_pack(pack: Pack) -> Iterator[Any]:
    """Decode the values of *pack*, one by one, as they are asked for.

    The iterator stays usable after an element that could not be decoded: the
    next call goes on with the next element.
    """
    # Two nested maps are the fastest way through a pack: no bytecode runs
    # between the elements.  One unpickler for all of them would be faster
    # still, but its memo cannot be cleared.
    read = io.BytesIO(pack.data).read
    decode: Callable[[Any], Any] = loads_inline if len(CODECS) > 1 else pickle.loads
    return map(decode, map(read, pack.sizes))
