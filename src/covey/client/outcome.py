"""From the failure that travelled to the exception that is raised."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from covey.client import advice, sources
from covey.errors import (
    AuthRefused,
    CoveyError,
    DataLost,
    Disconnected,
    EnvironmentFailed,
    KeyConflict,
    RunnerDied,
    TaskCancelled,
    TaskError,
    TaskOutOfMemory,
    TaskTimedOut,
    WorkerDied,
)
from covey.serde.failures import revive, traceback_text, where_text
from covey.wire.base import Attempt, Failure
from covey.wire.client_link import Closing

_OURS: Final[dict[str, type[CoveyError]]] = {
    "TaskCancelled": TaskCancelled,
    "TaskTimedOut": TaskTimedOut,
    "RunnerDied": RunnerDied,
    "WorkerDied": WorkerDied,
    "EnvironmentFailed": EnvironmentFailed,
    "TaskOutOfMemory": TaskOutOfMemory,
    "DataLost": DataLost,
    "Disconnected": Disconnected,
    "KeyConflict": KeyConflict,
    "AuthRefused": AuthRefused,
}


def end_of_all(
    where: str, error: Exception | None, closing: Closing | None
) -> Disconnected:
    """Return what is raised once the scheduler is gone for good.

    Args:
        where: its address.
        error: what has broken the connection, if that is known.
        closing: its last word, if there was one.
    """
    lost = "tasks that had not ended are lost"
    if closing is not None:
        what = "refuses to go on with us" if closing.refused else "has ended"
        return Disconnected(
            f"the scheduler at {where} {what}: {closing.reason}; {lost}"
        )
    why = f" ({error})" if error is not None else ""
    return Disconnected(
        f"the connection to the scheduler at {where} broke{why}; {lost}. Look at the "
        f"scheduler's log for the reason"
    )


def error_of(
    failure: Failure,
    key: str,
    key_of: Callable[[int], str | None],
    *,
    plain: bool = False,
) -> BaseException:
    """Return the exception that tells of *failure*.

    Args:
        failure: what was reported for the task.
        key: the key of the task that was asked for.
        key_of: tells the key of another task by its id, for inherited failures.
        plain: read no pickle.
    """
    origin = _origin(failure, key, key_of)
    inherited = origin != key
    if failure.payload:
        error: BaseException = revive(
            failure.payload, plain=plain, retell=sources.filled_in
        )
    else:
        # What was cancelled is told of the task that cannot run for that, all else
        # of the task that it happened to.
        culprit = key if failure.kind == "cancelled" else origin
        cls = _OURS.get(failure.type_name, TaskError)
        message = failure.message
        if inherited and message.startswith("cancelled"):
            message = f"its input {origin} was {message}"
            inherited = False  # All is said.
        error = cls(f"{culprit}: {message}")
        if isinstance(error, RunnerDied):
            _tell(error, failure, _DEATH)
            if error.out_of_memory is not None:
                error.out_of_memory = bool(error.out_of_memory)
        if isinstance(error, TaskTimedOut):
            _tell(error, failure, _TOO_LONG)
            error.add_note(_when_too_long(error))
        if isinstance(error, TaskOutOfMemory):
            error.task = culprit
            _tell(error, failure, _TOO_MUCH)
            more = advice.of_too_large(culprit)
            if more:
                error.add_note(more)
    printed = failure.details.get("printed")
    if printed:
        error.add_note(f"The last lines that it printed:\n{printed}")
    if failure.attempts:
        error.add_note(_attempts_text(failure.attempts))
    if inherited:
        error.add_note(f"{key} failed because its input {origin} failed.")
    return error


#: Where the fields of a ``RunnerDied`` come from.
_DEATH: Final[dict[str, tuple[str, type]]] = {
    "exit_code": ("exit_code", int),
    "signal": ("signal", str),
    "worker": ("worker", str),
    "peak": ("peak_bytes", int),
    "out_of_memory": ("out_of_memory", int),
    "stderr": ("stderr", str),
}


#: And those of a ``TaskTimedOut``.
_TOO_LONG: Final[dict[str, tuple[str, type]]] = {"worker": ("worker", str)}


def _when_too_long(error: TaskTimedOut) -> str:
    """Say where a task ran too long, and what can be done."""
    where = f"It ran on {error.worker}. " if error.worker else ""
    return (
        f"{where}The time counts from when it begins to run, and for each run of it anew: "
        f"give more with timeout=, or another try with retries="
    )


#: And those of a ``TaskOutOfMemory``.
_TOO_MUCH: Final[dict[str, tuple[str, type]]] = {
    "peak": ("peak_bytes", int),
    "limit": ("limit_bytes", int),
    "worker": ("worker", str),
}


def _tell(
    error: RunnerDied | TaskTimedOut | TaskOutOfMemory,
    failure: Failure,
    fields: dict[str, tuple[str, type]],
) -> None:
    """Put what is known of the end of a task into the fields of *error*."""
    for field, (name, kind) in fields.items():
        value = failure.details.get(name)
        if isinstance(value, kind):
            setattr(error, field, value)
    if not isinstance(error, TaskTimedOut):
        error.attempts = tuple((a.worker, _what_came_of(a)) for a in failure.attempts)


def _what_came_of(attempt: Attempt) -> str:
    if not attempt.message:
        return attempt.type_name
    return f"{attempt.type_name}: {attempt.message}"


def failure_text(failure: Failure) -> str:
    """Return traceback and last lines of a failure, read without any pickle."""
    parts = []
    if failure.payload:
        told = traceback_text(failure.payload).rstrip()
        parts.append(sources.filled_in(told))
    printed = failure.details.get("printed")
    if printed:
        parts.append(f"The last lines that it printed:\n{printed}")
    if failure.attempts:
        parts.append(_attempts_text(failure.attempts))
    return "\n\n".join(parts)


def ending_text(failure: Failure, key: str, key_of: Callable[[int], str | None]) -> str:
    """Say how a task failed, where, and how often it was tried."""
    text = f"it failed with {failure.type_name}: {failure.message}"
    if failure.payload:
        text += f" (on {where_text(failure.payload)})"
    origin = _origin(failure, key, key_of)
    if origin != key:
        text += f", in its input {origin}"
    if failure.attempts:
        places = ", ".join(dict.fromkeys(a.worker for a in failure.attempts))
        text += f"; it was tried {len(failure.attempts)} times (on {places})"
    return text


def _attempts_text(attempts: Sequence[Attempt]) -> str:
    lines = [f"  on {a.worker}: {_what_came_of(a)}" for a in attempts]
    return "\n".join([f"It was tried {len(attempts)} times:", *lines])


def _origin(failure: Failure, key: str, key_of: Callable[[int], str | None]) -> str:
    """Return the key of the task that failed first."""
    if failure.origin < 0:
        return key
    known = key_of(failure.origin) or failure.details.get("origin")
    return str(known) if known else f"task {failure.origin:x}"
