"""What the tasks of a runner do: looked at while the agent asks for it.

The agent asks every second or so, and is told what was seen since the last time.  When it
asks no more, nobody looks.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import CodeType
from typing import Any, Final

from covey.runner.loop import SlotLoop
from covey.runner.nodes import Nodes
from covey.runner.process import RunnerProcess
from covey.stacks import Sampler, Seen

#: Where our frames end.
_OUTSIDE: Final = frozenset(
    call.__code__
    for call in (SlotLoop._run_elements, SlotLoop._run_nodes, Nodes._look, Nodes._call)  # noqa: SLF001
)


class Profile:
    """Looks at the threads that execute tasks; the subject is the function's number."""

    def __init__(self, process: RunnerProcess) -> None:
        self._process = process
        self._sampler = Sampler(self._at_work, _is_outside)

    def go_on(self, seconds: float) -> list[list[Any]]:
        """Look for some seconds more; return what was seen, by function."""
        self._sampler.go_on(seconds)
        return [[fn, *tree.flat()] for fn, tree in self._sampler.take().items()]

    def _at_work(self) -> Iterator[Seen]:
        for slot in list(self._process.slots.values()):
            yield from slot.at_work()


def _is_outside(code: CodeType) -> bool:
    return code in _OUTSIDE
