"""How often, and when, a task is tried again whose inputs could not be fetched.

Each try that comes to nothing doubles the pause before the next one.  After it the task
lies where most of its inputs are, which is where it surely could run, and is left there for
a while.  Only then others try again: what was out of reach may be within it by now, and
who holds the inputs may be busy for an hour::

    out of reach ──► pause: 0.1, 0.2, ... 12.8 s ──► 1 s for who has its inputs ──► for all
         ▲                                                                          │
         └──────────────────────────────────────────────────────────────────────────┘
"""

from __future__ import annotations

from typing import Final

from covey.scheduler.core.balance import RELUCTANT_SECONDS
from covey.scheduler.core.state import Span

#: A task whose inputs could not be reached is tried again after so many pauses, each twice
#: as long as the one before: half a minute in all.  A holder that has died is missed by then.
UNREACHED_MAX: Final = 8

#: The pauses begin with twice this.
UNREACHED_SECONDS: Final = 0.05


def pause_seconds(span: Span) -> float:
    """Return for how long *span*, whose inputs were out of reach, is to wait."""
    return UNREACHED_SECONDS * 2.0**span.unreached


def elsewhere_at(span: Span) -> float:
    """Return when others may try *span*, which has been ready since its last pause began."""
    return span.since + pause_seconds(span) + RELUCTANT_SECONDS


def exhausted(span: Span) -> bool:
    """Whether there have been as many tries of *span* as are counted."""
    return span.unreached >= UNREACHED_MAX


def may_be_anywhere(span: Span, now: float) -> bool:
    """Whether *span* avoids nobody any more who was out of reach.

    So it is when it has waited for long, or has been tried so often that it goes where its
    inputs are.  What is made anew since its copy was out of reach is not: else it would be
    made here and there in turns.
    """
    if not span.unreached:
        return False
    return exhausted(span) or now >= elsewhere_at(span)
