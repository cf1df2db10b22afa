"""Futures: the handles that users hold.

A ``Future`` is two words: a range and an index.  ``Futures``, what ``map``
returns, behaves like a list of futures but makes each one only when it is
touched.  A task's value is kept by the cluster for as long as a handle of it
is alive here; when the last one is collected, the value may go.
"""

from __future__ import annotations

import functools
import itertools
import operator
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, MutableSequence
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn, TypeVar, overload

from covey import clock
from covey.client.callbacks import run_callback
from covey.client.checks import REASON_LENGTH_MAX, check_patience, check_text
from covey.client.core.ranges import RELEASED, Range, Status
from covey.client.midst import check_free
from covey.client.outcome import ending_text, error_of
from covey.errors import Closed, TaskCancelled, UsageError
from covey.ids import TaskId
from covey.serde import refs
from covey.units import counted

if TYPE_CHECKING:
    from covey.client.fetching import Session
    from covey.client.handles import Handles

R = TypeVar("R")

_WORDS: Final = {
    Status.PENDING: "pending",
    Status.FINISHED: "finished",
    Status.STORED: "finished",
    Status.ERROR: "error",
    Status.CANCELLED: "cancelled",
}


class Future(refs.Reference, Generic[R]):
    """The result of one task, now or later.

    Made by ``Client.submit`` and ``Client.map``.  Pass it as an argument of
    another task (also deep inside lists, dicts or your own objects) and that
    task gets the value.  ``await`` works in any event loop.

    Futures of one task of one client are equal: a copy, or what was pickled and read
    again, is found in a dict by the other.
    """

    __slots__ = ("__weakref__", "_index", "_range", "_session")

    def __init__(self, session: Session | None, wish: Range, index: int) -> None:
        #: ``None`` once the future was released.
        self._session = session
        self._range = wish
        self._index = index

    def __eq__(self, other: object) -> bool:
        # Neither changes when one is released, so that it is found where it was put.
        if isinstance(other, Future):
            return self._range is other._range and self._index == other._index
        return NotImplemented

    def __hash__(self) -> int:
        return self._range.base + self._index

    @property
    def session(self) -> Session:
        """What waits and fetches for this future.

        Raises:
            Closed: the future was released.
        """
        if self._session is None:
            raise self._closed()
        return self._session

    def _closed(self) -> Closed:
        return Closed(
            f"{self.key}: this future was released, and its value may be gone; "
            f"submit the task again"
        )

    @property
    def holder(self) -> Session | None:
        """The session that holds it; ``None`` once it was released."""
        return self._session

    @property
    def released(self) -> bool:
        """Whether ``release`` was called."""
        return self._session is None

    @property
    def given_up(self) -> bool:
        """Whether it was released before the task ended: no end is told of it."""
        if self._session is not None:
            return False
        wish, index = self._range, self._index
        return not wish.status[index] or wish.failure(index) is RELEASED

    @property
    def _condition(self) -> NoReturn:
        """What ``concurrent.futures.wait`` and ``as_completed`` ask for first."""
        raise AttributeError(
            "concurrent.futures.wait and as_completed do not take the futures of a "
            "Client: use covey.wait and covey.as_completed, or submit to "
            "Client.get_executor() or a covey.Executor, whose futures they take"
        )

    # What it is.

    @property
    def key(self) -> str:
        """The name of the task and of its result."""
        return self._range.key(self._index)

    @property
    def id(self) -> TaskId:
        """The number of the task, unique in the cluster."""
        return self._range.base + self._index

    @property
    def status(self) -> str:
        """``"pending"``, ``"finished"``, ``"error"`` or ``"cancelled"``."""
        return _WORDS[Status(self._stands())]

    @property
    def type(self) -> type[Any] | None:
        """The type of the value, if the value has been fetched."""
        session = self._session
        return session.type_of(self._range, self._index) if session else None

    def _stands(self) -> int:
        status = self._range.status[self._index]
        if not (status or self._session is None):
            self._session.engine.look()  # Who asks on and on is to hear of its end.
        return status

    def done(self) -> bool:
        """Whether the task has ended, in whatever way."""
        return self._stands() != Status.PENDING

    def cancelled(self) -> bool:
        """Whether the task was cancelled."""
        return self._stands() == Status.CANCELLED

    def running(self) -> bool:
        """Whether a worker has been given the task: it runs, or is about to.

        The scheduler is asked.  False while the task waits for its inputs or its turn,
        when it has ended, and when this future was released.
        """
        if self.done() or self.released:
            return False
        answer = self.session.ask("explain", extents=((self.id, 1),))
        return answer["state"] == "assigned" and "inputs" not in answer

    # Waiting.

    def result(self, timeout: float | None = None) -> R:
        """Return the value, waiting for it if need be.

        Args:
            timeout: seconds to wait; ``None`` waits for as long as it takes.  A large
                value that is there is brought even so.

        Raises:
            TimeoutError: it did not come in time; the task goes on.
            TaskCancelled: the task was cancelled.
            Exception: whatever the task raised, with its remote traceback as a note.
        """
        deadline = None
        if timeout is not None:
            check_patience(timeout)
            deadline = clock.monotonic() + timeout
        session = self.session
        if not self._range.status[self._index]:
            session.wait_for(self, timeout)
        value: R = session.value(self, deadline)
        return value

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the task raised, or ``None`` if it returned.

        Raises:
            TimeoutError: it did not end in time.
            TaskCancelled: the task was cancelled.
        """
        if timeout is not None:
            check_patience(timeout)
        self.session.wait([self], timeout)
        failure = self._range.failure(self._index)
        if failure is None:
            return None
        error = error_of(
            failure, self.key, self.session.key_of, plain=self.session.plain
        )
        if isinstance(error, TaskCancelled):
            raise error
        return error

    def traceback(self, timeout: float | None = None) -> str | None:
        """Return the remote traceback of a failed task as text."""
        error = self.exception(timeout)
        if error is None:
            return None
        notes = getattr(error, "__notes__", [])
        return "\n".join(notes) or f"{type(error).__name__}: {error}"

    def __await__(self) -> Generator[Any, None, R]:
        return self.session.wait_async([self], single=True).__await__()

    def add_done_callback(self, callback: Callable[[Future[R]], object]) -> None:
        """Call *callback* with this future when the task has ended.

        It may do whatever you like: fetch the value, submit more, wait.  It is called
        in a thread for the callbacks of this client, one after the other in the order
        in which the tasks end; at once, in yours, if the task has ended already.  What
        it raises is logged.
        """
        if not callable(callback):
            raise UsageError(
                f"add_done_callback takes something to call with the future, not "
                f"{callback!r:.80}"
            )
        session = self.session
        if self.done():
            run_callback(callback, self)
        else:
            session.watch(self, functools.partial(session.callbacks.soon, callback))

    # Acting.

    def cancel(self, reason: str = "") -> bool:
        """Stop the task, running or not; dependents fail with it.

        If it ends before the scheduler hears of it, it stays as it has ended.  An
        ``AsyncClient`` does not wait for the scheduler's word.

        Returns:
            Whether it was cancelled, or is about to be as far as is known.
        """
        check_text(reason, "reason=", REASON_LENGTH_MAX)
        if not self.done():
            self.session.cancel([self], reason)
        return self.cancelled() or not self.done()

    def retry(self) -> None:
        """Run a failed task once more."""
        self.session.retry([self])

    def release(self) -> None:
        """Let go of the value now, without waiting for this handle to be collected.

        If the task has not ended, this is the end of it for those who wait for it:
        ``result`` and ``wait`` raise ``Closed``, ``as_completed`` yields this future,
        and callbacks are called.
        """
        if self._session is not None:
            session, self._session = self._session, None
            session.release(self._range, self._index, 1)

    def explain(self) -> str:
        """Say in a sentence how the task stands, what it waits for, or how it ended."""
        if self.done():
            return f"{self.key}: {self.status}{self._how_it_ended()}"
        away = self.session.engine.why_away()
        if away:
            return f"{self.key}: pending; {away}"
        answer = self.session.ask("explain", extents=((self.id, 1),))
        return f"{self.key}: {answer['text']}"

    def _how_it_ended(self) -> str:
        """Tell what went wrong, or where the value rests, as far as that is known."""
        session = self._session
        if session is None or self.cancelled():
            return ""
        failure = self._range.failure(self._index)
        if failure is not None:
            return f"; {ending_text(failure, self.key, session.key_of)}"
        engine = session.engine
        if engine.closed or engine.broken is not None or engine.why_away():
            return ""
        text: str = session.ask("explain", extents=((self.id, 1),))["text"]
        return f"; {text.removeprefix('it is done; ')}"

    def __del__(self) -> None:
        # Ctrl-C may come at every call, so that none stands outside of ``try``.
        session = handles = None
        try:
            session = self._session
            if session is not None:
                handles = [(self._range, self._index, 1)]
                session.let_go(handles)
        except AttributeError:
            if session is not None:
                raise
            # Making it had failed.
        except KeyboardInterrupt:
            if session is not None:
                again = [(self._range, self._index, 1)] if handles is None else handles
                session.let_go_once_more(again)
            raise  # See ``interrupts``.

    def __repr__(self) -> str:
        if self._session is None:
            return f"<Future: released, key: {self.key}>"
        shown = self.status
        kind = self.type
        if kind is not None:
            shown += f", type: {kind.__module__}.{kind.__qualname__}"
        return f"<Future: {shown}, key: {self.key}>"

    def _repr_html_(self) -> str:
        from covey.client.html import card, folded
        from covey.client.outcome import failure_text

        rows: list[tuple[str, object]] = [("status", self.status)]
        kind = self.type
        if kind is not None:
            rows.append(("type", f"{kind.__module__}.{kind.__qualname__}"))
        note = ""
        failure = self._range.failure(self._index) if self.status == "error" else None
        if failure is not None:
            rows.append((failure.type_name, failure.message[:1000]))
            note = folded("traceback", failure_text(failure))
        if not self.done():
            rows.append(("why not yet?", "future.explain()"))
        return card(f"Future {self.key}", rows, note)

    def refer(self) -> int:
        """Return the id of the task, and have it recorded as an input."""
        if self._session is None:
            raise self._closed()
        refs.note(self.id, self, self._session)
        return self.id

    def __dask_tokenize__(self) -> tuple[str, int]:
        """What dask tells two futures apart by, as it does for all that is in a graph."""
        return "covey.Future", self.id

    def __reduce__(self) -> tuple[object, ...]:
        if self._session is None:
            raise self._closed()
        if refs.note(self.id, self, self._session):
            return (refs.resolve, (self.id,))
        from covey.client.current import rebind

        token = self._session.engine.token_of(self.id)
        return (rebind, (self.id, self._range.label, self._range.name, token))


def check_told(futures: Iterable[Future[Any]]) -> None:
    """See to it that of all of *futures* it was told how they ended.

    Raises:
        Closed: one was released before that.
    """
    for future in futures:
        if future.given_up:
            raise future._closed()


def take(future: Future[R], timeout: float | None) -> R:
    """Return the value of a future that nobody will ask again, and keep none of it."""
    value = future.result(timeout)
    future._range.values.pop(future._index, None)
    future.release()
    return value


_MAKING: Final = threading.RLock()

_session_of: Final = operator.attrgetter("_session")


def _untouched(futures: Futures[Any]) -> Handles:
    """Return the stretches of a map of which no single future was made."""
    handles: Handles = []
    if futures._items is not None:
        return handles
    wish, made = futures._range, futures._made
    at = 0
    for index in sorted(made):
        if index > at:
            handles.append((wish, at, index - at))
        at = index + 1
    if wish.n > at:
        handles.append((wish, at, wish.n - at))
    return handles


def _made_at(
    futures: Futures[R], handles: dict[int, Future[R]], index: int
) -> Future[R]:
    made = handles.get(index)
    if made is None:
        # Two threads must not make two handles of one task.
        check_free(_MAKING)
        with _MAKING:
            made = handles.get(index)
            if made is None:
                made = Future(futures._session, futures._range, index)
                handles[index] = made
    return made


class Originals(Generic[R]):
    """The futures of a map by their places in it, whatever becomes of its list.

    Who changes a list has made all its futures before: then they are in *made*.

    Args:
        futures: the list as it was returned.
        made: what was made of them.
    """

    __slots__ = ("_futures", "_made")

    def __init__(self, futures: Futures[R], made: dict[int, Future[R]]) -> None:
        self._futures = futures
        self._made = made

    @property
    def range(self) -> Range:
        """What their tasks are in."""
        return self._futures._range

    @property
    def session(self) -> Session:
        """Of their client."""
        return self._futures._session

    def at(self, index: int) -> Future[R]:
        """Return the future of a task."""
        return _made_at(self._futures, self._made, index)

    def has(self, future: Future[Any]) -> bool:
        """Whether *future* is one of these, and no copy."""
        return self._made.get(future._index) is future


class Futures(MutableSequence[Future[R]], refs.References):
    """The futures of one ``map``: a list whose items are made when touched."""

    __slots__ = ("__weakref__", "_items", "_made", "_range", "_session")

    def __init__(self, session: Session, wish: Range) -> None:
        self._session = session
        self._range = wish
        self._made: dict[int, Future[R]] = {}
        #: A plain list, once somebody changed this one.
        self._items: list[Future[R]] | None = None

    @property
    def whole(self) -> Range | None:
        """The range, as long as this is exactly its futures and all are held."""
        sessions = map(_session_of, list(self._made.values()))
        return None if self._items is not None or None in sessions else self._range

    def originals(self) -> Originals[R] | None:
        """Return its futures as they came, if this is exactly these and all are held."""
        made = self._made  # Before the look: another thread may change the list.
        return None if self.whole is None else Originals(self, made)

    @property
    def holder(self) -> Session:
        """The session that made these."""
        return self._session

    @property
    def all_ended(self) -> bool:
        """Whether no task of these is pending; none of the futures is made for it."""
        if self._items is None:
            return not self._range.pending
        return all(future.done() for future in self._items)

    def _pending(self) -> int:
        if self._items is None:
            return self._range.pending
        return sum(not future.done() for future in self._items)

    def __dask_tokenize__(self) -> tuple[object, ...]:
        """The same for what stands here."""
        if self._items is None:
            return "covey.Futures", self._range.base, self._range.n
        return "covey.Futures", [future.id for future in self._items]

    def __len__(self) -> int:
        return self._range.n if self._items is None else len(self._items)

    def _at(self, index: int) -> Future[R]:
        made = self._made  # Before the look: another thread may change the list.
        if self._items is not None:
            return self._items[index]
        return _made_at(self, made, index)

    @overload
    def __getitem__(self, index: int) -> Future[R]: ...
    @overload
    def __getitem__(self, index: slice) -> list[Future[R]]: ...
    def __getitem__(self, index: int | slice) -> Future[R] | list[Future[R]]:
        if self._items is not None:
            return self._items[index]
        n = self._range.n
        if isinstance(index, slice):
            return [self._at(i) for i in range(*index.indices(n))]
        if index < 0:
            index += n
        if not 0 <= index < n:
            raise IndexError(f"there are {n} futures, so none at {index}")
        return self._at(index)

    def __iter__(self) -> Iterator[Future[R]]:
        # By places, as a list's: what is taken out on the way shifts the rest.
        n = self._range.n
        try:
            for index in itertools.count():
                if self._items is not None:
                    yield self._items[index]
                elif index < n:
                    yield self._at(index)
                else:
                    return
        except IndexError:
            return

    def _changeable(self) -> list[Future[R]]:
        if self._items is None:
            items = list(self)
            with _MAKING:
                if self._items is None:
                    self._items = items
                    # What is taken out of the list is held by nothing else in here.
                    self._made = {}
        return self._items

    def __setitem__(self, index: Any, value: Any) -> None:
        self._changeable()[index] = value

    def __delitem__(self, index: int | slice) -> None:
        del self._changeable()[index]

    def insert(self, index: int, value: Future[R]) -> None:
        """Insert a future before *index*."""
        self._changeable().insert(index, value)

    def __add__(self, other: Iterable[Future[Any]]) -> list[Future[Any]]:
        return [*self, *other]

    def __radd__(self, other: Iterable[Future[Any]]) -> list[Future[Any]]:
        return [*other, *self]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Futures | list):
            return list(self) == list(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __del__(self) -> None:
        session = handles = None
        try:
            session = self._session
            if session is not None:
                handles = _untouched(self)
                session.let_go(handles)
                session.drop_in_order(self._made, self._items)
        except AttributeError:
            if session is not None:
                raise
            # Making it had failed.
        except KeyboardInterrupt:
            if session is not None:
                if handles is None:
                    handles = _untouched(self)
                session.let_go_once_more(handles)
            raise  # See ``interrupts``.

    def __repr__(self) -> str:
        n, pending = len(self), self._pending()
        label = self._range.label
        return f"<{counted(n, 'future')} of {label}: {n - pending} ended, {pending} pending>"

    def _repr_html_(self) -> str:
        from covey.client.html import bar, card

        n, pending = len(self), self._pending()
        rows = (("ended", f"{n - pending:,}"), ("pending", f"{pending:,}"))
        share = (n - pending) / n if n else 1.0
        return card(f"{counted(n, 'future')} of {self._range.label}", rows, bar(share))

    def __reduce__(self) -> tuple[object, ...]:
        return (list, (list(self),))
