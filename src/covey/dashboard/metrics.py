"""Numbers for Prometheus: read from the model when they are asked for, no cost in between.

Every family is named ``covey_...``, in seconds and bytes.  The format, and which of its
variants the other side understands, is prometheus-client's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, TypeVar

from covey.dashboard.durations import Durations
from covey.dashboard.model import Model
from covey.dashboard.tables import WorkerLine
from covey.errors import UsageError

#: name, help, key in the totals
_GAUGES: Final = (
    ("covey_workers", "Workers that are there.", "workers"),
    ("covey_slots", "Slots of all workers.", "slots"),
    ("covey_tasks_ready", "Tasks that wait for a slot.", "ready"),
    ("covey_tasks_running", "Tasks that workers have.", "running"),
    ("covey_tasks_pending", "Tasks that have not ended.", "pending"),
    ("covey_scheduler_lag_seconds", "How late its loop is.", "lag"),
    ("covey_scheduler_cpu", "Processors that it uses.", "scheduler_cpu"),
    ("covey_scheduler_rss_bytes", "Its memory.", "scheduler_rss"),
)

#: What counts towards the limit of a worker, and what lies on its disk.
_ACCOUNTS: Final = (
    *("heap", "small", "unmanaged", "shared", "kept", "in_flight", "warm"),
    *("mapped", "spilled"),
)

#: Of so many links of a worker, and of all that lead through the scheduler, those with
#: the most bytes: each is a series.
_LINKS_MAX: Final = 16

#: Upper ends of the boxes in which durations are counted, in seconds.
BUCKETS: Final = tuple(
    factor * 10.0**power for power in range(-4, 4) for factor in (1, 3)
)

Labels = dict[str, str]
Key = TypeVar("Key")


def text(model: Model, accept: str = "") -> tuple[bytes, str]:
    """Return all metrics, and their content type.

    Args:
        model: what is known.
        accept: which formats the other side takes, as HTTP says it.

    Raises:
        UsageError: prometheus-client is not installed.
    """
    try:
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import choose_encoder
    except ImportError:
        raise UsageError(
            "metrics need prometheus-client: pip install 'covey[dashboard]'"
        ) from None
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(model))
    encode, kind = choose_encoder(accept)
    return encode(registry), kind


class _Collector:
    """What prometheus-client asks for the families."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def collect(self) -> Iterator[Any]:
        """Yield every family."""
        yield from _cluster(self._model)
        yield from _functions(self._model)
        yield from _workers(self._model)


def _cluster(model: Model) -> Iterator[Any]:
    totals = model.totals()
    for name, about, key in _GAUGES:
        yield _family("Gauge", name, about, [({}, totals[key])])
    lines = model.functions.values()
    # Summed up here: what counts up may not go down when values are lost.
    done = sum(line.done for line in lines)
    for name, about, value in (
        ("covey_tasks_done", "Runs that returned.", done),
        ("covey_tasks_failed", "Tasks that failed for good.", totals["failed"]),
        ("covey_tasks_retried", "Runs that were tried again.", totals["retried"]),
        ("covey_tasks_lost", "Values made anew.", sum(line.lost for line in lines)),
        ("covey_moved_bytes", "Bytes between workers.", totals["moved"]),
        (
            "covey_passed_on_bytes",
            "Bytes by way of the scheduler, between those who do not reach each other.",
            totals["passed_on"],
        ),
        ("covey_events", "Events of the stream.", totals["events"]),
        ("covey_events_missed", "Events that came too fast for us.", model.dropped),
    ):
        yield _family("Counter", name, about, [({}, value)])
    yield _family(
        "Counter",
        "covey_passage_bytes",
        "Bytes by way of the scheduler by who asks which worker, those with most of them.",
        [
            ({"asker": asker, "worker": worker}, nbytes)
            for (asker, worker), nbytes in _most(model.passages)
        ],
    )


def _functions(model: Model) -> Iterator[Any]:
    from prometheus_client.core import HistogramMetricFamily

    lines = list(model.functions.values())
    yield _family(
        "Gauge",
        "covey_function_pending",
        "Tasks of a function that have not ended.",
        [({"function": line.label}, line.pending) for line in lines],
    )
    yield _family(
        "Counter",
        "covey_function_failed",
        "Tasks of a function that failed for good.",
        [({"function": line.label}, line.failed) for line in lines],
    )
    family = HistogramMetricFamily(
        "covey_function_seconds",
        "How long calls of a function take.",
        labels=["function"],
    )
    for line in lines:
        family.add_metric([line.label], buckets(line.durations), line.durations.total)
    yield family


def buckets(durations: Durations) -> list[tuple[str, float]]:
    """Return how many calls took at most how long, as a histogram has it."""
    found = [(f"{end:g}", float(durations.at_most(end))) for end in BUCKETS]
    return [*found, ("+Inf", float(durations.count))]


def _workers(model: Model) -> Iterator[Any]:
    here = [line for line in model.workers.values() if line.left is None]
    yield _family(
        "Gauge",
        "covey_worker_cpu",
        "Processors that a worker uses.",
        [(_name(line), line.facts.get("cpu", 0.0)) for line in here],
    )
    yield _family(
        "Gauge",
        "covey_worker_memory_bytes",
        "Memory of a worker by what it is for; small and unmanaged are parts of the "
        "heap, mapped is what runners map of shared, spilled lies on disk.",
        [
            ({**_name(line), "account": account}, line.facts["memory"][account])
            for line in here
            for account in _ACCOUNTS
            if account in (line.facts.get("memory") or {})
        ],
    )
    yield _family(
        "Gauge",
        "covey_worker_memory_limit_bytes",
        "What a worker may use.",
        [(_name(line), line.limit) for line in here],
    )
    yield _family(
        "Gauge",
        "covey_worker_paused",
        "Whether a worker begins nothing, since memory is short.",
        [(_name(line), int(line.paused)) for line in here],
    )
    yield _family(
        "Counter",
        "covey_worker_data_bytes",
        "Bytes of values that went to and came from elsewhere; saved by compression.",
        [
            ({**_name(line), "direction": way}, line.facts["moved"][way])
            for line in here
            for way in ("sent", "received", "saved")
            if way in (line.facts.get("moved") or {})
        ],
    )
    yield _family(
        "Counter",
        "covey_worker_link_bytes",
        "Bytes on the open links of a worker for values, those with most of them.",
        [
            ({**_name(line), "link": link}, nbytes)
            for line in here
            for link, nbytes in _busiest(line)
        ],
    )


def _busiest(line: WorkerLine) -> list[tuple[str, int]]:
    links = (line.facts.get("moved") or {}).get("links") or {}
    return _most(links)


def _most(nbytes: Mapping[Key, int]) -> list[tuple[Key, int]]:
    return sorted(nbytes.items(), key=itemgetter(1), reverse=True)[:_LINKS_MAX]


def _name(line: WorkerLine) -> Labels:
    return {"worker": line.name}


def _family(
    kind: str, name: str, about: str, samples: Sequence[tuple[Labels, float]]
) -> Any:
    """Return a family with its samples, all of which have the same labels."""
    from prometheus_client import core

    make = getattr(core, f"{kind}MetricFamily")
    family = make(name, about, labels=list(samples[0][0]) if samples else ())
    for labels, value in samples:
        family.add_metric(list(labels.values()), value)
    return family
