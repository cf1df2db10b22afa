"""The ways to compress that are installed: LZ4 and Zstandard, with ``covey[network]``.

What comes from elsewhere is never unpacked into more bytes than were announced.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final, Protocol

from covey.errors import RemoteProtocolError
from covey.net.savings import LEAST_COST, Sample
from covey.payload import Buffer

#: A sample is taken at so many places, so many bytes at each.
_SPOTS: Final = 8
_SPOT_BYTES: Final = 8 << 10


class Codec(Protocol):
    """One way to compress.

    Attributes:
        number: its name on the wire.
        least_cost: seconds of CPU time that a byte takes at least, both sides together.
    """

    number: int
    least_cost: float

    def pack(self, data: Buffer) -> bytes:
        """Return *data*, compressed."""
        ...

    def unpack(self, data: Buffer, nbytes: int) -> bytes:
        """Return what was compressed, which should be *nbytes* bytes.

        Raises:
            ValueError: it is not, or no such thing at all.
        """
        ...


class _Lz4:
    number = 1
    least_cost = LEAST_COST

    def __init__(self) -> None:
        import lz4.block

        self._block: Any = lz4.block

    def pack(self, data: Buffer) -> bytes:
        packed: bytes = self._block.compress(data, store_size=False)
        return packed

    def unpack(self, data: Buffer, nbytes: int) -> bytes:
        try:
            plain: bytes = self._block.decompress(data, uncompressed_size=nbytes)
        except self._block.LZ4BlockError as error:
            raise ValueError(str(error)) from error
        return plain


class _Zstandard:
    number = 2
    least_cost = 1 / 400e6

    def __init__(self) -> None:
        import zstandard

        self._zstandard: Any = zstandard

    def pack(self, data: Buffer) -> bytes:
        # One for each call: several threads may be at work.
        packed: bytes = self._zstandard.ZstdCompressor(level=1).compress(data)
        return packed

    def unpack(self, data: Buffer, nbytes: int) -> bytes:
        try:
            # It would make room for whatever the data themselves announce.
            if self._zstandard.frame_content_size(bytes(data[:18])) != nbytes:
                raise ValueError(f"it does not announce {nbytes:,} bytes")
            plain: bytes = self._zstandard.ZstdDecompressor().decompress(data)
        except self._zstandard.ZstdError as error:
            raise ValueError(str(error)) from error
        return plain


@functools.cache
def installed() -> dict[int, Codec]:
    """Return the codecs that there are on this machine, by number."""
    found: dict[int, Codec] = {}
    for kind in (_Lz4, _Zstandard):
        try:
            codec: Codec = kind()
        except ImportError:
            continue
        found[codec.number] = codec
    return found


def numbers() -> tuple[int, ...]:
    """Return what another side may use in what it sends here."""
    return tuple(installed())


def common(theirs: Sequence[int]) -> list[Codec]:
    """Return the codecs that both sides have; nothing is loaded if *theirs* are none."""
    if not theirs:
        return []
    return [codec for number, codec in installed().items() if number in theirs]


def unpack(number: int, data: Buffer, nbytes: int) -> bytes:
    """Return what was compressed by codec *number*: *nbytes* bytes.

    Raises:
        RemoteProtocolError: the other side was never told of that codec.
        ValueError: it is not as long as that, or damaged.
    """
    codec = installed().get(number)
    if codec is None:
        raise RemoteProtocolError(f"there is no codec {number} here")
    plain = codec.unpack(data, nbytes)
    if len(plain) != nbytes:
        raise ValueError(f"{len(plain):,} bytes, not {nbytes:,}")
    return plain


def samples(codecs: Iterable[Codec], data: memoryview) -> list[Sample]:
    """Find out what each of *codecs* would make of *data*."""
    step = max(_SPOT_BYTES, len(data) // _SPOTS)
    spots = b"".join(data[at : at + _SPOT_BYTES] for at in range(0, len(data), step))
    return [_sample(codec, spots) for codec in codecs]


def _sample(codec: Codec, spots: bytes) -> Sample:
    # Not by the clock: whoever has to wait for a processor learns nothing of the codec.
    started = time.thread_time()
    packed = codec.pack(spots)
    if len(packed) < len(spots):
        codec.unpack(packed, len(spots))
    cost = (time.thread_time() - started) / len(spots)
    return Sample(codec.number, len(packed) / len(spots), cost)
