"""Which of the user's own modules were imported anew in this process.

The runners of a local cluster import the same files as their client, once.  A module that the
client imports again, with ``importlib.reload`` or after it was taken out of ``sys.modules``,
has another spec.  That is all that is compared: no file is looked at, and a file that was
edited and not imported again is news neither here nor there.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import threading
from importlib.machinery import EXTENSION_SUFFIXES
from typing import Any, Final

from covey import clock
from covey.client.modules import installed_folders, place_of
from covey.serde.reloads import name_here

#: Modules are looked at when a function is pickled, and else when so much time has passed:
#: arguments may be of a class that is another one.
LOOK_SECONDS: Final = 0.5

_COMPILED: Final = tuple(EXTENSION_SUFFIXES)


class Reloads:
    """Counts reloads.

    All clients of a process share one, for they may share a cluster, too.
    """

    def __init__(self) -> None:
        #: How often a module was found imported anew.
        self.count = 0
        self._lock = threading.Lock()
        #: The specs of own modules, by name.
        self._specs: dict[str, Any] = {}
        #: Top-level modules, and whether they are the user's own.
        self._own: dict[str, bool] = {}
        self._seen = 0
        self._looked = 0.0
        self._installed: tuple[str, ...] = ()
        #: Top-level modules of which something was imported anew.
        self._anew: set[str] = set()
        #: Those that have compiled parts, which not all can be imported twice.
        self._compiled: set[str] = set()
        #: What functions say of all this, to ``serde.reloads``.
        self.head: list[Any] = []

    def look_at_times(self) -> None:
        """Look, if that was not done for a while."""
        if clock.monotonic() - self._looked > LOOK_SECONDS:
            self.look()

    def look(self) -> None:
        """See which modules were imported anew since the last look."""
        self._looked = clock.monotonic()
        with self._lock:
            known, count = self._specs, self.count
            for name, spec in list(known.items()):
                module = sys.modules.get(name)
                if module is None:
                    continue  # It may be on its way back.
                now = getattr(module, "__spec__", None)
                if now is not spec:
                    known[name] = now
                    self._anew.add(name.partition(".")[0])
                    count += 1
            if len(sys.modules) != self._seen:
                self._seen = len(sys.modules)
                self._enter_new()
            if count != self.count:
                tops = {name.partition(".")[0] for name in known}
                names = tops - (self._compiled - self._anew)
                self.head = [name_here(), count, sorted(names)]
                self.count = count

    def _enter_new(self) -> None:
        for name, module in list(sys.modules.items()):
            top = name.partition(".")[0]
            if name not in self._specs and self._is_own(top):
                spec = self._specs[name] = getattr(module, "__spec__", None)
                if (getattr(spec, "origin", None) or "").endswith(_COMPILED):
                    self._compiled.add(top)

    def _is_own(self, top: str) -> bool:
        own = self._own.get(top)
        if own is None:
            own = self._own[top] = self._look_at(top)
        return own

    def _look_at(self, top: str) -> bool:
        if top in sys.stdlib_module_names or top in ("__main__", "covey"):
            return False
        module = sys.modules.get(top)
        if module is None:
            return False
        if not self._installed:
            paths = sysconfig.get_paths()
            folders = [
                paths["purelib"],
                paths["platlib"],
                *map(str, installed_folders()),
            ]
            self._installed = tuple(folder + os.sep for folder in folders)
        # Most are installed, and their names say so: no path is followed for them.
        if (getattr(module, "__file__", None) or "").startswith(self._installed):
            return False
        place = place_of(module)
        return place is not None and not str(place).startswith(self._installed)


#: Those of this process.
HERE: Final = Reloads()
