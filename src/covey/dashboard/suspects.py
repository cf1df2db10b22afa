"""What looks wrong, with the evidence and what to do: pure rules over the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from covey.units import counted, format_bytes, format_seconds

if TYPE_CHECKING:
    from covey.dashboard.model import Model

#: A worker that runs nothing for so long, while tasks wait, is idle.
IDLE_SECONDS: Final = 10.0

#: One worker that is this much busier than the mean is too much.
SKEW_TIMES: Final = 4.0

#: The longest call of a function against its 95th percentile.
STRAGGLER_TIMES: Final = 10.0

#: A scheduler or worker whose loop is this late holds others up.
LAG_SECONDS: Final = 0.25

#: Moving so many bytes for each byte of work's results is chatty.
CHATTY_BYTES: Final = 256 << 20

_SHOWN: Final = 12


def suspects(model: Model) -> list[dict[str, Any]]:
    """Return findings, the worst first: ``level``, ``text``, ``advice``, ``link``."""
    found = [
        *_impossible(model),
        *_lost_workers(model),
        *_failing(model),
        *_memory(model),
        *_idle(model),
        *_skew(model),
        *_stragglers(model),
        *_lag(model),
        *_chatty(model),
        *_dropped(model),
    ]
    found.sort(key=lambda finding: finding["level"], reverse=True)
    return found[:_SHOWN]


def _finding(level: int, text: str, advice: str, link: str = "") -> dict[str, Any]:
    return {"level": level, "text": text, "advice": advice, "link": link}


def _impossible(model: Model) -> list[dict[str, Any]]:
    return [
        _finding(
            3,
            f"{counted(item['n'], 'task')} cannot run for want of {item['asks']}; "
            f"workers offer: {item['offers']}",
            "start a worker that offers it, or submit them with other resources= or "
            "workers=",
            f"#/tasks/{item['key']}",
        )
        for item in model.impossible
    ]


def _lost_workers(model: Model) -> list[dict[str, Any]]:
    found = []
    for line in model.workers.values():
        if line.left is not None and model.now - line.left < 300:
            ago = format_seconds(model.now - line.left)
            found.append(
                _finding(
                    2,
                    f"worker {line.name} left {ago} ago",
                    "what it had is computed again; look at its log for the reason",
                    "#/workers",
                )
            )
    return found[:4]


def _failing(model: Model) -> list[dict[str, Any]]:
    found = []
    for line in model.functions.values():
        failed = line.failed - line.cancelled
        ended = line.done + failed
        if failed and failed * 20 >= ended:
            share = failed / ended
            found.append(
                _finding(
                    2,
                    f"{failed:,} of {counted(ended, 'task')} of {line.label} failed "
                    f"({share:.0%})",
                    "the errors page groups them by cause",
                    "#/errors",
                )
            )
    return found


def _memory(model: Model) -> list[dict[str, Any]]:
    found = []
    for line in model.workers.values():
        memory = line.facts.get("memory") or {}
        spilled = memory.get("spilled", 0)
        if line.paused:
            found.append(
                _finding(
                    3,
                    f"worker {line.name} is paused: memory is short",
                    "give it more memory, use smaller parts, or keep fewer results",
                    "#/memory",
                )
            )
        elif spilled:
            found.append(
                _finding(
                    1,
                    f"worker {line.name} has {format_bytes(spilled)} on disk",
                    "release futures that are not needed, or add memory",
                    "#/memory",
                )
            )
        elif line.limit and memory.get("total", 0) > 0.8 * line.limit:
            share = memory["total"] / line.limit
            found.append(
                _finding(
                    2,
                    f"worker {line.name} uses {share:.0%} of its memory limit",
                    "smaller parts, or fewer tasks at a time",
                    "#/memory",
                )
            )
    return found


def _idle(model: Model) -> list[dict[str, Any]]:
    waiting = model.counters.get("ready", 0)
    if not waiting:
        return []
    impossible = sum(item["n"] for item in model.impossible)
    if waiting <= impossible:
        return []
    return [
        _finding(
            2,
            f"worker {line.name} has run nothing for "
            f"{format_seconds(model.now - max(line.last, line.joined))}, with "
            f"{counted(waiting - impossible, 'task')} waiting",
            "ask one of them why: explain on its page",
            "#/tasks",
        )
        for line in model.workers.values()
        if line.left is None
        and not line.facts.get("running")
        and model.now - max(line.last, line.joined) > IDLE_SECONDS
    ]


def _skew(model: Model) -> list[dict[str, Any]]:
    here = [w for w in model.workers.values() if w.left is None and w.slots]
    if len(here) < 3:
        return []
    loads = [line.busy / line.slots for line in here]
    mean = sum(loads) / len(loads)
    if mean < 5.0:
        return []
    most = max(here, key=lambda line: line.busy / line.slots)
    times = most.busy / most.slots / mean
    if times < SKEW_TIMES:
        return []
    return [
        _finding(
            1,
            f"worker {most.name} has done {times:.1f} times the work of the mean",
            "data that lies on one worker draws tasks there: scatter with "
            "broadcast=True, or in more parts",
            "#/workers",
        )
    ]


def _stragglers(model: Model) -> list[dict[str, Any]]:
    found = []
    for line in model.functions.values():
        times = line.durations
        usual = times.quantile(0.95)
        if times.count < 20 or times.longest < 1.0:
            continue
        if times.longest > STRAGGLER_TIMES * max(usual, 1e-3):
            found.append(
                _finding(
                    1,
                    f"the longest {line.label} took {format_seconds(times.longest)}; "
                    f"95% of them at most {format_seconds(usual)}",
                    "look at its task: other data, or another machine?",
                    "#/tasks",
                )
            )
    return found[:3]


def _lag(model: Model) -> list[dict[str, Any]]:
    found = []
    lag = model.counters.get("lag_seconds", 0.0)
    if lag > LAG_SECONDS:
        found.append(
            _finding(
                2,
                f"the scheduler's loop was {format_seconds(lag)} late",
                "very many short tasks? map() in one call, or larger tasks",
                "#/system",
            )
        )
    found += [
        _finding(
            1,
            f"the loop of worker {line.name} was "
            f"{format_seconds(line.facts['lag_seconds'])} late",
            "its machine is short of processors: leave one to it, or look for other "
            "programs there",
            "#/workers",
        )
        for line in model.workers.values()
        if line.facts.get("lag_seconds", 0.0) > 4 * LAG_SECONDS
    ]
    return found


def _chatty(model: Model) -> list[dict[str, Any]]:
    if model.bytes_moved < CHATTY_BYTES:
        return []
    made = sum(line.nbytes for line in model.functions.values())
    if model.bytes_moved < 2 * max(1, made):
        return []
    return [
        _finding(
            1,
            f"{format_bytes(model.bytes_moved)} were moved for "
            f"{format_bytes(made)} of results",
            "scatter large inputs with broadcast=True, or load them in the tasks",
            "#/network",
        )
    ]


def _dropped(model: Model) -> list[dict[str, Any]]:
    if not model.dropped:
        return []
    return [
        _finding(
            0,
            f"{model.dropped:,} events came too fast for this page and are not in the "
            f"task stream; counts are right at the next refresh",
            "raise scheduler.events_kept if that matters",
        )
    ]
