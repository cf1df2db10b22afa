"""What the scheduler says that is the shell's business: the core only hands it on."""

from __future__ import annotations

from covey.wire import worker_link
from covey.worker.core.orders import CallIn, KnowPeer, Quit, SayHow
from covey.worker.core.state import WorkerState


def on_peer(state: WorkerState, message: worker_link.Peer) -> None:
    """Another worker is there."""
    state.order(KnowPeer(message.worker, message.addresses, message.host))


def on_watched(state: WorkerState, message: worker_link.Watched) -> None:
    """Somebody looks on, or nobody does any more."""
    state.order(SayHow(message.seconds, message.profile_seconds))


def on_meet(state: WorkerState, message: worker_link.Meet) -> None:
    """Somebody wants values, and cannot come here."""
    state.order(CallIn(message.ticket, message.client))


def on_leave(state: WorkerState, message: worker_link.Leave) -> None:
    """The worker is not needed any more."""
    del message
    state.order(Quit())
