"""From a call to a message: its function, its arguments, and the futures inside them.

Small arguments are packed; a large one is brought to a worker first, and the task takes it
as an input.
"""

from __future__ import annotations

import pickle
import threading
import weakref
from collections.abc import Callable
from typing import Any, Final

from covey.client.adopting import adopted
from covey.client.along import ALONG_BYTES, Along
from covey.client.checks import check_text
from covey.client.columns import results_of
from covey.client.core.ranges import Range
from covey.client.fetching import Session
from covey.client.functions import Pickled
from covey.client.future import Future
from covey.client.names import Names, identity_of
from covey.client.numbers import Numbers
from covey.client.placing import Placer
from covey.client.rewriting import Rewriting
from covey.client.shapes import (
    split_needs,
)
from covey.client.taken import check_slips
from covey.client.writing import Writing
from covey.errors import UsageError
from covey.ids import TaskId
from covey.payload import Buffer
from covey.serde import refs
from covey.serde.call import Call, call_value
from covey.serde.columns import columns_payload
from covey.serde.formats import PICKLE, Format
from covey.serde.naming import names_something
from covey.serde.packing import LIMIT_BYTES, Packer
from covey.serde.registry import PROTOCOL
from covey.serde.values import dumps_call, is_long, length_of
from covey.wire.base import Options
from covey.wire.client_link import Submit

#: What no future can be inside of, and pickle writes in one way only.
_PLAIN: Final = frozenset({bool, int, float, complex, str, bytes, type(None)})

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
    """Turns single calls into messages for one engine."""

    def __init__(self, session: Session, writing: Writing) -> None:
        super().__init__(session, writing)
        self._numbers = Numbers(self._engine.post)
        self._along = Along()
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
            return self._define(alone, taken), pickled.label, pickled.digest, future
        number = self._numbers.take(pickled, self.writing.environment)
        taken.append(number)
        return number, pickled.label, pickled.digest, None

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
        engine, writing = self._engine, self.writing
        engine.check()
        if kwargs:
            check_slips(function, kwargs)
        if key is not None:
            check_text(key, "key=")
        form = writing.form(serializer)
        taken: list[int] = []
        try:
            fn, label, digest, by_value = self._function(function, form, taken)
            if by_value is not None:
                args = (refs.AsFunction(by_value), *args)
            elif (
                args
                and isinstance(args[0], Future)
                and not (kwargs or pure or key is not None)
                and (ids := results_of(args, self._session))
            ):
                return self._call_of_results(fn, label, ids, options)
            named = pure or key is not None
            written = self._written(args, kwargs, form, named=named)
            payload, needs, large, holds = written
            if by_value is None and writing.modules.named_in(payload):
                # The function may know nothing of them.
                again = self._function(function, form, taken, payload)
                fn, label, digest, _ = again
            identity = b""
            if named:
                identity = identity_of(digest, large or (payload,))
                key = key or f"{label}-{identity.hex()}"
                known = self._names.find(key, identity)
                held = self._session.hold(known) if known is not None else None
                if held is not None:
                    return held
            if large:
                payload, needs = self._brought(large, needs, holds, form)
            base = engine.new_tasks(1)
            wish = Range(base, 1, label, key)
            # First, so that whatever is raised from now on lets go of the task.
            future: Future[Any] = Future(self._session, wish, 0)
            self._session.enter(wish)
            if holds:
                wish.hold(holds)
            if by_value is not None:
                wish.hold([by_value])
            aligned, whole = split_needs(needs) if needs else ((), ())
            sizes = len(payload).to_bytes(4, "little")
            # As they stand there: by name they would take longer to put together.
            message = Submit(
                base, 1, fn, sizes, payload, options, aligned, whole, key, (), identity
            )
            # A task of that name may be about to be let go of, which must come first.
            say = engine.outbox.say if key is None else engine.post
            say(message)
            if key is not None:
                # Not before: who found one that was never said would wait for ever.
                self._names.enter(key, identity, base)
            return future
        finally:
            self._numbers.done(taken)

    def _call_of_results(
        self, fn: int, label: str, ids: list[TaskId], options: Options
    ) -> Future[Any]:
        """Wish for one call that takes results only, of which nothing is pickled."""
        base = self._engine.new_tasks(1)
        future = self._new_future(base, label)
        payload = columns_payload([task - base for task in ids])
        sizes = len(payload).to_bytes(4, "little")
        aligned, whole = split_needs(ids)
        message = Submit(base, 1, fn, sizes, payload, options, aligned, whole)
        self._engine.outbox.say(message)
        return future

    def _written(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        form: Format,
        *,
        named: bool,
    ) -> tuple[bytes, list[TaskId], list[Buffer], list[object]]:
        """Return arguments as bytes, and the ids of the futures inside.

        If they are too large for a message, these are the first of the frames that
        follow, which are to be brought to a worker.  Last comes what is to be kept:
        futures, and what lets long arguments go along.  Those of a call that is *named*
        never do: it is known by how its arguments are written, which is to be one way.
        """
        value: Any = Call(args, kwargs) if kwargs else args
        pickles = form is PICKLE
        long = pickles and not kwargs and is_long(args)
        if (
            pickles
            and _PLAIN.issuperset(map(type, args))
            and (not kwargs or _PLAIN.issuperset(map(type, kwargs.values())))
            and not (long and (named or length_of(args) > ALONG_BYTES))
        ):
            payload = pickle.dumps(value, PROTOCOL)
            if len(payload) <= LIMIT_BYTES:
                return payload, [], [], []
            ticket = None if named else self._along.ticket(len(payload))
            if ticket is not None:
                return payload, [], [], [ticket]
        packer = _here.packer(form)
        add = dumps_call if long else packer.add
        with self.writing.chosen(), refs.capture(self._session) as found:
            frames = self._add(add, value, args, kwargs, form)
        holds = self._adopted(found) if found.strangers is not None else []
        if frames is not None:
            payload = bytes(frames[0])
            # Plain data is the same in both ways; arrays that were brought are not
            # written to, and what holds futures takes these besides.
            if pickles and not named and len(frames) == 1 and not found.task_ids:
                ticket = self._along.ticket(len(payload))
                if ticket is not None and not names_something(payload):
                    return payload, [], [], [ticket]
            return payload, found.task_ids, frames, holds
        return packer.take_single(), found.task_ids, [], holds

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

    def _brought(
        self,
        frames: list[Buffer],
        inside: list[TaskId],
        holds: list[object],
        form: Format,
    ) -> tuple[bytes, list[TaskId]]:
        """Bring arguments to a worker, which are too large for a message.

        Args:
            frames: what they are.
            inside: the futures in them.
            holds: futures that are to be kept; that of the arguments is added.
            form: how the call is written.

        Returns:
            What is left of the arguments, as bytes, and all that they take.
        """
        future = self.bring(frames, "arguments")
        holds.append(future)
        packer = _here.packer(form)
        with refs.capture(self._session) as outer:
            packer.add(refs.ById(future.id))
        return packer.take_single(), [*outer.task_ids, *inside]

    def _add(
        self,
        add: Callable[[Any], list[Buffer] | None],
        value: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        form: Format,
    ) -> list[Buffer] | None:
        try:
            return add(value)
        except (TypeError, ValueError) as error:
            failed = error
        # Outside of ``except``: it says the same, better, and not on top of it.
        name_culprit(args, kwargs, form)
        raise failed

    def number_of(self, function: Callable[..., Any], taken: list[int]) -> int:
        """Return this client's number for a (small) function, defining it if need be.

        It is good until ``done_with(taken)``, to which it is added.
        """
        return self._define(self.writing.function(function, PICKLE), taken)

    def done_with(self, taken: list[int]) -> None:
        """All messages with these numbers have been posted."""
        self._numbers.done(taken)


def name_culprit(args: tuple[Any, ...], kwargs: dict[str, Any], form: Format) -> None:
    """Raise the error of the one argument that cannot be written, by its name."""
    for index, value in enumerate(args):
        form.dumps(value, f"args[{index}]")
    for name, value in kwargs.items():
        form.dumps(value, f"kwargs[{name!r}]")
