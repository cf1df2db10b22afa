"""``LocalCluster``, with the arguments of ``distributed``."""

from __future__ import annotations

import os
from typing import Any, Final

import covey
from covey.compat.missing import refuse
from covey.errors import UsageError
from covey.units import parse_bytes

#: What ``covey.LocalCluster`` takes by the same name, and in the same sense.
_SAME: Final = frozenset(
    {
        "n_workers",
        "threads_per_worker",
        "dashboard_address",
        "host",
        "resources",
        "name",
    }
)

#: What says how ``distributed`` does something that nobody can tell from outside.
_WITHOUT_MEANING: Final = frozenset(
    {
        *("silence_logs", "loop", "asynchronous", "diagnostics_port", "death_timeout"),
        *("worker_dashboard_address", "local_directory", "scheduler_sync_interval"),
        *("contact_address", "interface", "heartbeat_interval", "protocol"),
    }
)


def local_keywords(keywords: dict[str, Any]) -> dict[str, Any]:
    """Return what ``covey.LocalCluster`` is to be given.

    Raises:
        UsageError: one of *keywords* asks for what covey does not do.
    """
    chosen: dict[str, Any] = {}
    for name, value in keywords.items():
        if name in _SAME:
            chosen[name] = value
        elif name == "processes":
            chosen[name] = value is None or bool(value)
        elif name == "ip":
            chosen.setdefault("host", value)
        elif name == "scheduler_port":
            chosen["port"] = value or 0
        elif name == "memory_limit":
            limit = _of_all(value, keywords)
            if limit is not None:
                chosen[name] = limit
        elif name not in _WITHOUT_MEANING and value:
            raise UsageError(
                f"{name}= of distributed's LocalCluster is not to be had where covey "
                f"stands in for it"
            )
    return {
        name: value
        for name, value in chosen.items()
        if value is not None or (name == "dashboard_address")
    }


def _of_all(limit: Any, keywords: dict[str, Any]) -> int | None:
    """Return the bytes of all workers together, where *limit* is that of each."""
    if limit in {None, "auto", 0, "0"}:
        return None
    if isinstance(limit, float) and limit <= 1:
        return None  # A share of the machine's memory for each: all of it together.
    each = limit if isinstance(limit, int | float) else parse_bytes(limit)
    return int(each) * (keywords.get("n_workers") or os.cpu_count() or 1)


class LocalCluster(covey.LocalCluster):
    """A cluster of this machine's cores, made with the keywords of ``distributed``."""

    def __init__(
        self,
        n_workers: int | None = None,
        threads_per_worker: int | None = None,
        **keywords: Any,
    ) -> None:
        chosen = local_keywords(
            {
                "n_workers": n_workers,
                "threads_per_worker": threads_per_worker,
                **keywords,
            }
        )
        super().__init__(**chosen)

    def scale(self, *args: Any, **kwargs: Any) -> None:
        """Refuse it: so many runners as it began with is what it has."""
        del args, kwargs
        refuse("LocalCluster.scale", "make it with n_workers=, which says how many")

    adapt = scale

    def get_client(self) -> Any:
        """Return a new client of this cluster."""
        from covey.compat.client import Client

        return Client(self)
