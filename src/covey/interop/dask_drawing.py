"""The graph of a dask collection that was not computed yet, for ``covey.visualize``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from covey.client.drawing import NODES_MAX
from covey.errors import UsageError


def nodes(collections: Iterable[Any], *, optimize: bool) -> dict[str, dict[str, Any]]:
    """Return the nodes of graphs as ``drawing.svg`` takes them, by key.

    Args:
        collections: what dask has.
        optimize: let dask optimize them first, as it does before it computes.

    Raises:
        UsageError: there are too many for a picture.
    """
    from dask._task_spec import convert_legacy_graph
    from dask.base import collections_to_expr
    from dask.utils import key_split

    merged: dict[Any, Any] = {}
    if optimize:
        merged = (
            collections_to_expr(list(collections), True).optimize().__dask_graph__()
        )
    else:
        for collection in collections:
            merged.update(collection.__dask_graph__())
    graph = convert_legacy_graph(merged)
    if len(graph) > NODES_MAX:
        hint = "" if optimize else "; optimize_graph=True may leave fewer"
        raise UsageError(
            f"{len(graph):,} tasks are too many for a picture ({NODES_MAX} fit){hint}"
        )
    return {
        str(key): {
            "label": key_split(key),
            "state": "not submitted",
            "n": 1,
            "needs": sorted(map(str, node.dependencies)),
        }
        for key, node in graph.items()
    }
