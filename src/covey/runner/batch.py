"""One run of consecutive tasks, and what remains of it.

The elements of a batch are claimed one by one from a single iterator that
everybody shares::

    slot's thread      for index in batch.claims: ...     one at a time
    control thread     batch.retract(count)               the rest, at once

Both are one C call under the GIL, so each element is either begun or returned,
never both and never neither.  A retraction that leaves something behind puts a
new iterator in place, under a lock that the slot's thread takes only when its
iterator is used up.
"""

from __future__ import annotations

import io
import pickle
import threading
from bisect import bisect_right
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from covey.payload import Buffer, Pack
from covey.runner.columns import rows
from covey.runner.frames import Frame
from covey.runner.looked import Looked, only_looks
from covey.runner.mapped import LargeInputs
from covey.serde.columns import Column, columns_of
from covey.serde.packing import loads_pack
from covey.serde.refs import MissingInput
from covey.serde.values import PICKLE_CODEC, loads_inline, loads_without_pickle

#: A flag of a run: its value is wanted by one that follows on the same slot.
KEEP: Final = 1

_loads: Final = pickle.loads


def loads_payload(payload: Buffer, *, plain: bool) -> Any:
    """Decode one small value."""
    if plain:
        return loads_without_pickle(payload)
    if payload[0] == PICKLE_CODEC:
        return _loads(payload)
    return loads_inline(payload)


class Inputs:
    """The values that the tasks of one batch refer to, decoded anew for each of them.

    A task that changes what it was given changes nothing for the next one.  Those that
    only look into what they were given share it: see ``looked``.

    Args:
        large: has what is not small.
        looked: keeps small values that tasks looked into.
        plain: refuse what pickle wrote.
    """

    __slots__ = (
        "_bases",
        "_large",
        "_looked",
        "_looks",
        "_only_looks",
        "_own",
        "_packs",
        "_plain",
        "_segments",
        "_values",
    )

    def __init__(
        self, large: LargeInputs, looked: Looked, *, plain: bool = False
    ) -> None:
        self._large = large
        self._looked = looked
        self._plain = plain
        self._packs: list[tuple[int, Pack]] = []
        self._bases: list[int] | None = None
        self._segments: dict[int, tuple[str, int]] = {}
        self._own: dict[int, bytes] = {}
        #: Tells of arguments whether the call only looks into them; ``None``: none does.
        self._only_looks: Callable[[tuple[Any, ...]], bool] | None = None
        #: Whether what is decoded now may be shared.
        self._looks = False
        #: What the arguments refer to that are being decoded.
        self._values: dict[int, Any] = {}

    def are_for(self, function: Callable[..., Any]) -> None:
        """Take note of who is called with arguments from now on."""
        # Who may not read pickles reads none that another one has.
        self._only_looks = None if self._plain else only_looks(function)

    def add_own(self, task_id: int, payload: bytes) -> None:
        """Add a small value that was made on this very slot."""
        self._own[task_id] = payload

    def add_pack(self, base: int, pack: Pack) -> None:
        """Add small values, those of the tasks from *base* on."""
        self._packs.append((base, pack))
        self._bases = None

    def add_segment(self, task_id: int, path: str, size: int) -> None:
        """Add a large value, to be mapped from a segment."""
        self._segments[task_id] = (path, size)

    def __getitem__(self, task_id: int) -> Any:
        try:
            return self._values[task_id]
        except KeyError:
            value = self._values[task_id] = self._decode(task_id)
            return value

    def calls(self, pack: Pack) -> Iterator[Any]:
        """Return the arguments of tasks, which refer to these values.

        Usable after arguments that could not be decoded, as ``loads_pack`` is.
        """
        read = io.BytesIO(pack.data).read
        return map(partial(self._call, self._decoded), map(read, pack.sizes))

    def _call(self, decode: Callable[[Any], Any], written: Any) -> Any:
        """Decode the arguments of one call, for itself if it does more than look."""
        only_looks = self._only_looks
        if only_looks is not None:
            call = self._call_with(decode, written, looks=True)
            if type(call) is tuple and only_looks(call):
                return call
        return self._call_with(decode, written, looks=False)

    def _call_with(
        self, decode: Callable[[Any], Any], written: Any, *, looks: bool
    ) -> Any:
        self._looks = looks
        try:
            return decode(written)
        finally:
            # The next task has nothing of it; and its memory goes with this one.
            self._values = {}

    def rows(
        self, first: int, count: int, columns: tuple[Column, ...]
    ) -> Iterator[Any]:
        """Return the arguments of tasks that take the results in these columns.

        Usable after a row that could not be decoded, as ``loads_pack`` is.
        """
        if len(columns) == 1 and columns[0][1] == 1:
            start = first + columns[0][0]
            for base, pack in self._packs:
                if base <= start and start + count <= base + len(pack):
                    pack = pack.cut(start - base, start - base + count)
                    return zip(loads_pack(pack, plain=self._plain))
        if count > 1:
            self._sort()
            found = rows(
                *(self._packs, first, count, columns, self._decoded), plain=self._plain
            )
            if found is not None:
                return found

        def row(task: int) -> tuple[Any, ...]:
            return tuple([self[offset + stride * task] for offset, stride in columns])

        # A map, unlike a generator, goes on after a row that cannot be decoded.
        return map(partial(self._call, row), range(first, first + count))

    def _sort(self) -> list[int]:
        """Return where the packs begin, which are in order then."""
        bases = self._bases
        if bases is None:
            self._packs.sort(key=lambda entry: entry[0])
            bases = self._bases = [base for base, _ in self._packs]
        return bases

    def function(self, task_id: int) -> Any:
        """Return the function that is the value of a task, as all get it."""
        place = self._segments.get(task_id)
        if place is None:
            return self[task_id]
        return self._large.function(task_id, *place, plain=self._plain)

    def _decoded(self, payload: Buffer) -> Any:
        return loads_payload(payload, plain=self._plain)

    def _decode(self, task_id: int) -> Any:
        place = self._segments.get(task_id)
        if place is not None:
            if self._looks:
                return self._large.looked(task_id, *place)[0]
            return self._large.value(task_id, *place, plain=self._plain)
        payload = self._payload(task_id)
        if self._looks:
            return self._looked.value(task_id, payload, self._decoded)
        return self._decoded(payload)

    def _payload(self, task_id: int) -> bytes:
        own = self._own.get(task_id)
        if own is not None:
            return own
        at = bisect_right(self._sort(), task_id) - 1
        if at >= 0:
            base, pack = self._packs[at]
            if task_id - base < len(pack):
                return bytes(pack[task_id - base])
        raise MissingInput(
            f"the arguments of a task refer to task {task_id}, whose value did not "
            "come along"
        )


class Batch:
    """One run of tasks on one slot.

    Attributes:
        run: the number of the attempt.
        function_id: which function to call.
        base: the id of the first task.
        count: how many tasks there are.
        pack: their arguments.
        serializer: the family in which arguments and results are written.
        inputs: what their arguments refer to, or ``None``.
        columns: where the results lie that they take as arguments, if
            that is all they take.
        owns: inputs that were to be made on this slot before: (id, id there).
        keep: whether what follows on this slot takes the values.
        arguments: decodes the arguments of one element after the other.
        begun: the first element that a loop which takes over may claim.
        claims: yields the elements that nobody has claimed yet.
        lock: held while ``claims`` is exchanged.
    """

    __slots__ = (
        "arguments",
        "base",
        "begun",
        "claims",
        "columns",
        "count",
        "function_id",
        "inputs",
        "keep",
        "lock",
        "owns",
        "pack",
        "run",
        "serializer",
    )

    def __init__(
        self,
        run: int,
        function_id: int,
        base: int,
        pack: Pack,
        serializer: str = "pickle",
    ) -> None:
        self.run = run
        self.function_id = function_id
        self.base = base
        self.count = len(pack)
        self.begun = 0
        self.pack = pack
        self.serializer = serializer
        self.inputs: Inputs | None = None
        self.columns: tuple[Column, ...] | None = None
        self.owns: list[tuple[int, int]] = []
        self.keep = False
        self.arguments: Iterator[Any] = iter(())
        self.rewind(0)
        self.claims: Iterator[int] = iter(range(self.count))
        self.lock = threading.Lock()

    def place(self, index: int) -> tuple[int, int]:
        """Return run and task of an element."""
        return self.run, self.base + index

    def index_of(self, run: int, task: int) -> int:
        """Return which element that is."""
        del run
        return task - self.base

    def function_of(self, run: int, task: int) -> int:
        """Return the function that an element calls."""
        del run, task
        return self.function_id

    def ran(self, start: int, n: int, seconds: float, nbytes: int) -> str:
        """Return what tells, as JSON, that *n* elements have returned so many bytes."""
        return f'["ran",{self.run},{self.base + start},{n},{seconds},{nbytes}]'

    def calls(self, function: Callable[..., Any]) -> None:
        """Take note of what its elements call, before the first arguments are decoded."""
        if self.inputs is not None:
            self.inputs.are_for(function)

    def lacks(self, kept: dict[int, bytes]) -> bool:
        """Take what was made here for it; say whether something is not there.

        The task before it may have failed, given its slot away, or made something
        large.
        """
        found = [(task, kept.get(kept_as)) for task, kept_as in self.owns]
        for task, payload in found:
            if payload is None or self.inputs is None:
                return True
            self.inputs.add_own(task, payload)
        return False

    def rewind(self, index: int) -> None:
        """Let the next arguments be those of element *index*."""
        rest = self.count - index
        if self.columns is not None and self.inputs is not None:
            first = self.base + index
            self.arguments = self.inputs.rows(first, rest, self.columns)
            return
        pack = self.pack.cut(index, self.count)
        if self.inputs is not None:
            self.arguments = self.inputs.calls(pack)
        else:
            self.arguments = loads_pack(pack, plain=self.serializer != "pickle")

    def retract(self, count: int) -> list[tuple[int, int, int]]:
        """Take back at most *count* elements from the end; -1 means all.

        Returns:
            The run, the first task taken back, and how many there are; or nothing.
        """
        with self.lock:
            rest = list(self.claims)
            if 0 <= count < len(rest):
                keep = len(rest) - count
                self.claims = iter(range(rest[0], rest[0] + keep))
                rest = rest[keep:]
        return [(self.run, self.base + rest[0], len(rest))] if rest else []


def read_batch(
    operation: list[Any],
    frame: Frame,
    large: LargeInputs,
    looked: Looked,
    serializer: str = "pickle",
) -> Batch:
    """Make a batch of a ``run`` operation, taking its bytes from the frame."""
    _, run, function_id, base, count, data_size, inputs, flags = operation
    arguments = Pack.from_wire(frame.take(4 * count), frame.take(data_size))
    batch = Batch(run, function_id, base, arguments, serializer)
    batch.keep = bool(flags & KEEP)
    if inputs:
        batch.inputs = Inputs(large, looked, plain=serializer != "pickle")
        for entry in inputs:
            if entry[0] == "in":
                _, base, count, data_size = entry
                pack = Pack.from_wire(frame.take(4 * count), frame.take(data_size))
                batch.inputs.add_pack(base, pack)
            elif entry[0] == "own":
                _, task_id, kept_as = entry
                batch.owns.append((task_id, kept_as))
            else:
                _, task_id, path, size = entry
                batch.inputs.add_segment(task_id, path, size)
        batch.columns = columns_of(arguments)
        batch.rewind(0)
    return batch
