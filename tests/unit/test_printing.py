"""What tasks print: limits on the way, and the last lines of a failure."""

from __future__ import annotations

import io

from covey.runner.context import here
from covey.runner.prints import Prints, TaskStream
from covey.worker.printing import (
    LAST_LINES,
    LINES_AT_ONCE,
    LINES_MAX,
    TEXT_MAX,
    Printing,
)
from covey.worker.runner_link import SaysPrinted


def says(text, task=1):
    return SaysPrinted(1, task, "stdout", text)


class Told(Printing):
    """Gives back what is passed on."""

    def __init__(self):
        self.told = []
        super().__init__(self.told.append)

    def take(self, *what):
        super().take(*what)
        return self.told.pop() if self.told else None


def test_a_flood_is_cut_and_what_was_left_out_is_counted():
    printing = Told()
    passed = [printing.take(says("x\n"), 0.0) for _ in range(LINES_AT_ONCE + 50)]
    assert sum(message is not None for message in passed) == LINES_AT_ONCE
    later = printing.take(says("y\n"), 1.0)
    assert later is not None and later.left_out == 50


def test_the_end_of_a_flood_is_passed_on_when_there_is_room_again():
    printing = Told()
    for number in range(LINES_AT_ONCE + 50):
        printing.take(says(f"{number}\n"), 0.0)
    printing.tell_rest(0.0)
    assert printing.told == []
    printing.tell_rest(1.0)
    (message,) = printing.told
    assert message.text.splitlines()[-1] == str(LINES_AT_ONCE + 49)
    assert message.left_out + len(message.text.splitlines()) == 50
    printing.tell_rest(2.0)
    assert len(printing.told) == 1


def test_a_long_text_keeps_its_ends():
    message = Told().take(says("a" * TEXT_MAX + "b" * TEXT_MAX), 0.0)
    assert message.text[0] == "a" and message.text[-1] == "b"
    assert len(message.text) < TEXT_MAX + 20


def test_of_very_many_lines_at_once_both_ends_are_passed_on():
    printing = Told()
    text = "".join(f"{number}\n" for number in range(3 * LINES_AT_ONCE))
    lines = printing.take(says(text), 0.0).text.splitlines()
    assert (lines[0], lines[-1]) == ("0", str(3 * LINES_AT_ONCE - 1))
    assert lines.count("[...]") == 1 and len(lines) == LINES_MAX
    # They take no more room than what is passed on.
    assert printing.take(says("x\n" * (LINES_AT_ONCE - LINES_MAX)), 0.0) is not None
    assert printing.take(says("x\n"), 0.0) is None


def test_a_failure_gets_the_last_lines_of_its_task():
    printing = Told()
    for line in range(20):
        printing.take(says(f"{line}\n", task=5), 0.0)
        printing.take(says("other\n", task=6), 0.0)
    lines = printing.last_lines(5)["printed"].splitlines()
    assert lines == [str(line) for line in range(20 - LAST_LINES, 20)]
    assert printing.last_lines(5) == {}


def test_pieces_of_one_task_travel_together():
    prints = Prints()
    for task, text in [(1, "a"), (1, "b\n"), (2, "c\n"), (1, "d\n")]:
        prints.add(9, task, "stdout", text)
    assert prints.take() == [
        ["printed", 9, 1, "stdout", "ab\n"],
        ["printed", 9, 2, "stdout", "c\n"],
        ["printed", 9, 1, "stdout", "d\n"],
    ]
    assert prints.take() == []


class Loop:
    def __init__(self, run):
        self.run = run
        self.printed = []
        self.sent = 0

    def executing(self):
        return self.run, 7

    def print(self, *what):
        self.printed.append(what)

    def send_prints(self):
        self.sent += 1


def test_only_what_a_task_writes_is_copied(monkeypatch):
    inner = io.StringIO()
    stream = TaskStream(inner, "stderr")
    print("nobody", file=stream)
    monkeypatch.setattr(here, "loop", Loop(0), raising=False)
    print("no task", file=stream)
    loop = Loop(3)
    monkeypatch.setattr(here, "loop", loop, raising=False)
    print("task", file=stream)
    stream.writelines(["more", "\n"])
    assert inner.getvalue() == "nobody\nno task\ntask\nmore\n"
    assert "".join(text for *_, text in loop.printed) == "task\nmore\n"
    assert {what[:3] for what in loop.printed} == {(3, 7, "stderr")}
    assert loop.sent == 2
    assert stream.isatty() is False


def test_what_no_message_can_hold_is_copied_with_escapes(monkeypatch):
    """As in the name of a file with a byte that is no UTF-8."""
    inner = io.StringIO()
    loop = Loop(3)
    monkeypatch.setattr(here, "loop", loop, raising=False)
    print("é \udcff", file=TaskStream(inner, "stdout"))
    assert inner.getvalue() == "é \udcff\n"
    assert "".join(text for *_, text in loop.printed) == "é \\udcff\n"
