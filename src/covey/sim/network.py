"""A network that is late, clogged, cut and in pieces: all that a network may be.

A **connection** carries bytes both ways, in order.  What it carries may wait
behind a blocked path and come when that heals, as TCP would send it again; or
the connection breaks, and each end has got some of the bytes that were under
way, cut anywhere.  Nothing is lost, doubled or reordered within one connection:
that is what TCP promises and all that it does.

Paths are blocked one way at a time; a partition blocks many.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any, Final

from covey.sim import carrying
from covey.sim.timeline import Timeline, Trace
from covey.wire.framing import FrameReader, encode_frame
from covey.wire.keys import Role
from covey.wire.session import Session

#: By how much clocks are ahead of each other.
CLOCKS: Final = (0.0, 0.25, 86_400.5, 1e6)

#: A connection over which nothing has been acknowledged for so long breaks.
SILENCE_SECONDS: Final = 30.0


class Node:
    """A process: it lives, it may be paused, and it ends."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.paused = False
        #: How often it was stopped.
        self.pauses = 0
        #: By how much this process's clock is ahead of the others: clocks count from
        #: whenever they like, and only how long something takes means anything.
        self.ahead = 0.0
        #: What sets the timers of this process once more when its clock has jumped.
        self.rearm: list[Callable[[], None]] = []
        self._held: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        #: Who waits for an answer of this process, and must hear of its end.
        self.mourners: dict[int, Callable[[], None]] = {}
        self.last_mourner = 0

    def run(self, call: Callable[..., Any], *args: Any) -> None:
        """Let something happen to this process: later if it is paused."""
        if self.paused:
            self._held.append((call, args))
        elif self.alive:
            call(*args)

    def when(self, time: float) -> float:
        """Return when it will be *time* by this process's clock."""
        # A nanosecond more, or rounding would wake it a little early for ever.
        return time - self.ahead + (1e-9 if self.ahead else 0.0)

    def step_clock(self, seconds: float) -> None:
        """The clock of this process jumps."""
        self.ahead += seconds
        for rearm in self.rearm:
            rearm()

    def pause(self) -> None:
        """Stop as SIGSTOP does."""
        self.paused = True
        self.pauses += 1

    def die(self) -> None:
        """End as SIGKILL does it."""
        self.alive = False
        self._held.clear()
        mourners, self.mourners = self.mourners, {}
        for mourn in mourners.values():
            mourn()

    def resume(self) -> None:
        """Go on, with everything that has come meanwhile."""
        self.paused = False
        held, self._held = self._held, []
        for call, args in held:
            self.run(call, *args)


class Weather:
    """How good the network is: latencies in seconds, bandwidth in bytes a second."""

    def __init__(
        self, latency: float = 1e-4, jitter: float = 1e-4, bandwidth: float = 1e9
    ) -> None:
        self.latency = latency
        self.jitter = jitter
        self.bandwidth = bandwidth


class _Way:
    """One direction of a connection."""

    __slots__ = ("connection", "last", "queue", "source", "stuck", "target")

    def __init__(self, connection: Connection, source: End, target: End) -> None:
        self.connection = connection
        self.source = source
        self.target = target
        self.last = 0.0
        self.queue: deque[bytes] = deque()
        #: How many arrivals wait for the path to heal.
        self.stuck = 0


class End:
    """One side of a connection: messages in, batches of messages out."""

    def __init__(
        self,
        node: Node,
        union: Any,
        on_batch: Callable[[End, list[Any]], None],
        on_lost: Callable[[End], None],
    ) -> None:
        self.node = node
        self.reader: FrameReader[Any] = FrameReader(union)
        self.on_batch = on_batch
        self.on_lost = on_lost
        self.lost = False
        #: Why it ended, if it did not just break or close.
        self.why: Exception | None = None
        #: Whether we have cut it ourselves, and read no more.
        self.deaf = False
        self.bytes_received = 0
        #: Whatever the owner wants to remember of the other side.
        self.peer: Any = None
        self.other_role: Role | None = None
        self._session: Session | None = None
        self._on_ack: Callable[[], None] = lambda: None
        #: The way out.
        self.way: _Way | None = None

    def send(self, message: Any) -> None:
        """Send a message that belongs to no session; it is lost if the connection is."""
        self.write(encode_frame([message]))

    def flush(self) -> None:
        """Nothing waits here."""

    def decode_as(self, union: Any) -> None:
        """From now on only messages of *union* are allowed to come in."""
        self.reader.decode_as(union)

    def write(self, frame: bytes) -> None:
        """Send the bytes of a frame."""
        way = self.way
        if way is not None and not self.lost:
            way.connection.network.carry(way, frame)

    def carry(self, session: Session, on_ack: Callable[[], None]) -> None:
        """From now on all frames are those of *session*."""
        self._session = session
        self._on_ack = on_ack
        self.reader.acks_allowed = True

    def take(self, data: bytes) -> None:
        """Bytes have come."""
        self.bytes_received += len(data)
        reader = self.reader
        reader.feed(data)
        while not self.lost and not self.deaf:
            batch = reader.next_batch()
            session = self._session
            if session is not None:
                if reader.ack is not None:
                    acked, reader.ack = reader.ack, None
                    session.on_ack(acked)
                    self._on_ack()
                if batch is not None:
                    session.take(reader.frame_bytes)
                elif session.ack_is_due:
                    self.write(session.ack())
            if batch is None:
                return
            self.on_batch(self, batch)

    def fail(self, error: Exception) -> None:
        """End the connection at once, for a reason, and hear of it as of any loss."""
        self.why = error
        self.abort()

    def abort(self) -> None:
        """End the connection at once, and hear of it as of any loss."""
        if self.way is not None and not self.lost:
            self.deaf = True
            self.way.connection.network.break_(self.way.connection)

    def close(self) -> None:
        """Close the connection; what was sent before still arrives."""
        if self.way is not None and not self.lost:
            self.lost = True
            self.way.connection.network.finish(self.way)


class Connection:
    """Two ends, and a way in each direction."""

    def __init__(self, network: Network, near: End, far: End) -> None:
        self.network = network
        self.ends = (near, far)
        self.ways = (_Way(self, near, far), _Way(self, far, near))
        near.way, far.way = self.ways
        self.broken = False

    def joins(self, one: str, other: str) -> bool:
        """Whether it runs between these two, either way."""
        return {one, other} == {end.node.name for end in self.ends}


class Network:
    """All connections, and which paths are blocked."""

    def __init__(
        self, timeline: Timeline, rng: Random, weather: Weather, trace: Trace
    ) -> None:
        self.timeline = timeline
        self.weather = weather
        self.trace = trace
        self._rng = rng
        self.connections: list[Connection] = []
        #: Since when a path is blocked: (source, target) -> time.
        self._blocked: dict[tuple[str, str], float] = {}
        #: What paths are slow: (source, target) -> more seconds.
        self._clogged: dict[tuple[str, str], float] = {}
        #: Which share of the large values does not come as it was sent.
        self.garbles = 0.0
        self._waiting: list[tuple[tuple[str, str], Callable[[bool], None]]] = []

    # Connections.

    def connect(self, near: End, far: End) -> Connection:
        """Join two ends."""
        connection = Connection(self, near, far)
        self.connections.append(connection)
        return connection

    def latency(self, source: str, target: str, nbytes: int = 0) -> float:
        """Draw how long something takes on a path."""
        weather = self.weather
        return (
            weather.latency
            + weather.jitter * self._rng.random()
            + nbytes / weather.bandwidth
            + self._clogged.get((source, target), 0.0)
        )

    def carry(self, way: _Way, data: bytes) -> None:
        """Send bytes on their way."""
        if way.connection.broken:
            return
        source, target = way.source.node.name, way.target.node.name
        due = self.timeline.now + self.latency(source, target, len(data))
        way.last = max(way.last, due)
        way.queue.append(data)
        self.timeline.at(way.last, self._arrive, way)

    def _arrive(self, way: _Way) -> None:
        if way.connection.broken or not way.queue:
            return
        path = (way.source.node.name, way.target.node.name)
        if path in self._blocked:
            way.stuck += 1
            return
        self._deliver(way, way.queue.popleft())

    def _deliver(self, way: _Way, data: bytes) -> None:
        source, target = way.source.node, way.target.node
        self.trace.note(self.timeline.now, f"{source.name} > {target.name}", data)
        target.run(way.target.take, data)

    def finish(self, way: _Way) -> None:
        """One end closes: the other hears of it when all bytes have come."""
        due = self.timeline.now + self.latency(
            way.source.node.name, way.target.node.name
        )
        self.timeline.at(max(way.last, due), self._finished, way)

    def _finished(self, way: _Way) -> None:
        connection = way.connection
        if way.queue and not connection.broken:
            self.timeline.after(0.1, self._finished, way)
            return
        connection.broken = True
        self._forget(connection)
        self._tell_lost(way.target)

    def break_(self, connection: Connection) -> None:
        """A connection breaks: each end gets some of what was under way, or none."""
        if connection.broken:
            return
        connection.broken = True
        self._forget(connection)
        for way in connection.ways:
            data = b"".join(way.queue)
            way.queue.clear()
            path = (way.source.node.name, way.target.node.name)
            if data and path not in self._blocked:
                part = data[: self._rng.randrange(len(data) + 1)]
                self._deliver(way, part)
            self.timeline.after(self._rng.random(), self._tell_lost, way.target)

    def _forget(self, connection: Connection) -> None:
        if connection in self.connections:
            self.connections.remove(connection)

    def _tell_lost(self, end: End) -> None:
        def tell() -> None:
            if not end.lost:
                end.lost = True
                end.on_lost(end)

        end.node.run(tell)

    def gone(self, node: Node) -> None:
        """A process is gone, and with it its ends of all connections."""
        for connection in list(self.connections):
            if any(end.node is node for end in connection.ends):
                self.break_(connection)

    # Paths.

    def blocked(self, source: str, target: str) -> bool:
        """Whether nothing gets from one to the other."""
        return (source, target) in self._blocked

    def block(self, source: str, target: str) -> None:
        """Let nothing get from one to the other until it heals."""
        if (source, target) not in self._blocked:
            self._blocked[source, target] = self.timeline.now
            self.timeline.after(
                SILENCE_SECONDS, self._silent, source, target, self.timeline.now
            )

    def _silent(self, source: str, target: str, since: float) -> None:
        """Without acknowledgements, both ends give a connection up at last."""
        if self._blocked.get((source, target)) != since:
            return
        for connection in list(self.connections):
            if connection.joins(source, target):
                for end in connection.ends:
                    end.why = TimeoutError("nothing was acknowledged")
                self.break_(connection)
        self._settle_waiting((source, target), healed=False)

    def heal(self, source: str, target: str) -> None:
        """What was stuck on a path gets through."""
        if self._blocked.pop((source, target), None) is None:
            return
        for connection in self.connections:
            for way in connection.ways:
                if (way.source.node.name, way.target.node.name) == (source, target):
                    stuck, way.stuck = way.stuck, 0
                    for _ in range(stuck):
                        way.last = max(way.last, self.timeline.now)
                        self.timeline.at(way.last, self._arrive, way)
        self._settle_waiting((source, target), healed=True)

    def heal_all(self) -> None:
        """Make the whole network good."""
        for source, target in list(self._blocked):
            self.heal(source, target)
        self._clogged.clear()
        self.garbles = 0.0

    def clog(self, source: str, target: str, seconds: float) -> None:
        """Make a path slower, or with 0 as fast as the others."""
        if seconds:
            self._clogged[source, target] = seconds
        else:
            self._clogged.pop((source, target), None)

    def bring(self, value: bytes) -> bytes | None:
        """Bring a large value over; nothing comes of one that was garbled."""
        carried = carrying.sent(value)
        if self.garbles and self._rng.random() < self.garbles:
            carried = carrying.garbled(carried)
        return carrying.taken_in(carried)

    def pass_path(
        self, source: str, target: str, nbytes: int, then: Callable[[bool], None]
    ) -> None:
        """Get something from one to another; *then* hears whether it came."""

        def arrive() -> None:
            if (source, target) in self._blocked:
                self._waiting.append(((source, target), then))
            else:
                then(True)

        self.timeline.after(self.latency(source, target, nbytes), arrive)

    def _settle_waiting(self, path: tuple[str, str], *, healed: bool) -> None:
        waiting = [then for where, then in self._waiting if where == path]
        self._waiting = [entry for entry in self._waiting if entry[0] != path]
        for then in waiting:
            then(healed)
