"""The client's shell: a thread of its own that talks to the cluster.

User threads put messages into an outbox and wake the loop once; the loop sends
everything that has gathered in one write::

    user threads ──post()──► outbox ──► [I/O thread: link, asker] ◄──► cluster
         ▲                                       │
         └────────── ranges, watchers ◄──────────┘

The same engine serves ``Client`` and ``AsyncClient``, inside or outside of a
running event loop, and never touches the user's loop or its policy.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import os
import platform
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, ClassVar, Final, TypeVar

import msgspec

from covey import clock, config
from covey.client import forks
from covey.client.calling import Calls
from covey.client.cancelling import Cancels
from covey.client.core.ledger import Ledger, untold
from covey.client.core.ranges import Wishes
from covey.client.early import EarlyWords, early_words
from covey.client.midst import check_free
from covey.client.outbox import Outbox
from covey.client.outcome import end_of_all
from covey.client.questions import Questions
from covey.client.readers import Readers
from covey.client.roster import Roster
from covey.client.warn import PassedOn
from covey.errors import Closed, CoveyError, Disconnected, UsageError
from covey.ids import TaskId, client_of, first_task_id, new_client_id
from covey.net.addresses import host_identity
from covey.net.asking import Asker
from covey.net.join_string import Connection
from covey.net.loop import close_event_loop, new_event_loop
from covey.net.shared_line import SharedLine
from covey.net.uplink import Owner, Uplink
from covey.payload import Pack
from covey.units import format_seconds
from covey.version import VERSION
from covey.wire.base import Extent, Failure, Message
from covey.wire.client_link import (
    Answer,
    BringAgain,
    Closing,
    Failed,
    Finished,
    FromClient,
    Goodbye,
    Notice,
    Over,
    Reverted,
    Stored,
    ToClient,
    Tried,
    WorkerGone,
    WorkerSeen,
)
from covey.wire.introductions import ClientIntroduction, Welcome
from covey.wire.keys import Role
from covey.wire.line import Line

T = TypeVar("T")

#: Futures of small values that are dropped so soon after news are let go together, with
#: what is sent next or when this time is over.  It delays nothing that anybody waits for.
LULL_SECONDS: Final = 0.01

#: A scheduler that is looked for so long is worth a warning.
TELL_AWAY_SECONDS: Final = 5.0


class Engine(Roster, Owner):
    """One client's way to its cluster, and all that was wished over it.

    Args:
        find: says where the scheduler is, at first and whenever it was lost.
        name: how the client is called.
    """

    def __init__(self, find: Callable[[], Connection], name: str) -> None:
        super().__init__()
        self._find = find
        found = find()
        self.address = found.address
        self.keys = found.keys
        self.name = name
        self.client_id = new_client_id()
        self.wishes = Wishes()
        #: Shared tasks whose values workers keep under another id than ours, and
        #: what lets us fetch those.
        self.kept_as: dict[TaskId, tuple[TaskId, bytes]] = {}
        #: What lets us hold and fetch futures that other clients have passed on.
        self.tokens: dict[TaskId, bytes] = {}
        self.readers = Readers()
        #: Sees to it that tasks which failed are tried again, if it says so.
        self.mends: Callable[[Failed], bool] = lambda _: False
        self.cluster = ""
        self.closed = False
        self.broken: Exception | None = None
        self._warned = PassedOn()
        #: Why the scheduler ends, or refuses us, once it has said so.
        self._closing: Closing | None = None
        self.pid = os.getpid()
        self._forks = forks.count
        self._next_task = first_task_id(self.client_id)
        self._ids = threading.Lock()
        self.bring_again: Callable[[TaskId], None]  # what was lost with its worker
        #: Whether it will be called soon in any case.
        self.lull_is_coming = False
        #: How many frames had come when another lull was put off.
        self._received = -1
        self._uplink: Uplink | None = None
        #: What the scheduler is spoken to through, once it has taken us in.
        self.line: SharedLine | None = None
        #: Since when the scheduler is looked for, if it is.
        self.away_since: float | None = None
        self.ledger = Ledger()
        self._asker: Asker | None = None
        #: Where this client hears from runners, if it does.
        self.early: EarlyWords | None = None
        #: Done when we know all workers that were there before us.
        self._oriented: asyncio.Future[None] | None = None
        self._unseen = 0
        self._parting: asyncio.Task[None] | None = None
        self.loop = new_event_loop()
        self._calls = Calls(self.loop)
        self.outbox = Outbox(self.loop, self.ledger)
        self.outbox.look = self.look
        self.post = self.outbox.post
        self._questions = Questions(self.post, self.wishes, self.loop, self.look)
        self.cancels = Cancels(self._questions.ask)
        self._thread = threading.Thread(
            target=self._run_loop, name=f"covey-{name}", daemon=True
        )
        self.outbox.served_by(self._thread)
        self._thread.start()
        self.thread_id = self._thread.ident

    # The thread.

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self._calls.end(close_event_loop)

    @property
    def in_thread(self) -> bool:
        """Whether the caller is the I/O thread itself."""
        return threading.get_ident() == self.thread_id

    def check(self) -> None:
        """Raise if this engine cannot be used any more.

        Raises:
            Closed: the client was closed.
            UsageError: the process is a fork of the one that made the client.
            Disconnected: the scheduler is gone.
        """
        if self._forks != forks.count:
            self.check_process()
        if self.closed:
            raise Closed("this client has been closed; make a new one")
        if self.broken is not None:
            raise Disconnected(str(self.broken))

    def check_free(self) -> None:
        """Raise if this is the handler of a signal that came as this thread spoke."""
        if self.line is not None:
            check_free(self.line.lock)

    def check_process(self) -> None:
        """Raise in a fork of the process that made this engine: no news come there.

        Raises:
            UsageError: this is one.
        """
        if self._forks != forks.count:
            raise UsageError(
                "this client belongs to the process that made it; after a fork, make "
                "a new Client in the child"
            )

    def call(
        self, work: Coroutine[Any, Any, T], timeout_seconds: float | None = None
    ) -> T:
        """Run *work* in the I/O thread and wait for it; see ``Calls.wait_for``."""
        try:
            if self.in_thread:
                raise UsageError(
                    "a callback of a future must not wait for the cluster: it runs in "
                    "the thread that would have to bring the answer"
                )
            self.check_free()
        except UsageError:
            work.close()
            raise
        return self._calls.wait_for(work, timeout_seconds)

    def start(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Run *work* in the I/O thread; do not wait.  See ``Calls.start``."""
        return self._calls.start(work)

    # Connecting.

    async def connect(self, timeout_seconds: float) -> None:
        """Connect to the scheduler and present this client.

        Raises:
            ClusterError: nobody answers, or we are refused.
        """
        self._oriented = self.loop.create_future()
        self._asker = Asker(self.keys, VERSION, self.name, self.client_id)
        self._asker.is_wanted = lambda task: self.wishes.find(task) is not None
        self._uplink = Uplink(
            self,
            ToClient,
            role=Role.CLIENT,
            version=VERSION,
            patience_seconds=config.get().client.reconnect_seconds,
            make_line=SharedLine,
        )
        self._asker.call_scheduler_at(self.where)
        await self._uplink.connect(timeout_seconds)
        self.early = early_words(self)
        await self._uplink.greet()
        await self._oriented
        self.outbox.send()

    def find(self) -> Connection:
        """Return where the scheduler is now; it may have moved."""
        found = self._find()
        self.address = found.address
        return found

    def introduce(self, epoch: int) -> Message:
        """Return who this client is."""
        return ClientIntroduction(
            self.client_id,
            self.name,
            VERSION,
            platform.python_version(),
            host_identity(),
            epoch,
        )

    def on_welcome(self, line: Line, welcome: Welcome, old: Line | None) -> None:
        """The scheduler has taken us in; if it knows nothing of us, tell it all."""
        assert isinstance(line, SharedLine)
        self.cluster = welcome.cluster
        self.line = line
        self.workers.clear()
        self._unseen = welcome.workers
        self._orient()
        with line.lock:
            self.outbox.speak_through(line)
            self.outbox.note()
            if old is not None:
                line.send_all(self._all_there_is(old))
        if old is not None:
            self.on_back()

    def _all_there_is(self, old: Line) -> list[Message]:
        """Return all that a scheduler is to know of us, which knows nothing."""
        self.wishes.all_told()
        foreign = self.ledger.not_ours(self.wishes, self.tokens)
        named = (task for base, n in foreign for task in range(base, base + n))
        tokens = [self.token_of(task) for task in named]
        return [
            *self.ledger.recall(self.wishes, foreign, tokens),
            *untold(old.unheard(FromClient)),
            *self.cancels.open(),
            *self._questions.open(),
        ]

    def on_messages(self, link: Any, batch: list[Any]) -> None:
        """The scheduler said something."""
        del link
        self.outbox.quiet = True
        try:
            for message in batch:
                self._HANDLERS[type(message)](self, message)
        except Exception as error:
            # All of the batch counts as received and does not come again: who waits
            # for the rest of it would wait for ever.
            logging.getLogger("covey.client").exception("a bug in covey's client")
            try:
                self._leave()
            finally:
                # Whatever else is broken: nobody waits for ever.
                self._break(error)
            return
        self.expect_lull()

    def expect_lull(self) -> None:
        """Something has come: who has a result in hand is likely to drop its future."""
        if not self.lull_is_coming:
            self.lull_is_coming = True
            self.loop.call_later(LULL_SECONDS, self._lull)

    def _lull(self) -> None:
        # Cleared first: who drops a future from now on wakes the loop for it.
        self.lull_is_coming = False
        self.outbox.catch_up()
        line = self.line
        if line is None:
            return
        received = line.session.received
        if line.is_heard and received != self._received:
            # A thread that asks again and again would wake the loop for the next lull.
            self._received = received
            self.expect_lull()
        line.look()

    def look(self) -> None:
        """Somebody waits for news, and does not ``listen`` for them."""
        line = self.line
        if line is not None:
            line.look()

    def has_time(self) -> bool:
        """Whether news may wait for the lull: nobody waits for any."""
        asks = self._questions
        if asks.asked or asks.waiting or self._worker_watchers:
            return False
        return self.lull_is_coming and self.wishes.few_and_ended

    def _orient(self) -> None:
        """Let the program go on, once it will see the cluster as it is."""
        if self._unseen <= 0 and self._oriented and not self._oriented.done():
            self._oriented.set_result(None)

    # Losing the scheduler, and finding it again.

    def on_away(self, error: Exception | None) -> None:
        """The connection broke: nothing is lost, all that is pending waits."""
        if self._closing is not None:
            self._break(error)
            return
        self.away_since = clock.monotonic()
        self.loop.call_later(TELL_AWAY_SECONDS, self._tell_away, self.away_since)

    def _tell_away(self, since: float) -> None:
        """Whoever waits for so long shall know what for."""
        if self.away_since == since and not self.closed and self.broken is None:
            self._on_notice(Notice(self.why_away()))

    def on_back(self) -> None:
        """All goes on."""
        self.away_since = None

    def why_away(self) -> str:
        """Say that the scheduler is looked for; nothing if it need not be."""
        since = self.away_since
        if since is None:
            return ""
        return (
            f"the connection to the scheduler was lost "
            f"{format_seconds(clock.monotonic() - since)} ago and is being looked for "
            f"(reconnecting); nothing is lost by that"
        )

    def on_end(self, error: CoveyError) -> None:
        """The scheduler was not found again, or refuses us."""
        self._break(error)

    def _break(self, error: Exception | None) -> None:
        """Give up, and say so to all that wait."""
        if self.broken is not None:
            return
        if self._uplink is not None:
            self._uplink.close()
        self.broken = end_of_all(self.address.shown, error, self._closing)
        if self._oriented is not None and not self._oriented.done():
            self._oriented.set_exception(error or self.broken)
        self._questions.end(self.broken)
        self._end_pending("lost", "Disconnected", str(self.broken))
        self._tell_worker_watchers()

    def _end_pending(self, kind: str, type_name: str, text: str) -> None:
        failure = Failure(kind, type_name, text)
        for wish in self.wishes.all():
            if wish.pending:
                wish.fail(0, wish.n, failure)

    # Sending.

    def new_tasks(self, n: int) -> TaskId:
        """Return the first of *n* fresh consecutive task ids."""
        with self._ids:
            base = self._next_task
            self._next_task = base + n
        return base

    def owns(self, task: TaskId) -> bool:
        """Whether *task* was made by this client."""
        return client_of(task) == self.client_id

    def token_of(self, task: TaskId) -> bytes:
        """Return what lets whoever shows it hold *task*, which we hold."""
        if self.owns(task):
            return self.keys.token(task)
        return self.tokens.get(task, b"")

    def tokens_for(
        self, extents: Sequence[Extent], shared: dict[TaskId, bytes]
    ) -> tuple[bytes, ...]:
        """Return, in turn, the tokens of those tasks that others have made.

        *shared* are those of tasks that are known here by another id.
        """
        return tuple(
            [
                shared.get(task) or self.token_of(task)
                for base, n in extents
                if not (self.owns(base) and self.owns(base + n - 1))
                for task in range(base, base + n)
            ]
        )

    async def ask(self, topic: str, **fields: Any) -> Any:
        """Ask the scheduler a question and return the answer."""
        return await self._questions.ask(topic, **fields)

    @property
    def asker(self) -> Asker:
        """The near end of the data plane."""
        assert self._asker is not None
        return self._asker

    # News.

    def _on_finished(self, message: Finished) -> None:
        pack = Pack.from_wire(message.sizes, message.data)
        self.wishes.finished(message.base, pack)

    def _on_stored(self, message: Stored) -> None:
        if message.source not in {-1, message.base}:
            self.kept_as[message.base] = (message.source, message.token)
        elif self.kept_as:
            # Another life of the scheduler may have made ours the one that is shared.
            self.kept_as.pop(message.base, None)
        self.wishes.stored(message.base, message.n, message.worker, message.nbytes)

    def _on_failed(self, message: Failed) -> None:
        self.outbox.note()
        if not self.mends(message):
            self.fail(message)

    def fail(self, message: Failed) -> None:
        """Tasks have failed, and nothing can be done about it."""
        failure = message.failure
        if failure.origin >= 0 and self.wishes.find(failure.origin) is None:
            # Nobody has a future of it, which would know its key; as long as this
            # task is held, the ledger knows what it takes.
            name = self.ledger.key_of(failure.origin)
            if name is not None:
                details = {**failure.details, "origin": name}
                failure = msgspec.structs.replace(failure, details=details)
        if failure.type_name == "KeyConflict":
            self.ledger.refuse(message.base)
        self.wishes.failed(message.base, message.n, failure)

    def _on_reverted(self, message: Reverted) -> None:
        self.wishes.reverted(message.base, message.n)

    def _on_answer(self, message: Answer) -> None:
        self._questions.answered(message)

    def _on_told(self, message: Tried | Over) -> None:
        self.outbox.note()
        self.ledger.hear(message)

    def _on_notice(self, message: Notice) -> None:
        self._warned.warn(message.text)

    def _on_worker_seen(self, message: WorkerSeen) -> None:
        self.workers[message.worker] = message
        self.readers.saw(message)
        self._unseen -= 1
        self._orient()
        self._tell_worker_watchers()

    def _on_worker_gone(self, message: WorkerGone) -> None:
        self.workers.pop(message.worker, None)
        self._tell_worker_watchers()

    def _on_closing(self, message: Closing) -> None:
        self._closing = message

    # The end.

    def _leave(self, shutdown: bool = False) -> None:
        """Have the cluster keep nothing for us any more."""
        if self._uplink is not None and self.broken is None:
            self.outbox.send()
            if self.line is not None:
                self.line.send(Goodbye(shutdown))
            self._uplink.close()

    async def _say_goodbye(self, shutdown: bool, *, settles: bool = False) -> None:
        if settles:
            await self._questions.settle()
        self._leave(shutdown)
        for each in (self._asker, self.early):
            if each is not None:
                each.close()
        # Whoever waits for an answer in another thread gets none any more.
        self._questions.end(Closed("this client was closed before the answer came"))

    def close(self, *, shutdown: bool = False) -> None:
        """Leave the cluster; futures that have not ended are cancelled.  Idempotent."""
        if self.closed or os.getpid() != self.pid:
            return
        self.check_free()
        self.closed = True
        if self.in_thread:
            self._parting = self.loop.create_task(self._say_goodbye(shutdown))
            self.loop.call_soon(self.loop.stop)
            return
        try:
            self.call(self._say_goodbye(shutdown, settles=True), 5.0)
        except (CoveyError, TimeoutError, RuntimeError):
            pass  # It is gone already, which is what we want.
        self._end_pending(
            "cancelled", "TaskCancelled", "the client was closed before the task ended"
        )
        try:
            self.loop.call_soon_threadsafe(self.loop.stop)
        except RuntimeError:
            return
        self._thread.join(5.0)

    #: What handles each kind of message.
    _HANDLERS: ClassVar[dict[type, Callable[[Engine, Any], None]]] = {
        Finished: _on_finished,
        Stored: _on_stored,
        Failed: _on_failed,
        Reverted: _on_reverted,
        BringAgain: lambda self, message: self.bring_again(message.task),
        Answer: _on_answer,
        Notice: _on_notice,
        WorkerSeen: _on_worker_seen,
        WorkerGone: _on_worker_gone,
        Closing: _on_closing,
        Tried: _on_told,
        Over: _on_told,
    }
