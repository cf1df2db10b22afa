"""What other packages offer to covey, by entry points.

A package that brings a serializer says so in its own ``pyproject.toml``::

    [project.entry-points."covey.serializers"]
    images = "imagelib.covey:register_all"

and that function calls ``covey.serde.register``.  Clients call it before they write
anything, and runners before they run anything.

``importlib.metadata`` takes a tenth of a second to import; so whether there is
anything at all is found out without it.
"""

from __future__ import annotations

import glob
import os
import sys
from functools import lru_cache
from typing import Final

GROUP: Final = "covey.serializers"


@lru_cache(maxsize=1)
def serializers() -> tuple[str, ...]:
    """Return what installed packages offer in ``covey.serializers``: ``module:name``."""
    if not any(_mentions(folder) for folder in sys.path):
        return ()
    from importlib.metadata import entry_points

    return tuple(sorted({point.value for point in entry_points(group=GROUP)}))


def _mentions(folder: str) -> bool:
    pattern = os.path.join(glob.escape(folder), "*-info", "entry_points.txt")  # noqa: PTH118  # pathlib takes 5 ms to import
    for path in glob.iglob(pattern):  # noqa: PTH207  # the same
        try:
            with open(path, encoding="utf-8") as file:  # noqa: PTH123  # the same
                if GROUP in file.read():
                    return True
        except OSError:
            continue  # It was uninstalled a moment ago.
    return False
