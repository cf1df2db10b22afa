"""What the user of a client chooses: how things travel, and where they are to be."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from covey.client.environments import Requirements

Functions: TypeAlias = Literal["auto", "import", "value", "source"]
Serializer: TypeAlias = Literal["pickle", "msgpack", "json", "arrow"]


class Choices(NamedTuple):
    """What the user of a client has chosen about how things travel.

    Attributes:
        functions: as ``Writing`` takes it, and so is the next one.
        serializer: the family in which values go.
        python: the version that runners shall have.
        environment: the packages that they shall have.
    """

    functions: Functions = "auto"
    serializer: Serializer = "pickle"
    python: str | None = None
    environment: Requirements = None


class Where(NamedTuple):
    """Where values are to be.

    Attributes:
        workers: what those are called that may have them; empty for all.
        broadcast: all of them are to have a copy.
        copies: or so many of them.
    """

    workers: tuple[str, ...] = ()
    broadcast: bool = False
    copies: int = 1

    @property
    def several(self) -> bool:
        """Whether there are to be more copies than one."""
        return self.broadcast or self.copies > 1
