"""What a client asks its runners to have: a version of Python, and packages."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeAlias

from covey.errors import UsageError
from covey.serde import code

#: A list of requirements, or the path of a file of them.
Requirements: TypeAlias = Sequence[str] | str | os.PathLike[str] | None

#: The oldest minor version that runners can have.
_OLDEST: Final = (3, 11)

_BYTES_MAX: Final = 1 << 20


def environment_text(python: str | None, environment: Requirements) -> str:
    """Return what is asked for as the text that workers read; empty for nothing.

    Args:
        python: a version (``"3.12"``, ``"3.12.1"``), or ``"same"`` for ours.
        environment: requirements as pip has them, or the path of a file of them.

    Raises:
        UsageError: a value makes no sense.
    """
    wanted = {}
    if python is not None:
        wanted["python"] = _version(python)
    if environment is not None:
        wanted["requirements"] = _requirements(environment)
    return json.dumps(wanted, sort_keys=True) if wanted else ""


def _version(python: str) -> str:
    if python == "same":
        return code.text(code.MINOR)
    if not re.fullmatch(r"\d+\.\d+(\.\d+)?", python):
        raise UsageError(
            f'python= takes a version such as "3.12", or "same", not {python!r}'
        )
    major, minor = python.split(".")[:2]
    if (int(major), int(minor)) < _OLDEST:
        raise UsageError(
            f"runners need Python {code.text(_OLDEST)} or later, not {python}"
        )
    return python


def _requirements(environment: Sequence[str] | str | os.PathLike[str]) -> str:
    if isinstance(environment, str | os.PathLike):
        path = Path(environment).expanduser()
        try:
            text = path.read_text("utf-8")
        except OSError as error:
            raise UsageError(
                f"environment= takes a list of requirements, or the path of a file of "
                f"them (requirements.txt, or a lock file in its form); {path} cannot "
                f"be read: {error}"
            ) from None
    else:
        lines = sorted({str(line).strip() for line in environment} - {""})
        text = "".join(line + "\n" for line in lines)
    if len(text) > _BYTES_MAX:
        raise UsageError("environment= has more than 1 MiB of requirements")
    return text


def chosen_python(environment: str) -> str:
    """Return the minor version that a client asked for, or nothing."""
    if not environment:
        return ""
    version: str = json.loads(environment).get("python", "")
    return ".".join(version.split(".")[:2])
