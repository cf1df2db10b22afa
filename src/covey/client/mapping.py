"""From a map to messages: many calls, in chunks.

Each chunk is a complete range of its own, so that work begins while the rest is still
being pickled.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from functools import partial
from itertools import pairwise
from typing import Any, Final

from covey.client.calls import Calls
from covey.client.columns import columns_of, strides_of
from covey.client.core.ranges import Range
from covey.client.future import Future, Futures
from covey.client.placing import (
    BATCH_TASKS,
    CHUNK_BYTES,
    CHUNK_TASKS,
    FIRST_CARGO_BYTES,
    FIRST_CHUNK_TASKS,
    Cargo,
    more_at_once,
)
from covey.client.shapes import (
    NODE_INPUTS,
    Column,
    as_graph,
    groups_of,
    shape_of,
    split_needs,
    stretches_of,
)
from covey.client.submission import Submitter, name_culprit
from covey.client.taken import check_slips
from covey.errors import UsageError
from covey.ids import TaskId
from covey.payload import Buffer, Pack
from covey.serde import refs
from covey.serde.columns import columns_payload, strides_payload
from covey.serde.formats import PICKLE, Format
from covey.serde.keywords import ANEW_BYTES, with_keywords
from covey.serde.naming import names_something
from covey.serde.packing import Packer
from covey.serde.registry import PROTOCOL
from covey.serde.values import dumps, dumps_call, is_long
from covey.wire.base import Extent, Options
from covey.wire.client_link import Submit

#: So much longer than its arguments is about a call that has keywords.
CALL_BYTES: Final = 64

#: Of a map with large arguments each worker is to get so many values of them.
SHARES: Final = 4

#: Calls of which so many neighbours take the same are ranges, and no nodes of a graph.
RUN_MIN: Final = 4


class Mapper(Submitter):
    """Turns calls, one or many, into messages for one engine."""

    def map(
        self,
        function: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        kwargs: dict[str, Any],
        options: Options,
        serializer: str | None = None,
    ) -> Futures[Any] | list[Future[Any]]:
        """Wish for one call per element."""
        self._engine.check()
        if kwargs:
            check_slips(function, kwargs)
        if any(map(callable, iterables)) and not callable(function):
            raise UsageError(
                f"the function comes first, and the arguments after it: map(f, [1, 2]), "
                f"not map({function!r:.40}, ...)"
            )
        form = self.writing.form(serializer)
        columns, n = columns_of(iterables)
        shared = None
        if self.writing.pickles(form):
            shared = self._shared_keywords(function, kwargs, n, form)
        if shared is not None:
            function, kwargs = shared, {}
        taken: list[int] = []
        try:
            return self._map(function, columns, n, kwargs, options, form, taken)
        finally:
            self._numbers.done(taken)

    def _map(
        self,
        function: Callable[..., Any],
        columns: list[Any],
        n: int,
        kwargs: dict[str, Any],
        options: Options,
        form: Format,
        taken: list[int],
    ) -> Futures[Any] | list[Future[Any]]:
        fn, label, _, by_value = self._function(function, form, taken)
        if n == 0:
            return []
        base = self._engine.new_tasks(n)
        futures = self._new_futures(base, n, label)
        wish = futures._range
        strides = strides_of(columns, n, self._session)
        groups = groups_of(strides) if strides is not None else None
        if strides and groups is not None and not kwargs and by_value is None:
            self._send_columns(wish, fn, strides, groups, options)
            return futures

        def number(pack: Pack, named: bytes = b"") -> int:
            modules = self.writing.modules
            if by_value is not None or modules.idle:
                return fn
            payload = bytes(pack.data) + named
            if not modules.named_in(payload):
                return fn
            # The function may know nothing of them.
            return self._function(function, form, taken, payload)[0]

        before: tuple[Any, ...] = ()
        if by_value is not None:
            wish.hold([by_value])
            before = (refs.AsFunction(by_value),)
        calls = Calls(columns, n, kwargs, before)
        try:
            with self.writing.chosen():
                sent = self._send_chunks(wish, number, calls, options, form)
            if sent < n:
                raise UsageError(
                    f"the arguments of this map became fewer while they were read: there "
                    f"were {n:,}, and {sent:,} were left"
                )
        except BaseException:
            # Nothing may be left running that nobody can ask for.
            del futures
            raise
        return futures

    def _shared_keywords(
        self, function: Callable[..., Any], kwargs: dict[str, Any], n: int, form: Format
    ) -> Callable[..., Any] | None:
        """Keyword arguments that hold no futures go with the function, once.

        With other values that is another function, which takes the user's modules along
        once more.  Where that is longer, the values go with each of the *n* calls.
        """
        if not kwargs:
            return None
        nbytes, long = CALL_BYTES, set()
        with refs.capture(self._session) as found, self.writing.chosen():
            for name, value in kwargs.items():
                frames = dumps(value, f"kwargs[{name!r}]")
                nbytes += len(name) + sum(memoryview(frame).nbytes for frame in frames)
                if len(frames[0]) > ANEW_BYTES:
                    long.add(name)
            if found.task_ids:
                return None
            if not self.writing.modules.idle:
                alone = self.writing.function(function, form)
                if n * nbytes < len(alone.payload):
                    return None
            return with_keywords(function, kwargs, long)

    def _send_columns(
        self,
        wish: Range,
        fn: int,
        columns: tuple[Column, ...],
        groups: tuple[Extent, ...],
        options: Options,
    ) -> None:
        """Send a range whose arguments are other results, one for one or in groups."""
        if groups:
            payload = strides_payload(wish.base, columns)
        else:
            payload = columns_payload([first - wish.base for first, _ in columns])
        aligned = tuple(first for first, stride in columns if stride == 1)
        size = len(payload).to_bytes(4, "little")
        start, count = 0, min(FIRST_CHUNK_TASKS, wish.n)
        while start < wish.n:
            self._engine.post(
                Submit(
                    wish.base + start,
                    count,
                    fn,
                    size * count,
                    payload * count,
                    options,
                    tuple(first + start for first in aligned),
                    groups=tuple((first + start * g, g) for first, g in groups),
                )
            )
            start += count
            count = min(CHUNK_TASKS, wish.n - start)

    def _send_chunks(
        self,
        wish: Range,
        number: Callable[..., int],
        calls: Calls,
        options: Options,
        form: Format,
    ) -> int:
        """Send the calls on their way; return how many there were."""
        packer, cargo = form.packer(), Cargo(FIRST_CARGO_BYTES)
        sent, limit = 0, FIRST_CHUNK_TASKS
        numbers, alike, asks = calls.single, True, number
        with refs.capture(self._session) as found:
            while sent < calls.n:
                marks: list[int] = []
                # Whole numbers are written a chunk at a time.
                numbers = numbers and packer.add_numbers(
                    calls.values(sent, sent + limit)
                )
                if not numbers:
                    alike = self._fill(
                        *(packer, calls, sent, limit, alike, wish, found, marks, form),
                        cargo,
                    )
                    asks = partial(number, named=self._named_in(cargo))
                    # Before anybody is told of who takes them.
                    self.bring_all(cargo)
                pack = packer.take()
                if not len(pack):
                    break
                self._send_chunk(
                    wish.base + sent, asks, pack, found.task_ids, marks, options
                )
                found.task_ids.clear()
                sent += len(pack)
                limit = CHUNK_TASKS
        return sent

    def _named_in(self, cargo: Cargo) -> bytes:
        """Return the names of the user's own modules that large arguments name."""
        modules = self.writing.modules
        if modules.idle or not cargo.values:
            return b""
        names: set[str] = set()
        for stream in cargo.streams:
            if names_something(stream):
                names.update(modules.named_in(stream))
        return " ".join(sorted(names)).encode()

    def _fill(
        self,
        packer: Packer,
        calls: Calls,
        start: int,
        limit: int,
        alike: bool,
        wish: Range,
        found: refs.capture,
        marks: list[int],
        form: Format,
        cargo: Cargo,
    ) -> bool:
        """Pack calls of a map, until they come to *limit*, or to the bytes of a chunk.

        Most often they are small, plain and hold no futures: those that are *alike* are
        pickled several at a time, and this returns whether they still are.  *marks* is
        to say where the ids in *found* end for each of the others.  Large ones are put
        into *cargo*, for which futures stand.
        """
        ids = found.task_ids
        done, stop, nbytes, at_once = start, start + limit, 0, BATCH_TASKS
        while nbytes <= CHUNK_BYTES and not cargo.is_full:
            batch = calls.read(done, min(done + at_once, stop))
            if not batch:
                break
            added = packer.add_all(batch) if alike else -1
            if alike and ids:
                # All are met once more, one by one: each waits for its own only.
                if added >= 0:
                    packer.drop_last(len(batch))
                found.strangers = None
                ids.clear()
                added = -1
            alike = added >= 0
            if alike:
                nbytes += added
                at_once = more_at_once(at_once, added)
            else:
                at_once = BATCH_TASKS
                before = len(packer)
                self._add_each(packer, batch, done, wish, ids, marks, form, cargo)
                done += len(packer) - before
                nbytes = packer.nbytes
                if found.strangers is not None:
                    wish.hold(self._adopted(found))
                # The next may be alike, if only in what kept these from being so.
                alike = packer.goes_on and not (ids or cargo.values)
                continue
            done += len(batch)
        return alike

    def _add_each(
        self,
        packer: Packer,
        batch: list[Any],
        first: int,
        wish: Range,
        ids: list[TaskId],
        marks: list[int],
        form: Format,
        cargo: Cargo,
    ) -> None:
        """Add arguments one by one, until the cargo is full.

        *marks* says where the ids of each end.
        """
        pickles = form is PICKLE
        for index, call in enumerate(batch, first):
            before = len(packer)
            long = pickles and type(call) is tuple and is_long(call)
            add = dumps_call if long else packer.add
            frames = self._add_call(add, call, index, form)
            if frames is not None:
                self._carry(packer, frames, wish, form, cargo)
            if ids:
                marks += [0] * (before - len(marks))
                marks.append(len(ids))
            if cargo.is_full:
                break

    def _carry(
        self,
        packer: Packer,
        frames: list[Buffer],
        wish: Range,
        form: Format,
        cargo: Cargo,
    ) -> None:
        """Have large arguments go to a worker, and pack what stands for them."""

        def promise() -> TaskId:
            future = self.promise("arguments")
            wish.hold([future])
            return future.id

        if form is PICKLE:
            # Neighbours go together, but every worker gets some.
            most = max(1, wish.n // (SHARES * max(1, len(self._engine.workers))))
            part = refs.PartOf(*cargo.add_part(frames, most, promise))
            # It needs no second look.
            packer.add_written(pickle.dumps(part, PROTOCOL))
            return
        task = promise()
        cargo.add(task, frames)
        packer.add(refs.ById(task))

    def _add_call(
        self,
        add: Callable[[Any], list[Buffer] | None],
        call: Any,
        index: int,
        form: Format,
    ) -> list[Buffer] | None:
        try:
            return add(call)
        except (TypeError, ValueError) as error:
            failed: Exception = error
        args, kwargs = call, {}
        if not isinstance(call, tuple):
            args, kwargs = call.args, call.kwargs
        try:
            name_culprit(args, kwargs, form)
        except (TypeError, ValueError) as named:
            failed = named
        failed.add_note(f"in the arguments of element {index} of the map")
        raise failed

    def _send_chunk(
        self,
        base: TaskId,
        number: Callable[[Pack], int],
        pack: Pack,
        ids: list[TaskId],
        marks: list[int],
        options: Options,
    ) -> None:
        n = len(pack)
        fn = number(pack)
        sizes, data = pack.sizes_bytes(), bytes(pack.data)
        if not ids:
            self._engine.post(Submit(base, n, fn, sizes, data, options))
            return
        shape = shape_of(ids, marks, n)
        if shape is not None:
            aligned, groups, whole = shape
            self._engine.post(
                Submit(
                    *(base, n, fn, sizes, data, options),
                    aligned=aligned,
                    whole=whole,
                    groups=groups,
                )
            )
            return
        needs = [tuple(dict.fromkeys(ids[at:end])) for at, end in pairwise((0, *marks))]
        alike = stretches_of(needs)
        if RUN_MIN * len(alike) <= n:
            self._send_alike(base, fn, pack, needs, alike, options)
            return
        if max(map(len, needs)) <= NODE_INPUTS:
            self._engine.post(as_graph(base, fn, pack, needs, options))
            return
        for index, taken in enumerate(needs):
            part = pack.cut(index, index + 1)
            aligned, whole = split_needs([*taken])
            self._engine.post(
                Submit(
                    base + index,
                    1,
                    fn,
                    part.sizes_bytes(),
                    bytes(part.data),
                    options,
                    aligned,
                    whole,
                )
            )

    def _send_alike(
        self,
        base: TaskId,
        fn: int,
        pack: Pack,
        needs: list[tuple[TaskId, ...]],
        stretches: list[tuple[int, int]],
        options: Options,
    ) -> None:
        """Send calls of which neighbours take the same: a range for each of these."""
        for start, stop in stretches:
            part = pack.cut(start, stop)
            singles, whole = split_needs([*needs[start]])
            self._engine.post(
                Submit(
                    *(base + start, stop - start, fn),
                    *(part.sizes_bytes(), bytes(part.data), options),
                    whole=(*whole, *((task, 1) for task in singles)),
                )
            )
