"""What the slots of a runner share.

Functions arrive on every slot that calls them and are loaded once, at their first
call; a failure to load is kept, and becomes the failure of every task that calls them.  Values
exported in segments stay open until the agent says that it has its own hold on
them.  Large inputs stay mapped until the agent forgets them: see ``mapped``.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Final, Protocol

from covey.errors import InternalError
from covey.payload import Buffer
from covey.runner.context import Setup, TaskInterrupted
from covey.runner.mapped import MappedInputs
from covey.serde import failures, registry
from covey.serde.functions import loads_function, split_head
from covey.stacks import Seen
from covey.store.early import Voice
from covey.store.segments import Segment, fill, payload_size

#: How a runner exits that found a bug in itself (sysexits.h: EX_SOFTWARE).
EXIT_BROKEN: Final = 70


class ServedSlot(Protocol):
    """What the control thread asks of a slot."""

    @property
    def stopped(self) -> threading.Event:
        """Set when nobody serves the slot any more."""
        ...

    def retract(self, count: int) -> list[tuple[int, int, int]]:
        """Take back at most *count* tasks that have not begun; -1 means all."""
        ...

    def cancel(self, run: int, task_id: int) -> bool:
        """Interrupt a task if it is executing now, and say whether it was."""
        ...

    def flush(self) -> None:
        """Send the outcomes that wait behind a task which takes long."""
        ...

    def at_work(self) -> list[Seen]:
        """Return the function and the thread of each task that executes here."""
        ...


def _keep_silent(task: int, value: bytes) -> None:
    """Nobody hears early words here."""


def _stand_in_for_distributed() -> None:
    """Let tasks import ``distributed`` where the program that started us does so."""
    try:
        compat = import_module("covey.compat.distributed")
    except ModuleNotFoundError:
        return  # An environment of the user's own has of covey what a runner needs.
    compat.install()


class RunnerProcess:
    """The shared half of a runner.

    Args:
        own_process: true if this process exists only to run tasks.  Then its
            environment may be changed, signals may be used, and it ends when
            the agent does.  False inside the process of somebody else.
    """

    def __init__(self, *, own_process: bool) -> None:
        self.own_process = own_process
        self.setup = Setup({})
        self.configured = threading.Event()
        self.slots: dict[int, ServedSlot] = {}
        self._function_bytes: dict[int, bytes] = {}
        self._functions: dict[int, Callable[..., Any] | BaseException] = {}
        #: How results are written, of functions for which it was said.
        self._serializers: dict[int, str] = {}
        #: Held while one thread loads a function that others may wait for.
        self._loading = threading.RLock()
        self.mapped = MappedInputs()
        self._segments: dict[int, Segment] = {}
        self._handles = itertools.count(1)
        #: Segments of the agent to write results into: (capacity, place).
        self._lent: list[tuple[int, str]] = []
        self._lending = threading.Lock()
        #: Tells a task and its value to who waits for nothing else, if that can be.
        self.tell_early: Callable[[int, bytes], None] = _keep_silent

    def where(self) -> str:
        """Return the place for people: ``worker alice, runner 4711``."""
        return f"worker {self.setup.worker}, runner {os.getpid()}"

    def configure(self, fields: dict[str, Any]) -> None:
        """Take over what the agent says in ``setup``."""
        self.setup = Setup(fields)
        if "early" in fields:
            with contextlib.suppress(OSError):
                self.tell_early = Voice(fields["early"]).tell
        if self.own_process:
            os.environ.update(fields.get("environ") or {})
            cwd = fields.get("cwd")
            if cwd:
                try:
                    os.chdir(cwd)
                except OSError as error:
                    print(f"cannot enter {cwd}: {error}", file=sys.stderr)  # noqa: T201  # standard error is where an agent looks
            if "COVEY_AS_DISTRIBUTED" in os.environ:
                _stand_in_for_distributed()
            missing = [p for p in fields.get("sys_path") or () if p not in sys.path]
            sys.path[:0] = missing
            registry.load_plugins(fields.get("serializers") or ())
        self.configured.set()

    def gone(self) -> None:
        """End, because the agent did: at once and quietly."""
        if self.own_process:
            os._exit(0)
        self.configured.set()

    def broken(self) -> None:
        """End, because of a bug of ours: with a traceback for the agent to show."""
        if self.own_process:
            traceback.print_exc()
            os._exit(EXIT_BROKEN)

    def describe(self, error: BaseException, *, plain: bool) -> bytes:
        """Return what a task raised, on its way out; *plain* without any pickle."""
        where = self.where()
        if isinstance(error, ModuleNotFoundError) and not error.__cause__:
            # Of arguments: what the function needs is told when it is loaded.
            error.add_note(
                f"There is no module {error.name!r} on {where}. {self.remedy()}"
            )
        return failures.describe(error, where=where, plain=plain)

    def remedy(self) -> str:
        """Return what to do about a module that is missing here."""
        return (
            f"Install it in the environment of that worker ({sys.executable}), or, if "
            f"it is your own code, send it along: client.upload_package(NAME)."
        )

    # Functions.

    def add_function(self, function_id: int, data: bytes) -> None:
        """Keep the bytes of a function until it is called."""
        # No lock: the control thread comes by here and must not wait for a load.
        if function_id not in self._functions:
            self._function_bytes.setdefault(function_id, data)
            head, _ = split_head(data)
            if "serializer" in head:
                self._serializers[function_id] = head["serializer"]

    def drop_function(self, function_id: int) -> None:
        """Let go of a function that nobody will call any more."""
        self._functions.pop(function_id, None)
        self._function_bytes.pop(function_id, None)
        self._serializers.pop(function_id, None)

    def serializer(self, function_id: int) -> str:
        """Return the family of serializers in which a function's values are written."""
        return self._serializers.get(function_id, "pickle")

    def function(self, function_id: int) -> Callable[..., Any]:
        """Return a function, loading it at the first call.

        Raises:
            BaseException: what loading it raised; the same at every call.
        """
        function = self._functions.get(function_id)
        if function is None:
            with self._loading:
                function = self._functions.get(function_id)
                if function is None:
                    function = self._load(function_id)
                    self._functions[function_id] = function
                    self._function_bytes.pop(function_id, None)
        if isinstance(function, BaseException):
            # Every task raises the same one; its traceback must not grow.
            raise function.with_traceback(None)
        return function

    def _load(self, function_id: int) -> Callable[..., Any] | BaseException:
        data = self._function_bytes.get(function_id)
        if data is None:
            return InternalError(f"the runner was never sent function {function_id}")
        try:
            return loads_function(data)
        except ModuleNotFoundError as error:
            missing = ModuleNotFoundError(
                f"no module named {error.name!r} on {self.where()}, where the task's "
                f"function needs it. {self.remedy()}",
                name=error.name,
                path=error.path,
            )
            missing.__cause__ = error
            return missing
        except TaskInterrupted:
            raise
        except BaseException as error:
            try:
                error.add_note(
                    f"while the task's function was loaded on {self.where()}"
                )
            except Exception:
                pass
            return error

    # Large values.

    def lend(self, capacity: int, place: str) -> None:
        """Remember a segment of the agent to write a result into."""
        with self._lending:
            self._lent = [*self._lent[-7:], (capacity, place)]

    def _borrow(self, nbytes: int) -> str | None:
        """Return the place of the smallest segment that is large enough."""
        with self._lending:
            fitting = [
                entry for entry in self._lent if nbytes <= entry[0] <= 2 * nbytes
            ]
            if not fitting:
                return None
            chosen = min(fitting)
            self._lent.remove(chosen)
        return chosen[1]

    def export(self, frames: Sequence[Buffer]) -> tuple[str, int, int]:
        """Put a large result into a segment.

        Returns:
            Its place, its size, and a handle if the segment is ours: then it
            stays open until the agent took it over.

        Raises:
            OSError: there is no memory left.
        """
        nbytes = payload_size(frames)
        lent = self._borrow(nbytes)
        if lent is not None:
            try:
                return fill(lent, frames), nbytes, 0
            except (OSError, ValueError):
                pass  # The agent has taken it back.
        segment = Segment.of(frames)
        handle = next(self._handles)
        self._segments[handle] = segment
        return segment.place, nbytes, handle

    def took(self, handles: Sequence[int]) -> None:
        """Close segments that the agent holds by now."""
        for handle in handles:
            segment = self._segments.pop(handle, None)
            if segment is not None:
                segment.close()

    def close(self) -> None:
        """Close what is still exported."""
        self.took(list(self._segments))
