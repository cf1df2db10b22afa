"""Who reads what a client writes: the versions that runners were seen to have."""

from __future__ import annotations

from typing import Final

from covey.serde.code import MINOR, readable_by, text
from covey.wire.client_link import WorkerSeen

#: How the version of a Python begins that can execute our bytecode.
_OUR_PYTHON: Final = f"{text(MINOR)}."


class Readers:
    """What is known of the runners of a cluster.

    Attributes:
        foreign_python: some have another minor version of Python than this process.
        foreign_cloudpickle: some have a cloudpickle that may not read what ours writes.
    """

    def __init__(self) -> None:
        self.foreign_python = False
        self.foreign_cloudpickle = False

    def saw(self, worker: WorkerSeen) -> None:
        """Take note of a worker.  What was written for one that left stays good."""
        if worker.python and not worker.python.startswith(_OUR_PYTHON):
            self.foreign_python = True
        if not readable_by(worker.cloudpickle):
            self.foreign_cloudpickle = True
