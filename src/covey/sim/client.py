"""A client: its real core, in a played shell without threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

from covey.client.core import invariants
from covey.client.core.ledger import Ledger, untold
from covey.client.core.ranges import Range, Status, Wishes
from covey.errors import CoveyError
from covey.ids import ClientId, TaskId, first_task_id
from covey.payload import Pack
from covey.sim.lines import Uplink
from covey.sim.network import Node
from covey.sim.worker import World, ask
from covey.wire.base import Message
from covey.wire.client_link import (
    Answer,
    Cancel,
    DefineFunction,
    Failed,
    Finished,
    ForgetFunction,
    FromClient,
    Notice,
    Over,
    Release,
    Retry,
    Reverted,
    Stored,
    Tried,
    Want,
    WorkerGone,
    WorkerSeen,
)
from covey.wire.introductions import ClientIntroduction, Welcome
from covey.wire.line import Line

#: After so many releases the client is done with all of its functions.
FORGET_EVERY: Final = 5

#: So many ranges are checked after a batch; where there are more, all are, later.
CHECKS: Final = 4


class Client(Node):
    """One client, and how its wishes stand."""

    def __init__(self, world: World, number: ClientId, name: str) -> None:
        super().__init__(name)
        self.world = world
        self.number = number
        self.wishes = Wishes()
        self.workers: dict[int, WorkerSeen] = {}
        #: Shared tasks whose values workers keep under another id than ours.
        self.kept_as: dict[TaskId, TaskId] = {}
        #: Called when the client cannot go on.
        self.on_gone: Callable[[], None] = lambda: None
        self.line: Line | None = None
        self.uplink: Uplink | None = None
        #: What it has taken over from others.
        self.taken: set[TaskId] = set()
        self._ledger = Ledger()
        self._next = first_task_id(number)
        self._functions: set[int] = set()
        self._releases = 0
        #: How many ranges may be checked now: as many as the batches since have brought.
        self._unchecked = 0
        self._outbox: list[Message] = []
        self._fetching: set[TaskId] = set()
        #: What it has cancelled.
        self._cancelled: set[TaskId] = set()
        #: Tasks of ranges that are here for the sake of others.
        self._let_go: set[TaskId] = set()

    @property
    def node(self) -> Node:
        """The process itself."""
        return self

    # The way to the scheduler.

    def introduce(self, epoch: int) -> ClientIntroduction:
        """Return who this client is."""
        return ClientIntroduction(self.number, self.name, "0", "3", self.name, epoch)

    def on_welcome(self, line: Line, welcome: Welcome, old: Line | None) -> None:
        """The scheduler has taken us in; if it knows nothing of us, tell it all."""
        del welcome
        self.line = line
        self.workers.clear()
        if old is not None:
            foreign = self._ledger.not_ours(self.wishes, self.taken)
            line.send_all(self._ledger.recall(self.wishes, foreign))
            line.send_all(untold(old.unheard(FromClient)))
            line.send_all(self._cancelled_in_vain())
        self._send_outbox()

    def on_end(self, error: CoveyError) -> None:
        """The scheduler turns us away, which ends this client.

        That happens to one whose first welcome was lost: its number is taken by
        itself.  A user makes another client then.
        """
        assert self.line is None, f"{self.name} gives up: {error}"
        self.on_gone()

    # Sending.

    def new_tasks(self, n: int) -> TaskId:
        """Return the first of so many new ids."""
        base = self._next
        self._next += n
        return base

    def hold(self, base: TaskId, n: int, label: str, name: str | None = None) -> Range:
        """Hold futures of new tasks."""
        wish = Range(base, n, label, name)
        wish.held = n
        self._let_go -= set(range(base, base + n))
        self.wishes.add(wish)
        return wish

    def define(self, fn: int) -> None:
        """Make sure that the scheduler knows a function."""
        if fn not in self._functions:
            self._functions.add(fn)
            self.post(DefineFunction(fn, b"%8d" % fn, f"f{fn}", b"bytes of it"))

    def post(self, message: Message) -> None:
        """Send a message, once we have been taken in."""
        self._outbox.append(message)
        self._send_outbox()

    def _send_outbox(self) -> None:
        if self.line is None or not self._outbox:
            return
        outbox, self._outbox = self._outbox, []
        for message in outbox:
            self._ledger.note(message)
        self.line.send_all(outbox)

    def release(self, wish: Range, lo: int, n: int) -> None:
        """Let go of some futures of a range."""
        wish.held -= n
        self._let_go |= set(range(wish.base + lo, wish.base + lo + n))
        if wish.held <= 0:
            self.wishes.remove(wish)
            self.kept_as.pop(wish.base, None)
            self.taken.discard(wish.base)
        self.post(Release(((wish.base + lo, n),)))
        self._releases += 1
        if self._releases % FORGET_EVERY == 0:
            for fn in sorted(self._functions):
                self.post(ForgetFunction(fn))
            self._functions.clear()

    def cancel(self, wish: Range, lo: int, n: int) -> None:
        """Cancel what has not ended of a stretch."""
        for index in range(lo, lo + n):
            if wish.status[index] == Status.PENDING:
                # The scheduler says whether it had ended before.
                self.post(Cancel(((wish.base + index, 1),), "a user"))
                self._cancelled.add(wish.base + index)

    def _cancelled_in_vain(self) -> list[Message]:
        """Return what is to be said again, since nothing has come of it."""
        found = [(task, self.wishes.find(task)) for task in sorted(self._cancelled)]
        return [
            Cancel(((task, 1),), "a user")
            for task, wish in found
            if wish is not None and wish.status[task - wish.base] == Status.PENDING
        ]

    def retry(self, wish: Range, index: int) -> None:
        """Have a failed task run once more."""
        if wish.status[index] == Status.ERROR:
            self.post(Retry(((wish.base + index, 1),)))
            wish.revert(index, 1)

    # Hearing.

    def on_batch(self, batch: list[Any]) -> None:
        """The scheduler said something."""
        for message in batch:
            self._HANDLERS[type(message)](self, message)
        self._unchecked += CHECKS
        if self._unchecked >= len(self.wishes):
            self._unchecked = 0
            invariants.check(self.wishes)

    def _on_finished(self, message: Finished) -> None:
        pack = Pack.from_wire(message.sizes, message.data)
        self.wishes.finished(message.base, pack)

    def _on_stored(self, message: Stored) -> None:
        if message.source not in {-1, message.base}:
            self.kept_as[message.base] = message.source
        else:
            self.kept_as.pop(message.base, None)
        self.wishes.stored(message.base, message.n, message.worker, message.nbytes)

    def _on_failed(self, message: Failed) -> None:
        if message.failure.type_name == "KeyConflict":
            self._ledger.refuse(message.base)
        self.wishes.failed(message.base, message.n, message.failure)

    def _on_reverted(self, message: Reverted) -> None:
        self.wishes.reverted(message.base, message.n)

    def _on_told(self, message: Tried | Over) -> None:
        self._ledger.hear(message)

    def _on_worker_seen(self, message: WorkerSeen) -> None:
        self.workers[message.worker] = message

    def _on_worker_gone(self, message: WorkerGone) -> None:
        self.workers.pop(message.worker, None)

    def _ignore(self, message: Message) -> None:
        pass

    #: What handles each kind of message.
    _HANDLERS: ClassVar[dict[type, Callable[[Client, Any], None]]] = {
        Finished: _on_finished,
        Stored: _on_stored,
        Failed: _on_failed,
        Reverted: _on_reverted,
        WorkerSeen: _on_worker_seen,
        WorkerGone: _on_worker_gone,
        Answer: _ignore,
        Notice: _ignore,
        Tried: _on_told,
        Over: _on_told,
    }

    # Fetching.

    def value(self, wish: Range, index: int) -> bytes | None:
        """Return the value of a task, if it is here."""
        if index in wish.values:
            value = wish.values[index]
            assert isinstance(value, bytes)
            return value
        payload = wish.payload(index)
        return None if payload is None else bytes(payload)

    def fetch(self, wish: Range, index: int) -> None:
        """Bring a value that rests on a worker; ask anew if it is not there."""
        task = wish.base + index
        place = wish.place(index)
        if place is None or task in self._fetching or index in wish.values:
            return
        self._fetching.add(task)
        kept_as = self.kept_as.get(task, task)

        def taken(found: dict[TaskId, tuple[bytes, int]] | None) -> None:
            self._fetching.discard(task)
            if self.wishes.find(task) is not wish or wish.place(index) is None:
                return
            if task in self._let_go:
                return
            if found is not None and kept_as in found:
                wish.values[index] = found[kept_as][0]
                return
            # Somewhere else by now, or being computed again: ask.
            wish.revert(index, 1)
            self.post(Want(((task, 1),)))

        seen = self.workers.get(place[2])
        if seen is None:
            taken(None)
        else:
            ask(self.world, self, seen.addresses[0], ((kept_as, 1),), taken)
