"""Many small values into one ``Pack``, and out of it.

A ``Packer`` pickles every value on its own, so no two of them share an object,
and joins them when it is asked for the pack::

    add(1) add("two")             chunks = [b"...", b"..."]
    take() ──► Pack(sizes, b"".join(chunks))

(One long-lived pickler with its memo cleared between values was tried.  It saves
a little inside the C code and loses more in Python around it.)

What is too large for a pack comes back from ``add`` as frames, for the caller
to lay out in a segment; its buffers have not been copied by then.
"""

from __future__ import annotations

import io
import pickle
import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from covey.payload import Buffer, Pack
from covey.serde import methods, registry
from covey.serde.culprit import cannot_pickle
from covey.serde.naming import names_something
from covey.serde.registry import PROTOCOL
from covey.serde.values import (
    PICKLE_CODEC,
    dumps,
    loads_inline,
    loads_without_pickle,
    mentions_main,
    pickle_by_reference,
    pickle_by_value,
)

# A name in this module is found faster than an attribute of another one.
_dumps = pickle.dumps

#: How pickle writes a tuple of one whole number, which is the four bytes in the middle.
_BEGIN: Final = pickle.PROTO + bytes((PROTOCOL,)) + pickle.BININT
_CALL: Final = _BEGIN + bytes(4) + pickle.TUPLE1 + pickle.STOP
CALL_BYTES: Final = len(_CALL)

#: A stream shorter than this has no room for a reference into ``__main__``:
#: header, frame, two short strings and the opcodes between them take 29 bytes.
_SHORTEST_GLOBAL: Final = 24

#: Streams that are all shorter are looked at together.
_JOINED_BYTES: Final = 512

_PICKLED: Final = bytes((PICKLE_CODEC,))

#: The largest value that stays in a pack, unless the caller says otherwise.
LIMIT_BYTES: Final = 1 << 16


class _TooLarge(Exception):
    """A value is too large for a pack, which was seen before it was pickled in full."""


class _Sieve:
    """Decides, buffer by buffer, whether a value is too large for a pack."""

    __slots__ = ("limit_bytes", "seen_bytes")

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.seen_bytes = 0

    def take(self, buffer: pickle.PickleBuffer) -> bool:
        """Keep small buffers in the stream (true), and large ones out of it."""
        self.seen_bytes += buffer.raw().nbytes
        return self.seen_bytes <= self.limit_bytes

    def refuse(self, buffer: pickle.PickleBuffer) -> bool:
        """Keep small buffers in the stream, and give up at the first large one.

        Raises:
            _TooLarge: no more needs to be pickled, for all of it is done again.
        """
        if self.take(buffer):
            return True
        raise _TooLarge

    def found_large(self) -> bool:
        """Say whether a buffer was left out of the stream, and begin anew."""
        large = self.seen_bytes > self.limit_bytes
        self.seen_bytes = 0
        return large


def _needs_table(stream: bytes) -> bool:
    """Say whether a pickle that was made without our table must be made with it.

    That is one that names something.
    """
    return (
        registry.in_use()
        or methods.may_hold_methods(stream)
        or registry.may_hold_tables(stream)
    )


class _Calls(bytes):
    """Payloads like ``_CALL``, end to end."""

    __slots__ = ()


class Packer:
    """Pickles one small value after the other.  For one thread at a time.

    Args:
        limit_bytes: a value whose payload is larger is not packed.
    """

    __slots__ = (
        "_by_table",
        "_by_value",
        "_chunks",
        "_keep",
        "_more",
        "_sieve",
        "_take_buffer",
    )

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        #: A payload each, but for those that are ``_Calls``.
        self._chunks: list[bytes] = []
        #: How many payloads there are more than chunks.
        self._more = 0
        # Bound methods that a million calls need not look up again.
        self._keep = self._chunks.append
        self._sieve = _Sieve(limit_bytes)
        #: Whether to begin with our table of reducers.
        self._by_table = False
        #: Whether the last value was not pickled in the fast way.
        self._by_value = False
        self._take_buffer = self._sieve.take

    @property
    def limit_bytes(self) -> int:
        """A value whose payload is larger than this is not packed."""
        return self._sieve.limit_bytes

    @limit_bytes.setter
    def limit_bytes(self, limit_bytes: int) -> None:
        self._sieve.limit_bytes = limit_bytes

    def __len__(self) -> int:
        return len(self._chunks) + self._more

    @property
    def nbytes(self) -> int:
        """The bytes of all values added so far."""
        return sum(map(len, self._chunks))

    @property
    def sizes(self) -> array[int]:
        """The bytes of each value added so far."""
        return array("I", map(len, self._single()))

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
        self._by_value = False
        if self._by_table:
            return self._settle(value, name, None)
        try:
            stream = _dumps(value, PROTOCOL, buffer_callback=self._take_buffer)
        except Exception:
            return self._add_by_value(value, name)
        if len(stream) < _SHORTEST_GLOBAL:
            self._keep(stream)
            return None
        return self._settle(value, name, stream)

    def add_all(self, values: Sequence[Any], before: bytes = b"") -> int:
        """Pickle values of which none needs a second look, or add none of them.

        A call for each of them costs more than it takes to pickle a small one.

        Args:
            values: anything.
            before: is put before each of them: another codec than that of pickle.

        Returns:
            How many bytes they took; -1 if none was added.
        """
        if self._by_table:
            return -1
        try:
            take = self._take_buffer
            limit, streams = self._sieve.limit_bytes, []
            # A partial function with keywords would make a dictionary for each call.
            for value in values:
                stream = _dumps(value, PROTOCOL, buffer_callback=take)
                if len(stream) > limit:
                    break  # The next ones may be as large.
                streams.append(stream)
        except Exception:
            self._sieve.found_large()
            return -1
        if self._sieve.found_large() or len(streams) < len(values):
            return -1
        sizes = list(map(len, streams))
        longest = max(sizes, default=0)
        if longest >= _SHORTEST_GLOBAL:
            # To join short ones takes less time than to look at each.
            seen = streams if longest > _JOINED_BYTES else (b"".join(streams),)
            for stream in seen:
                if names_something(stream) and (
                    _needs_table(stream) or mentions_main(stream)
                ):
                    return -1
        if before:
            streams = [before + stream for stream in streams]
        self._chunks += streams
        return sum(sizes)

    def add_numbers(self, numbers: Sequence[Any]) -> bool:
        """Add the arguments of calls that take one whole number each, or add nothing.

        They are the most frequent ones, and are written without pickle: it takes ten
        times as long to make a tuple of each and to get ready for it as to write it.

        Args:
            numbers: what the calls take, or anything else.

        Returns:
            Whether all of them are whole numbers of four bytes, and were added.
        """
        if type(numbers) is not range and {*map(type, numbers)} != {int}:
            return False
        try:
            digits = array("i", numbers)
        except OverflowError:
            return False
        if sys.byteorder == "big":
            digits.byteswap()
        written = digits.tobytes()
        payloads = bytearray(_CALL * len(digits))
        # The first byte of every number, then the second one of every number, ...
        for index in range(4):
            payloads[len(_BEGIN) + index :: CALL_BYTES] = written[index::4]
        self._chunks.append(_Calls(payloads))
        self._more += len(digits) - 1
        return True

    def _single(self) -> list[bytes]:
        """Return each payload by itself."""
        size = CALL_BYTES
        return [
            payload
            for chunk in self._chunks
            for payload in (
                [chunk[at : at + size] for at in range(0, len(chunk), size)]
                if type(chunk) is _Calls
                else [chunk]
            )
        ]

    def add_written(self, payload: bytes) -> None:
        """Add a value that is a payload already."""
        self._keep(payload)

    @property
    def goes_on(self) -> bool:
        """Whether several like the last one can be added together: see ``add_all``."""
        return not (self._by_table or self._by_value)

    def drop_last(self, count: int) -> None:
        """Take out the *count* values that were added last."""
        if self._more:
            self._chunks[:], self._more = self._single(), 0
        del self._chunks[len(self._chunks) - count :]

    def _settle(
        self, value: Any, name: str, stream: bytes | None
    ) -> list[Buffer] | None:
        """Look twice at a value that is not tiny."""
        names = stream is None or names_something(stream)
        if stream is None or (names and _needs_table(stream)):
            # The fast way knows nothing of our table of reducers.
            self._sieve.found_large()
            try:
                stream = pickle_by_reference(value, self._sieve.refuse)
            except _TooLarge:
                self._sieve.found_large()
                self._by_table = True
                return dumps(value, name)
            except Exception:
                return self._add_by_value(value, name)
            # What needed it once is followed by more of its kind.
            self._by_table = registry.used_table(stream)
        if self._sieve.found_large():
            return dumps(value, name)
        if names and mentions_main(stream):
            return self._add_by_value(value, name)
        return self._keep_small(stream)

    def _add_by_value(self, value: Any, name: str) -> list[Buffer] | None:
        """Add what the C pickler could not, or should not, write."""
        self._by_value = True
        self._sieve.found_large()
        try:
            stream = pickle_by_value(value, self._take_buffer)
        except Exception as error:
            raise cannot_pickle(value, name, error) from error
        finally:
            large = self._sieve.found_large()
        return dumps(value, name) if large else self._keep_small(stream)

    def _keep_small(self, stream: bytes) -> list[Buffer] | None:
        if len(stream) > self._sieve.limit_bytes:
            return [stream]
        self._keep(stream)
        return None

    def last(self) -> bytes | None:
        """Return the payload that was added last, unless it was taken."""
        return bytes(self._chunks[-1]) if self._chunks else None

    def take_single(self) -> bytes:
        """Return the one payload that was added, and begin anew."""
        # An interrupt may have kept the owner from taking what it added before.
        payload = self._chunks[-1]
        self._chunks.clear()
        return bytes(payload)

    def take_payloads(self) -> list[bytes]:
        """Return what was added since the last call, one by one, and begin anew.

        One other thread may take while the owner adds.  (Numbers of calls that were
        added together are one.)
        """
        # What the owner appends between these two lines stays for the next time.
        chunks = self._chunks[:]
        del self._chunks[: len(chunks)]
        return chunks

    def take(self) -> Pack:
        """The same, as a pack."""
        chunks = self.take_payloads()
        if not self._more:
            return Pack(array("I", map(len, chunks)), b"".join(chunks))
        # These are a map's, whose thread is the only one that takes.
        self._more = 0
        sizes: array[int] = array("I")
        size = array("I", [CALL_BYTES])
        for chunk in chunks:
            if type(chunk) is _Calls:
                sizes += size * (len(chunk) // CALL_BYTES)
            else:
                sizes.append(len(chunk))
        return Pack(sizes, b"".join(chunks))


def loads_pack(pack: Pack, *, plain: bool = False) -> Iterator[Any]:
    """Decode the values of *pack*, one by one, as they are asked for.

    Args:
        pack: what a packer took.
        plain: refuse what pickle wrote.

    The iterator stays usable after an element that could not be decoded: the
    next call goes on with the next element.
    """
    # Two nested maps are the fastest way through a pack: no bytecode runs
    # between the elements.  One unpickler for all of them would be faster
    # still, but its memo cannot be cleared.
    read = io.BytesIO(pack.data).read
    # A pack is written by one packer, so the first byte tells for all of it.
    pickled = pack.data[:1] == _PICKLED
    decode: Callable[[Any], Any] = pickle.loads if pickled else loads_inline
    if plain:
        decode = loads_without_pickle
    return map(decode, map(read, pack.sizes))
