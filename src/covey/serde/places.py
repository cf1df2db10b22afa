"""Calls that take results of other tasks just as they are, in some places.

Nodes of a graph mostly do: ``add(x, 1)``.  Then the pickle has, in the place of a result,
how far away its task is, and the runner puts the value there.  So no reference has to be
written, which is a call of Python for each, and to be looked up again::

    add(x, 1) is task 7 and x is task 5     byte 0x03 | pickle of (first, (-2, 1), (0,))
                                                                   ▲        ▲       ▲
                           what goes before the arguments ─────────┘        │       │
                                                   arguments, or distances ─┘       │
                                                         which of them are results ─┘

Results that lie deeper inside of an argument are references, as everywhere: see ``refs``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from covey.serde.refs import Inputs

#: The first byte of such a payload.
PLACES_CODEC: Final = 0x03


def call_in_places(
    call: tuple[Any, ...],
    task: int,
    inputs: Inputs,
    function: Callable[..., Any],
) -> Any:
    """Call *function* as such a payload says.

    Args:
        call: what was pickled: with a fourth item, that follows the arguments.
        task: whose payload it is.
        inputs: the results.
        function: what is called.
    """
    first, args, places, *more = call
    args = list(args)
    for at in places:
        args[at] = inputs[task + args[at]]
    return function(first, args, *more)
