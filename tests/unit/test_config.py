"""Where settings come from, which source wins, and what bad ones get."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from covey import config
from covey.errors import UsageError
from covey.settings import Settings


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A user with no configuration, in an empty directory."""
    for variable in os.environ:
        if variable.startswith("COVEY_"):
            monkeypatch.delenv(variable)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    project = tmp_path / "project"
    project.mkdir()
    # Searching for a project ends here, wherever the tests run.
    (project / "pyproject.toml").write_text("")
    monkeypatch.chdir(project)
    config.reload()
    yield tmp_path
    config.reload()


def write_user_file(home, text):
    folder = home / "config" / "covey"
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(text)
    config.reload()


def write_project(home, text):
    (home / "project" / "pyproject.toml").write_text(text)
    config.reload()


def sources():
    return {origin.key: origin.source for origin in config.origins()}


def test_defaults_need_no_source():
    assert config.get() == Settings()
    assert set(sources().values()) == {"default"}


def test_every_setting_has_a_place_and_a_sentence():
    for origin in config.origins():
        section, field = origin.key.split(".")
        assert f"{field}:" in type(getattr(Settings(), section)).__doc__


def test_the_later_source_wins(home, monkeypatch):
    write_user_file(home, "[scheduler]\nport = 1\nhost = 'a'\n[worker]\nrunners = 7\n")
    assert config.get().scheduler.port == 1
    write_project(home, "[tool.covey.scheduler]\nport = 2\nhost = 'b'\n")
    assert config.get().scheduler.port == 2
    monkeypatch.setenv("COVEY_SCHEDULER__PORT", "3")
    config.reload()
    assert config.get().scheduler.port == 3
    with config.override(scheduler__port=4) as settings:
        assert settings is config.get()
        assert settings.scheduler.port == 4
        assert sources()["scheduler.port"] == "code"
    assert config.get().scheduler.port == 3
    assert config.get().scheduler.host == "b"
    assert config.get().worker.runners == 7
    found = sources()
    assert found["scheduler.port"] == "environment variable COVEY_SCHEDULER__PORT"
    assert found["scheduler.host"].endswith("pyproject.toml [tool.covey]")
    assert found["worker.runners"].endswith("config.toml")
    assert found["worker.heartbeat_seconds"] == "default"


def test_values_are_written_with_units(home, monkeypatch):
    write_user_file(home, "[worker]\nmemory-limit-bytes = '4GiB'\n")
    monkeypatch.setenv("COVEY_CLIENT__CONNECT_TIMEOUT_SECONDS", "2m")
    config.reload()
    assert config.get().worker.memory_limit_bytes == 4 << 30
    assert config.get().client.connect_timeout_seconds == 120.0


@pytest.mark.parametrize("word", ["", "none", "auto", "None"])
def test_the_environment_can_say_none(word, monkeypatch):
    monkeypatch.setenv("COVEY_WORKER__RUNNERS", word)
    config.reload()
    assert config.get().worker.runners is None


def test_other_covey_variables_are_no_settings(monkeypatch):
    monkeypatch.setenv("COVEY_ADDRESS", "somewhere:1")
    config.reload()
    assert config.get() == Settings()


def test_the_nearest_project_counts_from_below(home, monkeypatch):
    write_project(home, "[tool.covey.client]\nprogress = 'never'\n")
    below = home / "project" / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    config.reload()
    assert config.get().client.progress == "never"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[scheduler]\nprot = 1", "did you mean 'scheduler.port'"),
        ("[shceduler]\nport = 1", "did you mean 'scheduler.port'"),
        ("[worker]\nzzz = 1", "there are: worker.runners"),
        ("[scheduler]\nport = 'many'", "scheduler.port = 'many' does not fit"),
        ("[scheduler]\nport = 99999", "scheduler.port = 99999 does not fit"),
        ("[client]\nprogress = 'sometimes'", "does not fit"),
        ("[worker]\nmemory_limit_bytes = 'lots'", "not a size: 'lots'"),
        ("port = 1", "'port' stands outside a section"),
        ("[scheduler", "not valid TOML"),
    ],
)
def test_mistakes_in_a_file_name_the_file(home, text, message):
    write_user_file(home, text)
    with pytest.raises(UsageError) as caught:
        config.get()
    assert message in str(caught.value)
    assert "config.toml" in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(home):
    folder = home / "config" / "covey" / "config.toml"
    folder.mkdir(parents=True)
    with pytest.raises(UsageError, match=r"config\.toml: cannot be read"):
        config.get()


def test_a_project_table_that_is_none_is_refused(home):
    write_project(home, "[tool]\ncovey = 3\n")
    with pytest.raises(UsageError, match="expected a table of sections"):
        config.get()


def test_mistakes_in_the_environment_name_the_variable(monkeypatch):
    monkeypatch.setenv("COVEY_SCHEDULER__PROT", "1")
    config.reload()
    with pytest.raises(UsageError, match="COVEY_SCHEDULER__PROT.*did you mean"):
        config.get()


def test_a_wrong_override_leaves_no_trace():
    with pytest.raises(UsageError, match="code: scheduler.port"):
        config.override(scheduler__port="many").__enter__()
    with (
        pytest.raises(UsageError, match="did you mean 'scheduler.port'"),
        config.override({"scheduler.prot": 1}),
    ):
        raise AssertionError
    assert config.get() == Settings()


def test_overrides_of_two_threads_end_in_any_order():
    entered, leave = threading.Event(), threading.Event()

    def other():
        with config.override(scheduler__port=1):
            entered.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    thread.start()
    entered.wait(10)
    with config.override(scheduler__host="here"):
        leave.set()
        thread.join()
        assert config.get().scheduler.host == "here"
        assert config.get().scheduler.port == Settings().scheduler.port
    assert config.get() == Settings()


def test_the_module_itself_does_not_load_msgspec():
    # A bare package stands in for covey, whose front page is another matter.
    program = """
import sys, types
covey = types.ModuleType("covey")
covey.__path__ = [sys.argv[1]]
sys.modules["covey"] = covey
import covey.config
print("msgspec" in sys.modules)
"""
    folder = Path(config.__file__).parent
    answer = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == "False"


@pytest.mark.parametrize(
    "text",
    [
        "[tool.covey.scheduler]\nport = 1",
        '[ tool . "covey" . scheduler ]\nport = 1',
        "[tool]\ncovey.scheduler.port = 1",
        "tool.covey.scheduler.port = 1",
        "tool = {covey = {scheduler = {port = 1}}}",
        "['tool'.covey.'scheduler']\nport = 1",
    ],
)
def test_a_project_is_heard_however_it_spells_our_table(home, text):
    write_project(home, text)
    assert config.get().scheduler.port == 1


def test_a_project_that_only_uses_covey_is_not_parsed(home, monkeypatch):
    text = '[project]\nname = "x"\ndependencies = ["covey"]\n[tool.coverage]\na = 1\n'
    (home / "project" / "pyproject.toml").write_text(text)
    monkeypatch.setattr("tomllib.loads", lambda _: pytest.fail("parsed for nothing"))
    config.reload()
    config.get()
