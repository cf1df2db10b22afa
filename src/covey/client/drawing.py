"""``visualize``: a graph as a picture, with no Graphviz around.

It is the graph behind some futures, as the scheduler knows it, or that of a dask
collection which was not computed yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any, Final
from zlib import crc32

from covey.client.current import get_client
from covey.client.future import Future
from covey.client.nested import is_persisted, only_futures
from covey.errors import UsageError

#: More cannot be looked at in a picture.
NODES_MAX: Final = 600

_COLUMN: Final = 190
_ROW: Final = 44
_WIDTH: Final = 140
_HEIGHT: Final = 30

#: Those of Okabe and Ito, which colour-blind people can tell apart.
_COLORS: Final = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
_STATES: Final = {
    "waiting": "#99a",
    "ready": "#56b4e9",
    "assigned": "#e69f00",
    "done": "#009e73",
    "failed": "#d33",
    "released": "#ccd",
    "not submitted": "#99a",
}


class Drawing:
    """An SVG picture; notebooks show it, ``save`` writes it.

    Attributes:
        svg: the picture as text.
    """

    def __init__(self, svg: str) -> None:
        self.svg = svg

    def save(self, path: str | Path) -> None:
        """Write the picture to a file."""
        Path(path).write_text(self.svg, encoding="utf-8")

    def _repr_svg_(self) -> str:
        return self.svg


def visualize(
    *futures: Any,
    filename: str | Path | None = None,
    client: Any = None,
    optimize_graph: bool = False,
) -> Drawing:
    """Draw the tasks behind *futures*, as far as the scheduler still knows them.

    Args:
        *futures: futures, nested as they like; none means all that is known.  Or dask
            collections, computed or not.
        filename: where to write the picture.
        client: whose cluster; the current client if none is given.
        optimize_graph: of collections that were not computed: draw what dask makes of
            their graph before it computes them.

    Raises:
        UsageError: there are too many tasks for a picture.
    """
    wanted, planned = _sorted_out(futures)
    nodes: dict[str, Any] = {}
    if wanted or not planned:
        chosen = get_client() if client is None else client
        nodes = _known(chosen, [future.key for future in wanted])
    if planned:
        # A surrounding of ours, one floor up: found by name, when asked for.
        drawing = import_module("covey.interop.dask_drawing")
        nodes.update(drawing.nodes(planned, optimize=optimize_graph))
    picture = Drawing(svg(nodes))
    if filename is not None:
        picture.save(filename)
    return picture


def _sorted_out(futures: Any) -> tuple[list[Future[Any]], list[Any]]:
    """Return the futures, and the dask collections that have none."""
    wanted: list[Future[Any]] = []
    planned = []
    for group in futures:
        if hasattr(group, "__dask_graph__") and not is_persisted(group):
            planned.append(group)
        else:
            wanted += only_futures(group)
    return wanted, planned


def _known(client: Any, wanted: Sequence[str]) -> dict[str, Any]:
    """Return the nodes that the scheduler knows, behind *wanted* if that is given."""
    answer = client.session.ask("graph")
    keys = [entry[0] for entry in answer["nodes"]]
    nodes = {
        key: {
            "label": label,
            "state": state,
            "n": n,
            "needs": [keys[at] for at in needs],
        }
        for key, label, state, n, _, _, needs in answer["nodes"]
    }
    chosen = _behind(nodes, wanted) if wanted else nodes
    unseen = wanted and not chosen and answer["looked"] < answer["total"]
    if len(chosen) > NODES_MAX or unseen:
        raise UsageError(
            f"{max(len(chosen), answer['total']):,} stretches of tasks are too many for "
            f"a picture ({NODES_MAX} fit); the graph page of the dashboard shows them "
            f"by function"
        )
    return chosen


def _behind(nodes: Mapping[str, Any], wanted: Sequence[str]) -> dict[str, Any]:
    """Return the nodes from which *wanted* are made, and those themselves."""
    # A stretch of tasks is one node, called by its first task.
    todo = [key for key in wanted if key in nodes]
    found: dict[str, Any] = {}
    while todo:
        key = todo.pop()
        if key not in found and key in nodes:
            found[key] = nodes[key]
            todo += nodes[key]["needs"]
    return {key: node for key, node in nodes.items() if key in found}


def places(needs: Mapping[str, Sequence[str]]) -> dict[str, tuple[int, float]]:
    """Return column and row of each node: inputs left of their users, near to them."""
    depth: dict[str, int] = {}
    waiting = dict(needs)
    while waiting:
        ready = [
            key
            for key, sources in waiting.items()
            if all(source in depth or source not in needs for source in sources)
        ]
        # Graphs have no circles; a picture of one that has shall end all the same.
        for key in ready or list(waiting):
            known = [depth[s] for s in waiting.pop(key) if s in depth]
            depth[key] = max(known, default=-1) + 1
    columns: dict[int, list[str]] = {}
    for key, column in depth.items():
        columns.setdefault(column, []).append(key)
    found: dict[str, tuple[int, float]] = {}
    for column in sorted(columns):
        keys = columns[column]

        def middle(key: str) -> float:
            rows = [found[s][1] for s in needs[key] if s in found]
            return sum(rows) / len(rows) if rows else 0.0

        for row, key in enumerate(sorted(keys, key=middle)):
            found[key] = (column, row - (len(keys) - 1) / 2)
    return found


def svg(nodes: Mapping[str, Any]) -> str:
    """Return the picture of a graph.

    Args:
        nodes: by key: ``label``, ``state``, ``n`` tasks, and the keys it ``needs``.
    """
    found = places({key: node["needs"] for key, node in nodes.items()})
    rows = [row for _, row in found.values()] or [0.0]
    columns = max((column for column, _ in found.values()), default=0)
    top = min(rows) * _ROW - _HEIGHT
    height = (max(rows) - min(rows)) * _ROW + 2 * _HEIGHT
    width = columns * _COLUMN + _WIDTH + 40
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height:g}" '
        f'viewBox="-20 {top:g} {width} {height:g}" '
        'font-family="system-ui, sans-serif" font-size="11">'
    )
    parts = [head]
    for key, node in nodes.items():
        x1, y1 = _spot(found[key])
        for source in node["needs"]:
            if source in found:
                x0, y0 = _spot(found[source])
                x0 += _WIDTH
                bend = (x1 - x0) / 2
                parts.append(
                    f'<path d="M{x0} {y0:g} C{x0 + bend:g} {y0:g} {x1 - bend:g} {y1:g} '
                    f'{x1} {y1:g}" fill="none" stroke="#889" stroke-opacity=".5"/>'
                )
    parts += [_box(key, node, *_spot(found[key])) for key, node in nodes.items()]
    return "\n".join([*parts, "</svg>"])


def _spot(place: tuple[int, float]) -> tuple[int, float]:
    return place[0] * _COLUMN, place[1] * _ROW


def _box(key: str, node: Any, x: float, y: float) -> str:
    label = str(node["label"])
    color = _COLORS[crc32(label.encode()) % len(_COLORS)]
    shown = label if len(label) <= 18 else f"{label[:17]}…"
    if node["n"] > 1:
        shown += f" x {node['n']:,}"
    top = y - _HEIGHT / 2
    return (
        f"<g><title>{escape(key)}: {escape(node['state'])}</title>"
        f'<rect x="{x}" y="{top:g}" width="{_WIDTH}" height="{_HEIGHT}" rx="6" '
        f'fill="#fff" stroke="{_STATES.get(node["state"], "#99a")}" stroke-width="1.5"/>'
        f'<rect x="{x}" y="{top:g}" width="5" height="{_HEIGHT}" rx="2" fill="{color}"/>'
        f'<text x="{x + 13}" y="{y + 4:g}" fill="#222">{escape(shown)}</text></g>'
    )
