"""How figures are told: as tables in Markdown, and whether goals are met."""

from __future__ import annotations

from typing import Any

from benchmarks.contenders import OURS

#: Units in which less is better.
LOW_IS_GOOD = frozenset({"s", "B", "n", "%"})

#: The roles of a cluster, in the order of their columns.
ROLES = ("client", "cluster", "scheduler", "worker", "runners")


def shown(value: float | None, unit: str) -> str:
    """Return a value for the table."""
    if value is None:
        return ""
    if unit == "1/s":
        return f"{value:,.0f}/s"
    if unit == "x":
        return f"{value:.2f}x"
    if unit == "%":
        return f"{value:.2f} %"
    if unit == "B":
        return f"{value:,.0f} B"
    if unit == "n":
        return f"{value:,.0f}"
    if unit == "B/s":
        return f"{value / 1e9:.2f} GB/s"
    factor, name = next(
        (factor, name)
        for factor, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (0.0, "µs"))
        if value >= factor
    )
    scaled = value / (factor or 1e-6)
    return f"{scaled:.{0 if scaled >= 100 else 1 if scaled >= 10 else 2}f} {name}"


def met(
    value: float, unit: str, must: float | None, aim: float | None, good: bool = True
) -> str:
    """Say which goal a value meets: ``aim``, ``must``, neither (``**no**``), or none is set.

    Args:
        value: what was measured.
        unit: its unit, which says whether less is better.
        must: what is asked for, if anything.
        aim: what is hoped for, if anything.
        good: whether all that is asked for beside the value itself is so.
    """
    if not good:
        return "**no**"
    sign = -1.0 if unit in LOW_IS_GOOD else 1.0
    if aim is not None and sign * value >= sign * aim:
        return "aim"
    if must is None:
        return ""
    return "must" if sign * value >= sign * must else "**no**"


def verdict(row: dict[str, Any]) -> str:
    """Say whether covey does what it asks of itself, and which peers were not there."""
    ours = row["contenders"].get("covey")
    if ours is None:
        return ""
    ahead = row["ahead"]
    times = {
        peer: row["contenders"][peer]["times"]
        for peer in ahead
        if "times" in row["contenders"].get(peer, {})
    }
    good = all(ratio >= ahead[peer] for peer, ratio in times.items())
    word = met(ours["value"], row["unit"], row["must"], row["aim"], good)
    if not word and times and row["must"] is None:
        word = "must"
    unseen = [peer for peer in ahead if peer not in times]
    if word in {"must", "aim"} and unseen:
        word += f" (without {', '.join(unseen)})"
    return word


def table(result: dict[str, Any]) -> str:
    """Return everything as Markdown."""
    rows = result["rows"]
    names = list(dict.fromkeys(name for row in rows for name in row["contenders"]))
    peers = [name for name in names if name not in OURS]
    heads = ["must", "aim", *names, "met", *(f"times {name}" for name in peers)]
    lines = ["| job | " + " | ".join(heads) + " |", "|---|" + "--:|" * len(heads)]
    for row in rows:
        cells, unit = row["contenders"], row["unit"]
        values = [shown(cells.get(name, {}).get("value"), unit) for name in names]
        times = [cells.get(name, {}).get("times") for name in peers]
        must = [shown(row["must"], unit)] if row["must"] is not None else []
        must += [f"{ratio:.3g} x {peer}" for peer, ratio in row["ahead"].items()]
        asked = [", ".join(must), shown(row["aim"], unit)]
        ratios = ["" if x is None else f"{x:.3g}" for x in times]
        line = [row["row"], *asked, *values, verdict(row), *ratios]
        lines.append("| " + " | ".join(line) + " |")
    lines += _cpu_table(rows, names)
    for peer, why in result.get("absent", {}).items():
        lines += ["", f"No figures of {peer}: {why}."]
    for name, reasons in result.get("failed", {}).items():
        told = "; ".join(dict.fromkeys(reasons))
        lines += ["", f"Turns of {name} without figures: {len(reasons)} ({told})."]
    return "\n".join(lines)


def _cpu_table(rows: list[dict[str, Any]], names: list[str]) -> list[str]:
    """Return CPU microseconds per task: ours by role, and all of each contender's."""

    def used(row: dict[str, Any], name: str) -> dict[str, float]:
        found: dict[str, float] = row["contenders"].get(name, {}).get("cpu", {})
        return found

    if not any(used(row, "covey") for row in rows):
        return []
    columns: list[tuple[str, str, str]] = []
    for name in names:
        if name in OURS:
            mark = "" if name == "covey" else f"{name}: "
            roles = {role for row in rows for role in used(row, name)}
            ordered = sorted(roles, key=lambda role: (*ROLES, role).index(role))
            columns += [(mark + role, name, role) for role in ordered]
        columns.append((f"all of {name}", name, ""))
    heads = [head for head, _, _ in columns]
    lines = ["", "CPU-µs per task:", ""]
    lines += ["| job | " + " | ".join(heads) + " |", "|---|" + "--:|" * len(heads)]
    for row in rows:
        cells = []
        for _, name, role in columns:
            by_role = used(row, name)
            seconds = by_role.get(role) if role else sum(by_role.values()) or None
            cells.append("" if seconds is None else f"{seconds * 1e6:,.1f}")
        if any(cells):
            lines.append("| " + " | ".join([row["row"], *cells]) + " |")
    return lines
