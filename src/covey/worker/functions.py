"""The functions that the scheduler has told this worker, on their way to its slots."""

from __future__ import annotations

from collections.abc import Iterable

from covey.worker.runner_link import RunnerLink


class Functions:
    """Bytes of functions by number, and which slot has been told which."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[str, bytes]] = {}
        #: The slots that know any.
        self._links: dict[RunnerLink, None] = {}

    def keep(self, fn: int, label: str, payload: bytes) -> None:
        """Take a function in."""
        self._known[fn] = (label, payload)

    def label(self, fn: int) -> str:
        """Return what a function is called, if it is known."""
        return self._known.get(fn, ("", b""))[0]

    def tell(self, link: RunnerLink, fn: int) -> None:
        """Send a function to a slot that has not heard of it."""
        if fn not in link.functions:
            self._links[link] = None
            link.functions.add(fn)
            _, payload = self._known[fn]
            link.tell(["fn", fn, len(payload)], payload)

    def forget(self, fn: int) -> None:
        """Let go of a function of which nothing is in hand, here and in the slots."""
        self._known.pop(fn, None)
        for link in self._links:
            if fn in link.functions:
                link.functions.discard(fn)
                link.tell(["undefine", fn])

    def slots_ended(self, links: Iterable[RunnerLink]) -> None:
        """These slots are gone."""
        for link in links:
            self._links.pop(link, None)
