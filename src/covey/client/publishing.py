"""Results that outlive their client: kept on the cluster under a name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from covey.client import current
from covey.client.checks import check_text
from covey.client.extents import extents_of
from covey.errors import UsageError
from covey.serde import refs
from covey.serde.values import dumps_inline, loads_inline
from covey.units import format_bytes
from covey.wire.client_link import Publish, Unpublish

#: What a scheduler keeps under a name, at most, beside the results of futures.
VALUE_BYTES_MAX: Final = 4 << 20

if TYPE_CHECKING:
    from covey.client.base import BaseClient
    from covey.client.client import Client


def publish(client: BaseClient, name: str, value: Any) -> None:
    """Keep *value*, and the results of all futures in it, under *name*.

    Raises:
        UsageError: the name is taken, or is none, or *value* is too large.
    """
    check_text(name, "name=")
    with refs.capture() as found_in:
        dumps_inline(value, name)
    # Once more: now each future is written as one that anybody can take up.
    payload = dumps_inline(value, name)
    if len(payload) > VALUE_BYTES_MAX:
        raise UsageError(
            f"what is to be kept under {name!r} has {format_bytes(len(payload))}, and "
            f"the scheduler keeps it: {format_bytes(VALUE_BYTES_MAX)} at most. Scatter "
            f"what is large, and publish the future: its value stays on the workers"
        )
    extents = extents_of(found_in.task_ids)
    client.session.engine.post(Publish(name, payload, extents))
    found = client.session.ask("published", names=(name,))
    if found is None or bytes(found[0]) != payload:
        raise UsageError(
            f"the name {name!r} is taken: something else is kept under it. Take another "
            f"one, or give it back with unpublish_dataset({name!r})"
        )


def published(client: BaseClient, name: str) -> Any:
    """Return what is kept under *name*.

    Raises:
        KeyError: nothing is.
    """
    check_text(name, "name=")
    found = client.session.ask("published", names=(name,))
    if found is None:
        there = ", ".join(map(repr, names(client))) or "nothing"
        raise KeyError(f"nothing is kept under {name!r}; there is: {there}")
    payload, tokens = found
    shown = current.kept_tokens.set(dict(tokens))
    try:
        # Its futures are those of this client, however that waits.
        with current.as_current(cast("Client", client)):
            return loads_inline(payload)
    finally:
        current.kept_tokens.reset(shown)


def unpublish(client: BaseClient, name: str) -> None:
    """Keep nothing under *name* any more."""
    check_text(name, "name=")
    client.session.engine.post(Unpublish(name))


def names(client: BaseClient) -> tuple[str, ...]:
    """Return the names under which something is kept."""
    return tuple(client.session.ask("published"))
