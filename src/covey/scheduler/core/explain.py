"""Why a task is where it is, and what it waits for.

One question at a time, and rarely, so the answer may look far: into queues,
and back along the event stream.  It changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from covey.ids import TaskId
from covey.scheduler.core import brought, occupancy, pauses, queues
from covey.scheduler.core.demand import Demand
from covey.scheduler.core.history import label_of
from covey.scheduler.core.spans import find, inputs_of
from covey.scheduler.core.state import (
    QueueEntry,
    SchedulerState,
    Span,
    State,
    Worker,
)
from covey.units import counted, format_bytes, format_seconds
from covey.wire.base import Attempt

_INPUTS_SHOWN: Final = 5
_WORKERS_SHOWN: Final = 8

#: A queue is counted up to here, so that a question never holds up the loop.
_COUNTED_MAX: Final = 50_000

#: What a task raised goes along with the answer, unless it is this large.
_PAYLOAD_BYTES_MAX: Final = 1 << 20

#: Less than this is no waiting worth a word.
_WORTH_A_WORD_SECONDS: Final = 0.1


def task(state: SchedulerState, task_id: TaskId) -> dict[str, Any]:
    """Say how one task stands, and what it waits for.

    Returns:
        ``task`` (its id), ``state`` (a word), ``text`` (a sentence for a human), ``label`` (the
        function), ``seconds`` (in that state), and facts as far as they apply:
        ``worker``, ``workers``, ``inputs``, ``ahead`` (in the queue), ``given`` (to the
        workers already), ``asks``, ``offers``,
        ``attempts``, ``tried_on``, ``versions``, ``last_error``, ``pause_seconds``, ``expected_seconds``, ``payload`` (what it raised,
        for those who can read it), ``printed`` (its last lines).
    """
    span = find(state, task_id)
    if span is None:
        return {
            "state": "forgotten",
            "text": "the scheduler does not know this task: nobody holds a future "
            "of it any more, or it never was",
        }
    answer: dict[str, Any] = {
        "task": task_id,
        "state": span.state.name.lower(),
        "label": label_of(span),
        "seconds": state.now - span.since,
    }
    if span.state is State.READY:
        # Of a range, those before it go first.
        before = max(0, min(task_id - span.base, span.n - 1))
        answer.update(_ready(state, span, before))
    else:
        answer.update(_EXPLANATIONS[span.state](state, span))
    if span.attempts:
        _tell_attempts(state, span, answer)
    if span in state.versions.count:
        _tell_versions(state, span, answer)
    return answer


def named(state: SchedulerState, key: str) -> dict[str, Any]:
    """Say how the task stands that a user calls *key*: see ``task``."""
    task_id = by_key(state, key)
    return task(state, -1 if task_id is None else task_id)


def by_key(state: SchedulerState, key: str) -> TaskId | None:
    """Return the task that a user calls *key*: its name, or ``label-id``."""
    named = state.names.get(key)
    if named is not None:
        return named.base
    label, _, digits = key.rpartition("-")
    try:
        task_id = int(digits, 16)
    except ValueError:
        return None
    span = find(state, task_id)
    if span is None or label_of(span) != label:
        return None
    return task_id


def key_of(state: SchedulerState, span: Span, task_id: TaskId | None = None) -> str:
    """Return the name that users know a task by."""
    named = state.name_of.get(span.base)
    if named is not None:
        return named[0]
    return f"{label_of(span)}-{span.base if task_id is None else task_id:x}"


def _keys(state: SchedulerState, span: Span) -> str:
    others = f" and {span.n - 1} after it" if span.n > 1 else ""
    return key_of(state, span) + others


def _tell_attempts(state: SchedulerState, span: Span, answer: dict[str, Any]) -> None:
    tries = span.options.retries + 1
    answer["attempts"] = span.attempts
    text = f"; it has failed {span.attempts} of at most {tries} times"
    known = _attempts(state, span)
    failed = [attempt for attempt in known if attempt.kind != "gone"]
    if failed:
        last = failed[-1]
        answer["last_error"] = error = f"{last.type_name}: {last.message}"
        places = answer["tried_on"] = list(dict.fromkeys(a.worker for a in failed))
        text += f", the last time with {error} (on {', '.join(places)})"
    answer["text"] += text


def _tell_versions(state: SchedulerState, span: Span, answer: dict[str, Any]) -> None:
    answer["versions"] = versions = state.versions.count[span]
    times = counted(versions - 1, "time")
    answer["text"] += f"; made again, it gave another value than before ({times})"


def _attempts(state: SchedulerState, span: Span) -> tuple[Attempt, ...]:
    if span.failure is not None:
        return span.failure.attempts
    return state.attempts.get(span, ())


def _why_not_again(span: Span) -> str:
    """Say why a task failed for good that had attempts left."""
    again, failure = span.options.again, span.failure
    if again is None or failure is None or failure.origin >= 0:
        return ""
    if span.attempts >= span.options.retries or failure.kind == "cancelled":
        return ""
    names = ", ".join(name.removeprefix("builtins.") for name in again.on)
    return f"; it was not tried again, since its retries are for {names} only"


# Waiting for inputs.


def _waiting(state: SchedulerState, span: Span) -> dict[str, Any]:
    if brought.awaited(state, span):
        return {"text": "it was lost, and waits for its client to bring it again"}
    missing = [s for s in inputs_of(state, span) if s.state is not State.DONE]
    inputs = [_input(state, source) for source in missing[:_INPUTS_SHOWN]]
    words = ", ".join(f"{source['key']} ({source['text']})" for source in inputs)
    more = len(missing) - _INPUTS_SHOWN
    if more > 0:
        words += f" and {more} more"
    return {"text": f"it waits for its inputs: {words}", "inputs": inputs}


def _input(state: SchedulerState, source: Span) -> dict[str, Any]:
    seconds = state.now - source.since
    text = source.state.name.lower()
    if source.worker is not None:
        text += f" on {source.worker.name}"
    if seconds >= _WORTH_A_WORD_SECONDS:
        text += f" for {format_seconds(seconds)}"
    usual = source.function.seconds if source.function is not None else None
    if usual is not None and source.state is State.ASSIGNED:
        text += f"; calls of {label_of(source)} take {format_seconds(usual)}"
    return {
        "key": _keys(state, source),
        "base": source.base,
        "n": source.n,
        "state": source.state.name.lower(),
        "worker": source.worker.name if source.worker else None,
        "seconds": seconds,
        "usual_seconds": usual,
        "text": text,
    }


# Ready, and no slot yet.


def _ready(state: SchedulerState, span: Span, before: int) -> dict[str, Any]:
    if not state.workers:
        return {"text": "there is no worker; it runs as soon as one joins"}
    demand = queues.demand_of(state, span)
    able = [w for w in state.workers.values() if demand.admits(w)]
    if not able:
        return _impossible(state, demand)
    staying = [worker for worker in able if not worker.leaving]
    if not staying:
        names = _names(able)
        return {
            "text": f"only {names} may run it, and no new work goes there: leaving",
            "workers": [worker.name for worker in able],
        }
    if pauses.paused(state, span):
        left = pauses.left_seconds(state, span)
        return {
            "text": f"the last try failed, and the next one begins in "
            f"{format_seconds(left)}",
            "pause_seconds": left,
        }
    paused = [worker for worker in staying if _is_paused(worker)]
    if len(paused) == len(staying):
        return {
            "text": f"all workers that may run it are paused, because memory is "
            f"short there: {_names(paused)}",
            "workers": [worker.name for worker in paused],
        }
    return _in_line(state, span, before, staying)


def _is_paused(worker: Worker) -> bool:
    memory = worker.facts.get("memory")
    return isinstance(memory, dict) and bool(memory.get("paused"))


def _impossible(state: SchedulerState, demand: Demand) -> dict[str, Any]:
    offers = queues.offers(state, demand)
    text = (
        f"no worker can run it: it asks for {queues.describe(demand)}; "
        f"workers offer: {offers}"
    )
    left = [
        f"{name} left {format_seconds(state.now - state.departed[name])} ago"
        for name in sorted(demand.workers)
        if name in state.departed
    ]
    if left:
        text += f"; {' and '.join(left)}"
    answer: dict[str, Any] = {
        "text": text,
        "asks": queues.describe(demand),
        "offers": offers,
    }
    if left:
        answer["departed"] = left
    return answer


def _in_line(
    state: SchedulerState, span: Span, before: int, workers: list[Worker]
) -> dict[str, Any]:
    """It may run; say what stands between it and a slot."""
    demand = queues.demand_of(state, span)
    slots = sum(worker.slots for worker in workers)
    higher, earlier, seconds, complete = _ahead(state, span)
    ahead = higher + earlier + before
    if span.function is not None and span.function.seconds is not None:
        seconds += before * span.function.seconds
    given = sum(worker.count for worker in workers)
    at_least = "" if complete else "at least "
    where = f"{counted(slots, 'slot')} of {_names(workers)}"
    text = f"it is ready, and {_go_before(ahead, at_least)} it to the {where}"
    if higher:
        text += f" ({higher} of higher priority than its {span.options.priority})"
    if given:
        text += f", beside {counted(given, 'task')} that {_lie(given)} there already"
    answer: dict[str, Any] = {
        "ahead": ahead,
        "ahead_higher_priority": higher,
        "given": given,
    }
    running = sum(worker.backlog_seconds(0.0) for worker in workers)
    expected = (seconds + running) / max(1, slots)
    if expected >= _WORTH_A_WORD_SECONDS:
        answer["expected_seconds"] = expected
        text += f"; about {format_seconds(expected)} yet"
    short = _short_of(workers, demand)
    if short:
        answer["short_of"] = short
        text += f"; taken at the moment: {short}"
    answer["text"] = text
    return answer


def _go_before(ahead: int, at_least: str) -> str:
    if not ahead and not at_least:
        return "nothing goes before"
    return f"{at_least}{counted(ahead, 'task')} {'goes' if ahead == 1 else 'go'} before"


def _lie(tasks: int) -> str:
    return "lies" if tasks == 1 else "lie"


def _ahead(state: SchedulerState, span: Span) -> tuple[int, int, float, bool]:
    """Count what goes before *span*: by priority, by order, and how long it takes."""
    higher = earlier = looked = 0
    seconds = 0.0
    for rank, other in _queued(state, span):
        looked += 1
        if looked > _COUNTED_MAX:
            return higher, earlier, seconds, False
        if rank >= span.rank or other.state is not State.READY or other is span:
            continue
        if rank[0] < span.rank[0]:
            higher += other.n
        else:
            earlier += other.n
        function = other.function
        if function is not None and function.seconds is not None:
            seconds += other.n * function.seconds
    return higher, earlier, seconds, True


def _queued(state: SchedulerState, span: Span) -> Iterator[QueueEntry]:
    """Yield what lies in the queues from which the workers of *span* are served."""
    yield from state.default_demand.heap
    for demand in state.demands.values():
        yield from demand.heap
    for worker in state.loaded:
        heaps = (worker.queue, *worker.asking.values())
        anywhere = span.queue is state.default_demand.heap
        if anywhere or any(heap is span.queue for heap in heaps):
            for heap in heaps:
                yield from heap


def _short_of(workers: list[Worker], demand: Demand) -> str:
    """Say which resources are all in use where the task could run."""
    parts = []
    for name, need in demand.resources.items():
        free = [worker.free.get(name, 0.0) for worker in workers]
        if all(amount + occupancy.AMOUNT_ERROR < need for amount in free):
            whole = sum(worker.resources.get(name, 0.0) for worker in workers)
            parts.append(f"{name} ({whole - sum(free):g} of {whole:g} in use)")
    return ", ".join(parts)


def _names(workers: list[Worker]) -> str:
    shown = ", ".join(worker.name for worker in workers[:_WORKERS_SHOWN])
    more = len(workers) - _WORKERS_SHOWN
    return shown + (f" and {more} more" if more > 0 else "")


# On a worker, and after.


def _assigned(state: SchedulerState, span: Span) -> dict[str, Any]:
    worker = span.worker
    assert worker is not None
    if span.ahead:
        answer = _waiting(state, span)
        answer["text"] += f"; it lies ready on {worker.name}, to begin right after them"
        return {**answer, "worker": worker.name, "run": span.run}
    seconds = state.now - span.since
    text = f"{worker.name} was given it {format_seconds(seconds)} ago, and "
    running = _running_there(worker)
    if any(span.base <= task < span.base + span.n for task in running):
        text += "it runs"
    else:
        text += "it runs, or is about to"
        if worker.count > worker.slots:
            text += f": {worker.count} tasks for {counted(worker.slots, 'slot')}"
        unwanted = sum(find(state, task) is None for task in running)
        if unwanted:
            text += (
                f"; {counted(unwanted, 'slot')} there finish{'es' * (unwanted == 1)} "
                f"what nobody waits for any more"
            )
    usual = span.function.seconds if span.function is not None else None
    if usual is not None:
        text += f"; calls of {label_of(span)} take {format_seconds(usual)}"
    if any(span.base <= t < span.base + span.n for _, t in worker.blocked):
        text += "; it waits for tasks of its own"
    if worker.away_since is not None:
        away = format_seconds(state.now - worker.away_since)
        text += f"; the connection to {worker.name} broke {away} ago, it is waited for"
    if _is_paused(worker):
        text += f"; {worker.name} is paused, because memory is short there"
    if span.options.timeout_seconds:
        limit = format_seconds(span.options.timeout_seconds)
        text += f"; it is stopped when it has run for {limit}"
    return {
        "text": text,
        "worker": worker.name,
        "run": span.run,
        "usual_seconds": usual,
    }


def _running_there(worker: Worker) -> list[TaskId]:
    """Return what the worker said was running there; that is up to 2 seconds old."""
    rows = worker.facts.get("running")
    if not isinstance(rows, list):
        return []
    return [row[1] for row in rows if len(row) > 1 and isinstance(row[1], int)]


def _done(state: SchedulerState, span: Span) -> dict[str, Any]:
    del state
    places = [worker.name for worker in span.replicas]
    nbytes = span.nbytes // span.n
    return {
        "text": f"it is done; its value ({format_bytes(nbytes)}) rests on "
        f"{', '.join(places)}",
        "workers": places,
        "nbytes": nbytes,
    }


def _failed(state: SchedulerState, span: Span) -> dict[str, Any]:
    failure = span.failure
    assert failure is not None
    text = f"it failed: {failure.type_name}: {failure.message}"
    text += _why_not_again(span)
    answer: dict[str, Any] = {"text": text, "failure": failure.kind}
    if len(failure.payload) <= _PAYLOAD_BYTES_MAX:
        answer["payload"] = failure.payload
    if "printed" in failure.details:
        answer["printed"] = failure.details["printed"]
    if failure.origin >= 0 and failure.origin != span.base:
        origin = find(state, failure.origin)
        if origin is not None:
            answer["origin"] = key_of(state, origin, failure.origin)
            answer["text"] += f" (in its input {answer['origin']})"
    return answer


def _released(state: SchedulerState, span: Span) -> dict[str, Any]:
    del state, span
    return {"text": "its value was used and dropped; it can be computed again"}


_EXPLANATIONS: Final = {
    State.WAITING: _waiting,
    State.ASSIGNED: _assigned,
    State.DONE: _done,
    State.FAILED: _failed,
    State.RELEASED: _released,
}
