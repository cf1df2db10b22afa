"""The loop of a slot: take a batch, call, answer.

A ``SlotLoop`` is a thread that serves a slot; usually there is one for the life of
the slot.  When a task waits for its own subtasks, its thread gives the slot away, and
a new loop takes over, in the middle of the same batch::

    loop A: e0 e1 e2 ── blocking() ───── waits ───── resumed, outcome of e2, ends
                   └──► loop B: e3 e4 ... next batch ... serves from now on

Outcomes are gathered and sent when a millisecond has passed since the last time, or
when there is nothing left to do; there is no timer.  An agent that has heard nothing
for a while asks the control thread to send what is settled: a short task must not wait
behind a long one.  Small results travel in stretches; failures and large ones end one.

Interrupts (``TaskInterrupted``) may come at almost any bytecode, but only while
the loop is not ``shielded``: in ``_run_elements`` and in what that calls.  In the
main thread a signal brings them, and its handler sees for itself which task runs.
To another thread the control thread sends them, which takes two precautions:

* It decides while it holds the ``gate``.  Whoever raises the shield passes the
  gate first, and there meets what was sent before; nothing comes behind it.
* It writes ``wanted`` before it reads the mark; the loop writes the mark before
  it reads ``wanted``.  So one of them notices if the loop moves on just then, and
  what was meant for the element before is swallowed at the gate.

When an interrupt arrives, ``_interrupted`` asks whether the element was settled
already, and settles it if it was not.
"""

from __future__ import annotations

import threading
import time
from array import array
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

from covey.errors import TaskCancelled
from covey.payload import Buffer
from covey.runner import interrupt
from covey.runner.batch import Batch
from covey.runner.context import Setup, TaskInterrupted, here
from covey.runner.coroutines import Coroutines
from covey.runner.frames import Gone, Operation
from covey.runner.nodes import Node, Nodes
from covey.runner.pace import Pace
from covey.runner.prints import Prints
from covey.runner.raised import as_failure
from covey.runner.settling import Settling, Shielded, bytecode
from covey.runner.slot import Slot
from covey.serde import failures, refs
from covey.serde.formats import packer_of
from covey.serde.packing import Packer
from covey.stacks import Seen

if TYPE_CHECKING:
    from collections.abc import Callable

#: The task id in a mark between the start of a batch and its first element.
NOBODY: Final = (1 << 64) - 1


class SlotLoop:
    """A thread that serves a slot.

    Attributes:
        shielded: an interrupt must not be raised now.
        busy: this thread books, sends or holds the gate; what finalizers print waits.
        wanted: run and task that somebody wants interrupted.
        gate: held while it is decided whether to interrupt.
    """

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self.process = slot.process
        self.shielded = True
        self.busy = False
        self.wanted: tuple[int, int] | None = None
        self.gate = threading.RLock()
        #: Whom the last interrupt was sent to.
        self._sent: tuple[int, int] | None = None
        self._packer = Packer(slot.process.setup.inline_limit)
        #: One for each family of serializers that was asked for.
        self._packers = {"pickle": self._packer}
        #: Which of them is in use.
        self._written = "pickle"
        self._operations: list[Operation] = []
        self._body: list[Buffer] = []
        #: The first to be told of, and its value, if it is by itself so far.
        self._alone: tuple[int, bytes] | None = None
        self._prints = Prints()
        #: Held while outcomes move from the packer to the socket.
        self.booking = threading.RLock()
        self._batch: Batch | Nodes | None = None
        #: Index of the first element that is not settled, but for the packer's.
        self._start = 0
        #: When that element began.
        self._began = 0.0
        self._pace = Pace()
        self._thread_id = 0
        #: Run and task of a loop that gave its slot away.
        self._detached_task: tuple[int, int] | None = None
        self._blocking_depth = 0
        self._coroutines = Coroutines()

    @property
    def setup(self) -> Setup:
        """What the agent told the runner."""
        return self.process.setup

    def executing(self) -> tuple[int, int]:
        """Return the run and the task that this thread executes; run 0 is none."""
        if self._detached_task is not None:
            return self._detached_task
        marks = self.slot.marks
        return marks[0], marks[1]

    def at_work(self) -> Seen | None:
        """Return the function that executes and the thread; ``None`` if none does."""
        batch = self._batch
        if batch is None or not self.executing()[0]:
            return None
        return Seen(batch.function_of(*self.executing()), self._thread_id)

    def serve(self) -> None:
        """Serve the slot until it stops, is closed, or is given away."""
        slot = self.slot
        self._thread_id = threading.get_ident()
        self._packer.limit_bytes = self.process.setup.inline_limit
        here.loop = self
        try:
            self._serve()
        except Gone:
            self.process.gone()
        except BaseException:
            # A slot that nobody serves would keep the agent waiting for ever.
            self.process.broken()
            slot.close()
            raise
        finally:
            here.loop = None
            self._coroutines.close()
            if self._detached_task is None:
                slot.stopped.set()
            else:
                slot.detached.remove(self)

    def _serve(self) -> None:
        slot = self.slot
        queue = slot.queue
        while True:
            if slot.batch is None:
                if not queue:
                    slot.marks[0] = 0
                    # In the middle of many, more is there, and outcomes can wait.
                    if self._pace.steady and slot.look():
                        continue
                    if self._operations or self._prints.operations:
                        self._flush()
                    # Its inputs are mapped memory that others may want to free.
                    self._batch = None
                    slot.wait()
                    self._pace.begin(time.perf_counter())
                    continue
                slot.batch = queue.popleft()
                if slot.batch is None:
                    self._flush()
                    return
            if not self._run_batch(slot.batch):
                return
            slot.batch = None

    # One batch.

    def _run_batch(self, batch: Batch | Nodes) -> bool:
        """Run what is left of *batch*; false if the slot was given away."""
        self.slot.marks[0] = 0
        # No interrupt comes here; the control thread must see all of it, or nothing.
        with self.booking:
            self._batch = batch
            self._start = batch.begun
            if batch.serializer != self._written:
                self._write_as(batch.serializer)
        if batch.inputs is None:
            return self._finish(batch)
        if isinstance(batch, Batch) and batch.lacks(self.slot.kept):
            self._hand_back_all(batch)
            return True
        with refs.inputs_as(batch.inputs):
            return self._finish(batch)

    def _finish(self, batch: Batch | Nodes) -> bool:
        """The same, with all that it needs at hand."""
        while True:
            try:
                self.shielded = False
                if isinstance(batch, Nodes):
                    done = self._run_nodes(batch)
                else:
                    done = self._run_elements(batch)
                self.shield()
            except TaskInterrupted:
                self._interrupted(batch)
                self._flush()
                if self._detached_task is not None:
                    return False
            else:
                self._end_batch()
                return done

    def _write_as(self, serializer: str) -> None:
        """Write results in another family of serializers from here on."""
        if serializer not in self._packers:
            limit = self.process.setup.inline_limit
            self._packers[serializer] = packer_of(serializer, limit)
        self._packer = self._packers[serializer]
        self._written = serializer

    def _hand_back_all(self, batch: Batch) -> None:
        """Hand back a batch of which something is not here that was to be made here."""
        for part in batch.retract(-1):
            with Settling(self):
                self._operations.append(["returned", self.slot.index, *part])

    def _run_elements(self, batch: Batch) -> bool:
        """The hot loop: true when all are done, false if the slot was given away."""
        marks = self.slot.marks
        marks[1] = NOBODY
        marks[0] = batch.run
        clock = time.perf_counter
        add = self._packer.add
        arguments = batch.arguments
        base = batch.base
        keep, pace = batch.keep, self._pace
        function: Callable[..., Any] | None = None
        self._began = now = clock()
        while True:
            claims = batch.claims
            for index in claims:
                # No call stands between the claim and the mark, so that no
                # interrupt can come between them: an element that was claimed
                # is always the one that is marked.
                marks[1] = base + index
                try:
                    if self.wanted is not None:
                        self._let_pass()
                    if function is None:
                        function = self.process.function(batch.function_id)
                        batch.calls(function)
                        self._began = now = clock()
                    call = next(arguments)
                    if type(call) is tuple:
                        value = function(*call)
                    else:
                        value = call.apply(function)
                    # What it was given shall not be there beside what is next.
                    call = None
                    if type(value) is CoroutineType:
                        value = self._coroutines.run(value)
                    frames = add(value, "result")
                    if frames is not None or keep:
                        value = None
                        self._set_aside(index, frames, now)
                        frames = None
                except TaskInterrupted:
                    raise
                except BaseException as error:
                    self._fail(index, error, now)
                now = clock()
                if now >= pace.deadline and not self._goes_on(batch, index, now):
                    return False
            with batch.lock:
                if batch.claims is claims:
                    return True

    def _run_nodes(self, batch: Nodes) -> bool:
        """The same for tasks that are attempts of their own, of any function."""
        marks = self.slot.marks
        clock = time.perf_counter
        add = self._packer.add
        nodes, took, pace = batch.nodes, batch.took, self._pace
        callers: dict[int, Callable[[Node], Any]] = {}
        self._began = now = clock()
        while True:
            claims = batch.claims
            for index in claims:
                # As above, no call stands between the claim and the marks.
                node = nodes[index]
                marks[0] = 0
                marks[1] = node[2]
                marks[0] = node[0]
                began = now
                try:
                    if self.wanted is not None:
                        self._let_pass()
                    if node.owns and batch.lacks(node, self.slot.kept):
                        self._hand_back(index)
                        continue
                    call = callers.get(node.function_id)
                    if call is None:
                        function = self.process.function(node.function_id)
                        callers[node.function_id] = call = batch.caller(function)
                        began = clock()
                    value = call(node)
                    if type(value) is CoroutineType:
                        value = self._coroutines.run(value)
                    frames = add(value, "result")
                    now = clock()
                    took[index] = int(1e9 * (now - began))
                    if frames is not None or node.keep:
                        value = None
                        self._set_aside(index, frames, began)
                        frames = None
                        now = clock()
                except TaskInterrupted:
                    raise
                except BaseException as error:
                    self._fail(index, error, began)
                    now = clock()
                if now >= pace.deadline and not self._breathe(now):
                    return False
            with batch.lock:
                if batch.claims is claims:
                    return True

    def _hand_back(self, index: int) -> None:
        """Hand back a task of which something is not here that was to be made here."""
        with Settling(self):
            batch = self._batch
            assert batch is not None
            self._book_stretch(None)
            self._operations.append(
                ["returned", self.slot.index, *batch.place(index), 1]
            )
            self._start = index + 1

    def _goes_on(self, batch: Batch, index: int, now: float) -> bool:
        """Time is up: send what there is, or wait a little; false as ``_breathe``."""
        done = index + 1 - self._start
        if done > 0:  # Else the control thread has just sent all of it.
            left_seconds = (batch.count - index - 1) * (now - self._began) / done
            if self._pace.waits(now, index + 1, left_seconds):
                return True
        return self._breathe(now)

    def _breathe(self, now: float) -> bool:
        """Send what there is; false if the slot was given away."""
        with Settling(self):
            self._book_stretch(now)
            self._tell()
        return self._detached_task is None

    # Outcomes.

    def _end_batch(self) -> None:
        """Book what a batch has come to; send it if it is time, or nothing follows."""
        self.busy = True  # The shield is up already: else it is as in ``Settling``.
        try:
            with self.booking:
                self._book_stretch(None)
                if self._pace.is_due(self._began):
                    self._tell()
                elif not (self._pace.steady or self.slot.queue):
                    self.slot.marks[0] = 0
                    self._send()
        finally:
            self.busy = False

    def _book_stretch(self, until: float | None) -> None:
        """Turn the small results gathered so far into one ``ran``."""
        batch, payloads = self._batch, self._packer.take_payloads()
        n = len(payloads)
        if batch is None or not n:
            return
        now = time.perf_counter() if until is None else until
        data = b"".join(payloads)
        if n == 1 and not self._operations:
            self._alone = batch.place(self._start)[1], data
        seconds = max(0.0, now - self._began)
        self._operations.append(batch.ran(self._start, n, seconds, len(data)))
        self._body += (array("I", map(len, payloads)).tobytes(), data)
        self._start += n
        self._began = now

    def _set_aside(self, index: int, frames: list[Buffer] | None, began: float) -> None:
        """Report a large result; keep a small one for what follows on this slot."""
        if frames is not None:
            self._export(index, frames, began)
            return
        # The control thread may have taken it already; then it is not kept.
        with self.booking:
            payload = self._packer.last()
        batch = self._batch
        if payload is not None and batch is not None:
            self.slot.keep(batch.place(index)[1], payload)

    def _export(self, index: int, frames: list[Buffer], began: float) -> None:
        """Report a large result, in a segment.  It is too late to be interrupted."""
        with Shielded(self):
            detail = [*self.process.export(frames)]
            with Settling(self):
                self._book_one("big", index, began, detail)

    def _fail(self, index: int, error: BaseException, began: float) -> None:
        """Report that a task raised."""
        with Settling(self):
            batch = self._batch
            plain = batch is not None and batch.serializer != "pickle"
            error = as_failure(error)
            payload = self.process.describe(error, plain=plain)
            summary = failures.summary(payload)
            detail = [*summary, len(payload), failures.classes(error)]
            self._book_one("failed", index, began, detail)
            self._body.append(payload)

    def _book_one(self, name: str, index: int, began: float, detail: list[Any]) -> None:
        """Book the outcome of one element by itself."""
        self._book_stretch(began)
        batch = self._batch
        assert batch is not None
        now = time.perf_counter()
        place = batch.place(index)
        # What follows must not take what it made when it ran here before.
        self.slot.kept.pop(place[1], None)
        self._operations.append([name, *place, max(0.0, now - began), *detail])
        self._start = index + 1
        self._began = now

    def _flush(self) -> None:
        """Send the outcomes gathered so far."""
        with Settling(self):
            self._tell()

    def _tell(self) -> None:
        self._send()
        if self._detached_task is None:
            self._pace.sent(time.perf_counter())

    def _send(self) -> None:
        operations, self._operations = self._operations, []
        if self._prints.operations:
            # What a task printed is there before it is known how the task ended.
            operations = [*self._prints.take(), *operations]
        if operations:
            body, self._body = self._body, []
            self.slot.send(operations, body)
            alone, self._alone = self._alone, None
            if alone and len(operations) == 1 and alone[0] != self._prints.by:
                self.process.tell_early(*alone)

    def flush_meanwhile(self) -> None:
        """Send what is settled while a task computes; the control thread calls."""
        with self.booking:
            self._book_stretch(None)
            self._send()

    def print(self, run: int, task_id: int, stream: str, text: str) -> None:
        """Keep a copy of what a task prints."""
        if self.busy:
            # A finalizer prints, in the middle of what this thread holds locks for.
            self._prints.add(run, task_id, stream, text)
            return
        with Settling(self):
            self._prints.add(run, task_id, stream, text)
            if self._prints.full:
                self._send()

    def send_prints(self) -> None:
        """Send what tasks have printed, at once."""
        if self.busy:
            return
        with Settling(self):
            self._send()
        self._notice_interrupt()

    # Interrupts.

    def interrupt(self, run: int, task_id: int) -> bool:
        """Interrupt a task if our thread executes it, and say so; another one calls."""
        target = (run, task_id)
        main = threading.main_thread().ident
        by_signal = self.process.own_process and self._thread_id == main
        with self.gate:
            before = self.wanted
            if not by_signal:
                self.wanted = target
            if self.executing() != target:
                self.wanted = before
                return False
            self.wanted = target
            if self.shielded:
                return True  # Noticed when the task goes on, if it does.
            if by_signal:
                interrupt.signal_main_thread()
            else:
                self.wanted = None
                if self._sent != target:
                    self._sent = target
                    interrupt.raise_in_thread(self._thread_id)
            return True

    def take_signal(self) -> bool:
        """Say whether a signal that arrives right now is meant for this task."""
        if self.shielded or self.wanted != self.executing():
            return False
        self._sent, self.wanted = self.wanted, None
        return True

    def shield(self) -> None:
        """Let no interrupt in from here on; one that was sent before is raised."""
        if self.shielded:
            return
        was_busy, self.busy = self.busy, True
        try:
            with self.gate:
                bytecode()
                self.shielded = True
        finally:
            self.busy = was_busy

    def _let_pass(self) -> None:
        """Swallow an interrupt that was meant for the element before this one."""
        was_busy, self.busy = self.busy, True
        try:
            with self.gate:
                bytecode()
                if self.wanted != self.executing():
                    self.wanted = None
        except TaskInterrupted:
            if self._sent == self.executing():
                raise
        finally:
            self.busy = was_busy

    def _interrupted(self, batch: Batch | Nodes) -> None:
        """Settle the element that was interrupted, if it is not settled yet."""
        self.shielded = True
        self.busy = False
        self.wanted = self._sent = None
        index = batch.index_of(*self.executing())
        with Settling(self):
            if index >= self._start + len(self._packer):
                why = "the task was cancelled while it ran"
                self._fail(index, TaskCancelled(why), self._began)
        if self._detached_task is None:
            # Nobody can say whether its arguments had been taken.
            batch.rewind(index + 1)

    # Waiting for subtasks.

    def hand_over(self) -> None:
        """Give the slot to a new thread, because this task is going to wait."""
        if self._blocking_depth:
            self._blocking_depth += 1
            return
        with Settling(self):
            # Counted where no interrupt comes: who is interrupted in here leaves
            # without a word to resume().
            self._blocking_depth = 1
            successor = self._detach()
            self._operations.append(["blocked", *self.executing()])
            self._tell()
        if successor is not None:
            name = f"{threading.current_thread().name}+"
            threading.Thread(target=successor.serve, name=name, daemon=True).start()
        try:
            self._notice_interrupt()
        except TaskInterrupted:
            self.resume()
            raise

    def _detach(self) -> SlotLoop | None:
        """Let go of the slot; return who serves it next, if it was still ours."""
        batch = self._batch
        if self._detached_task is not None or batch is None:
            return None
        slot = self.slot
        self._book_stretch(None)
        self._detached_task = self.executing()
        self._pace.give_away()
        batch.begun = batch.index_of(*self._detached_task) + 1
        slot.detached.append(self)
        slot.owner = successor = SlotLoop(slot)
        return successor

    def resume(self) -> None:
        """Say that this task goes on."""
        self._blocking_depth -= 1
        if self._blocking_depth:
            return
        with Settling(self):
            self._operations.append(["resumed", *self.executing()])
            self._tell()
        self._notice_interrupt()

    def _notice_interrupt(self) -> None:
        """Be interrupted now, if that was wanted while the loop was shielded."""
        if self.wanted is not None and self.wanted == self.executing():
            self.wanted = None
            raise TaskInterrupted
