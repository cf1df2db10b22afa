"""Where settings come from.

Five sources, the later ones winning::

    defaults < config.toml < pyproject.toml < environment < code

* ``settings.py`` has the defaults;
* ``~/.config/covey/config.toml`` (or ``$XDG_CONFIG_HOME/covey/config.toml``)
  holds a table per section;
* the nearest ``pyproject.toml`` upwards from the working directory may have
  ``[tool.covey.section]`` tables;
* ``COVEY_SECTION__KEY`` in the environment sets ``section.key``;
* ``override`` sets values for as long as its block runs.

Files and environment are read once, at the first ``get()``; ``reload`` reads
them again.  A name that does not exist is an error that proposes the nearest
name, and a value that does not fit names the source it came from: a setting
that is silently ignored is worse than none.

``msgspec`` is imported when the first setting is read, not with this module,
so that ``import covey`` stays quick.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from covey.errors import UsageError
from covey.units import parse_bytes, parse_seconds

if TYPE_CHECKING:
    from covey.settings import Settings

_ENVIRONMENT_PREFIX: Final = "COVEY_"
_SEPARATOR: Final = "__"
_CODE: Final = "code"
_DEFAULT: Final = "default"

#: Any way in which TOML can begin to speak of ``tool.covey``.
_MENTION: Final = re.compile(
    r"""^\s*(?: \[{1,2} \s* ["']?tool["']? \s* (?: \] | \. \s* ["']?covey )
            | ["']?tool["']? \s* [.=] )""",
    re.MULTILINE | re.VERBOSE,
)

#: How a value is written, by the end of the setting's name.
_PARSERS: Final = {"_bytes": parse_bytes, "_seconds": parse_seconds}


class Origin(NamedTuple):
    """One setting as it stands.

    Attributes:
        key: its name, ``section.field``.
        value: what it is.
        source: ``default``, the path of a file, an environment variable, or ``code``.
    """

    key: str
    value: object
    source: str


class _Layer(NamedTuple):
    """What one source says: values by full name, and what to call the source."""

    values: dict[str, object]
    sources: dict[str, str]


_lock: Final = threading.RLock()
_files_and_environment: list[_Layer] | None = None
_overrides: list[_Layer] = []
_current: Settings | None = None


def get() -> Settings:
    """Return the settings as they stand now.

    Raises:
        UsageError: a source names a setting that does not exist, gives a value
            that does not fit, or cannot be read.
    """
    global _current  # noqa: PLW0603  (one process has one configuration)
    settings = _current
    if settings is None:
        with _lock:
            settings = _current = _build(_layers())
    return settings


def reload() -> None:
    """Forget what the files and the environment said; ``get`` reads them again."""
    global _current, _files_and_environment  # noqa: PLW0603  (see get)
    with _lock:
        _files_and_environment = None
        _current = None


@contextlib.contextmanager
def override(
    values: Mapping[str, object] | None = None, /, **keywords: object
) -> Iterator[Settings]:
    """Set some settings while a ``with`` block runs, in every thread.

    Args:
        values: by full name: ``{"scheduler.port": 0}``.
        **keywords: the same with two underscores: ``scheduler__port=0``.

    Yields:
        The settings as they now stand.

    Raises:
        UsageError: there is no such setting, or the value does not fit.
    """
    named = {**(values or {}), **keywords}
    flat: dict[str, object] = {}
    for name, value in named.items():
        key = name.replace(_SEPARATOR, ".")
        _check_name(key, f"override of {name!r}")
        flat[key] = value
    layer = _Layer(flat, dict.fromkeys(flat, _CODE))
    _push(layer)
    try:
        yield get()
    finally:
        _remove(layer)


def _push(layer: _Layer) -> None:
    global _current  # noqa: PLW0603  (see get)
    with _lock:
        # Built before it counts: a value that does not fit leaves no trace.
        _current = _build([*_layers(), layer])
        _overrides.append(layer)


def _remove(layer: _Layer) -> None:
    global _current  # noqa: PLW0603  (see get)
    with _lock:
        # Two threads may leave their blocks in any order, hence by identity.
        _overrides[:] = [other for other in _overrides if other is not layer]
        _current = None


def origins() -> list[Origin]:
    """Return every setting with its value and where that came from."""
    with _lock:
        settings = get()
        sources: dict[str, str] = {}
        for layer in _layers():
            sources.update(layer.sources)
    return [
        Origin(key, _value_of(settings, key), sources.get(key, _DEFAULT))
        for key in _keys()
    ]


def _value_of(settings: Settings, key: str) -> object:
    section, field = key.split(".")
    return getattr(getattr(settings, section), field)


def _keys() -> list[str]:
    """Return the full names of all settings, in the order of ``settings.py``."""
    from covey.settings import Settings

    defaults = Settings()
    return [
        f"{section}.{field}"
        for section in Settings.__struct_fields__
        for field in getattr(defaults, section).__struct_fields__
    ]


def _check_name(key: str, where: str) -> None:
    """Refuse a setting that does not exist, and propose the nearest that does."""
    keys = _keys()
    if key in keys:
        return
    section = key.partition(".")[0]
    siblings = [name for name in keys if name.startswith(section + ".")]
    import difflib

    # Within its section a name must be alike itself, not only by the section.
    endings = {name.partition(".")[2]: name for name in siblings}
    if siblings:
        close = difflib.get_close_matches(key.partition(".")[2], endings, n=1)
    else:
        close = difflib.get_close_matches(key, keys, n=1)
    if close:
        advice = f"did you mean {endings.get(close[0], close[0])!r}?"
    else:
        advice = f"there are: {', '.join(siblings or keys)}"
    raise UsageError(f"{where}: there is no setting {key!r}; {advice}")


def _layers() -> list[_Layer]:
    global _files_and_environment  # noqa: PLW0603  (see get)
    if _files_and_environment is None:
        _files_and_environment = [
            *_from_user_file(),
            *_from_pyproject(),
            _from_environment(os.environ),
        ]
    return [*_files_and_environment, *_overrides]


def _build(layers: list[_Layer]) -> Settings:
    """Merge the layers and check every value against its type."""
    import msgspec

    from covey.settings import Settings

    tree: dict[str, dict[str, object]] = {}
    sources: dict[str, str] = {}
    for layer in layers:
        sources.update(layer.sources)
        for key, value in layer.values.items():
            section, field = key.split(".")
            tree.setdefault(section, {})[field] = _parsed(
                key, value, layer.sources[key]
            )
    # One at a time, so that the message can name the source of the culprit.
    for section, fields in tree.items():
        for field, value in fields.items():
            try:
                msgspec.convert({section: {field: value}}, Settings, strict=False)
            except msgspec.ValidationError as error:
                key = f"{section}.{field}"
                reason = str(error).partition(" - at ")[0]
                raise UsageError(
                    f"{sources[key]}: {key} = {value!r} does not fit: {reason}"
                ) from None
    return msgspec.convert(tree, Settings, strict=False)


def _parsed(key: str, value: object, source: str) -> object:
    """Turn ``"4GiB"`` or ``"5m"`` into a number where the setting is one."""
    if isinstance(value, str) and value.lower() in ("", "none", "auto"):
        # An environment variable cannot say None; a choice may be called "auto".
        optional = _default_of(key) is None
        return None if optional else value
    for ending, parse in _PARSERS.items():
        if key.endswith(ending) and isinstance(value, str | int | float):
            try:
                return parse(value)
            except UsageError as error:
                raise UsageError(f"{source}: {key}: {error}") from None
    return value


def _default_of(key: str) -> object:
    from covey.settings import Settings

    return _value_of(Settings(), key)


def _from_user_file() -> list[_Layer]:
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    path = Path(base).expanduser() / "covey" / "config.toml"
    document = _read_toml(path)
    return [] if document is None else [_flatten(document, str(path))]


def _from_pyproject() -> list[_Layer]:
    """Read ``[tool.covey]`` of the nearest ``pyproject.toml``."""
    try:
        here = Path.cwd()
    except OSError:
        # The working directory was removed under us; then there is no project.
        return []
    for folder in (here, *here.parents):
        path = folder / "pyproject.toml"
        document = _read_toml(path, if_in_it=_MENTION)
        if document is not None:
            table = document.get("tool", {}).get("covey")
            return [] if table is None else [_flatten(table, f"{path} [tool.covey]")]
    return []


def _from_environment(environment: Mapping[str, str]) -> _Layer:
    """Read ``COVEY_SECTION__KEY``; other ``COVEY_`` variables are no settings."""
    values: dict[str, object] = {}
    sources: dict[str, str] = {}
    for variable, value in environment.items():
        name = variable.removeprefix(_ENVIRONMENT_PREFIX)
        if name == variable or _SEPARATOR not in name:
            continue
        key = name.lower().replace(_SEPARATOR, ".")
        source = f"environment variable {variable}"
        _check_name(key, source)
        values[key] = value
        sources[key] = source
    return _Layer(values, sources)


def _read_toml(
    path: Path, if_in_it: re.Pattern[str] | None = None
) -> dict[str, Any] | None:
    """Return what a file holds, or None when there is no such file.

    A file in which *if_in_it* is not found counts as empty: what it says is for
    others, and every start of a client or a cluster would wait until it is parsed.
    """
    try:
        text = path.read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error
    if if_in_it is not None and not if_in_it.search(text):
        return {}
    import tomllib  # Most people have no such file, and it takes a while to import.

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not valid TOML: {error}") from error


def _flatten(document: object, source: str) -> _Layer:
    """Give the entries of section tables their full names; ``-`` counts as ``_``."""
    if not isinstance(document, dict):
        raise UsageError(f"{source}: expected a table of sections, not {document!r}")
    values: dict[str, object] = {}
    for section, table in document.items():
        if not isinstance(table, dict):
            raise UsageError(
                f"{source}: {section!r} stands outside a section; "
                f"write it as [section] and then {section} = ..."
            )
        for field, value in table.items():
            key = f"{section}.{field}".replace("-", "_")
            _check_name(key, source)
            values[key] = value
    return _Layer(values, dict.fromkeys(values, source))
