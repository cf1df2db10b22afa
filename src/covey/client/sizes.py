"""What a cluster that this process made says of its own size."""

from __future__ import annotations

from typing import Any

from covey.errors import UsageError
from covey.units import counted


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
