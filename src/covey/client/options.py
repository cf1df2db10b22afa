"""From the keywords of ``submit`` to checked options."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, Final, TypeAlias

from covey.client.checks import check_names, check_text
from covey.client.warn import warn
from covey.errors import UsageError
from covey.serde.failures import full_name
from covey.units import parse_seconds
from covey.wire.base import (
    AMOUNT_MAX,
    DEFAULT_OPTIONS,
    FACTOR_MAX,
    PRIORITY_MAX,
    RETRIES_MAX,
    SECONDS_MAX,
    Again,
    Options,
)


def _is_exception(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


@dataclass(frozen=True)
class Retry:
    """How a task that fails is to be tried again: for ``retries=``.

    ::

        client.submit(fetch, url, retries=Retry(5, on=OSError, delay=1, factor=2))

    A plain number stands for ``Retry(number)``: whatever went wrong, at once.  An
    attempt that is lost together with its worker is made again in any case, and does
    not count.

    Attributes:
        times: how many more times the task is run after it failed.
        on: the exceptions (one, or several) that are worth it, with all that are
            derived from them; ``covey.errors.RunnerDied`` and ``TaskTimedOut`` may be
            among them.  Default: everything but a cancellation.
        delay: seconds (or ``"1m"``) before the second attempt.
        factor: each further pause is so many times the one before; none is longer
            than an hour, unless ``delay`` is.
        elsewhere: rather run it on a worker where it has not failed, if there is one.
    """

    times: int
    on: type[BaseException] | tuple[type[BaseException], ...] = ()
    delay: float | str = 0.0
    factor: float = 1.0
    elsewhere: bool = False

    def __call__(self, key: Any) -> Retry:
        """Return the policy for any *key*: dask takes annotations that are asked so."""
        del key
        return self

    def again(self) -> Again:
        """Return the policy as it travels, checked.

        Raises:
            UsageError: a value makes no sense; the message names it.
        """
        kinds = self.on if isinstance(self.on, tuple) else (self.on,)
        for kind in kinds:
            if not _is_exception(kind):
                raise UsageError(
                    f"Retry(on=) takes classes of exceptions, not {kind!r}"
                )
        delay = parse_seconds(self.delay) if isinstance(self.delay, str) else self.delay
        if not _is_number(delay) or not 0 <= delay <= SECONDS_MAX:
            raise UsageError(f"Retry(delay=) takes seconds from 0 up, not {delay!r}")
        factor = self.factor
        if not _is_number(factor) or not 1 <= factor <= FACTOR_MAX:
            raise UsageError(
                f"Retry(factor=) takes a number from 1 to {FACTOR_MAX:g}, not {factor!r}"
            )
        names = tuple(full_name(kind) for kind in kinds)
        return Again(names, float(delay), float(factor), bool(self.elsewhere))


Retries: TypeAlias = int | Retry


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _priority(value: Any) -> int | float:
    """Return a priority as it travels: whole, if it is and is not too large.

    Raises:
        UsageError: it is no finite number.
    """
    if not isinstance(value, bool) and isinstance(value, Real):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if math.isfinite(number):
            whole = number.is_integer() and abs(number) <= PRIORITY_MAX
            return int(number) if whole else number
    raise UsageError(
        f"priority= takes a finite number, such as 1 or -0.5; higher runs first. "
        f"It was {value!r:.80}, of type {type(value).__name__}"
    )


def options_of(
    priority: float,
    retries: Retries,
    timeout: float | str | None,
    resources: dict[str, float] | None,
    workers: str | Iterable[str] | None,
    allow_other_workers: bool,
) -> Options:
    """Return what a user asked for, checked.

    Raises:
        UsageError: a value makes no sense; the message names it.
    """
    if timeout is None and not (priority or retries or resources or workers):
        return DEFAULT_OPTIONS
    urgency = _priority(priority)
    again = retries.again() if isinstance(retries, Retry) else None
    times = retries.times if isinstance(retries, Retry) else retries
    if not _is_whole(times) or not 0 <= times <= RETRIES_MAX:
        raise UsageError(
            f"retries= takes a whole number from 0 to {RETRIES_MAX} or a covey.Retry, "
            f"not {times!r}"
        )
    seconds = 0.0
    if timeout is not None:
        seconds = parse_seconds(timeout) if isinstance(timeout, str) else timeout
        if not _is_number(seconds) or not seconds > 0:
            raise UsageError(f"timeout= takes seconds above 0, not {timeout!r}")
        seconds = min(seconds, SECONDS_MAX)
    amounts = {}
    if resources is not None and not isinstance(resources, Mapping):
        raise UsageError(
            f'resources= takes amounts by name, such as {{"GPU": 1}}, not {resources!r}'
        )
    for name, amount in (resources or {}).items():
        if not _is_number(amount) or not 0 <= amount <= AMOUNT_MAX:
            raise UsageError(
                f"resources[{name!r}] must be a number from 0 to {AMOUNT_MAX:g}, not "
                f"{amount!r}"
            )
        amounts[check_text(name, "resources=")] = float(amount)
    names = () if workers is None else names_of(workers)
    return Options(
        urgency, times, float(seconds), amounts, names, allow_other_workers, again
    )


#: What ``dask.annotate`` may say of tasks that is an option here.
ANNOTATIONS: Final = frozenset(
    {"priority", "retries", "resources", "workers", "allow_other_workers"}
)


def annotated() -> Mapping[str, Any]:
    """Return what ``dask.annotate`` says where we are; nothing if nobody imported dask."""
    ask = getattr(sys.modules.get("dask"), "get_annotations", None)
    said: Mapping[str, Any] = ask() if ask is not None else {}
    return said


def tell_of_slips(names: Iterable[str]) -> None:
    """Warn of annotations that are nearly an option here, and would be lost.

    They are no error: anybody may annotate with names of their own.
    """
    for name in names:
        if name not in ANNOTATIONS and (near := _nearly(name)):
            warn(
                f"dask.annotate({name}=) means nothing to covey and is ignored: did you "
                f"mean {near}=?"
            )


@functools.lru_cache(maxsize=256)
def _nearly(name: str) -> str:
    """Return the annotation that *name* resembles, if there is one."""
    import difflib

    return "".join(difflib.get_close_matches(name, sorted(ANNOTATIONS), 1, _LIKENESS))


#: Of names that are taken for a slip: higher than difflib's own, which takes
#: ``resource_hint`` for ``resources``.
_LIKENESS: Final = 0.8


def without_overruled(
    said: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return those annotations that are options, without what a call says otherwise.

    Args:
        said: what is annotated where the call stands.
        given: the keywords of the call.
    """
    tell_of_slips(said)
    kept = {k: v for k, v in said.items() if k in ANNOTATIONS and k not in given}
    if "workers" not in kept:
        # It was said of other workers.
        kept.pop("allow_other_workers", None)
    return kept


def options_here(
    priority: float,
    retries: Retries,
    timeout: float | str | None,
    resources: dict[str, float] | None,
    workers: str | Iterable[str] | None,
    allow_other_workers: bool,
) -> Options:
    """Return what a call asks for, checked, and else what is annotated where it stands.

    Raises:
        UsageError: a value makes no sense, or an annotation is a function of keys.
    """
    # Asked for each task that is submitted: most are given none, and have no dask.
    if "dask" not in sys.modules:
        if timeout is None and not (priority or retries or resources or workers):
            return DEFAULT_OPTIONS
        said: Mapping[str, Any] = {}
    else:
        said = annotated()
    if not said:
        return options_of(
            priority, retries, timeout, resources, workers, allow_other_workers
        )
    keywords = {
        "priority": priority,
        "retries": retries,
        "resources": resources,
        "workers": workers,
        "allow_other_workers": allow_other_workers,
    }
    given = {name: value for name, value in keywords.items() if value}
    chosen = {**keywords, **without_overruled(said, given)}
    for name, value in chosen.items():
        if callable(value) and not isinstance(value, Retry):
            raise UsageError(
                f"dask.annotate({name}=) is a function here, which is asked for each key of "
                f"a graph, and submit and map have none: say {name}= in the call"
            )
    return options_of(
        chosen["priority"],
        chosen["retries"],
        timeout,
        chosen["resources"],
        chosen["workers"],
        bool(chosen["allow_other_workers"]),
    )


def names_of(workers: str | Iterable[str]) -> tuple[str, ...]:
    """Return the names of workers, of which a user gave one or several.

    Raises:
        UsageError: something else is among them.
    """
    return check_names(workers, "workers=")
