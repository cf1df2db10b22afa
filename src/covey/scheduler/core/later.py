"""What is done in portions: steps go on where earlier ones have stopped."""

from __future__ import annotations

from covey.scheduler.core import transitions
from covey.scheduler.core.spans import thin
from covey.scheduler.core.state import COMING, Client, SchedulerState


def forget_client(state: SchedulerState, client: Client) -> None:
    """*client* is gone: strike out its wishes, at once as far as this step may."""
    state.leftovers.strike_later(client)
    work_off(state)


def work_off(state: SchedulerState) -> None:
    """Go on with what earlier steps have left, as far as this one may."""
    leftovers = state.leftovers
    transitions.fail_all(state, leftovers.doomed)
    transitions.let_go_of_all(state, leftovers.unkept)
    while leftovers.gone and leftovers.allowance > 0:
        client = next(iter(leftovers.gone.values()))
        if not strike_wishes(state, client):
            del leftovers.gone[client.number]
    if not leftovers.unkept:
        thin(state)
    leftovers.see()


def strike_wishes(state: SchedulerState, client: Client) -> bool:
    """Strike out wishes of a client that is gone; say whether there are more."""
    for table, holders in ((client.wants, client.itself), (client.coming, COMING)):
        while table:
            if state.leftovers.allowance <= 0:
                return True
            state.leftovers.allowance -= 1
            span, _ = table.popitem()
            for holder in holders:
                transitions.unwant(state, span, holder)
    return False
