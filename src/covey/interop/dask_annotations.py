"""What ``dask.annotate`` says of tasks, as options of covey.

dask keeps annotations with the layers of a graph, and loses them where it fuses
tasks: for arrays it need not fuse, and the annotations stay; bags are always
fused, and what a fused task gets is what its last part was annotated with.
Data frames have no layers, and dask itself warns that it ignores annotations there.

What is annotated where ``compute``, ``persist`` or ``get`` is called holds for all tasks
of the graph that the call itself, or a layer, says nothing else of.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from covey.client.options import (
    ANNOTATIONS,
    Retry,
    annotated,
    options_of,
    tell_of_slips,
    without_overruled,
)
from covey.interop.dask_keywords import OPTIONS
from covey.wire.base import DEFAULT_OPTIONS, Options

#: By kind, what each key is annotated with.
Annotations = dict[str, dict[Any, Any]]


def of_graph(dsk: Any) -> Annotations:
    """Return what the layers of a graph or an expression say, before it is optimized.

    Of what is nearly an option it is warned.
    """
    others: dict[str, None] = {}
    found: Annotations = {}
    for graph in graphs_in(dsk):
        for layer in graph.layers.values():
            for kind, value in (layer.annotations or {}).items():
                if kind in ANNOTATIONS:
                    found.setdefault(kind, {}).update(
                        {key: value(key) if callable(value) else value for key in layer}
                    )
                else:
                    others[kind] = None
    tell_of_slips(others)
    return found


def graphs_in(dsk: Any) -> Iterable[Any]:
    """Yield the graphs with layers that there are in *dsk*."""
    from dask._expr import Expr, HLGExpr
    from dask.highlevelgraph import HighLevelGraph

    if isinstance(dsk, HighLevelGraph):
        yield dsk
    elif isinstance(dsk, Expr):
        yield from (part.hlg for part in dsk.walk() if isinstance(part, HLGExpr))


def kept(annotations: Annotations) -> AbstractContextManager[Any]:
    """Where anything is annotated, keep dask from fusing tasks if it need not."""
    if not annotations:
        return nullcontext()
    import dask

    kept: AbstractContextManager[Any] = dask.config.set(
        {"optimization.fuse.active": False}
    )
    return kept


def follow(annotations: Annotations, dsk: Any, graph: dict[Any, Any]) -> None:
    """Let tasks that dask has renamed, or made one of two, keep their annotations.

    Args:
        annotations: of the layers as they were; completed.
        dsk: what was optimized.
        graph: what came of it.
    """
    if not annotations:
        return
    from dask._task_spec import Alias

    if hasattr(dsk, "__dask_annotations__"):
        for kind, values in dsk.__dask_annotations__().items():
            annotations.setdefault(kind, {}).update(values)

    for values in annotations.values():
        for key in list(values):
            node = graph.get(key)
            if isinstance(node, Alias):
                values.setdefault(node.target, values[key])


def of_call(
    annotations: Annotations, options: dict[str, Any], graph: dict[Any, Any]
) -> dict[str, Any]:
    """Return the options of a call, with what is annotated where the call stands.

    Args:
        annotations: of the layers, which mean more; those of the call that are a function
            of the key are added to them.
        options: the keywords of the call, which mean more, too.
        graph: what the keys are of.
    """
    said = annotated()
    if not said:
        return options
    here = without_overruled(said, options)
    for kind, value in list(here.items()):
        if callable(value) and not isinstance(value, Retry):
            values = {key: value(key) for key in graph}
            annotations[kind] = values | annotations.get(kind, {})
            del here[kind]
    return {**here, **options}


class OptionsOf:
    """The options of tasks: those of the call, and above them the annotations.

    Attributes:
        common: of a task that is not annotated.
        differ: whether there is any other.
        given: whether any task has an option.
    """

    def __init__(self, annotations: Annotations, options: dict[str, Any]) -> None:
        self._annotations = {
            kind: values for kind, values in annotations.items() if kind in ANNOTATIONS
        }
        self._given = {k: v for k, v in options.items() if k in OPTIONS}
        self.common = _options(self._given)
        self.differ = bool(self._annotations)
        self.given = self.differ or self.common != DEFAULT_OPTIONS
        self._known: dict[str, Options] = {}

    def of(self, key: Any) -> Options:
        """Return how the task of *key* is to be run."""
        chosen = {
            kind: values[key]
            for kind, values in self._annotations.items()
            if key in values
        }
        if not chosen:
            return self.common
        # By its text: what is annotated need not be hashable.
        text = repr(chosen)
        known = self._known.get(text)
        if known is None:
            known = self._known[text] = _options({**self._given, **chosen})
        return known


def _options(chosen: dict[str, Any]) -> Options:
    if not chosen:
        return DEFAULT_OPTIONS
    return options_of(
        chosen.get("priority", 0),
        chosen.get("retries", 0),
        chosen.get("timeout"),
        chosen.get("resources"),
        chosen.get("workers"),
        bool(chosen.get("allow_other_workers", False)),
    )
