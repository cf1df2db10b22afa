"""Arguments of many tasks, from results that lie side by side.

A task of ``map(add, xs[::2], ys)`` takes a result from each of two columns.  What a slot
is sent for a few hundred of them are packs, and a column may begin in one of them and end
in another::

    packs      [ x0 x1 x2 x3 x4 ][ x5 x6 x7 ]      [ y0 y1 y2 y3 ]
    columns      ──    ──    ──      ──              ── ── ── ──
    tasks        (x0, y0)  (x2, y1)  (x4, y2)  (x6, y3)

Where each payload begins and ends is known for all of them at once; they are decoded task
by task.
"""

from __future__ import annotations

import itertools
import pickle
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeAlias

from covey.payload import Buffer, Pack
from covey.serde.columns import Column
from covey.serde.values import PICKLE_CODEC

#: Small values, those of the tasks from an id on.
Packs: TypeAlias = Sequence[tuple[int, Pack]]

_PICKLED: Final = bytes((PICKLE_CODEC,))


def rows(
    packs: Packs,
    first: int,
    count: int,
    columns: Sequence[Column],
    decode: Callable[[Buffer], Any],
    *,
    plain: bool,
) -> Iterator[Any] | None:
    """Return an iterator of the arguments of tasks, decoded as they are asked for.

    It goes on, when it is asked again, with the task behind one whose arguments could not
    be decoded.  No two tasks share an object.

    Args:
        packs: what came along, sorted.
        first: the first task.
        count: how many tasks there are.
        columns: where the results lie that they take.
        decode: decodes one, whatever wrote it.
        plain: whether it refuses what pickle wrote.

    Returns:
        ``None`` if not all is in the packs, or a task takes a result twice.
    """
    if len({*columns}) < len(columns):
        return None
    sides = []
    for offset, stride in columns:
        side = _payloads(packs, offset + stride * first, count, stride)
        if side is None:
            return None
        sides.append(side)
    loads: Callable[[Buffer], Any] = decode
    # A pack is written by one packer, so the first byte tells for all of it.
    if not plain and all(pack.data[:1] == _PICKLED for _, pack in packs):
        loads = pickle.loads

    def row(payloads: tuple[Buffer, ...]) -> tuple[Any, ...]:
        return tuple([loads(payload) for payload in payloads])

    # Nothing can fail in what is zipped, so that the columns stay side by side.
    return map(row, zip(*sides, strict=True))


def _payloads(
    packs: Packs, first: int, count: int, stride: int
) -> Iterator[Buffer] | None:
    """Return the payloads of every *stride*-th task; ``None`` if not all are here."""
    if stride < 1:
        return None
    parts = []
    bases = [base for base, _ in packs]
    while count:
        at = bisect_right(bases, first) - 1
        if at < 0:
            return None
        base, pack = packs[at]
        lo = first - base
        n = min(count, -(-(len(pack) - lo) // stride))
        if n < 1:
            return None
        parts.append(_every(pack, lo, n, stride))
        first += n * stride
        count -= n
    return itertools.chain.from_iterable(parts)


def _every(pack: Pack, lo: int, n: int, stride: int) -> Iterator[Buffer]:
    """Return *n* payloads of a pack, from *lo* on."""
    ends = pack.ends()
    hi = lo + (n - 1) * stride + 1
    begins: Iterable[int] = ends[lo - 1 : hi - 1 : stride] if lo else ()
    if not lo:
        begins = itertools.chain((0,), ends[stride - 1 : hi - 1 : stride])
    data = pack.data
    return map(data.__getitem__, map(slice, begins, ends[lo:hi:stride]))
