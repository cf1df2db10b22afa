"""Futures inside arguments become dependencies, without a walk over the values.

While a client pickles arguments, a ``capture`` is active in its thread.  Every
future that the pickler meets, however deep, asks ``note``; while a capture is
active it pickles itself as ``(resolve, (task_id,))`` and its id is recorded.
When the runner unpickles the arguments, ``resolve`` looks the value up in the
inputs that ``inputs_as`` set for that thread::

    client                                    runner
    with capture() as found:                  with inputs_as(inputs):
        packer.add((future, 1))     bytes         args = loads(payload)
    found.task_ids == [future.id]   ────►         args == (value, 1)

Nobody traverses lists or dictionaries, so a user's own classes may hold futures.
"""

from __future__ import annotations

import threading
from typing import Any, Protocol, Self

from covey.errors import InternalError


class Inputs(Protocol):
    """The values of other tasks, by task id."""

    def __getitem__(self, task_id: int, /) -> Any: ...


class MissingInput(InternalError, LookupError):
    """Arguments name an input that did not come along with them."""


class Reference:
    """What stands for the result of another task, inside of arguments."""

    __slots__ = ()

    def refer(self) -> int:
        """Return the id of the task, and have it recorded as an input."""
        raise NotImplementedError


class ById(Reference):
    """Stands for the result of a task of which nothing but the id is at hand."""

    __slots__ = ("task",)

    def __init__(self, task: int) -> None:
        self.task = task

    def refer(self) -> int:
        """Return the id of the task, and have it recorded as an input."""
        note(self.task)
        return self.task

    def __reduce__(self) -> tuple[object, ...]:
        return (resolve, (self.refer(),))


class PartOf(Reference):
    """Stands for one of several values that are the result of a task: see ``bundled``.

    Args:
        task: the id of the task.
        index: which of the values.
    """

    __slots__ = ("_index", "_task")

    def __init__(self, task: int, index: int) -> None:
        self._task = task
        self._index = index

    def refer(self) -> int:
        """Return the id of the task, and have it recorded as an input."""
        note(self._task)
        return self._task

    def __reduce__(self) -> tuple[object, ...]:
        return (resolve_part, (self.refer(), self._index))


class AsFunction(Reference):
    """Stands for the result of another task which is the function to call.

    Args:
        of: stands for the same.
    """

    __slots__ = ("_of",)

    def __init__(self, of: Reference) -> None:
        self._of = of

    def refer(self) -> int:
        """Return the id of the task, and have it recorded as an input."""
        return self._of.refer()

    def __reduce__(self) -> tuple[object, ...]:
        return (resolve_function, (self.refer(),))


class References:
    """A sequence of nothing but references."""

    __slots__ = ()


class capture:  # noqa: N801  (used as a verb; one object, for ``submit`` is in a hurry)
    """``with capture() as found``: record the futures pickled in this thread.

    Args:
        holder: whose futures are expected; ``None`` if that does not matter.

    Attributes:
        task_ids: ids in the order in which they were met; the same id may
            stand there more than once.
        strangers: those of the futures met that somebody else holds.
    """

    __slots__ = ("_before", "holder", "strangers", "task_ids")

    def __init__(self, holder: object = None) -> None:
        self.task_ids: list[int] = []
        self.holder = holder
        self.strangers: list[Reference] | None = None

    def __enter__(self) -> Self:
        self._before = _here.capture
        _here.capture = self
        return self

    def __exit__(self, *_: object) -> None:
        _here.capture = self._before

    def meet(self, stranger: Reference) -> None:
        """A future was met that another holder has."""
        if self.holder is not None:
            self.strangers = [*(self.strangers or ()), stranger]


class _Here(threading.local):
    capture: capture | None = None
    inputs: Inputs | None = None


_here = _Here()


def note(
    task_id: int, reference: Reference | None = None, holder: object = None
) -> bool:
    """Record *task_id* if a capture is active in this thread, and say whether.

    *reference* is the future that it is of, and *holder* who holds that.
    """
    found = _here.capture
    if found is None:
        return False
    found.task_ids.append(task_id)
    if holder is not found.holder and reference is not None:
        found.meet(reference)
    return True


def resolve(task_id: int) -> Any:
    """Return the value of an input.  Unpickling arguments calls this.

    Raises:
        MissingInput: the arguments came without that input.
    """
    inputs = _here.inputs
    if inputs is None:
        raise MissingInput(
            f"arguments refer to task {task_id}, but are not being unpickled by a "
            "runner that was given inputs"
        )
    return inputs[task_id]


def resolve_part(task_id: int, index: int) -> Any:
    """Return one of several values that an input consists of.

    Raises:
        MissingInput: the arguments came without that input.
    """
    part = getattr(_here.inputs, "part", None)
    return resolve(task_id).part(index) if part is None else part(task_id, index)


def resolve_function(task_id: int) -> Any:
    """Return an input that is the function to call, the same one for all who call it.

    Raises:
        MissingInput: the arguments came without that input.
    """
    function = getattr(_here.inputs, "function", None)
    return resolve(task_id) if function is None else function(task_id)


class inputs_as:  # noqa: N801  (used as a verb; a class, for runners are in a hurry)
    """``with inputs_as(inputs)``: let ``resolve`` look there, in this thread."""

    __slots__ = ("_before", "_inputs")

    def __init__(self, inputs: Inputs | None) -> None:
        self._inputs = inputs

    def __enter__(self) -> None:
        self._before = _here.inputs
        _here.inputs = self._inputs

    def __exit__(self, *_: object) -> None:
        _here.inputs = self._before
