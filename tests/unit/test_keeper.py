"""What the parent of an embedded cluster learns of the end of its process."""

from __future__ import annotations

import sys
import threading

import pytest

from covey.cluster.keeper import Keeper
from covey.errors import StartFailed

#: The process of a cluster, as far as its parent sees it.
PROCESS = """#!{python} -S
import json, os, sys
sys.stdin.readline()
for fields in {answers}:
    os.write(int(sys.argv[-1]), json.dumps(fields).encode() + b"\\n")
"""


def ended(monkeypatch, tmp_path, *last):
    """Return the keeper of a process that has come up, said this and ended."""
    answers = [{"address": "unix:/x", "tcp": ""}, {"ready": True}, *last]
    program = tmp_path / "python"
    program.write_text(PROCESS.format(python=sys.executable, answers=answers))
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    keeper = Keeper({})
    keeper.start()
    over = threading.Event()
    keeper.when_over(over.set)
    assert over.wait(20)
    keeper.stop()
    return keeper


def test_a_process_that_broke_tells_its_parent_why(monkeypatch, tmp_path):
    keeper = ended(monkeypatch, tmp_path, {"over": "worker local broke"})
    assert not keeper.ended_in_order
    with pytest.raises(StartFailed, match=r"^worker local broke$"):
        keeper.check()


def test_a_process_that_was_told_to_end_says_nothing(monkeypatch, tmp_path):
    keeper = ended(monkeypatch, tmp_path)
    assert keeper.ended_in_order
    with pytest.raises(StartFailed, match="was told to end"):
        keeper.check()
