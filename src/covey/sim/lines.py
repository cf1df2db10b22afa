"""An edge's way to its scheduler, over the played network.

What to do and when is decided by the machine that real edges have (``wire.edge``),
and what is said travels over the same lines (``wire.line``).  This room only dials
and keeps the timers.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, ClassVar, Final, Protocol, TypeAlias

from covey.errors import CoveyError, Disconnected, Refused
from covey.sim.network import End, Network, Node
from covey.sim.timeline import Timeline
from covey.wire import edge
from covey.wire.base import Message
from covey.wire.introductions import Reception, Welcome
from covey.wire.keys import Role
from covey.wire.line import BEAT_SECONDS, Line
from covey.wire.session import Session

Soon: TypeAlias = Callable[[Callable[[], None]], object]

#: Who has not been taken in yet tries again after so long.
RETRY_SECONDS: Final = 0.5


def new_line(session: Session, role: Role, soon: Soon = lambda flush: flush()) -> Line:
    """Return a line whose messages leave at once, unless *soon* says when."""
    return Line(session, role, _never_fails, soon)


def _never_fails(line: Line, error: CoveyError) -> None:
    raise AssertionError(f"{line.role} cannot be told something: {error}")


class Place(Protocol):
    """Where a scheduler is found, if it is there."""

    def door(self) -> End | None:
        """Return the scheduler's end of a new connection, or ``None``."""


class Owner(Protocol):
    """An edge: a worker or a client."""

    @property
    def node(self) -> Node:
        """The process."""

    def introduce(self, epoch: int) -> Message:
        """Return the introduction of this edge, which has seen *epoch*."""

    def on_welcome(self, line: Line, welcome: Welcome, old: Line | None) -> None:
        """The scheduler has taken us in; it knows nothing of what *old* said."""

    def on_batch(self, batch: list[Any]) -> None:
        """The scheduler said something."""

    def on_end(self, error: CoveyError) -> None:
        """The scheduler was not found again, or turns us away."""


class Uplink:
    """The way of an edge to its scheduler."""

    def __init__(
        self,
        owner: Owner,
        union: Any,
        role: Role,
        place: Place,
        network: Network,
        timeline: Timeline,
        rng: Random,
        patience_seconds: float,
        *,
        corked: bool,
    ) -> None:
        self._owner = owner
        self._union = union
        self._role = role
        self._place = place
        self._network = network
        self._timeline = timeline
        self._rng = rng
        self._patience_seconds = patience_seconds
        self._corked = corked
        self._edge = edge.Edge(patience_seconds, rng.random)
        self.line: Line | None = None
        #: The life of the scheduler that this edge is with.
        self.epoch = 0
        self.closed = False
        self._end: End | None = None
        self._timer = 0
        owner.node.rearm.append(self._rest)

    @property
    def _now(self) -> float:
        """The time, by the clock of this process."""
        return self._timeline.now + self._owner.node.ahead

    @property
    def connected(self) -> bool:
        """Whether the scheduler can be spoken to at the moment."""
        return self.line is not None and self.line.connected

    def start(self) -> None:
        """Look for the scheduler for the first time."""
        self._connect()
        self._later(BEAT_SECONDS, self._beat)

    def close(self) -> None:
        """Say what is queued, and close."""
        self.closed = True
        self._edge.close()
        if self.line is not None:
            self.line.close()
        elif self._end is not None:
            self._end.close()

    def _later(self, seconds: float, call: Callable[..., Any], *args: Any) -> None:
        self._timeline.after(seconds, self._owner.node.run, call, *args)

    def _beat(self) -> None:
        if not self.closed:
            if self.line is not None:
                self.line.beat()
            self._later(BEAT_SECONDS, self._beat)

    # Connections.

    def _connect(self) -> None:
        """Who has not been taken in yet tries for as long as it takes."""
        if self.closed:
            return
        if self._dial():
            self._do(self._edge.connected(self._now))
        else:
            self._later(RETRY_SECONDS * self._rng.random(), self._connect)

    def _dial(self) -> bool:
        door = self._place.door()
        if door is None:
            return False
        end = End(self._owner.node, Reception, self._on_batch, self._lost)
        door.other_role, end.other_role = self._role, Role.SCHEDULER
        self._network.connect(end, door)
        self._end = end
        return True

    def _on_batch(self, end: End, batch: list[Any]) -> None:
        if end is not self._end or self.closed:
            return
        if self._edge.phase is edge.Phase.GREETING:
            self._do(self._edge.heard(batch[0], self._now))
            batch = batch[1:]
        if batch and not self.closed:
            self._owner.on_batch(batch)

    def _lost(self, end: End) -> None:
        if end is not self._end:
            return
        self._end = None
        if self.line is not None:
            self.line.detach()
        self._do(self._edge.lost(end.why, self._now))

    # What the edge orders.

    def _do(self, orders: list[edge.Order]) -> None:
        for order in orders:
            self._EXECUTE[type(order)](self, order)
        self._rest()

    def _rest(self) -> None:
        self._timer += 1
        if self._edge.wake_at:
            node = self._owner.node
            at = node.when(self._edge.wake_at)
            self._timeline.at(at, node.run, self._tick, self._timer)

    def _tick(self, timer: int) -> None:
        if timer == self._timer:
            self._do(self._edge.tick(self._now))

    def _try(self, order: edge.Dial) -> None:
        del order
        if self._dial():
            self._do(self._edge.connected(self._now))
        else:
            self._do(self._edge.not_found(Disconnected("nobody is there"), self._now))

    def _greet(self, order: edge.Greet) -> None:
        assert self._end is not None
        self._end.send(order.words)

    def _introduce(self, order: edge.Introduce) -> None:
        assert self._end is not None
        self._end.send(self._owner.introduce(order.epoch))

    def _hang(self, order: edge.Hang) -> None:
        del order
        end, self._end = self._end, None
        if end is not None:
            end.abort()

    def _open(self, order: edge.Open) -> None:
        session, end = self._edge.session, self._end
        assert session is not None and end is not None
        # Whatever the machine thinks: nobody goes back to an older life.
        assert order.welcome.epoch >= self.epoch, self._owner.node.name
        self.epoch = order.welcome.epoch
        old = self.line
        line = self.line = self._new_line(session)
        end.decode_as(self._union)
        line.attach(end, 0)
        self._owner.on_welcome(line, order.welcome, old)

    def _new_line(self, session: Session) -> Line:
        if not self._corked:
            return new_line(session, Role.SCHEDULER)
        return new_line(session, Role.SCHEDULER, lambda flush: self._later(0.0, flush))

    def _go_on(self, order: edge.GoOn) -> None:
        line, end = self.line, self._end
        assert line is not None and end is not None
        end.decode_as(self._union)
        line.attach(end, order.received)

    def _search(self, order: edge.Search) -> None:
        """Nobody is told: the edge goes on with what it has."""

    def _give_up(self, order: edge.End) -> None:
        if self.line is None and not isinstance(order.why, Refused):
            # Its user, or what watches over it, starts it once more.
            self._edge = edge.Edge(self._patience_seconds, self._rng.random)
            self._later(RETRY_SECONDS * self._rng.random(), self._connect)
            return
        self.close()
        self._owner.on_end(order.why)

    #: What carries out each kind of order.
    _EXECUTE: ClassVar[dict[type, Callable[[Uplink, Any], None]]] = {
        edge.Dial: _try,
        edge.Greet: _greet,
        edge.Introduce: _introduce,
        edge.Hang: _hang,
        edge.Open: _open,
        edge.GoOn: _go_on,
        edge.Search: _search,
        edge.End: _give_up,
    }
