"""Every setting there is: its name, its type, its default and what it is for.

A setting is a field of one of the sections below, and its full name is
``section.field``.  The end of the name says how a value is written: ``_bytes``
takes ``"4GiB"``, ``_seconds`` takes ``"5m"``, and so does whatever else takes a
number.  ``config`` finds the values; this file only says what may stand there,
so that a pure core can be given a section without a file ever being read.

A setting is added together with the code that reads it, never before.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

_at_least_zero = msgspec.Meta(ge=0)
_at_least_one = msgspec.Meta(ge=1)

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Count = Annotated[int, _at_least_one]
Bytes = Annotated[int, _at_least_zero]
Seconds = Annotated[float, _at_least_zero]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings that belong together."""


class SchedulerSettings(Section, frozen=True):
    """Where the scheduler listens, and what it remembers.

    Attributes:
        host: the interface that ``covey scheduler`` listens on.
        port: its port; 0 takes any free one.
        events_kept: how many events its stream keeps for late readers.
        worker_grace_seconds: for how long a silent worker is waited for; then its
            tasks run elsewhere.  One whose connection was closed gets a second.
        client_grace_seconds: for how long a client that is away is waited for; then
            what it wanted is forgotten.
    """

    host: str = "127.0.0.1"
    port: Port = 8786
    events_kept: Count = 100_000
    worker_grace_seconds: Seconds = 15.0
    client_grace_seconds: Seconds = 60.0


class WorkerSettings(Section, frozen=True):
    """What a worker offers.

    Attributes:
        runners: how many processes run user code; none means one per core.
        threads_per_runner: how many tasks each of them runs at a time.
        memory_limit_bytes: memory for results and runners; none means what the
            machine or its container has.
        spill_directory: where values go that do not fit into memory; empty means
            ``/var/tmp``, or the system's directory for temporary files.
        heartbeat_seconds: how often it tells the scheduler how it is.
        reconnect_seconds: for how long it looks for a scheduler that it has lost,
            while it works on.
    """

    runners: Count | None = None
    threads_per_runner: Count = 1
    memory_limit_bytes: Bytes | None = None
    spill_directory: str = ""
    heartbeat_seconds: Seconds = 2.0
    reconnect_seconds: Seconds = 600.0


class ClientSettings(Section, frozen=True):
    """How a client behaves.

    Attributes:
        connect_timeout_seconds: how long it tries to reach a scheduler.
        reconnect_seconds: for how long it looks for a scheduler that it has lost;
            its futures are pending meanwhile.
        close_timeout_seconds: how long it waits for a cluster to go in order.
        progress: when the progress bar is drawn.
    """

    connect_timeout_seconds: Seconds = 10.0
    reconnect_seconds: Seconds = 120.0
    close_timeout_seconds: Seconds = 10.0
    progress: Literal["auto", "always", "never"] = "auto"


class DashboardSettings(Section, frozen=True):
    """How browsers find the dashboard.

    Attributes:
        link: where it is for the browsers of this user, with names in braces, such as
            ``"{JUPYTERHUB_SERVICE_PREFIX}proxy/{port}/status"``; empty: found out.
        names: hosts, by name, whose proxies lead to it, as ``"hub.example.org"``;
            several with spaces between them.
    """

    link: str = ""
    names: str = ""


class Settings(Section, frozen=True):
    """All sections.

    Attributes:
        scheduler: where the scheduler listens, and what it remembers.
        worker: what a worker offers.
        client: how a client behaves.
        dashboard: how browsers find the dashboard.
    """

    scheduler: SchedulerSettings = SchedulerSettings()
    worker: WorkerSettings = WorkerSettings()
    client: ClientSettings = ClientSettings()
    dashboard: DashboardSettings = DashboardSettings()
