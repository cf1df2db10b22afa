"""The two clocks, and the only place that reads them.

* ``monotonic()`` never goes back and means nothing on another machine.  It
  measures durations, and it is the ``now`` that shells hand to their cores.
* ``wall()`` is what people read.  It may jump, so nothing is decided by it.

Call them through the module (``clock.monotonic()``): whoever needs a virtual
clock then has one place to put it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

#: A signal that comes just before a thread blocks does not wake it.  Who waits for long
#: looks up so often, and finds that Ctrl-C has come.
LOOK_UP_SECONDS: Final = 0.5

#: Seconds since an arbitrary moment; for durations and deadlines.
monotonic: Final[Callable[[], float]] = time.monotonic

#: Seconds since 1970, as this machine believes; for people and for logs.
wall: Final[Callable[[], float]] = time.time
