"""How long calls of functions take, as far as is known here."""

from __future__ import annotations

from typing import Final

from covey.worker.core.state import SHORT_SECONDS, WorkerState

_LEARNING: Final = 0.3

#: Many calls in one report weigh as much as the calls would one by one: so much, by how
#: many they are.
_WEIGHTS: Final = [1.0 - (1.0 - _LEARNING) ** n for n in range(9)]


def learn(state: WorkerState, fn: int, seconds: float, n: int) -> None:
    """Remember how long *n* calls of a function took."""
    each = seconds / n
    known = state.seconds.get(fn)
    if known is None:
        state.seconds[fn] = each
        state.turned_short = True
    else:
        weight = _WEIGHTS[min(n, 8)] if n > 1 else _LEARNING
        now = state.seconds[fn] = known + weight * (each - known)
        if now <= SHORT_SECONDS < known:
            state.turned_short = True
