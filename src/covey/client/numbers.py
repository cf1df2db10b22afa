"""The numbers under which the scheduler knows this client's functions."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from covey.client.functions import Pickled
from covey.client.midst import check_free
from covey.wire.base import Message
from covey.wire.client_link import DefineFunction, ForgetFunction

#: So many functions stay defined though nobody submits them just now.  Whoever makes
#: a new closure for each task has that many of them on the cluster, and no more.
IDLE_MAX: Final = 256

#: So many bytes of them, too; but the last few, however large they are.
IDLE_BYTES_MAX: Final = 64 << 20
IDLE_LEAST: Final = 8


class Numbers:
    """Numbers functions by their bytes, and takes back what was not used for long.

    A number is *taken* while messages with it are being made; any thread may do that.

    Args:
        post: sends a message to the scheduler, in the order of the calls.
    """

    def __init__(self, post: Callable[[Message], None]) -> None:
        self._post = post
        self._lock = threading.RLock()
        self._last = 0
        self._numbers: dict[bytes, int] = {}
        #: By its number, the digest and the size of each.
        self._known: dict[int, tuple[bytes, int]] = {}
        #: How often each is taken at the moment.
        self._taken: dict[int, int] = {}
        #: What is not taken, those used last at the end; and how many bytes it has.
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._idle_bytes = 0

    def take(self, pickled: Pickled, environment: str) -> int:
        """Return the number of a function; it is good until ``done`` is told of it.

        Raises:
            UsageError: this is the handler of a signal that came in the midst of it.
        """
        check_free(self._lock)
        with self._lock:
            number = self._numbers.get(pickled.digest)
            if number is None:
                self._last = number = self._last + 1
                self._known[number] = (pickled.digest, len(pickled.payload))
                self._post(
                    DefineFunction(
                        number,
                        pickled.digest,
                        pickled.label,
                        pickled.payload,
                        environment,
                    )
                )
                # Last: an interrupt may have come before, and then it is not defined.
                self._numbers[pickled.digest] = number
            elif number in self._idle:
                del self._idle[number]
                self._idle_bytes -= self._known[number][1]
            self._taken[number] = self._taken.get(number, 0) + 1
            return number

    def done(self, taken: list[int]) -> None:
        """All messages with these numbers, of one who took them, have been posted."""
        if not taken:
            return
        with self._lock:
            for number in taken:
                left = self._taken[number] - 1
                if left:
                    self._taken[number] = left
                else:
                    del self._taken[number]
                    self._idle[number] = None
                    self._idle_bytes += self._known[number][1]
            while len(self._idle) > IDLE_MAX or (
                self._idle_bytes > IDLE_BYTES_MAX and len(self._idle) > IDLE_LEAST
            ):
                oldest, _ = self._idle.popitem(last=False)
                digest, nbytes = self._known.pop(oldest)
                self._idle_bytes -= nbytes
                del self._numbers[digest]
                self._post(ForgetFunction(oldest))
