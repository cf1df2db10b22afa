"""Code objects belong to one minor version of Python.

Bytecode that another minor version executes raises nonsense at best, and ends
the process at worst.  So a code object inside a pickle takes along which Python
compiled it, and a reader of another minor version refuses it by name, before
anything is made of it::

    3.13: lambda x: x + 1  ──►  code_of((3, 13), ...)  ──►  3.11: VersionSkew
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType
from typing import Any, Final

from covey.errors import VersionSkew

#: This Python, as far as bytecode is concerned.
MINOR: Final = (sys.version_info[0], sys.version_info[1])


def text(minor: tuple[int, ...]) -> str:
    """Return a minor version for people: ``3.13``."""
    return ".".join(map(str, minor))


def code_of(minor: tuple[int, int], *parts: Any) -> CodeType:
    """Make a code object again; unpickling calls this.

    Raises:
        VersionSkew: another minor version of Python compiled it.
    """
    if minor != MINOR:
        raise VersionSkew(
            f"a function or class was sent by value (as bytecode) from Python "
            f"{text(minor)}, and this process runs Python {text(MINOR)}, which cannot "
            f"execute it. Put it into a module that both sides can import, let it "
            f'travel by source (Client(functions="source")), or ask for runners of '
            f"your own Python (Client(python={text(minor)!r}))"
        )
    return CodeType(*parts)


def tagged(reduce: Callable[[Any], Any]) -> Callable[[CodeType], tuple[Any, ...]]:
    """Return a reducer of code objects that adds who compiled them to *reduce*."""

    def reduce_code(code: CodeType) -> tuple[Any, ...]:
        _, parts = reduce(code)[:2]
        return (code_of, (MINOR, *parts))

    return reduce_code
