"""What runners tell a thread that waits, before the scheduler tells it; see ``store.early``.

It ends a future, and nothing else: of its task all that matters is still to come.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from covey.client.countdown import End
from covey.client.listening import expect_lull
from covey.store.early import Ear

if TYPE_CHECKING:
    from covey.client.engine import Engine

#: So many words in a row may come too late: chance, for the processor was another's.
LATE_BY_CHANCE: Final = 3

#: Where it was of no use, it is done without so many times in a row, at most.
PAUSE_MOST: Final = 63


class EarlyWords:
    """One client's early words.

    Where all processes of a round trip share one core, what the scheduler tells has come
    before the thread that waits can look.  Then a word is only more to do for everybody:
    so after some in a row that came too late none is asked for once, then three times,
    seven times, and so on.  One that is in time saves several times what a late one costs.

    Attributes:
        fd: readable when there may be a word.
    """

    def __init__(self, engine: Engine, ear: Ear) -> None:
        self._engine = engine
        self._ear = ear
        self.fd = ear.fd
        self._late = self._pause = self._left = 0

    def ask(self, end: object) -> None:
        """A thread waits for this and nothing else, from here on."""
        if self._left:
            self._left -= 1
        elif isinstance(end, End) and (task := end.alone) is not None:
            self._ear.ask(task)

    def take(self) -> None:
        """Act on a word, if there is one."""
        word = self._ear.hear()
        if word is None:
            return
        task, value = word
        engine = self._engine
        wish = engine.wishes.ends_early(task)
        if wish is None:
            self._late += 1
            if self._late > LATE_BY_CHANCE:
                self._left = self._pause = min(2 * self._pause + 1, PAUSE_MOST)
            return
        self._late = self._pause = 0
        others = not wish.finish_alone(value, End)
        try:
            if others:
                engine.loop.call_soon_threadsafe(wish.finish_one, value)
            engine.outbox.quiet = True
            if not engine.lull_is_coming:
                expect_lull(engine)
        except RuntimeError:
            return  # The loop has ended: the client is being closed.

    def close(self) -> None:
        """Hear no more."""
        self._ear.close()


def early_words(engine: Engine) -> EarlyWords | None:
    """Return where early words come for this client, if that can be."""
    path = engine.address.path
    if not path:
        return None
    try:
        return EarlyWords(engine, Ear(str(Path(path).parent), engine.client_id))
    except OSError:
        return None  # It is not a cluster of this machine that tells any.
