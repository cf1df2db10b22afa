"""Code objects belong to one minor version of Python, and to what wrote them.

Bytecode that another minor version executes raises nonsense at best, and ends
the process at worst.  And what makes functions and classes of it again are functions of
cloudpickle, which may be others in another major version of that.  So a code object inside a
pickle takes along which of both wrote it, and a reader with others refuses it by
name, before anything is made of it::

    3.13: lambda x: x + 1  ──►  code_of((3, 13), "3.1.2", ...)  ──►  3.11: VersionSkew
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType
from typing import Any, Final

from covey.errors import VersionSkew
from covey.version import cloudpickle_version, major

#: Code that this process has written, which still knows the file that it is from.  So
#: much of it is remembered, what was written last.
_written: dict[CodeType, CodeType] = {}
_WRITTEN_MAX: Final = 4096

#: This Python, as far as bytecode is concerned.
MINOR: Final = (sys.version_info[0], sys.version_info[1])


def text(minor: tuple[int, ...]) -> str:
    """Return a minor version for people: ``3.13``."""
    return ".".join(map(str, minor))


def readable_by(cloudpickle: str) -> bool:
    """Say whether that version of cloudpickle reads what ours writes.

    Versions that are not known are taken to be as ours.
    """
    ours = cloudpickle_version()
    return not (ours and cloudpickle) or major(ours) == major(cloudpickle)


def code_of(minor: tuple[int, int], cloudpickle: str, *parts: Any) -> CodeType:
    """Make a code object again; unpickling calls this.

    What this process has written comes back as what it was.

    Raises:
        VersionSkew: another minor version of Python compiled it, or another major
            version of cloudpickle wrote what belongs to it.
    """
    if minor != MINOR:
        raise VersionSkew(
            f"a function or class was sent by value (as bytecode) from Python "
            f"{text(minor)}, and this process runs Python {text(MINOR)}, which cannot "
            f"execute it. Put it into a module that both sides can import, let it "
            f'travel by source (Client(functions="source")), or ask for runners of '
            f"your own Python (Client(python={text(minor)!r}))"
        )
    if not readable_by(cloudpickle):
        raise VersionSkew(
            f"a function or class was sent by value, written by cloudpickle "
            f"{cloudpickle}, and this process has cloudpickle {cloudpickle_version()}, "
            f"which may not read it. Install the same major version on both sides, put "
            f"the function into a module that both can import, or let it travel by "
            f'source (Client(functions="source"))'
        )
    made = CodeType(*parts)
    return _written.get(made, made)


def tagged(reduce: Callable[[Any], Any]) -> Callable[[CodeType], tuple[Any, ...]]:
    """Return a reducer of code objects that adds who compiled them to *reduce*."""

    def reduce_code(code: CodeType) -> tuple[Any, ...]:
        _, parts = reduce(code)[:2]
        if code not in _written:
            if len(_written) >= _WRITTEN_MAX:
                del _written[next(iter(_written))]
            _written[code] = code
        return (code_of, (MINOR, cloudpickle_version(), *parts))

    return reduce_code
