"""Functions: who leads to them, and when they are forgotten.

A client numbers its functions, and a task is of one::

    client's number ──┐
    client's number ──┼──► Function ──► workers that were told of it
    known tasks ──────┘

Whoever submits a new closure with every call makes a new function with every call.
So one to which nothing leads any more is forgotten everywhere.
"""

from __future__ import annotations

from typing import Final

from covey.scheduler.core.state import (
    Client,
    Counts,
    Function,
    SchedulerState,
    Worker,
)
from covey.wire.client_link import DefineFunction
from covey.wire.worker_link import Define, Undefine

#: So many labels of forgotten functions are told apart; the rest is summed up.
LABELS_MAX: Final = 1000

OTHERS: Final = "(others)"


def define(state: SchedulerState, client: Client, message: DefineFunction) -> None:
    """Equal bytes are one function, whoever brings them."""
    function = state.functions.get(message.digest)
    if function is None:
        state.last_function += 1
        function = Function(
            state.last_function,
            message.digest,
            message.label,
            message.payload,
            message.environment,
        )
        state.functions[message.digest] = function
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
    del state.functions[function.digest]
    for worker in function.workers:
        worker.functions.discard(function)
        state.send(worker.peer, Undefine(function.number))
    function.workers.clear()
    past = state.past_functions
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
