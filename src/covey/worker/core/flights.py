"""How many tasks a slot is sent at once."""

from __future__ import annotations

from typing import Final

from covey.worker.core.state import Parcel, Piece, WorkerState

#: How long the tasks of one flight should last together: a few times as long as
#: a runner keeps outcomes back, so that it is not the flights that make it speak.
FLIGHT_SECONDS: Final = 0.016

#: So little work is not shared by slots.
TOGETHER_SECONDS: Final = 0.0002


def size_of(state: WorkerState, piece: Piece) -> int:
    """Return how many tasks of a piece go to a slot at once."""
    if piece.n == 1 or isinstance(piece.run, Parcel):
        return piece.n
    if state.memory_short:
        return 1
    each = state.seconds.get(piece.run.fn)
    if each is None or each > FLIGHT_SECONDS / 2:
        return 1
    size = int(FLIGHT_SECONDS / max(each, 1e-7))
    # What is left is shared by all slots, so that none runs dry early.
    share = -(-state.queued // len(state.slots))
    # What is over in a moment is not worth a flight for each slot.
    together = int(TOGETHER_SECONDS / max(each, 1e-7))
    most = max(share, together)
    # A little more, if what would be left is not worth a flight.
    if piece.n <= min(size + size // 2, most):
        return piece.n
    return max(1, _even(min(size, most)))


def _even(size: int) -> int:
    """Return a little less: news of so many leave groups whole that others take."""
    return size - size % (64 if size >= 64 else 8) if size > 8 else size
