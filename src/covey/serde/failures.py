"""How an exception travels.

A failure payload has two parts, because the second may be missing or may not
fit the reader, and the first must always be there::

    size of header u32 | header: JSON | the pickled exception, or nothing

The header holds the name of the type, the message, where it happened and the
traceback as text, together about ``TEXT_LIMIT`` bytes at most.  The pickled
exception has been unpickled once on the spot, so that a class whose constructor
wants other arguments is noticed where something can be done about it: it is
then written field by field (``_rebuild``) and arrives as itself all the same.

The reader gets, in this order of preference:

1. the user's own exception, the remote traceback attached as a note;
2. ``TaskUnreadable`` with type, message and traceback of the original in its
   text, if the exception could not be pickled there or unpickled here.

Causes and contexts are in the text of the traceback; they do not travel as
objects.  An exception that breaks when it is shown still makes a failure.
"""

from __future__ import annotations

import json
import os
import pickle
import struct
import sys
import traceback
from collections.abc import Callable
from typing import Any, Final

from covey.errors import NotPicklable, TaskUnreadable
from covey.serde.culprit import type_name
from covey.serde.values import dumps_inline, loads_inline

TEXT_LIMIT: Final = 1 << 16
_MESSAGE_LIMIT: Final = 8192
_SUMMARY_LIMIT: Final = 1000

#: So many classes of an exception are named, at most.
_CLASSES_MAX: Final = 32

#: An exception that drags more than this along arrives as text: it travels in the
#: messages that everybody's news waits behind, and these have a limit.
PICKLE_LIMIT: Final = 8 << 20

_HEAD: Final = struct.Struct("<I")

#: Frames of files in these folders are covey's own business.
_OWN_FOLDERS: Final = tuple(
    os.path.join(os.path.dirname(os.path.dirname(__file__)), room, "")  # noqa: PTH118, PTH120  # pathlib takes 5 ms to import
    for room in ("runner", "serde")
)

#: Nor does anybody want to read the pickler, which calls what the user wrote.
_PICKLER: Final = os.path.join("cloudpickle", "cloudpickle.py")  # noqa: PTH118  # as above


def describe(error: BaseException, *, where: str, plain: bool = False) -> bytes:
    """Return the failure payload of *error*; never raises.

    Args:
        error: what the task raised.
        where: the place, for people: ``"worker alice, runner 4711"``.
        plain: do not pickle it: its reader wants no pickle.
    """
    header: dict[str, Any] = {
        "type": _type_text(error),
        "message": _shorten(_message(error), _MESSAGE_LIMIT),
        "traceback": _shorten(_traceback_text(error), TEXT_LIMIT),
        "where": where,
    }
    pickled, problem = b"", ""
    if plain:
        header["plain"] = _plain(error)
        problem = "the serializer of the task sends plain data only"
    else:
        pickled, problem = _pickle(error)
    if problem:
        header["problem"] = _shorten(problem, _MESSAGE_LIMIT)
    text = json.dumps(header).encode()
    return _HEAD.pack(len(text)) + text + pickled


def summary(payload: bytes) -> tuple[str, str]:
    """Return the name of the type and a message of at most 1000 characters."""
    header, _ = _split(payload)
    return header["type"], _shorten(header["message"], _SUMMARY_LIMIT)


def classes(error: BaseException) -> list[str]:
    """Return the full names of the class of *error* and of those above it."""
    try:
        above = type(error).__mro__[:-1]
        found = [full_name(class_) for class_ in above[:_CLASSES_MAX]]
    except Exception:
        return []
    return [name for name in found if len(name) <= _SUMMARY_LIMIT]


def full_name(class_: type) -> str:
    """Return the name by which a class is known in every process."""
    return f"{class_.__module__}.{class_.__qualname__}"


def traceback_text(payload: bytes) -> str:
    """Return the remote traceback as text."""
    text: str = _split(payload)[0]["traceback"]
    return text


def where_text(payload: bytes) -> str:
    """Return where it happened, for people."""
    text: str = _split(payload)[0]["where"]
    return text


def revive(
    payload: bytes,
    *,
    plain: bool = False,
    retell: Callable[[str], str] = lambda text: text,
) -> BaseException:
    """Return the exception to raise for a failure payload; never raises.

    Args:
        payload: what ``describe`` returned.
        plain: read no pickle.
        retell: may say more in the text of the traceback.
    """
    try:
        header, pickled = _split(payload)
        header["traceback"] = retell(header["traceback"])
    except (ValueError, KeyError, TypeError, struct.error) as error:
        return TaskUnreadable(
            f"the task failed, and the description of its failure is garbled: {error}"
        )
    if header.get("plain"):
        named = _of_plain(header["plain"])
        if named is not None:
            _add_note(named, header)
            return named
    if pickled and plain:
        pickled, header["problem"] = b"", "this client reads no pickle"
    if not pickled:
        return _unreadable(header, "could not be pickled there", header.get("problem"))
    try:
        revived = loads_inline(pickled)
        if not isinstance(revived, BaseException):
            raise TypeError(f"it unpickles to {type_name(revived)}")
    except BaseException as problem:
        text = f"{type(problem).__name__}: {_message(problem)}"
        return _unreadable(header, "cannot be unpickled here", text)
    _add_note(revived, header)
    return revived


def _unreadable(header: dict[str, Any], what: str, why: str | None) -> TaskUnreadable:
    error = TaskUnreadable(
        f"the task raised {header['type']}: {header['message']} "
        f"[this exception {what}: {why or 'no reason is known'}]"
    )
    _add_note(error, header)
    return error


def _add_note(error: BaseException, header: dict[str, Any]) -> None:
    try:
        # The text ends with the notes of the error, and those that came along are shown
        # with it already.
        notes = "".join(f"{note}\n" for note in getattr(error, "__notes__", ()))
        text = header["traceback"].removesuffix(notes).rstrip()
        error.add_note(f"\nRemote traceback ({header['where']}):\n{text}")
    except Exception:
        # A class may have spoiled __notes__ or add_note; the error counts more.
        return


def _split(payload: bytes) -> tuple[dict[str, Any], bytes]:
    payload = bytes(payload)
    (size,) = _HEAD.unpack_from(payload, 0)
    header = json.loads(payload[_HEAD.size : _HEAD.size + size])
    for field in ("type", "message", "traceback", "where"):
        if not isinstance(header[field], str):
            raise TypeError(f"{field} is no text")
    return header, payload[_HEAD.size + size :]


# To text, from whatever the user's exception is like.


def _type_text(error: BaseException) -> str:
    try:
        return type_name(error)
    except Exception:
        return "Exception"


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as problem:
        return f"<its __str__ raised {type(problem).__name__}>"


def _traceback_text(error: BaseException) -> str:
    try:
        told = traceback.TracebackException.from_exception(error, compact=True)
        _hide_own_frames(told)
        if isinstance(error, NotPicklable) and not _has_frames(told.__cause__):
            # Of the pickler alone, which says what is said already.
            told.__cause__ = told.__context__ = None
        return "".join(told.format())
    except BaseException as problem:
        return f"<the traceback cannot be shown: {type(problem).__name__}>\n"


def _hide_own_frames(told: traceback.TracebackException) -> None:
    """Leave the user's frames only, in the exception and all it is chained to."""
    waiting = [told]
    while waiting:
        told = waiting.pop()
        kept = [
            frame
            for frame in told.stack
            if not frame.filename.startswith(_OWN_FOLDERS)
            and not frame.filename.endswith(_PICKLER)
        ]
        told.stack = traceback.StackSummary.from_list(kept)
        waiting += [e for e in (told.__cause__, told.__context__) if e is not None]
        waiting += told.exceptions or []


def _has_frames(told: traceback.TracebackException | None) -> bool:
    """Whether there is a frame of the user in an exception or what led to it."""
    while told is not None:
        if told.stack:
            return True
        told = told.__cause__ or told.__context__
    return False


def _shorten(text: str, limit: int) -> str:
    """Return *text*, its middle left out if it is longer than *limit*."""
    # Lone surrogates would make the text impossible to encode.
    text = text.encode("utf-8", "backslashreplace").decode()
    if len(text) <= limit:
        return text
    half = limit // 2
    left_out = len(text) - 2 * half
    return f"{text[:half]}\n... {left_out} characters left out ...\n{text[-half:]}"


# As plain data: a class that everybody knows, and plain arguments.


def _plain(error: BaseException) -> list[Any] | None:
    """Return the class and the arguments of a well-known exception."""
    class_ = type(error)
    if class_.__module__ not in ("builtins", "covey.errors"):
        return None
    args = list(error.args)
    if not all(type(arg) in (str, int, float, bool, type(None)) for arg in args):
        return None
    return [class_.__module__, class_.__name__, args]


def _of_plain(described: Any) -> BaseException | None:
    """Make a well-known exception again, if it is one."""
    try:
        module, name, args = described
        if module not in ("builtins", "covey.errors"):
            return None
        class_ = getattr(sys.modules[module], name)
        if not (isinstance(class_, type) and issubclass(class_, Exception)):
            return None
        made: BaseException = class_(*args)
    except Exception:
        return None
    return made


# To pickle, if it survives that.


def _rebuild(
    class_: type[BaseException], args: tuple[Any, ...], fields: dict[str, Any]
) -> BaseException:
    """Make an exception without its ``__init__``, whatever that asks for."""
    error = class_.__new__(class_, *args)
    error.args = args
    error.__dict__.update(fields)
    return error


class _FieldByField:
    """Pickles an exception as the arguments of ``_rebuild``."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> tuple[object, ...]:
        error = self.error
        return (_rebuild, (type(error), error.args, dict(error.__dict__)))


def _pickle(error: BaseException) -> tuple[bytes, str]:
    """Return the pickled exception, or nothing and what the problem is."""
    try:
        return _pickle_and_try(error, error), ""
    except BaseException as problem:
        first = f"{type(problem).__name__}: {_message(problem)}"
    try:
        return _pickle_and_try(_FieldByField(error), error), ""
    except BaseException:
        return b"", first


def _pickle_and_try(written: Any, error: BaseException) -> bytes:
    data = dumps_inline(written, "exception")
    if len(data) > PICKLE_LIMIT:
        raise pickle.PicklingError(
            f"it takes {len(data):,} bytes, and {PICKLE_LIMIT:,} at most go along"
        )
    back = loads_inline(data)
    if type(back).__qualname__ != type(error).__qualname__:
        raise pickle.PicklingError(f"it comes back as {type_name(back)}")
    return data
