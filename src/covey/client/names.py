"""The named tasks of a client: the same name again is the same task again."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable
from typing import Final

from covey.client.core.ranges import Range, Wishes
from covey.client.midst import check_free
from covey.errors import KeyConflict
from covey.ids import TaskId
from covey.payload import Buffer

#: Below this many names nobody looks which of them are done with.
_FEW: Final = 64


def identity_of(digest: bytes, frames: Iterable[Buffer]) -> bytes:
    """Return what makes a call the same call: its function and its arguments.

    Args:
        digest: of the function.
        frames: the arguments as bytes, before any of them was brought anywhere.
    """
    total = hashlib.blake2b(digest, digest_size=16)
    for frame in frames:
        total.update(frame)
    return total.digest()


class Names:
    """Which task has which name, as long as a future of it is alive here.

    It keeps no values alive: only what the calls were, in 16 bytes, and their ids.

    Args:
        wishes: the ranges of which there are futures.
    """

    def __init__(self, wishes: Wishes) -> None:
        self._wishes = wishes
        self._lock = threading.RLock()
        self._known: dict[str, tuple[bytes, TaskId]] = {}
        self._many = _FEW

    def __len__(self) -> int:
        return len(self._known)

    def find(self, name: str, identity: bytes) -> Range | None:
        """Return the range of one that has *name* and is alive, if there is one.

        Raises:
            KeyConflict: it is another call.
            UsageError: this is the handler of a signal that came in the midst of it.
        """
        check_free(self._lock)
        with self._lock:
            known = self._known.get(name)
            if known is None:
                return None
            wish = self._alive(known[1])
            if wish is None:
                del self._known[name]
                return None
        if known[0] != identity:
            raise KeyConflict(
                f"the key {name!r} already names another task of this client: one key "
                f"cannot stand for two different calls. Choose another key, or release "
                f"the first future"
            )
        return wish

    def enter(self, name: str, identity: bytes, task: TaskId) -> None:
        """This task has *name* from now on."""
        check_free(self._lock)
        with self._lock:
            self._known[name] = (identity, task)
            if len(self._known) <= self._many:
                return
            # Each is looked at once or twice in its life, however many there are.
            self._known = {
                name: entry
                for name, entry in self._known.items()
                if self._alive(entry[1]) is not None
            }
            self._many = max(_FEW, 2 * len(self._known))

    def _alive(self, task: TaskId) -> Range | None:
        wish = self._wishes.find(task)
        return wish if wish is not None and wish.held > 0 else None
