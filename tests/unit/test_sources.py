"""Tracebacks of code that went by value say the file and the line."""

from __future__ import annotations

import linecache
import subprocess
import sys

import pytest

from covey.client import sources


@pytest.fixture(autouse=True)
def nothing_sent(monkeypatch):
    monkeypatch.setattr(sources, "_sent", type(sources._sent)())


def frame(function, name, offset=1):
    line = function.__code__.co_firstlineno + offset
    return f'  File "<dynamic-code>", line {line}, in {name}\n'


def helper():
    return 1 / 0


def outer():
    def inner():
        return helper()

    return inner()


def test_a_frame_of_what_was_sent_shows_its_file_and_line():
    sources.remember(outer)
    text = sources.filled_in(frame(outer, "inner", 2) + "    kept\n")
    line = outer.__code__.co_firstlineno + 2
    assert text.splitlines() == [
        f'  File "{__file__}", line {line}, in inner',
        "    return helper()",
        "    kept",
    ]


def test_helpers_are_found_through_the_globals():
    sources.remember(outer)
    assert "return 1 / 0" in sources.filled_in(frame(helper, "helper"))


@pytest.mark.parametrize("what", ["another name", "another line", "nothing sent"])
def test_what_is_not_known_stays_as_it_is(what):
    if what != "nothing sent":
        sources.remember(outer)
    name = "other" if what == "another name" else "inner"
    text = frame(outer, name, 500 if what == "another line" else 2)
    assert sources.filled_in(text) == text


def test_what_could_be_one_or_the_other_stays_as_it_is():
    texts = ["def f():\n    return 1 / 0\n", "def f():\n    return 2 / 0\n"]
    for number, text in enumerate(texts):
        space = {}
        exec(compile(text, f"<cell {number}>", "exec"), space)
        sources.remember(space["f"])
    told = '  File "<dynamic-code>", line 2, in f\n'
    assert sources.filled_in(told) == told


def test_a_file_without_text_is_named_all_the_same():
    space = {}
    exec(compile("def f():\n    return 1 / 0\n", "<cell>", "exec"), space)
    sources.remember(space["f"])
    told = sources.filled_in('  File "<dynamic-code>", line 2, in f\n')
    assert told == '  File "<cell>", line 2, in f\n'
    assert linecache.getline("<cell>", 2) == ""


def test_only_so_many_are_remembered(monkeypatch):
    monkeypatch.setattr(sources, "_KEPT", 2)
    for function in (helper, outer, nothing_sent):
        sources.remember(function)
    assert len(sources._sent) <= 2
    sources.remember(len)
    assert len(sources._sent) <= 2


PROGRAM = """
from covey import Client

def divide(x):
    return x / 0  # here

def work(x):
    return divide(x)

with Client(n_workers=1) as client:
    for function in (work, lambda x: divide(x)):
        future = client.submit(function, 1)
        try:
            future.result(30)
        except ZeroDivisionError as error:
            print(error.__notes__[0])
        print(future.traceback() if isinstance(future.traceback(), str) else "")
"""


@pytest.mark.system
def test_a_program_sees_its_own_lines(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("return x / 0  # here") >= 2
    assert f'File "{script}", line 5, in divide' in done.stdout
    assert "in <lambda>" in done.stdout
    assert "<dynamic-code>" not in done.stdout
