"""Tasks as OpenTelemetry has them: spans, made of the event stream.

A call of ``submit`` or ``map`` is a trace.  Its root is a span from the moment of the
submission to the end of its last task, and every stretch of tasks that ran together is a
span below it, with worker and slot.  Whoever calls this reads the stream along in a process
of its own: nothing of it is near the work.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Iterable
from typing import Any, Final

from covey.errors import StartFailed

MISSING: Final = (
    "OpenTelemetry needs packages that are not installed: pip install 'covey[otel]'"
)

#: Submissions that are open at a time; the oldest one is ended when there are more.
OPEN_MAX: Final = 10_000


class Submission:
    """A call of ``submit`` or ``map``, and what of it has ended."""

    __slots__ = ("base", "left", "n", "span")

    def __init__(self, base: int, n: int, span: Any) -> None:
        self.base = base
        self.n = n
        self.left = n
        self.span = span


class Spans:
    """Makes spans of events.

    Args:
        tracer: of OpenTelemetry.
        epoch: the time of day at which the clock of the scheduler stood at zero.
    """

    def __init__(self, tracer: Any, epoch: float) -> None:
        from opentelemetry import trace

        self._trace = trace
        self._tracer = tracer
        self._epoch = epoch
        self._open: dict[int, Submission] = {}
        self._bases: list[int] = []

    def take(self, events: Iterable[Any]) -> None:
        """Take in events, in order."""
        for event in events:
            handler = self._HANDLERS.get(event[1])
            if handler is not None:
                handler(self, event[0], *event[2:])

    def close(self, at: float) -> None:
        """End what has not ended, at the time of the scheduler's clock."""
        for submission in list(self._open.values()):
            submission.span.set_attribute("covey.unfinished", submission.left)
            self._end(submission, at)

    def _time(self, at: float) -> int:
        """Return a time of the scheduler's clock as nanoseconds of the Unix epoch."""
        return int((self._epoch + at) * 1e9)

    def _submitted(self, at: float, base: int, n: int, label: str, client: str) -> None:
        if base in self._open:
            return  # A client has told another life of the scheduler once more.
        span = self._tracer.start_span(
            f"submit {label}",
            start_time=self._time(at),
            attributes={
                "covey.function": label,
                "covey.key": f"{label}-{base:x}",
                "covey.tasks": n,
                "covey.client": client,
            },
        )
        self._open[base] = Submission(base, n, span)
        insort(self._bases, base)
        while len(self._open) > OPEN_MAX:
            oldest = next(iter(self._open.values()))
            oldest.span.set_attribute("covey.unfinished", oldest.left)
            self._end(oldest, at)

    def _find(self, task: int) -> Submission | None:
        at = bisect_right(self._bases, task) - 1
        if at < 0:
            return None
        found = self._open[self._bases[at]]
        return found if task < found.base + found.n else None

    def _end(self, submission: Submission, at: float) -> None:
        submission.span.end(self._time(at))
        del self._open[submission.base]
        del self._bases[bisect_right(self._bases, submission.base) - 1]

    def _ended(self, at: float, base: int, n: int) -> None:
        submission = self._find(base)
        if submission is not None:
            submission.left -= n
            if submission.left <= 0:
                self._end(submission, at)

    def _span(
        self, at: float, seconds: float, label: str, base: int, **attributes: Any
    ) -> Any:
        """Begin a span of a run that has just ended."""
        submission = self._find(base)
        context = None
        if submission is not None:
            context = self._trace.set_span_in_context(submission.span)
        return self._tracer.start_span(
            label,
            context=context,
            start_time=self._time(at - seconds),
            attributes={
                "covey.function": label,
                "covey.key": f"{label}-{base:x}",
                **{f"covey.{name}": value for name, value in attributes.items()},
            },
        )

    def _ran(
        self,
        at: float,
        base: int,
        n: int,
        label: str,
        worker: str,
        seconds: float,
        nbytes: int,
        slot: int,
    ) -> None:
        facts = {"tasks": n, "worker": worker, "slot": slot, "bytes": nbytes}
        self._span(at, seconds, label, base, **facts).end(self._time(at))
        self._ended(at, base, n)

    def _erred(
        self, at: float, base: int, label: str, worker: str, seconds: float, slot: int
    ) -> None:
        span = self._span(at, seconds, label, base, worker=worker, slot=slot)
        span.set_status(self._trace.StatusCode.ERROR)
        span.end(self._time(at))

    def _failed(
        self,
        at: float,
        base: int,
        n: int,
        label: str,
        worker: str,
        kind: str,
        type_name: str,
        message: str,
        origin: int,
    ) -> None:
        del worker, origin
        submission = self._find(base)
        if submission is not None:
            facts = {
                "exception.type": type_name,
                "exception.message": message,
                "covey.key": f"{label}-{base:x}",
                "covey.kind": kind,
            }
            submission.span.add_event("exception", facts, self._time(at))
            status = self._trace.StatusCode.ERROR
            submission.span.set_status(status, f"{type_name}: {message}"[:200])
        self._ended(at, base, n)

    _HANDLERS: Final[dict[str, Callable[..., None]]] = {
        "submitted": _submitted,
        "ran": _ran,
        "erred": _erred,
        "failed": _failed,
    }


def provider(service: str) -> Any:
    """Return a tracer provider that sends to where ``OTEL_...`` variables say.

    Raises:
        StartFailed: the packages are not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise StartFailed(MISSING) from None
    made = TracerProvider(resource=Resource.create({"service.name": service}))
    made.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return made
