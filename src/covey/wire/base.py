"""What all messages have in common.

A message is a frozen ``msgspec`` struct with an integer tag, encoded as an
array: ``[tag, field, field, ...]``.  An unknown tag, a missing field or a
field of the wrong type is refused on arrival.  Fields are only ever appended,
with defaults, so that neighbouring versions can speak to each other.
"""

from __future__ import annotations

import sys
from typing import Annotated, Final, TypeAlias

import msgspec

# Every number that comes from a peer has a kind, and is checked on arrival: what is
# added up, slept for or divided by later shall be a number that makes sense.

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=1 << 32)]
"""How many tasks; at least one."""

Id: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
"""A task id or a run number."""

IdOrNone: TypeAlias = Annotated[int, msgspec.Meta(ge=-1, le=(1 << 63) - 1)]
"""A task id, or -1 for none."""

Extent: TypeAlias = tuple[Id, Count]
"""Tasks with consecutive ids: ``(base, n)``."""

Bytes: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=1 << 48)]
"""How large something is; 256 TiB at most, so that sums stay numbers of 64 bits."""

SECONDS_MAX: Final = 1e10

Seconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=SECONDS_MAX)]
"""How long something took, or may take: three hundred years at most."""

Slot: TypeAlias = Annotated[int, msgspec.Meta(ge=-1, le=1 << 32)]
"""A slot of a worker; -1 where it is not known."""

PRIORITY_MAX: Final = 1 << 31
_FLOAT_MAX: Final = sys.float_info.max
RETRIES_MAX: Final = 1 << 31
FACTOR_MAX: Final = 1000.0
AMOUNT_MAX: Final = 1e15

Priority: TypeAlias = (
    Annotated[int, msgspec.Meta(ge=-PRIORITY_MAX, le=PRIORITY_MAX)]
    | Annotated[float, msgspec.Meta(ge=-_FLOAT_MAX, le=_FLOAT_MAX)]
)
"""What runs first: any number that is one; whole ones beyond 32 bits travel as floats."""

Amount: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=AMOUNT_MAX)]
"""How much of a resource."""


class Message(
    msgspec.Struct, frozen=True, array_like=True, gc=False, forbid_unknown_fields=False
):
    """Something one process tells another."""


class Again(msgspec.Struct, frozen=True, array_like=True, gc=False, omit_defaults=True):
    """Which failures are worth another attempt, and when and where that is made.

    Attributes:
        on: full names of classes, such as ``builtins.OSError``; what is of none of
            them is not tried again.  Empty: everything is.
        delay_seconds: the pause before the second attempt.
        factor: each further pause is so many times the one before.
        elsewhere: rather on a worker where it has not failed.
    """

    on: tuple[str, ...] = ()
    delay_seconds: Seconds = 0.0
    factor: Annotated[float, msgspec.Meta(ge=1, le=FACTOR_MAX)] = 1.0
    elsewhere: bool = False


class Options(
    msgspec.Struct, frozen=True, array_like=True, gc=False, omit_defaults=True
):
    """How tasks are to be run; shared by all tasks of one call.

    Attributes:
        priority: higher runs first.
        retries: how many more times a task is run after it failed.
        timeout_seconds: a run that takes longer is stopped; 0 means no limit.
        resources: named amounts that a run holds while it executes.
        workers: names or addresses of the workers it may run on; empty: any.
        allow_other_workers: ``workers`` is a wish, not a rule: others wait half a second.
        again: which failures ``retries`` is for; ``None``: all, at once, anywhere.
    """

    priority: Priority = 0
    retries: Annotated[int, msgspec.Meta(ge=0, le=RETRIES_MAX)] = 0
    timeout_seconds: Seconds = 0.0
    resources: dict[str, Amount] = {}
    workers: tuple[str, ...] = ()
    allow_other_workers: bool = False
    again: Again | None = None


DEFAULT_OPTIONS = Options()


class Attempt(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One attempt at a task that came to nothing.

    Attributes:
        worker: the name of the worker where it was made.
        kind: that of the ``Failure``; ``gone`` if its worker was lost.
        type_name: the name of the exception's class.
        message: what it said, shortened.
        run: its number; 0 if it has not come to an end, as far as is known.
    """

    worker: str
    kind: str
    type_name: str
    message: str = ""
    run: Id = 0


class Failure(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """How a task failed, for those who never unpickle.

    Attributes:
        kind: ``raised`` by the task itself, or by us: ``died``, ``timeout``,
            ``cancelled``, ``lost``, ``environment``, ``unrunnable``, ``unreadable``.
        type_name: the name of the exception's class.
        message: what it says, in one line where possible.
        payload: the exception with its traceback, opaque; may be empty.
        origin: the id of the task that failed first, when this failure was
            inherited from an input.
        details: facts about the end, such as ``exit_code`` and ``signal``; ``origin``
            is what a client calls the task above, if it has no future of it.
        attempts: the latest attempts, this one included, if there were several.
        classes: full names of the exception's class and of those above it, for the
            scheduler: it judges by them whether to try again.
    """

    kind: str
    type_name: str
    message: str
    payload: bytes = b""
    origin: IdOrNone = -1
    details: dict[str, str | int | float | None] = {}
    attempts: tuple[Attempt, ...] = ()
    classes: tuple[str, ...] = ()
