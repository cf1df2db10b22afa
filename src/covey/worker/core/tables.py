"""The names of all the tables of a worker's core: what they are stands in ``state``.

There are more than the thirty that Python keeps in place: in an object that had a dict of
them each would be looked for, again and again, for each task.
"""

from __future__ import annotations


class Tables:
    """Has all tables of a core, and no others."""

    __slots__ = (
        "_threads",
        "alone",
        "awaited",
        "copies",
        "engaged",
        "engaged_since",
        "environments",
        "fetching",
        "hungry",
        "lacked",
        "last_entry",
        "limited",
        "made",
        "makers",
        "may_engage",
        "memory_hold",
        "memory_short",
        "now",
        "order",
        "orders",
        "parcels",
        "queued",
        "queues",
        "return_asked",
        "runners",
        "runs",
        "seconds",
        "slots",
        "soon",
        "stuck_since",
        "suspects",
        "to_return",
        "turned_short",
        "undefined",
        "unvouched",
        "waiting",
        "wake_at",
    )
