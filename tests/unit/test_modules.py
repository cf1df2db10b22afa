"""Which of the user's own modules go along, and how often their files are looked at."""

from __future__ import annotations

import sys

import pytest

from covey.client import modules
from covey.client.modules import AUTO_FILES_MAX, OwnModules

NAME = "a_package_that_grows"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return the folder of a package of its user, which has been imported."""
    folder = tmp_path / NAME
    folder.mkdir()
    (folder / "__init__.py").write_text("x = 1")
    monkeypatch.syspath_prepend(tmp_path)
    __import__(NAME)
    yield folder
    del sys.modules[NAME]


@pytest.fixture
def walks(monkeypatch):
    """Return the folders whose files were looked at, in order."""
    seen = []
    files_of = modules._files_of

    def spy(place):
        seen.append(place.name)
        return files_of(place)

    monkeypatch.setattr(modules, "_files_of", spy)
    return seen


def test_a_package_too_large_is_looked_at_once(package, walks, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(modules.clock, "monotonic", lambda: now[0])
    for number in range(AUTO_FILES_MAX):
        (package / f"m{number}.py").touch()
    own = OwnModules(auto=True)
    for _ in range(20):
        assert own.needed(NAME.encode()) == ()
        now[0] += 1.0
    assert walks == [NAME]
    # Who asks for it gets it all the same.
    own.add(package)
    assert [bundle.name for bundle in own.needed(b"")] == [NAME]


def test_a_package_that_has_become_small_goes_along_after_a_while(
    package, walks, monkeypatch
):
    now = [100.0]
    monkeypatch.setattr(modules.clock, "monotonic", lambda: now[0])
    (package / "extension.so").touch()
    own = OwnModules(auto=True)
    assert own.needed(NAME.encode()) == ()
    (package / "extension.so").unlink()
    now[0] += modules.TOO_LARGE_SECONDS
    assert [bundle.name for bundle in own.needed(NAME.encode())] == [NAME]
    assert walks == [NAME, NAME]
