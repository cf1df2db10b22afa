"""What a cluster that this process made says of its own size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from covey.client.warn import warn
from covey.errors import UsageError
from covey.units import counted
from covey.wire.client_link import WorkerSeen


def check_can_come(cluster: Any, n_workers: int) -> None:
    """Refuse to wait for more workers than there will ever be.

    Args:
        cluster: the object that the client has it from, if any.
        n_workers: how many are waited for.

    Raises:
        UsageError: *cluster* has fewer, and nobody else can join it.
    """
    most: int | None = getattr(cluster, "workers_most", None)
    if most is None or n_workers <= most:
        return
    raise UsageError(
        f"wait_for_workers({n_workers}) would wait for ever: this LocalCluster has "
        f"{counted(most, 'worker')} with "
        f"{counted(cluster.n_workers * cluster.threads_per_worker, 'slot')}, and no "
        f"other can join. LocalCluster(n_workers=) counts runner processes, "
        f"which all belong to one worker. They are ready as they are: leave the call "
        f"out; or make the cluster with machines={n_workers} for as many workers, or "
        f"with host= for workers that join"
    )


def warn_of_other_runners(cluster: Any, workers: Sequence[WorkerSeen]) -> None:
    """Say that what runs once on each of *workers* does not reach all of its runners.

    Args:
        cluster: the object that the client has them from, if any.
        workers: where something is to run.
    """
    slots: int | None = getattr(cluster, "slots_of_a_process", None)
    several = [seen for seen in workers if seen.slots > (slots or 1)]
    if not several:
        return
    has = (
        f"{several[0].slots // slots} runners"
        if slots
        else f"{several[0].slots} slots, each of them a runner (unless it was started "
        f"with --nthreads)"
    )
    others = f" (and {len(several) - 1} more like it)" if several[1:] else ""
    warn(
        f"client.run runs once on each worker, in one of its runner processes: worker "
        f"{several[0].name!r}{others} has {has}, and the others "
        f"do not run it. What each process needs, such as a set-up, goes into a module "
        f"that the tasks import, which each process runs once; environment variables can "
        f"be set before a LocalCluster is made"
    )
