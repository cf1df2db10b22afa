"""Every error that covey itself raises, in one tree.

A user's own exception comes out of ``Future.result()`` as itself, with the
remote traceback attached as a note; the classes below are for what is ours::

    CoveyError
    ├── UsageError                 you called it wrongly            (a ValueError)
    │   ├── Closed                 the client or cluster was closed
    │   ├── KeyConflict            one key, two different tasks
    │   └── NotPicklable           an argument or function cannot travel
    ├── TaskError                  how your task ended, when not by its own exception
    │   ├── TaskCancelled          somebody cancelled it; says who and why
    │   ├── TaskTimedOut           it ran longer than its timeout=  (a TimeoutError)
    │   ├── TaskOutOfMemory        it used more memory than its worker has (a MemoryError)
    │   ├── TaskUnreadable         its value or exception could not be decoded
    │   │   └── VersionSkew        it belongs to another version of Python
    │   ├── EnvironmentFailed      the Python or the packages it needs cannot be had
    │   ├── RunnerDied             the process that ran it ended; says how
    │   │   └── WorkerDied         worker after worker was lost while it ran there
    │   └── DataLost               its value is gone and cannot be recomputed
    ├── ClusterError               the cluster could not
    │   ├── NoScheduler            nobody answers at that address
    │   ├── Disconnected           the connection broke
    │   ├── StartFailed            a process of the cluster did not come up
    │   └── Refused                the other side said no; retrying is no use
    │       ├── VersionRefused     two versions that cannot speak to each other
    │       └── AuthRefused        the secret does not fit
    ├── ProtocolError              (abstract)
    │   ├── LocalProtocolError     we were about to break the rules
    │   └── RemoteProtocolError    the peer broke them; the link is closed
    └── InternalError              an invariant broke: please report

Errors say what happened, what is known, and what to do.  They survive pickle.
This file imports nothing of covey, so every floor and every runner may use it.
"""

from __future__ import annotations


class CoveyError(Exception):
    """The base of every error that covey raises on its own behalf."""

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.args, self.__dict__))

    def _repr_html_(self) -> str:
        """Show it in a notebook: what happened, and behind it what else is known."""
        from html import escape

        notes = "\n\n".join(getattr(self, "__notes__", ()))
        more = (
            f"<details><summary>more</summary><pre>{escape(notes)}</pre></details>"
            if notes
            else ""
        )
        return (
            "<div style='border:1px solid #8884;border-left:4px solid #d33;"
            "border-radius:6px;padding:8px 12px;font-family:system-ui,sans-serif'>"
            f"<b>{escape(type(self).__name__)}</b><div>{escape(str(self))}</div>{more}</div>"
        )


def _rebuild(
    cls: type[CoveyError], args: tuple[object, ...], fields: dict[str, object]
) -> CoveyError:
    """Make an error again from its parts, whatever its ``__init__`` asks for."""
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


# You called it wrongly.


class UsageError(CoveyError, ValueError):
    """The call itself was wrong; nothing was sent and nothing was lost."""


class Closed(UsageError):
    """The client, pool or cluster has been closed."""


class KeyConflict(UsageError):
    """One key was asked to name two different tasks."""


class NotPicklable(UsageError, TypeError):
    """A function, argument or result cannot be turned into bytes.

    The message names the path of the culprit, such as
    ``kwargs['db'].conn: _thread.lock``.
    """


# How a task ended.


class TaskError(CoveyError):
    """A task ended otherwise than by returning or raising its own exception."""


class TaskCancelled(TaskError):
    """The task was cancelled before its result was known."""


class TaskTimedOut(TaskError, TimeoutError):
    """The task ran longer than the ``timeout=`` it was submitted with.

    Attributes:
        worker: the name of the worker that ran it.
    """

    worker: str | None = None


class TaskOutOfMemory(TaskError, MemoryError):
    """The task used more memory than its worker has, and was stopped.

    Attributes:
        task: the key of the task.
        peak: bytes that its process used, or that its result takes.
        limit: bytes that the worker may use.
        worker: the name of the worker.
        attempts: of all attempts, if there were several, the latest: where each was
            made, and what came of it.
    """

    task: str | None = None
    peak: int | None = None
    limit: int | None = None
    worker: str | None = None
    attempts: tuple[tuple[str, str], ...] = ()


class TaskUnreadable(TaskError):
    """A value or exception arrived, but could not be decoded here."""


class VersionSkew(TaskUnreadable):
    """A value holds bytecode of another minor version of Python than this one."""


class EnvironmentFailed(TaskError):
    """The Python or the packages that a client asked for cannot be had on a worker."""


class RunnerDied(TaskError):
    """The process that ran the task ended: a crash, a kill or ``os._exit``.

    Attributes:
        exit_code: the exit status, or ``None`` if a signal ended it.
        signal: the name of the signal, such as ``"SIGSEGV"``, or ``None``.
        worker: the name of the worker whose runner it was.
        peak: bytes that the process had used at most, if that is known.
        out_of_memory: ``False`` if SIGKILL came from another process, ``None`` if that
            is not known; what the kernel ends for memory is a ``TaskOutOfMemory``.
        stderr: the last lines that the process wrote there.
        attempts: of all attempts, if there were several, the latest: where each was
            made, and what came of it.
    """

    exit_code: int | None = None
    signal: str | None = None
    worker: str | None = None
    peak: int | None = None
    out_of_memory: bool | None = None
    stderr: str = ""
    attempts: tuple[tuple[str, str], ...] = ()


class WorkerDied(RunnerDied):
    """The task was lost with several workers, one after the other."""


class DataLost(TaskError):
    """A value is on no worker any more and nothing can make it again."""


# What the cluster could not do.


class ClusterError(CoveyError):
    """The cluster could not do what was asked."""


class NoScheduler(ClusterError, ConnectionError):
    """No scheduler answered at the address within the time allowed."""


class Disconnected(ClusterError, ConnectionError):
    """The connection to the scheduler broke."""


class StartFailed(ClusterError):
    """A process of the cluster ended before it was ready."""


class Refused(ClusterError):
    """The other side refused us; trying again would end the same way."""


class VersionRefused(Refused):
    """The two sides speak different versions of the protocol."""


class AuthRefused(Refused):
    """The secret does not fit, or the role is not allowed."""


# The protocol.


class ProtocolError(CoveyError):
    """The rules of the wire were broken.  Raised only as one of its leaves."""


class LocalProtocolError(ProtocolError):
    """We were about to send something that the protocol does not allow."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something that the protocol does not allow."""


class InternalError(CoveyError):
    """An invariant of covey broke.  This is our bug: please report it."""
