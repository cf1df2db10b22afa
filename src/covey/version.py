"""The version of this package; the build reads it from here.  And cloudpickle's."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

__version__: Final = "0.1.0"
VERSION: Final = __version__


@lru_cache(maxsize=1)
def cloudpickle_version() -> str:
    """Return the version of cloudpickle that is installed; empty if there is none.

    Without importing it: who never pickles must be able to tell.
    """
    from importlib.util import find_spec

    spec = find_spec("cloudpickle")
    if spec is None or spec.origin is None:
        return ""
    try:
        with open(spec.origin, encoding="utf-8") as file:  # noqa: PTH123  # pathlib takes 5 ms to import
            found = re.search(
                r"""^__version__ = ["']([^"']+)""", file.read(), re.MULTILINE
            )
    except OSError:
        return ""
    return found[1] if found else ""


def major(version: str) -> str:
    """Return ``3`` of ``3.1.2``."""
    return version.partition(".")[0]
