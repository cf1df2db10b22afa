"""What a recording has beside the events: looks at the graph, memory, code and failures.

No event tells them, so whoever writes a recording asks the scheduler now and then.  When,
and for what, is said here; asking and the clock are the caller's::

    due(now)            questions to ask now
    failures(batch)     tasks whose traceback is worth asking for
    answered(...)       writes an answer down

Looks become rare as a run goes on, so that a file grows by little in a second hour: the
graph and memory are looked at again when an eighth more time has passed, and code that was
seen to run is written down in slices that grow in the same way.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

import msgspec

from covey.recording import Writer
from covey.stacks import Tree

#: The graph and memory are looked at first, and again, at the earliest after so long ...
LOOK_SECONDS: Final = 2.0
#: ... and when such a part of the time until then has passed once more.
LOOK_SHARE: Final = 1 / 8

#: Workers are asked so often what code they saw, ...
PROFILE_SECONDS: Final = 1.0
#: ... all through the first round of so many seconds, and at the beginning of each later
#: one: looking takes some hundredths of the time of very short tasks.
ROUND_SECONDS: Final = 60.0
ROUND_LOOKED_SECONDS: Final = 10.0
#: What they saw is written down at the earliest after so long.
SLICE_SECONDS: Final = 10.0
SLICE_SHARE: Final = 1 / 60

#: A slice with more nodes than this is written at once.
_NODES_MAX: Final = 100_000

#: Less than this share of a stack is not worth the bytes.
_NODE_SHARE: Final = 0.002

#: So many causes of failures are kept with the traceback of one task.
CAUSES_MAX: Final = 200

#: So much of a failure is kept: it begins with the text, which is never longer, and the
#: pickled exception behind that is of no use to a page.
_FAILURE_BYTES: Final = 1 << 19

_NUMBERS: Final = re.compile(r"\b0x[0-9a-f]+\b|\d+(?:\.\d+)?")

#: How the word is packed: batches without it need not be opened.
_FAILED: Final = msgspec.msgpack.encode("failed")


class Question(NamedTuple):
    """What to ask the scheduler.

    Attributes:
        topic: as ``covey.scheduler.core.questions`` names them.
        number: from which entry on, for what comes in entries.
        key: of which task, where it is about one.
    """

    topic: str
    number: int = 0
    key: str = ""


class Snapshots:
    """Says what to ask for a recording, and writes the answers into it."""

    def __init__(self, writer: Writer, now: float) -> None:
        self._writer = writer
        self._began = now
        self._look_at = now + LOOK_SECONDS
        self._profile_at = now
        self._profile_next = 0
        self._slice_began = now
        self._trees: dict[tuple[str, str], Tree] = {}
        self._causes: set[tuple[str, str, str]] = set()

    def due(self, now: float) -> list[Question]:
        """Return what is to be asked now."""
        found = []
        if now >= self._profile_at:
            self._profile_at = now + PROFILE_SECONDS
            rounds, since = divmod(now - self._began, ROUND_SECONDS)
            if not rounds or since < ROUND_LOOKED_SECONDS:
                found.append(Question("profile", number=self._profile_next))
        if now >= self._look_at:
            pause = max(LOOK_SECONDS, LOOK_SHARE * (now - self._began))
            self._look_at = now + pause
            found += self.last()
        return found

    def last(self) -> list[Question]:
        """Return what is to be asked before the recording is closed."""
        return [Question("graph"), Question("memory")]

    def failures(self, batch: bytes) -> list[Question]:
        """Return questions about tasks in a batch that failed as no other did before.

        Args:
            batch: events, encoded.
        """
        if _FAILED not in batch:
            return []
        found = []
        for event in msgspec.msgpack.decode(batch):
            if event[1] != "failed":
                continue
            base, _, label, _, _, type_name, message, origin = event[2:]
            cause = cause_of(label, type_name, message)
            if len(self._causes) >= CAUSES_MAX:
                break
            if origin in {-1, base} and cause not in self._causes:
                self._causes.add(cause)
                found.append(Question("task", key=f"{label}-{base:x}"))
        return found

    def answered(self, question: Question, now: float, answer: Any) -> None:
        """Write an answer down.

        Args:
            question: what was asked.
            now: the clock of the scheduler, as far as it is known.
            answer: what came.
        """
        if question.topic != "profile":
            if "payload" in answer:
                answer = {**answer, "payload": answer["payload"][:_FAILURE_BYTES]}
            self._writer.told(question.topic, question.key, now, answer)
            return
        self._profile_next = answer["next"]
        for _, worker, label, names, nodes in answer["seen"]:
            self._trees.setdefault((worker, label), Tree()).add_flat(names, nodes)
        long = max(SLICE_SECONDS, SLICE_SHARE * (now - self._began))
        if (
            now - self._slice_began >= long
            or sum(map(len, self._trees.values())) > _NODES_MAX
        ):
            self.write_profile(now)

    def write_profile(self, now: float) -> None:
        """Write down what code was seen to run since the last time."""
        trees = [
            (worker, label, *tree.pruned(_NODE_SHARE).flat())
            for (worker, label), tree in self._trees.items()
        ]
        if trees:
            self._writer.seen(now, trees)
        self._trees = {}
        self._slice_began = now


def cause_of(label: str, type_name: str, message: str) -> tuple[str, str, str]:
    """Return what failures have in common: they may differ in the numbers they name."""
    first_line = message.partition("\n")[0][:200]
    return label, type_name, _NUMBERS.sub("#", first_line)
