"""Classes that cannot be imported, for many values: written once, and loaded once.

An instance of a class of ``__main__`` takes its class along.  To pickle that takes fifty times
as long as the instance, and so does making it again.  So where many values are written one
after the other, a class is written once, and its bytes go into each of the values as they
are::

    value ──► class_of(digest, bytes of the class), state of the value

Each value still holds all that it needs, whoever reads it.  Who has loaded the class with that
digest last takes the one that is there, and looks at no bytes.
"""

from __future__ import annotations

import hashlib
import operator
import pickle
import threading
import weakref
from collections.abc import Callable
from types import BuiltinFunctionType, CodeType, ModuleType
from typing import Any, Final, NamedTuple

#: A class with more bytes than this is written for each value anew, with its buffers
#: outside of the stream if they are large.
CLASS_BYTES_MAX: Final = 1 << 14

#: What is the same thing wherever it is, or may as well be another object that is equal;
#: and classes are.
_SAME: Final = frozenset(
    {str, bytes, int, float, complex, ModuleType, BuiltinFunctionType, CodeType}
)

#: So many classes are known by what they were loaded from.
_LOADED_MAX: Final = 256

#: Classes as they were loaded, by the hash of their bytes; each is there once.
_loaded: Final[dict[bytes, type]] = {}
_digests: Final[weakref.WeakKeyDictionary[type, bytes]] = weakref.WeakKeyDictionary()

#: Classes that were made here of what others wrote; and the program's own, which went out.
_made: Final[weakref.WeakSet[type]] = weakref.WeakSet()
_own: Final[weakref.WeakSet[type]] = weakref.WeakSet()

#: Held while a class gets its attributes, and until it is known which it has.
_loading: Final = threading.RLock()


def class_of(digest: bytes, data: bytes) -> type:
    """Return the class that was written as *data*; unpickling calls this.

    Args:
        digest: the hash of *data*.
        data: the class, by value.

    Raises:
        Exception: whatever is raised while the class is made.
    """
    known = _loaded.get(digest)
    if known is not None:
        return known
    with _loading:
        # Whatever is known of the class is forgotten on the way: see ``set_state``.
        class_: type = pickle.loads(data)
        while len(_loaded) >= _LOADED_MAX:
            _digests.pop(_loaded.pop(next(iter(_loaded))), None)
        _digests[class_] = digest
        _loaded[digest] = class_
    return class_


def goes_out(class_: type) -> None:
    """A class is written by value: it is the program's own, unless it was made here."""
    if class_ not in _made:
        _own.add(class_)


def set_state(class_: type, state: tuple[Callable[[type, Any], None], Any]) -> None:
    """Give a class its attributes; unpickling calls this.

    It may have had others: what it was before has to be loaded again to be so again.  The
    program's own class stays as it is, whoever sends it back: it would get methods whose
    globals are no longer those of the program.

    Args:
        class_: a class, which may have been here before.
        state: what sets them, and the attributes.
    """
    setter, attributes = state
    if class_ in _own:
        return
    with _loading:
        _made.add(class_)
        digest = _digests.pop(class_, None)
        if digest is not None:
            _loaded.pop(digest, None)
        setter(class_, attributes)


def forget() -> None:
    """Modules are imported anew: classes that refer to them are loaded again."""
    with _loading:
        _loaded.clear()
        _digests.clear()


def _is_same(kind: type) -> bool:
    return kind in _SAME or issubclass(kind, type)


class _Alone(NamedTuple):
    """A class that was written by itself.

    Attributes:
        class_: the class, which stays as long as its id is known.
        attributes: what it had then.
        reduced: what to pickle in its place.
    """

    class_: type
    attributes: tuple[Any, ...]
    reduced: tuple[Any, ...]


class Written:
    """Classes that were written for the values of one pack.

    Args:
        write: returns the bytes of a class by value and the objects in it, by id; or
            ``None`` if it cannot stand by itself.

    Attributes:
        named: functions and classes that go by name, by id.
        inside: the objects in all classes.  A value in which there is one of these, too,
            is to be written as a whole, for the two are one object.
    """

    __slots__ = ("_known", "_stopped", "_write", "inside", "named")

    def __init__(
        self, write: Callable[[type], tuple[bytes, dict[int, Any]] | None]
    ) -> None:
        self._write = write
        #: By id, for not all classes can be hashed.
        self._known: dict[int, _Alone | None] = {}
        self._stopped = False
        self.named: dict[int, Any] = {id(class_of): class_of}
        self.inside: dict[int, Any] = {}

    def stop(self) -> None:
        """Let each value be written as a whole from here on."""
        self._known = {}
        self._stopped = True
        self.inside = {}

    def find(self, class_: type) -> tuple[Any, ...] | None:
        """Return what stands for a class, unless it has changed since it was written."""
        known = self._known.get(id(class_))
        if known is None:
            return None
        now = class_.__dict__
        if len(now) == len(known.attributes) and all(
            map(operator.is_, now.values(), known.attributes)
        ):
            return known.reduced
        del self._known[id(class_)]
        return None

    def enter(self, class_: type) -> tuple[Any, ...] | None:
        """Write a class that goes by value; return what stands for it, if that can be."""
        if self._stopped or id(class_) in self._known:
            return None
        # Before: what is written may be younger than this, but never older.
        attributes = tuple(class_.__dict__.values())
        written = self._write(class_)
        if written is None or len(written[0]) > CLASS_BYTES_MAX:
            self._known[id(class_)] = None
            return None
        data, memo = written
        digest = hashlib.blake2b(data, digest_size=16).digest()
        reduced = (class_of, (digest, data))
        self.inside |= {at: o for at, o in memo.items() if not _is_same(type(o))}
        self._known[id(class_)] = _Alone(class_, attributes, reduced)
        return reduced
