"""How long a slot keeps outcomes back while it has more to do."""

from __future__ import annotations

from typing import Final

#: Outcomes wait at most this long while there is more to do, at first ...
FLUSH_SECONDS: Final = 0.001

#: ... and twice as long each time up to this, while a slot is kept busy: every
#: message costs the agent and the scheduler about what a hundred results cost.
FLUSH_MOST_SECONDS: Final = 0.008

#: Those of a range wait a little longer, for a multiple of this to be full: what takes
#: groups of these tasks is not torn apart then.
LATE_SECONDS: Final = 0.001
EVEN: Final = 64
