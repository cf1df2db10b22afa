"""The floors of the house: the import contracts of pyproject.toml hold.

``make test`` runs the same checker first; here it also runs for those who only
type ``pytest``, and is itself tested: a contract that cannot break is no contract.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINT = "import sys; from importlinter.cli import lint_imports_command as c; c()"


def lint(*arguments, directory=ROOT, path=()):
    program = f"import sys; sys.path[:0] = {list(map(str, path))!r}; {LINT}"
    return subprocess.run(
        [sys.executable, "-c", program, "--no-cache", *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_contracts_hold():
    answer = lint()
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("scheduler/core/state.py", "import time", "pure-cores"),
        ("client/core/state.py", "from covey import clock", "pure-cores"),
        ("worker/agent.py", "import pickle", "no-unpickling"),
        ("worker/agent.py", "from covey import net", "no-unpickling"),
        ("runner/main.py", "import msgspec", "light-runner"),
        ("wire/frames.py", "import covey.net", "floors"),
        ("client/shell.py", "import covey.scheduler", "floors"),
        ("strangers.py", "", "floors"),
    ],
)
def test_a_broken_contract_is_noticed(tmp_path, file, line, contract):
    # A house of the same shape, with empty rooms and one forbidden import.
    rooms = [
        *("scheduler/core", "worker/core", "client/core", "net", "runner", "wire"),
        *("cli", "cluster", "interop", "serde", "store"),
    ]
    house = tmp_path / "covey"
    for room in rooms:
        folder = house / room
        folder.mkdir(parents=True)
        for parent in (folder, *folder.parents):
            if parent == tmp_path:
                break
            (parent / "__init__.py").touch()
    ground = (
        "errors ids units clock settings config payload plugins events secret stacks"
    )
    for name in ground.split():
        (house / f"{name}.py").touch()
    for name in ("edge", "line", "session"):
        (house / "wire" / f"{name}.py").touch()
    (house / "clock.py").write_text("import time\n")
    (house / "net" / "__init__.py").write_text("import pickle\n")
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    before = lint("--contract", contract, directory=tmp_path, path=[tmp_path])
    assert before.returncode == 0, before.stdout + before.stderr
    with (house / file).open("a") as room:
        room.write(f"from __future__ import annotations\n{line}\n")
    after = lint("--contract", contract, directory=tmp_path, path=[tmp_path])
    assert after.returncode == 1, after.stdout + after.stderr
    assert "BROKEN" in after.stdout or "exhaustive" in after.stdout.lower()


def test_imports_for_type_checkers_count():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert settings["importlinter"]["exclude_type_checking_imports"] is False
