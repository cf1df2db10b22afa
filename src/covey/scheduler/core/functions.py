"""Functions: who leads to them, and when they are forgotten.

A client numbers its functions, and a task is of one::

    client's number ──┐
    client's number ──┼──► Function ──► workers that were told of it
    known tasks ──────┘

Whoever submits a new closure with every call makes a new function with every call.
So one to which nothing leads any more is forgotten everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import msgspec

from covey.wire.client_link import DefineFunction
from covey.wire.worker_link import Define, Undefine

if TYPE_CHECKING:
    from covey.scheduler.core.state import Client, SchedulerState, Worker

#: So many labels of forgotten functions are told apart; the rest is summed up.
LABELS_MAX: Final = 1000

OTHERS: Final = "(others)"

FunctionKey: TypeAlias = tuple[bytes, bytes, str]
"""What a client says a function is: the digest, the bytes, the environment."""


class Function:
    """A function that clients submitted; one record for equal bytes."""

    __slots__ = (
        "digest",
        "done",
        "environment",
        "failed",
        "label",
        "names",
        "nbytes",
        "number",
        "payload",
        "python",
        "seconds",
        "submitted",
        "tasks",
        "unsteady",
        "workers",
    )

    def __init__(
        self,
        number: int,
        digest: bytes,
        label: str,
        payload: bytes,
        environment: str = "",
    ) -> None:
        self.number = number
        self.digest = digest
        self.label = label
        self.payload = payload
        #: What its runners need; of that, which Python says where tasks of it can go.
        self.environment = environment
        self.python = python_of(environment)
        #: Moving average of how long one call takes; ``None`` until one has returned.
        self.seconds: float | None = None
        #: The same for how large its results are.
        self.nbytes = 0.0
        #: Whether clients were told that it does not always give the same.
        self.unsteady = False
        #: Tasks of it so far, for those who look on.
        self.submitted = 0
        self.done = 0
        self.failed = 0
        #: How many clients' numbers and how many known tasks lead to it, and which
        #: workers have been told of it: see ``functions``.
        self.names = 0
        self.tasks = 0
        self.workers: dict[Worker, None] = {}

    @property
    def key(self) -> FunctionKey:
        """What tells it from others: all that its client said of its bytes."""
        return (self.digest, self.payload, self.environment)


class Counts(NamedTuple):
    """Tasks of functions so far."""

    submitted: int = 0
    done: int = 0
    failed: int = 0
    seconds: float | None = None


def python_of(environment: str) -> str:
    """Return the minor version of Python that an environment asks for, or nothing.

    Text that makes no sense is refused by the workers, in words of theirs.
    """
    if not environment:
        return ""
    try:
        wanted = msgspec.json.decode(environment, type=_Wish).python
    except msgspec.MsgspecError:
        return ""
    found = re.match(r"\d+\.\d+", wanted)
    return found[0] if found else ""


class _Wish(msgspec.Struct):
    """What matters here of what a client asks for."""

    python: str = ""


class Functions:
    """All functions that are known, by their bytes.

    Args:
        first: after this they are numbered.
    """

    def __init__(self, first: int) -> None:
        self.last = first
        self.known: dict[FunctionKey, Function] = {}
        #: What there was of functions that are not known any more, by label.
        self.past: dict[str, Counts] = {}

    def __len__(self) -> int:
        return len(self.known)

    def __iter__(self) -> Iterator[Function]:
        return iter(self.known.values())


def define(state: SchedulerState, client: Client, message: DefineFunction) -> None:
    """Equal bytes are one function, whoever brings them."""
    table = state.functions
    # Not the digest alone: whoever lied about that would have others run his code.
    key = (message.digest, message.payload, message.environment)
    function = table.known.get(key)
    if function is None:
        table.last += 1
        function = Function(
            table.last,
            message.digest,
            message.label,
            message.payload,
            message.environment,
        )
        table.known[key] = function
    function.names += 1
    undefine(state, client, message.fn)
    client.functions[message.fn] = function


def undefine(state: SchedulerState, client: Client, number: int) -> None:
    """A client does not use one of its numbers any more."""
    function = client.functions.pop(number, None)
    if function is not None:
        function.names -= 1
        _drop_unused(state, function)


def tell(state: SchedulerState, worker: Worker, function: Function) -> None:
    """Send a function to a worker, if that does not have it."""
    if function in worker.functions:
        return
    worker.functions.add(function)
    function.workers[worker] = None
    state.send(
        worker.peer,
        Define(function.number, function.label, function.payload, function.environment),
    )


def count(state: SchedulerState, function: Function | None, n: int) -> None:
    """There are *n* more tasks of a function, or less if *n* is negative."""
    if function is not None:
        function.tasks += n
        if not function.tasks:
            _drop_unused(state, function)


def leave(worker: Worker) -> None:
    """A worker is gone, and what it was told with it."""
    for function in worker.functions:
        del function.workers[worker]
    worker.functions.clear()


def _drop_unused(state: SchedulerState, function: Function) -> None:
    if function.names or function.tasks:
        return
    del state.functions.known[function.key]
    for worker in function.workers:
        worker.functions.discard(function)
        state.send(worker.peer, Undefine(function.number))
    function.workers.clear()
    past = state.functions.past
    label = function.label
    if label not in past and len(past) >= LABELS_MAX:
        label = OTHERS
    before = past.get(label, Counts())
    past[label] = Counts(
        before.submitted + function.submitted,
        before.done + function.done,
        before.failed + function.failed,
        before.seconds if function.seconds is None else function.seconds,
    )
