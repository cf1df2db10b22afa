"""Which client is meant when nobody says: the default one, or a task's own."""

from __future__ import annotations

import contextlib
import contextvars
import os
import threading
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from covey.errors import UsageError
from covey.runner import context
from covey.secret import Secret

if TYPE_CHECKING:
    from covey.client.client import Client

_current: contextvars.ContextVar[Client | None] = contextvars.ContextVar(
    "covey_client", default=None
)
#: What lets this client hold tasks whose futures are being read, by their ids: those
#: of something that was kept under a name, whose own tokens may be of another time.
kept_tokens: contextvars.ContextVar[Mapping[int, bytes]] = contextvars.ContextVar(
    "covey_kept_tokens", default=MappingProxyType({})
)

_default: list[Client] = []
_lock = threading.Lock()
_in_task: dict[str, Client] = {}

if hasattr(os, "register_at_fork"):
    # They are the parent's, who goes on using them.
    os.register_at_fork(after_in_child=_in_task.clear)


def set_default(client: Client) -> None:
    """Make *client* the one that is meant when nobody says."""
    with _lock:
        _default.append(client)


def unset_default(client: Client) -> None:
    """*client* is closing: whoever was the default before is so again."""
    with _lock:
        if client in _default:
            _default.remove(client)


@contextlib.contextmanager
def as_current(client: Client) -> Iterator[None]:
    """Let *client* be meant inside a ``with`` block, in this context only."""
    token = _current.set(client)
    try:
        yield
    finally:
        _current.reset(token)


def default_client() -> Client | None:
    """Return the client that is meant here, or ``None``."""
    chosen = _current.get()
    if chosen is not None and not chosen.closed:
        return chosen
    with _lock:
        for client in reversed(_default):
            if not client.closed:
                return client
    return None


def get_client() -> Client:
    """Return a client: inside a task one of its own cluster, else the default one.

    A task that waits on futures of this client gives its slot to other tasks
    meanwhile, so tasks can wait for their own subtasks without a deadlock.  They
    run in the same environment as the task: its Python, and its packages.

    What a task has made of it is let go when the task ends, also if it returns the
    futures: whoever reads these is too late.  Return their values, ``gather(futures)``, or
    keep them under a name, ``publish_dataset(name, futures)``, and return that.

    Raises:
        UsageError: there is neither a task around nor a client.
    """
    task = context.current()
    if task is not None and task.address is not None:
        return _client_of_runner(task)
    client = default_client()
    if client is None:
        raise UsageError(
            "there is no client here: make one with covey.Client(), or call "
            "get_client() inside a task"
        )
    return client


def _client_of_runner(task: context.TaskContext) -> Client:
    from covey.client.client import Client

    address = task.address
    assert address is not None
    with _lock:
        client = _in_task.get(address)
        if client is None or client.closed:
            if not task.token:
                raise UsageError(
                    f"tasks on {task.worker} cannot be clients: this worker has joined "
                    f"with a worker's secret. Start it with the connection file, or "
                    f"the join string, that is for clients"
                )
            client = Client(
                address,
                secret=Secret.of_digits(task.token),
                set_as_default=False,
                name=f"task-on-{task.worker}",
            )
            # What a task sends on is to find what the task itself has asked for.
            client.submitter.writing.live_in(task.setup.environment)
            _in_task[address] = client
    return client


def rebind(task_id: int, label: str, name: str | None, token: bytes = b"") -> Any:
    """Return a future that was pickled as itself, bound to the client of this place."""
    return get_client().future_of(task_id, label, name, token)
