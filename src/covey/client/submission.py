"""From calls to messages: functions, arguments, and the futures inside them.

A ``map`` leaves in chunks, each a complete range of its own, so that work
begins while the rest is still being pickled.  Small arguments are packed; a
large one is brought to a worker first and the task takes it as an input.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice, pairwise
from typing import Any, Final

from covey.client.adopting import adopted
from covey.client.checks import check_text
from covey.client.columns import columns_of, results_of, strides_of
from covey.client.core.ranges import Range
from covey.client.fetching import Session
from covey.client.functions import Pickled
from covey.client.future import Future, Futures
from covey.client.names import Names, identity_of
from covey.client.numbers import Numbers
from covey.client.placing import (
    BATCH_NUMBERS,
    BATCH_TASKS,
    CHUNK_BYTES,
    CHUNK_TASKS,
    FIRST_CHUNK_TASKS,
    Placer,
    more_at_once,
)
from covey.client.rewriting import Rewriting
from covey.client.shapes import (
    NODE_INPUTS,
    Column,
    as_graph,
    groups_of,
    shape_of,
    split_needs,
)
from covey.client.taken import check_slips
from covey.client.writing import Writing
from covey.errors import UsageError
from covey.ids import TaskId
from covey.payload import Buffer, Pack
from covey.serde import refs
from covey.serde.call import Call, call_value
from covey.serde.columns import columns_payload, strides_payload
from covey.serde.formats import PICKLE, Format
from covey.serde.packing import CALLS_MAX, LIMIT_BYTES, Packer
from covey.serde.values import dumps
from covey.wire.base import Extent, Options
from covey.wire.client_link import Submit

#: A function with more bytes than this travels as a value, on the data plane.
FUNCTION_BYTES_MAX: Final = 1 << 20


class _Here(threading.local):
    """The packers of one thread, by the family of serializers."""

    def __init__(self) -> None:
        self.packers: dict[str, Packer] = {}

    def packer(self, form: Format) -> Packer:
        packer = self.packers.get(form.name)
        if packer is None:
            packer = self.packers[form.name] = form.packer()
        return packer


_here: Final = _Here()


class Submitter(Placer):
    """Turns calls into messages for one engine."""

    def __init__(self, session: Session, writing: Writing) -> None:
        super().__init__(session, writing)
        self._numbers = Numbers(self._engine.post)
        if writing.chooses:
            engine = self._engine
            engine.mends = Rewriting(
                engine.ledger, self._numbers, engine.readers, engine.post, engine.fail
            ).takes
        #: Large functions that are on the cluster, by digest, for as long as a
        #: future of a task that calls them is alive.
        self._large: weakref.WeakValueDictionary[bytes, Future[Any]]
        self._large = weakref.WeakValueDictionary()
        #: Named tasks that are alive here.
        self._names = Names(self._engine.wishes)

    # Functions.

    def _function(
        self,
        function: Callable[..., Any],
        form: Format,
        taken: list[int],
        arguments: bytes = b"",
    ) -> tuple[int, str, bytes, Future[Any] | None]:
        """Return number, label, digest, and a future if it travels as a value.

        The number is added to *taken*, until ``self._numbers.done``.
        """
        if not callable(function):
            raise UsageError(
                f"the first argument must be something to call, not "
                f"{type(function).__name__} ({function!r:.80}). Did you mean "
                f"submit(f, x), not submit(f(x))?"
            )
        pickled = self.writing.function(function, form, arguments)
        if len(pickled.payload) > FUNCTION_BYTES_MAX:
            future = self._large_function(pickled)
            alone = self.writing.function(call_value, form, alone=True)
            number = self._define(alone, taken)
            return number, pickled.label, pickled.digest, future
        return self._define(pickled, taken), pickled.label, pickled.digest, None

    def _large_function(self, pickled: Pickled) -> Future[Any]:
        """Return a future of a function that is too large for a message."""
        known = self._large.get(pickled.digest)
        if known is None:
            known = self.bring([pickled.payload], pickled.label)
            self._large[pickled.digest] = known
        return known

    def _define(self, pickled: Pickled, taken: list[int]) -> int:
        number = self._numbers.take(pickled, self.writing.environment)
        taken.append(number)
        return number

    # One task.

    def submit(
        self,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Options,
        *,
        key: str | None,
        pure: bool,
        serializer: str | None = None,
    ) -> Future[Any]:
        """Wish for one call."""
        self._engine.check()
        if kwargs:
            check_slips(function, kwargs)
        if key is not None:
            check_text(key, "key=")
        form = self.writing.form(serializer)
        taken: list[int] = []
        try:
            fn, label, digest, by_value = self._function(function, form, taken)
            if by_value is not None:
                args = (by_value, *args)
            elif not (kwargs or pure or key is not None) and (
                ids := results_of(args, self._session)
            ):
                return self._call_of_results(fn, label, ids, options)
            with self.writing.chosen():
                payload, needs, large, holds = self._written(args, kwargs, form)
            if by_value is None and not self.writing.modules.idle:
                # The arguments may name modules of which the function knows nothing.
                again = self._function(function, form, taken, payload)
                fn, label, digest, _ = again
            identity = b""
            if pure or key is not None:
                identity = identity_of(digest, large or (payload,))
                key = key or f"{label}-{identity.hex()}"
                known = self._names.find(key, identity)
                if known is not None and self._session.hold(known):
                    return Future(self._session, known, 0)
            if large:
                with self.writing.chosen():
                    payload, needs, holds = self._lifted(args, kwargs, form)
            base = self._engine.new_tasks(1)
            wish = self._new_range(base, 1, label, key)
            if holds:
                wish.hold(holds)
            if by_value is not None:
                wish.hold([by_value])
            if key is not None:
                self._names.enter(key, identity, base)
            aligned, whole = split_needs(needs) if needs else ((), ())
            sizes = len(payload).to_bytes(4, "little")
            message = Submit(base, 1, fn, sizes, payload, options, aligned, whole, key)
            # A task of that name may be about to be let go of, which must come first.
            say = self._engine.outbox.say if key is None else self._engine.post
            say(message)
            return Future(self._session, wish, 0)
        finally:
            self._numbers.done(taken)

    def _call_of_results(
        self, fn: int, label: str, ids: list[TaskId], options: Options
    ) -> Future[Any]:
        """Wish for one call that takes results only, of which nothing is pickled."""
        base = self._engine.new_tasks(1)
        wish = self._new_range(base, 1, label, None)
        payload = columns_payload([task - base for task in ids])
        sizes = len(payload).to_bytes(4, "little")
        aligned, whole = split_needs(ids)
        message = Submit(base, 1, fn, sizes, payload, options, aligned, whole)
        self._engine.outbox.say(message)
        return Future(self._session, wish, 0)

    def _written(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], form: Format
    ) -> tuple[bytes, list[TaskId], list[Buffer], list[object]]:
        """Return arguments as bytes, and the ids of the futures inside.

        If they are too large for a message, these are the first of the frames that
        follow, and the rest is to be lifted out of them.  Last come futures that are to
        be kept.
        """
        packer = _here.packer(form)
        value: Any = Call(args, kwargs) if kwargs else args
        with refs.capture(self._session) as found:
            frames = self._add(packer, value, args, kwargs, form)
        if frames is not None:
            return bytes(frames[0]), found.task_ids, frames, []
        payload = packer.take_single()
        return payload, found.task_ids, [], self._adopted(found)

    def _adopted(self, found: refs.capture) -> list[object]:
        """Take over the futures of other clients that were met; return ours of them.

        Raises:
            UsageError: another client is closed, or is one of another cluster.
        """
        if found.strangers is None:
            return []
        strangers: list[Any] = found.strangers
        found.strangers = None
        return [adopted(self._session, future) for future in strangers]

    def _lifted(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], form: Format
    ) -> tuple[bytes, list[TaskId], list[object]]:
        """Bring what is large to workers.

        Returns:
            What is left of the arguments, as bytes; the ids of the futures inside, and
            those that are to be kept.
        """
        packer = _here.packer(form)
        args, kwargs, holds = self._lift(args, kwargs, form)
        value: Any = Call(args, kwargs) if kwargs else args
        with refs.capture(self._session) as found:
            frames = self._add(packer, value, args, kwargs, form)
            holds += self._adopted(found)
            if frames is None:
                return packer.take_single(), found.task_ids, holds
        # Many medium ones: the arguments as a whole become one large value.
        future = self.bring(frames, "arguments")
        with refs.capture(self._session) as outer:
            packer.add(refs.ById(future.id))
        needs = [*outer.task_ids, *found.task_ids]
        return packer.take_single(), needs, [*holds, future]

    def _add(
        self,
        packer: Packer,
        value: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        form: Format,
    ) -> list[Buffer] | None:
        try:
            return packer.add(value)
        except (TypeError, ValueError) as error:
            failed = error
        # Outside of ``except``: it says the same, better, and not on top of it.
        _name_culprit(args, kwargs, form)
        raise failed

    def _lift(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], form: Format
    ) -> tuple[tuple[Any, ...], dict[str, Any], list[object]]:
        """Bring each large argument to a worker; put futures in their places."""
        holds: list[object] = []

        def lift(value: Any) -> Any:
            if isinstance(value, Future | int | float | complex | bool | type(None)):
                return value
            with refs.capture(self._session) as found:
                frames = form.dumps(value)
            if found.task_ids or sum(memoryview(f).nbytes for f in frames) <= (
                LIMIT_BYTES // 2
            ):
                return value
            future = self.bring(frames, "argument")
            holds.append(future)
            return future

        lifted = tuple(lift(value) for value in args)
        named = {name: lift(value) for name, value in kwargs.items()}
        return lifted, named, holds

    # Many tasks.

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
            shared = self._shared_keywords(function, kwargs)
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
        wish = self._new_range(base, n, label, None)
        strides = strides_of(columns, n, self._session)
        groups = groups_of(strides) if strides is not None else None
        if strides and groups is not None and not kwargs and by_value is None:
            self._send_columns(wish, fn, strides, groups, options)
            return Futures(self._session, wish)

        def number(pack: Pack) -> int:
            if by_value is not None or self.writing.modules.idle:
                return fn
            # The arguments may name modules of which the function knows nothing.
            return self._function(function, form, taken, bytes(pack.data))[0]

        # A list may grow while it is read: another thread may add to it.
        calls: Iterator[Any] = islice(zip(*columns, strict=False), n)
        if by_value is not None:
            wish.hold([by_value])
            calls = ((by_value, *args) for args in calls)
        if kwargs:
            calls = (Call(args, kwargs) for args in calls)
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
            self._session.release(wish, 0, n)
            raise
        return Futures(self._session, wish)

    def _shared_keywords(
        self, function: Callable[..., Any], kwargs: dict[str, Any]
    ) -> Callable[..., Any] | None:
        """Keyword arguments that hold no futures go with the function, once."""
        if not kwargs:
            return None
        with refs.capture(self._session) as found, self.writing.chosen():
            for name, value in kwargs.items():
                dumps(value, f"kwargs[{name!r}]")
        if found.task_ids:
            return None
        return functools.partial(function, **kwargs)

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
        number: Callable[[Pack], int],
        calls: Iterator[Any],
        options: Options,
        form: Format,
    ) -> int:
        """Send the calls on their way; return how many there were."""
        packer = form.packer()
        base = wish.base
        start, limit, at_once, most = 0, FIRST_CHUNK_TASKS, BATCH_TASKS, BATCH_NUMBERS
        done = nbytes = 0
        alike = True
        marks: list[int] = []
        with refs.capture(self._session) as found:
            ids = found.task_ids
            while batch := list(islice(calls, min(at_once, start + limit - done))):
                # Most often the elements are small, plain and hold no futures.
                added = packer.add_calls(batch) if alike else -1
                if added < 0 and len(batch) > CALLS_MAX:
                    calls, at_once, most = chain(batch, calls), BATCH_TASKS, CALLS_MAX
                    continue
                if ids and added >= 0:
                    found.strangers = None  # They are met once more.
                    packer.drop_last(len(batch))
                    ids.clear()
                    added = -1
                alike = added >= 0
                if alike:
                    nbytes += added
                    at_once = min(most, more_at_once(at_once, added))
                else:
                    at_once = BATCH_TASKS
                    self._add_each(packer, batch, done, wish, ids, marks, form)
                    nbytes = packer.nbytes
                    if found.strangers is not None:
                        wish.hold(self._adopted(found))
                done += len(batch)
                if done - start >= limit or nbytes > CHUNK_BYTES:
                    self._send_chunk(
                        base + start, number, packer.take(), ids, marks, options
                    )
                    start, limit = done, CHUNK_TASKS
                    nbytes = 0
                    ids.clear()
                    marks = []
            if done > start:
                self._send_chunk(
                    base + start, number, packer.take(), ids, marks, options
                )
        return done

    def _add_each(
        self,
        packer: Packer,
        batch: list[Any],
        first: int,
        wish: Range,
        ids: list[TaskId],
        marks: list[int],
        form: Format,
    ) -> None:
        """Add arguments one by one; *marks* says where the ids of each end."""
        for index, call in enumerate(batch, first):
            before = len(packer)
            frames = self._add_call(packer.add, call, index, form)
            if frames is not None:
                self._add_large(packer, frames, wish, ids)
            if ids:
                marks += [0] * (before - len(marks))
                marks.append(len(ids))

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
            _name_culprit(args, kwargs, form)
        except (TypeError, ValueError) as named:
            failed = named
        failed.add_note(f"in the arguments of element {index} of the map")
        raise failed

    def _add_large(
        self, packer: Packer, frames: list[Buffer], wish: Range, ids: list[TaskId]
    ) -> None:
        future = self.bring(frames, "arguments")
        wish.hold([future])
        packer.add(refs.ById(future.id))
        del ids

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

    def number_of(self, function: Callable[..., Any], taken: list[int]) -> int:
        """Return this client's number for a (small) function, defining it if need be.

        It is good until ``done_with(taken)``, to which it is added.
        """
        return self._define(self.writing.function(function, PICKLE), taken)

    def done_with(self, taken: list[int]) -> None:
        """All messages with these numbers have been posted."""
        self._numbers.done(taken)


def _name_culprit(args: tuple[Any, ...], kwargs: dict[str, Any], form: Format) -> None:
    """Raise the error of the one argument that cannot be pickled, by its name."""
    for index, value in enumerate(args):
        form.dumps(value, f"args[{index}]")
    for name, value in kwargs.items():
        form.dumps(value, f"kwargs[{name!r}]")
