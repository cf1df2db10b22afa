"""What code runs on the cluster: gathered while somebody asks for it.

Who wants to know asks every second or two, and each question keeps all workers looking
for a while longer; when nobody asks any more they stop by themselves, so there is nothing
to undo when an asker dies.  What workers tell is kept in a ring of its own, apart from the
event stream, and is thrown away when nobody wants it any more.
"""

from __future__ import annotations

from typing import Any, Final

from covey.errors import RemoteProtocolError
from covey.scheduler.core.profile import Profile
from covey.scheduler.core.state import SchedulerState, Worker
from covey.wire.worker_link import Profiled, Watched

#: For so long workers look on after a question; it is prolonged when half is over.
LEASE_SECONDS: Final = 10.0

#: So much is given in one answer.
_ANSWERED: Final = 500

#: Numbers of one message at most: as many nodes as a tree may have.
_NUMBERS_MAX: Final = 3 * 5_000 + 1

#: What the scheduler itself does is filed under this.
OWN_LABEL: Final = "(scheduler)"


def ask(state: SchedulerState, number: int) -> dict[str, Any]:
    """Return what was seen since entry *number*, and have everybody look on.

    Returns:
        ``next`` (the number to ask for next time), ``dropped`` (how many entries were
        missed), and ``seen``: time, worker, label, names and nodes of each.
    """
    if state.profile.until - state.now < LEASE_SECONDS / 2:
        end(state)
        state.profile.until = state.now + LEASE_SECONDS
        for worker in state.workers.values():
            tell(state, worker)
    excerpt = state.profile.seen.since(number, _ANSWERED)
    return {
        "next": excerpt.first + len(excerpt.events),
        "dropped": excerpt.dropped,
        "seen": excerpt.events,
    }


def tell(state: SchedulerState, worker: Worker) -> None:
    """Have *worker* look on, if anybody wants that."""
    left = state.profile.until - state.now
    if left > 0:
        state.send(worker.peer, Watched(worker.pace, left))


def end(state: SchedulerState) -> None:
    """Throw away what nobody has asked for in time."""
    if state.profile.until <= state.now and len(state.profile.seen):
        state.profile = Profile(state.profile.until, state.profile.seen.next)


def take(state: SchedulerState, worker: Worker, message: Profiled) -> None:
    """*worker* says what it has seen."""
    if len(message.nodes) > _NUMBERS_MAX or len(message.names) > len(message.nodes):
        raise RemoteProtocolError("a profile is larger than one may be")
    if state.profile.until > state.now:
        _keep(state, worker.name, message.label, message.names, message.nodes)


def own(state: SchedulerState, names: list[str], nodes: list[int]) -> None:
    """The scheduler's process was seen to do this."""
    _keep(state, "", OWN_LABEL, tuple(names), tuple(nodes))


def _keep(
    state: SchedulerState,
    worker: str,
    label: str,
    names: tuple[str, ...],
    nodes: tuple[int, ...],
) -> None:
    state.profile.seen.append((state.now, worker, label, names, nodes))
