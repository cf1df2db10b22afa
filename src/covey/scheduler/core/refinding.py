"""Values that were claimed before their makers came back to tell how they are made.

A client that comes back may hold, or take, what another one made.  If that one is not
there yet, the value is entered by itself.  When its maker comes, what stood for the value
gives way to the task that it is the value of, so that it can be made again::

    claimed by B   [value, and no recipe]
    A comes back   [recipe, and the same value, which B still holds]
"""

from __future__ import annotations

from covey.ids import TaskId
from covey.scheduler.core import dependents, memory, report, submitting, transitions
from covey.scheduler.core.spans import covering, find, isolate, strike
from covey.scheduler.core.state import SchedulerState, Span, State, Worker


class Found:
    """What was known of one task by its value alone.

    Attributes:
        span: what stood for it.
        replicas: where the value is; empty if it has been lost.
    """

    __slots__ = ("replicas", "span")

    def __init__(self, span: Span, replicas: tuple[Worker, ...]) -> None:
        self.span = span
        self.replicas = replicas


def give_way(state: SchedulerState, base: TaskId, n: int) -> list[Found]:
    """Strike out what is known of these tasks by its value alone, and return it."""
    known = [span for span in covering(state, base, n) if _is_found(state, span)]
    for span in known:
        for task in range(max(base, span.base), min(base + n, span.base + span.n)):
            isolate(state, task, 1)
    found = []
    for span in [s for s in covering(state, base, n) if s.n == 1]:
        if _is_found(state, span):
            found.append(Found(span, span.replicas))
            _strike(state, span)
    return found


def _is_found(state: SchedulerState, span: Span) -> bool:
    return span.function is None and span.pack is None and span.base not in state.ids_of


def _strike(state: SchedulerState, span: Span) -> None:
    for worker in span.replicas:
        del worker.holds[span]
        worker.moving.pop(span, None)
        memory.stores(state, worker, -span.nbytes)
    span.replicas = ()
    for number in span.wanted:
        client = state.client_numbers.get(number) or state.leftovers.gone.get(number)
        if client is not None:
            client.wants.pop(span, None)
    state.spreads.pop(span, None)
    if span.state is not State.RELEASED:  # As it is where what took it has ended.
        transitions.move(state, span, State.RELEASED)
    transitions.move(state, span, State.FORGOTTEN)
    strike(state, span)


def take_over(state: SchedulerState, found: Found) -> None:
    """Give the task itself, which has been entered, all that stood for it had."""
    old = found.span
    parts = isolate(state, old.base, 1) if find(state, old.base) else []
    new = parts[0] if parts else submitting.found_value(state, old.base, 1)
    for worker in found.replicas:
        if new.state is State.DONE:
            transitions.add_replica(state, new, worker)
        else:
            transitions.turn_up(state, new, worker, old.nbytes)
    new.digests = new.digests or old.digests
    new.wanted |= old.wanted
    new.delivered |= old.delivered
    for number in old.wanted:
        client = state.client_numbers.get(number) or state.leftovers.gone.get(number)
        if client is not None:
            client.wants[new] = None
    for dependent, g in old.dependents.items() if old.dependents else ():
        dependents.add(new, dependent, g)
        new.pending += dependent.unfinished
        if dependent.inputs is not None:
            dependent.inputs = tuple(new if s is old else s for s in dependent.inputs)
    if not found.replicas and new.state is State.RELEASED:
        # It was lost meanwhile, and whoever waited for it was told so.
        report.reverted(state, new)
        transitions.demand(state, new)
