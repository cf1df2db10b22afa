"""What a worker tells a scheduler that does not know it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from covey.store import digests
from covey.wire.base import Message
from covey.wire.worker_link import Holds, Reported, RunFailed
from covey.worker.core import reporting
from covey.worker.core.state import WorkerState
from covey.worker.storage import Storage


def all_there_is(
    state: WorkerState, storage: Storage, unheard: Sequence[Message]
) -> Iterator[Message]:
    """Yield what tells all that is here, and what is in hand.

    Args:
        state: the tables of the core.
        storage: the values.
        unheard: what was said to the scheduler before, and may not have come there.
    """
    failures = [m for m in unheard if isinstance(m, RunFailed)]
    for base, n, nbytes in storage.held():
        known = digests.of_stored(storage.shelf, base, n)
        yield Holds(base, n, nbytes, digests=known)
    yield from reporting.in_hand(state, failures)
    yield Reported()
    yield from reporting.afterwards(state, failures)
