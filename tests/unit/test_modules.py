"""Which of the user's own modules go along, and how often their files are looked at."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from covey.client import modules
from covey.client.modules import AUTO_FILES_MAX, OwnModules
from covey.serde import bundles

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


def test_what_some_names_need_is_found_once_in_a_while(package, monkeypatch):
    now, found = [100.0], []
    monkeypatch.setattr(modules.clock, "monotonic", lambda: now[0])
    bundle = OwnModules._bundle

    def spy(self, name, place, *, forced):
        found.append(name)
        return bundle(self, name, place, forced=forced)

    monkeypatch.setattr(OwnModules, "_bundle", spy)
    own = OwnModules(auto=True)
    (first,) = own.needed(NAME.encode())
    (package / "__init__.py").write_text("x = 12345")
    assert all(own.needed(b"", NAME.encode()) == (first,) for _ in range(10))
    assert found == [NAME]
    now[0] += modules.FRESH_SECONDS
    (edited,) = own.needed(NAME.encode())
    assert edited.digest != first.digest
    # Who says that it has changed does not wait.
    (package / "__init__.py").write_text("x = 1234567")
    own.add(package)
    (again,) = own.needed(NAME.encode())
    assert again.digest not in (first.digest, edited.digest)


def test_a_module_is_found_that_was_imported_since_the_names_were_looked_for(
    tmp_path, monkeypatch
):
    (tmp_path / "imports_another.py").write_text("import imported_later")
    (tmp_path / "imported_later.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    own, names = OwnModules(auto=True), [b"imports_another"]
    module = ModuleType("imports_another")
    module.__file__ = str(tmp_path / "imports_another.py")
    monkeypatch.setitem(sys.modules, "imports_another", module)
    assert [bundle.name for bundle in own.needed(*names)] == ["imports_another"]
    __import__("imported_later")
    both = ["imported_later", "imports_another"]
    assert [bundle.name for bundle in own.needed(*names)] == both
    del sys.modules["imported_later"]


def test_bytes_name_own_modules_or_none(package):
    own = OwnModules(auto=True)
    assert own.named_in(b"c" + NAME.encode() + b"\nThing")
    assert not own.named_in(b"csys\nexit")
    assert not OwnModules(auto=False).named_in(NAME.encode())


def test_a_process_that_has_the_originals_keeps_them(package):
    original = sys.modules[NAME]
    sent = [tuple(b[:3]) for b in OwnModules(auto=True).needed(NAME.encode())]
    assert [bundle[0] for bundle in sent] == [NAME]
    bundles.install(sent)
    assert sys.modules[NAME] is original
    assert __import__(NAME) is original


def test_a_file_that_was_uploaded_is_found_by_threads_of_this_process(tmp_path):
    own = OwnModules(auto=False)
    file = tmp_path / "uploaded_to_threads.py"
    try:
        for x in (1, 2):
            file.write_text(f"x = {x}" + " " * x)
            own.add(file)
            bundles.install([tuple(b[:3]) for b in own.needed(b"")])
            assert __import__("uploaded_to_threads").x == x
    finally:
        sys.modules.pop("uploaded_to_threads", None)
        bundles._finder.installed.pop("uploaded_to_threads", None)
