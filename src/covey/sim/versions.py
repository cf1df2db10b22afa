"""Values that come out otherwise each time, and what was made of which of them.

A task that ``drifts`` returns something else whenever it runs.  Each value that it gave
is a *version* of it, and all that is made of it, directly or by way of others, is
made of that version.  Nothing may be made of two versions of one task: such a value is
*mixed*.  A run that is to be stopped may well make one; nobody may ever be shown it.
"""

from __future__ import annotations

from typing import TypeAlias

from covey.ids import TaskId
from covey.sim.tasks import Recipe, value_of

Origins: TypeAlias = dict[TaskId, int]
"""Tasks that drift, and the version of each that something was made of."""


class Mixed(AssertionError):
    """Something was made of two versions of one value."""


class Versions:
    """All values of tasks that drift, and of what is made of them."""

    def __init__(self) -> None:
        #: Tasks whose value is not known beforehand.
        self._open: set[TaskId] = set()
        self._counts: dict[TaskId, int] = {}
        #: What each of their values was made of; and what the mixed ones mix.
        self._origins: dict[tuple[TaskId, bytes], Origins] = {}
        self._mixes: dict[tuple[TaskId, bytes], TaskId] = {}

    def know(self, task: TaskId, recipe: Recipe) -> None:
        """A task is wished for, after all that it takes."""
        if recipe.kind == "drifts" or not self._open.isdisjoint(recipe.inputs):
            self._open.add(task)

    def are_open(self, task: TaskId) -> bool:
        """Whether a task may have more than one value."""
        return task in self._open

    def made(
        self, task: TaskId, payload: bytes, recipe: Recipe, given: list[bytes]
    ) -> bytes:
        """Return the value of a run that was given these inputs."""
        origins: Origins = {}
        mixes = None
        for needed, value in zip(recipe.inputs, given, strict=True):
            known = (needed, value)
            mixes = self._mixes.get(known, mixes)
            for origin, version in self._origins.get(known, {}).items():
                if origins.setdefault(origin, version) != version:
                    mixes = origin
        salt = b""
        if recipe.kind == "drifts":
            version = self._counts[task] = self._counts.get(task, 0) + 1
            origins[task] = version
            salt = version.to_bytes(8, "little")
        value = value_of(payload, given, salt)
        self._origins[task, value] = origins
        if mixes is not None:
            self._mixes[task, value] = mixes
        return value

    def gave(self, task: TaskId, value: bytes) -> bool:
        """Whether some run of *task* came to that value."""
        return (task, value) in self._origins

    def check(self, task: TaskId, value: bytes) -> None:
        """A value goes out.

        Raises:
            Mixed: it was made of two versions of one value.
        """
        origin = self._mixes.get((task, value))
        if origin is not None:
            raise Mixed(f"task {task:x} mixes two versions of task {origin:x}")
