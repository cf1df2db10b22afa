"""``from distributed import Client`` means covey, for programs that say so.

::

    import covey.compat.distributed

    covey.compat.distributed.install()
    from dask.distributed import Client, as_completed

or, for a script that stays as it is: ``covey run --as-distributed script.py``.

Nothing is written to disk, and a ``distributed`` that is installed is left alone: a finder at
the front of ``sys.meta_path`` answers for that name, in this process and in the runners of
clusters that it starts.  What covey does not have is there by name, and says so when it
is used.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Final

from covey.errors import UsageError

#: Set where runners are to take part.
VARIABLE: Final = "COVEY_AS_DISTRIBUTED"

_NAME: Final = "distributed"


class _Finder(MetaPathFinder, Loader):
    """Finds ``distributed`` and the modules in it, all of covey's own making."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Answer for what begins with our name.

        Raises:
            ModuleNotFoundError: there is no such module in it, of ours.
        """
        del path, target
        if fullname != _NAME and not fullname.startswith(_NAME + "."):
            return None
        if fullname not in import_module("covey.compat.names").MODULES:
            raise ModuleNotFoundError(
                f"{fullname} is asked for, and covey stands in for distributed here, "
                f"which has nothing of that kind",
                name=fullname,
            )
        return ModuleSpec(fullname, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """Let the machinery make the module."""
        del spec
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Put the names in that belong there."""
        names = import_module("covey.compat.names")
        names.fill(module)


_finder: Final = _Finder()


def install() -> None:
    """From now on, ``distributed`` and ``dask.distributed`` mean covey in this process.

    Raises:
        UsageError: the real one was imported before, and somebody may be using it.
    """
    if _finder in sys.meta_path:
        return
    if _NAME in sys.modules:
        raise UsageError(
            "distributed has been imported already, and what was imported stays. Call "
            "covey.compat.distributed.install() first, before dask is imported too"
        )
    sys.meta_path.insert(0, _finder)
    # Runners that this process starts come to know of it by this.
    os.environ[VARIABLE] = "1"


if __name__ == "__main__":
    # Not the module that ran as ``__main__``, but the one that others import.
    import_module("covey.compat.distributed").install()
    del sys.argv[0]
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
    runpy.run_path(sys.argv[0], run_name="__main__")
