"""A directory that all of a user's processes make when they begin and remove when they end."""

from __future__ import annotations

from pathlib import Path

import pytest

from covey.errors import UsageError
from covey.net import connection_file
from covey.net.connection_file import leave_runtime_directory, runtime_directory


@pytest.fixture
def base(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def leaving(base, monkeypatch):
    """Others leave as often as this says: as soon as the directory is made, or there."""
    mkdir = Path.mkdir
    times = []

    def made(path, *args, **keywords):
        try:
            mkdir(path, *args, **keywords)
        finally:
            if times:
                times.pop()
                path.rmdir()

    monkeypatch.setattr(Path, "mkdir", made)
    return times


@pytest.mark.parametrize("is_there", [True, False])
def test_who_begins_while_others_leave_makes_it_again(base, leaving, is_there):
    if is_there:
        runtime_directory()
    leaving += [1, 2]
    assert runtime_directory() == base / "covey"
    assert not leaving and (base / "covey").is_dir()


def test_that_it_always_disappears_is_told(leaving):
    leaving += range(connection_file._TRIES)
    with pytest.raises(UsageError, match="covey cannot be made a directory"):
        runtime_directory()
    assert not leaving


def test_who_leaves_last_does_not_make_it_again(base, leaving):
    leaving += [1]
    leave_runtime_directory()
    assert not list(base.iterdir())
    assert leaving
