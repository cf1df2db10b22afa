"""Numbers that name things, and how a range of them is written.

A **task id** is an integer below 2**63: the upper bits say which client made
it, the lower ``COUNTER_BITS`` count.  Ids of one call are consecutive, so a
million tasks are named by two numbers, ``(base, n)``.  A user never sees one:
what users see is the *key*, a string, which is made only when asked for.
"""

from __future__ import annotations

from typing import Final, NewType, TypeAlias

TaskId: TypeAlias = int
"""One task, and its result."""

RunId: TypeAlias = int
"""One numbered attempt at some tasks.  Late news names its run."""

ClientId = NewType("ClientId", int)
WorkerId = NewType("WorkerId", int)

COUNTER_BITS: Final = 40
CLIENT_BITS: Final = 62 - COUNTER_BITS


def new_client_id() -> ClientId:
    """Draw a client id: each client that is there has it once in four million."""
    import secrets  # Runners, which draw none, start without it.

    return ClientId(1 + secrets.randbelow((1 << CLIENT_BITS) - 1))


def first_task_id(client: ClientId) -> TaskId:
    """Return the lowest task id that belongs to *client*."""
    return client << COUNTER_BITS


def client_of(task: TaskId) -> ClientId:
    """Return the client whose task *task* is."""
    return ClientId(task >> COUNTER_BITS)
