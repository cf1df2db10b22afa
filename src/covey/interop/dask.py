"""dask's collections on covey: the scheduler protocol of dask.

dask hands a scheduler an expression (or a dict) and keys, and gets values.  How a
graph becomes tasks stands in ``dask_graph``; how its nodes become bytes, in
``dask_packing``; what a runner does with them, in ``dask_node``.
"""

from __future__ import annotations

from typing import Any

from covey.client.client import Client
from covey.client.future import Future
from covey.errors import UsageError
from covey.interop.dask_graph import futures_of_keys

__all__ = ["compute", "futures_of_keys", "get", "persist"]


def get(
    client: Client, dsk: Any, keys: Any = None, *, sync: bool = True, **options: Any
) -> Any:
    """Run a graph; return the values of *keys*, in the shape of *keys*.

    Without *sync* their futures, at once.
    """
    futures = futures_of_keys(client, dsk, keys, **options)
    return client.gather(futures) if sync else futures


def compute(
    client: Client,
    collections: Any,
    *,
    sync: bool = False,
    optimize_graph: bool = True,
    traverse: bool = True,
    **options: Any,
) -> Any:
    """Return futures of the values of collections; with *sync* the values."""
    from dask._expr import FinalizeCompute
    from dask.base import collections_to_expr, is_dask_collection
    from dask.core import flatten

    single = not isinstance(collections, list | tuple | set | frozenset)
    given = [collections] if single else list(collections)
    if traverse:
        given = [_delayed_if_nested(item) for item in given]
    chosen = [item for item in given if is_dask_collection(item)]
    futures: list[Future[Any]] = []
    if chosen:
        expr = FinalizeCompute(collections_to_expr(chosen, optimize_graph)).optimize()
        keys = list(flatten(expr.__dask_keys__()))
        futures = futures_of_keys(client, expr, keys, **options)
    found = iter(futures)
    results = [next(found) if is_dask_collection(i) else i for i in given]
    if sync:
        values = client.gather([r for r in results if isinstance(r, Future)])
        brought = iter(values)
        results = [next(brought) if isinstance(r, Future) else r for r in results]
    return results[0] if single else results


def _delayed_if_nested(item: Any) -> Any:
    """Return a list or dict with collections inside as one delayed object."""
    from dask.base import unpack_collections

    if not isinstance(item, list | tuple | set | dict):
        return item
    collections, _ = unpack_collections(item)
    if not collections:
        return item
    from dask.delayed import delayed

    return delayed(item)


def persist(
    client: Client,
    collections: Any,
    *,
    optimize_graph: bool = True,
    traverse: bool = True,
    **options: Any,
) -> Any:
    """Return collections of the same meaning whose parts are on the cluster."""
    del traverse
    from dask import base
    from dask._expr import _ExprSequence
    from dask.base import collections_to_expr, is_dask_collection
    from dask.core import flatten

    from covey.interop.dask_held import Held

    single = is_dask_collection(collections)
    chosen = [collections] if single else list(collections)
    for item in chosen:
        if not is_dask_collection(item):
            raise UsageError(
                f"persist takes dask collections, not {type(item).__name__}; "
                f"dask.persist also looks into lists and dicts"
            )
    expr = collections_to_expr(chosen, optimize_graph)
    parts = list(expr.operands) if isinstance(expr, _ExprSequence) else [expr]
    composite = _composite_type()
    has_composite = composite is not None and any(
        isinstance(part, composite) for part in parts
    )
    expr = expr.optimize()
    if has_composite:
        parts = list(expr.operands) if isinstance(expr, _ExprSequence) else [expr]
    all_keys = expr.__dask_keys__()
    per_collection = [
        list(flatten(keys))
        for keys in (all_keys if isinstance(expr, _ExprSequence) else [all_keys])
    ]
    if len(per_collection) != len(chosen):
        per_collection = [list(flatten(keys)) for keys in all_keys]
    flat = [key for keys in per_collection for key in keys]
    futures = futures_of_keys(client, expr, flat, **options)
    held = dict(zip(flat, map(Held, flat, futures), strict=True))
    rebuilt = []
    for collection, part, keys in zip(chosen, parts, per_collection, strict=True):
        if has_composite and composite is not None and isinstance(part, composite):
            rebuilt.append(
                base._rebuild_composite_collection(  # noqa: SLF001  (dask's own way)
                    collection, part, held, cull_to_child_keys=True
                )
            )
            continue
        rebuild, state = collection.__dask_postpersist__()
        rebuilt.append(rebuild({key: held[key] for key in keys}, *state))
    return rebuilt[0] if single else rebuilt


def _composite_type() -> Any:
    import dask._expr as expressions

    return getattr(expressions, "CompositeExpr", None)
