"""A loop over ``submit`` costs the scheduler what a ``map`` costs it."""

from __future__ import annotations

from covey.wire.base import Message
from covey.wire.client_link import Submit


def merge(outbox: list[Message]) -> list[Message]:
    """Join single submissions of one function, made one by one, into ranges.

    A loop over ``submit`` then costs the scheduler what a ``map`` costs it.
    """
    merged: list[Message] = []
    run: list[Submit] = []
    for message in outbox:
        if (
            type(message) is Submit
            and message.n == 1
            and message.name is None
            and not message.aligned
            and not message.whole
            and not message.groups
        ):
            if run and not (
                message.base == run[-1].base + 1
                and message.fn == run[0].fn
                and message.options == run[0].options
                and len(run) < _MERGED_MAX
            ):
                merged.append(_join(run))
                run = []
            run.append(message)
            continue
        if run:
            merged.append(_join(run))
            run = []
        merged.append(message)
    if run:
        merged.append(_join(run))
    return merged


_MERGED_MAX = 1024


def _join(run: list[Submit]) -> Submit:
    if len(run) == 1:
        return run[0]
    first = run[0]
    return Submit(
        first.base,
        len(run),
        first.fn,
        b"".join(message.sizes for message in run),
        b"".join(message.data for message in run),
        first.options,
    )
