"""A connection that a thread reads by itself while it waits for what comes on it.

As a rule the loop reads, and wakes who waits: two changes of threads for one answer.  A
thread that waits for little may lead instead, and has what comes in its hand::

    as a rule    socket ──► [valve] ──► [I/O thread] ──► lock ──► thread that waits
    one leads    socket ──────────────────────────────────────► thread that waits

What the loop looks at is not the socket but the *valve*: an epoll with only the socket in
it.  Any thread can shut it, by one call to the kernel that wakes nobody.  Who holds the
*turn*, a thread or the loop, is the only one that reads and that acts on what has come.

Beside the socket it may look *aside*, where what it waits for may be told earlier.

Who has led until it had what it waited for leaves the valve shut if nobody else waits for
anything, for it is likely to lead again; whoever comes to wait in another way has it opened
(``look``).

Who leads takes whole frames of what its owner calls simple, and leaves to the loop what it
reads of its own frames having come.  Whatever else comes goes to the loop, together with the
turn, and who led waits as all others do.

An interrupt may come at almost any bytecode of who leads.  A frame is counted when all is
done about it.  If that was not reached the link is cut: the frame comes again over the next
one, and what was done already is done once more.  So ``take`` must bear that.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from covey import clock
from covey.errors import CoveyError, Disconnected
from covey.net.spin import Spin

if TYPE_CHECKING:
    import asyncio

    from covey.net.link import Link

#: A frame that is longer is left to the loop.
_FRAME_BYTES: Final = 4 << 10

#: So long the loop steps aside for a thread that leads and has yet to shut the valve.  The
#: kernel likes to run who was woken on the core of who woke it, and only that thread can go
#: on: without a sleep the loop would ask again and again, and the thread wait for it, for a
#: slice of the kernel's, up to 3 ms.
_ASIDE_SECONDS: Final = 1e-4

#: The same for who has led a moment ago: it is likely to lead again, and reads for itself.
_LATELY_SECONDS: Final = 3e-4

#: The longest that is waited for at once, in milliseconds.
_POLL_MOST: Final = 1000.0 * clock.LOOK_UP_SECONDS


class Waited(Protocol):
    """What a thread waits for."""

    #: Called when it has happened, if it is set.
    bell: Callable[[], None] | None

    @property
    def fired(self) -> bool:
        """Whether it has happened."""

    def wait(self, timeout: float | None) -> bool:
        """Wait; false if it has not happened within *timeout* seconds."""


class Aside(Protocol):
    """Another way on which it may be told that something has happened.

    What is told there is told on the socket as well, and may be lost here.
    """

    #: Readable when there may be a word.
    fd: int

    def ask(self, waited: Waited, /) -> None:
        """A thread begins to wait for this."""

    def take(self) -> None:
        """Act on a word, if there is one."""


def never() -> bool:
    """What comes may not wait."""
    return False


class _Lead:
    """A thread that leads.

    Attributes:
        torn: it has taken something from the socket, and has not counted it.
        glad: it has what it waited for.
        may_wait: whether what comes after that may wait.
    """

    thread: int
    torn = False
    glad = False
    may_wait: Callable[[], bool]


class Inlet:
    """Reads for a link, in its loop or in a thread that waits.

    Args:
        lock: held by who ends the life of a link, and by who counts what came on it.
    """

    def __init__(
        self,
        link: Link,
        transport: asyncio.Transport,
        loop: asyncio.AbstractEventLoop,
        lock: threading.RLock,
    ) -> None:
        self._link = link
        self._transport = transport
        self._loop = loop
        self._lock = lock
        self._fd = self._bell = -1
        self._valve = select.epoll()
        #: Our own: the loop may close its descriptor while a thread reads from this one.
        self._fd = fd = os.dup(transport.get_extra_info("socket").fileno())
        self._valve.register(fd, select.EPOLLIN)
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._spin = Spin()
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        self._poll.register(self._bell, select.POLLIN)
        #: Who reads, by 0.  A dictionary, since ``setdefault`` is all or nothing.
        self._turn: dict[int, object] = {}
        #: Who has begun to lead and not come to its end, the same way.  Below the handler of
        #: a signal that may be a thread whose turn is over: it has the poll and the bell.
        self._begun: dict[int, _Lead] = {}
        #: What the poll looks at as well; kept open by this.
        self._aside: Aside | None = None
        #: When a thread has last led until it had what it waited for.
        self._led = -_LATELY_SECONDS
        #: Whether the loop has something to act on when it has the turn.
        self._loop_waits = False
        #: Who waits while others lead.
        self._followers: dict[int, object] = {}
        #: Whether a thread has led, and left the valve shut for the next one.
        self._left_shut = False
        #: How much the other side says that it has received, and what is due to it, are
        #: for the loop to see to when it has the turn.
        self._received = 0
        self._settle_is_due = False
        transport.pause_reading()
        loop.add_reader(self._valve.fileno(), self._readable)

    def __del__(self) -> None:
        for fd in (self._bell, self._fd):
            if fd >= 0:  # Else making it has failed.
                os.close(fd)

    def close(self) -> None:
        """Read no more; the loop says so."""
        self._loop.remove_reader(self._valve.fileno())
        self.ring()

    def ring(self) -> None:
        """Have who leads look whether it needs to wait any longer."""
        os.eventfd_write(self._bell, 1)

    # The loop.

    def by_loop(self, act: Callable[[], None]) -> None:
        """Call *act* in the loop, which alone reads meanwhile.

        If a thread leads, it has the link catch up when it gives back the turn.
        """
        for _ in range(2):
            if self._turn.setdefault(0, self) is self:
                try:
                    act()
                finally:
                    self._turn.clear()
                return
            # Between the look and this, the turn may have been given back.
            self._loop_waits = True

    def _readable(self) -> None:
        if self._turn or clock.monotonic() - self._led < _LATELY_SECONDS:
            time.sleep(_ASIDE_SECONDS)
        if not self._turn:
            self.by_loop(self._read)

    def _read(self) -> None:
        link = self._link
        if self._transport.is_closing():
            self.close()
            return
        if link.reader.buffer and not link.yields:
            link.take_rest()  # What a thread has left: perhaps this is the end.
        if link.yields or self._transport.is_closing():
            return  # What has come before is acted on first.
        try:
            nbytes = os.readv(self._fd, [link.get_buffer(0)])
        except BlockingIOError:
            return  # A thread was faster.
        except OSError as error:
            link.fail(error)
            return
        if nbytes:
            link.buffer_updated(nbytes)
        else:
            self._transport.close()

    def _settle(self) -> None:
        """See to what threads have read that was of no news to them."""
        link = self._link
        session = link.session
        if session is None or link.lost:
            return
        try:
            # The loop may have read more since.
            if self._received > session.acked:
                link.heed_ack(session, self._received)
            link.acknowledge()
        except CoveyError as error:
            link.fail(error)

    # A thread that waits.

    def wait(
        self,
        waited: Waited,
        timeout: float | None,
        take: Callable[[list[Any]], bool],
        aside: Aside | None = None,
        may_wait: Callable[[], bool] = never,
    ) -> bool:
        """Wait, and lead meanwhile if nobody does; false if it did not happen in time.

        Args:
            waited: what is waited for.
            timeout: seconds; ``None`` waits as long as it takes.
            take: acts on messages that have come; false if they are for the loop.  It
                may be called with the same messages again.
            aside: another way on which it may be told, the same for each wait.
            may_wait: whether whatever else comes may wait until ``look`` is called, which
                is soon, since nobody waits for it.
        """
        until = None if timeout is None else clock.monotonic() + timeout
        lead = _Lead()
        lead.thread = threading.get_ident()
        lead.may_wait = may_wait
        try:
            if (
                self._turn.setdefault(0, lead) is lead
                and self._begun.setdefault(0, lead) is lead
            ):
                self._valve.modify(self._fd, 0)
                if aside is not None:
                    if self._aside is None:
                        self._poll.register(aside.fd, select.POLLIN)
                        self._aside = aside
                        self._spin.is_worth_it = True
                    aside.ask(waited)
                if self._lead(lead, waited, until, take):
                    self._led = clock.monotonic()
                    lead.glad = True
                    return True
            else:
                self._wake_own()
        finally:
            try:
                if self._begun.get(0) is lead:
                    self._begun.clear()
                self._give_back(lead)
            except BaseException:
                # An interrupt: nobody would read any more.
                if self._begun.get(0) is lead:
                    self._begun.clear()
                lead.glad = False
                self._give_back(lead)
                raise
        if waited.fired:
            return True
        try:
            self._followers[id(lead)] = lead
            self.look()
            return waited.wait(None if until is None else until - clock.monotonic())
        finally:
            self._followers.pop(id(lead), None)

    def _lead(
        self,
        lead: _Lead,
        waited: Waited,
        until: float | None,
        take: Callable[[list[Any]], bool],
    ) -> bool:
        """Read until it has happened; false if it has not, or is not known to have."""
        link, milliseconds, spin = self._link, _POLL_MOST, self._spin
        spin.slept = False
        while self._turn.get(0) is lead and not (link.yields or link.reader.buffer):
            if until is not None:
                left = until - clock.monotonic()
                if left <= 0.0:
                    return False
                milliseconds = min(1000.0 * left, _POLL_MOST)
            waited.bell = self.ring
            # Whoever makes it happen from here on rings.
            happened = waited.fired
            if happened or link.lost:
                return happened
            come = spin.poll(self._poll, milliseconds)
            waited.bell = None
            for fd, _ in come:
                if fd == self._fd:
                    if not self._take(lead, take):
                        return False
                elif fd == self._bell:
                    os.eventfd_read(fd)
                elif self._aside is not None and self._turn.get(0) is lead:
                    self._aside.take()
            if come and waited.fired:
                if not spin.slept:
                    spin.pause = 0
                return True
        return False

    def _take(self, lead: _Lead, take: Callable[[list[Any]], bool]) -> bool:
        """Act on what has come; false if the loop has to see to it."""
        link = self._link
        session = link.session
        lead.torn = True
        # From here on nobody takes the turn away.
        try:
            data = os.read(self._fd, _FRAME_BYTES) if self._turn.get(0) is lead else b""
        except OSError as error:
            # Nothing was taken, and what is wrong shows when the loop reads.
            lead.torn = False
            return isinstance(error, BlockingIOError)
        if not data or session is None:
            lead.torn = False
            return False
        frames: list[tuple[list[Any], int]] = []
        ack = None
        simple = False
        try:
            batch = link.reader.whole(data)
            if batch is not None:
                frames.append((batch, len(data)))
                simple = take(batch)
            elif (parts := link.reader.all_whole(data)) is not None:
                frames, ack = parts
                simple = True
                for batch, _ in frames:
                    simple = simple and take(batch)
        except Exception:  # Whatever it is, it comes again where the loop acts on it.
            simple = False
        with self._lock:
            if link.lost:
                return False  # It comes again over the next link.
            link.bytes_received += len(data)
            if simple:
                for _, nbytes in frames:
                    if session.take(nbytes):
                        self._settle_is_due = True
            else:
                link.reader.feed(data)
                self._loop_waits = True
            lead.torn = False
        if simple and ack is not None:
            self._received = ack
            self._settle_is_due = True
        return simple

    def _give_back(self, lead: _Lead) -> None:
        """Let the loop read again, if it is the turn of *lead*.

        If that has taken something and not counted it, nobody reads this link any more.
        """
        if lead.torn:
            why = Disconnected("a thread was interrupted while it read a message")
            self._post(self._link.fail, why)
            return
        if self._turn.get(0) is lead:
            self._left_shut = True
            self._turn.clear()
        # Not before: who would have it opened from here on finds it left shut.
        loop_waits = self._loop_waits or self._followers
        if loop_waits or not (lead.glad and lead.may_wait()):
            self.look()
        if self._loop_waits:
            self._post(self._link.catch_up)
            self._loop_waits = False

    @property
    def is_led(self) -> bool:
        """Whether a thread leads."""
        return bool(self._begun)

    def look(self) -> None:
        """Somebody waits for what comes, and does not lead: have the loop read.

        Of threads that lead one after the other each leaves the valve shut for the next:
        else the loop wakes for what the next one would have read.
        """
        if self._settle_is_due:
            # That takes no turn, and may be all that the other side waits for.
            self._settle_is_due = False
            self._post(self._settle)
        if self._left_shut and not self._turn:
            self._open()

    def _open(self) -> None:
        # First: who leads meanwhile and leaves it shut again says so behind this.
        self._left_shut = False
        try:
            self._valve.modify(self._fd, select.EPOLLIN)
        except BaseException:
            # An interrupt.  Who has looked meanwhile relies on this.
            self._left_shut = True
            self._valve.modify(self._fd, select.EPOLLIN)
            raise

    def _post(self, act: Callable[..., None], *args: object) -> None:
        """Have the loop do something, unless it has ended, and the link with it."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(act, *args)

    def _wake_own(self) -> None:
        """Let the loop read if the handler of a signal waits, in a thread that leads."""
        holder = self._turn.get(0)
        if isinstance(holder, _Lead) and holder.thread == threading.get_ident():
            self._give_back(holder)


def inlet_of(
    link: Link,
    transport: asyncio.Transport,
    loop: asyncio.AbstractEventLoop,
    lock: threading.RLock,
) -> Inlet | None:
    """Return what lets threads read for *link*; nothing where the loop alone can.

    What is encrypted is the loop's business, and only Linux has valves and bells: three
    more open files.
    """
    if not hasattr(select, "epoll") or transport.get_extra_info("ssl_object"):
        return None
    try:
        return Inlet(link, transport, loop, lock)
    except OSError:
        return None  # There are too many open files.
