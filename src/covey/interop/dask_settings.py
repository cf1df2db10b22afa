"""What dask is set to here, for the runners of a cluster that this process starts.

dask reads its settings when it is imported, from files and variables, which runners see as
well; what the program has set since then they do not.  dask's own way to hand that on is a
variable that it looks for.  Workers that are started elsewhere have settings of their own.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

#: Where dask looks for what its parent was set to.
_VARIABLE: Final = "DASK_INTERNAL_INHERIT_CONFIG"

#: Linux takes no longer variable than 128 KiB.
_LENGTH_MAX: Final = 100_000

_LEFT_OUT: Final = object()


def inherited() -> dict[str, str]:
    """Return the variable with dask's settings; nothing if dask was not imported.

    What is no plain value is left out: such as a scheduler that is a client.
    """
    config = sys.modules.get("dask.config")
    serialize = getattr(config, "serialize", None)
    if serialize is None:
        return {}
    text: str = serialize(_plain(config.config))  # type: ignore[union-attr]  # it is there
    return {_VARIABLE: text} if len(text) <= _LENGTH_MAX else {}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        pairs = ((key, _plain(item)) for key, item in list(value.items()))
        return {key: item for key, item in pairs if item is not _LEFT_OUT}
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return _LEFT_OUT
    return value
