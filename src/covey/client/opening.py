"""From a place to all that a client needs to work there.

To import what is needed for that takes as long as a cluster takes to start, and a client
that starts one does both at once: so only ``ahead`` and ``BaseClient`` know this room, and
what they import before it is little.
"""

from __future__ import annotations

from typing import NamedTuple

from covey.client import reloads
from covey.client.choices import Choices
from covey.client.engine import Engine
from covey.client.fetching import Session
from covey.client.mapping import Mapper
from covey.client.modules import OwnModules
from covey.client.resolve import Target
from covey.client.writing import Writing


class Opened(NamedTuple):
    """What a client works with.

    Attributes:
        engine: talks to the scheduler.
        session: waits, fetches and releases.
        submitter: turns calls into messages.
    """

    engine: Engine
    session: Session
    submitter: Mapper


def open_at(
    target: Target,
    name: str,
    choices: Choices,
    environment: str,
    timeout_seconds: float,
    *,
    asynchronous: bool,
) -> Opened:
    """Connect to the scheduler at *target*; end a cluster of our own if that fails.

    Raises:
        ClusterError: nobody answers, or we are refused.
    """
    engine = Engine(target.find, name)
    try:
        # A cluster of our own has our path, and finds what we can import.
        shared = target.cluster is not None
        writing = Writing(
            engine,
            choices.functions,
            choices.serializer,
            OwnModules(auto=not shared),
            environment,
            reloads.HERE if shared else None,
        )
        engine.call(engine.connect(timeout_seconds))
    except BaseException:
        engine.close()
        target.close_owned()
        raise
    session = Session(engine, plain=writing.plain, asynchronous=asynchronous)
    return Opened(engine, session, Mapper(session, writing))
