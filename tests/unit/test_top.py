"""``covey top``: its lines, its keys, and what it does without its packages."""

from __future__ import annotations

from importlib import import_module

import pytest
from click.testing import CliRunner

from covey.cli import lines
from covey.dashboard.feed import Feed
from covey.dashboard.model import Model
from covey.recording import Batch, Head


def head(**fields):
    view = {
        "cluster": "c",
        "now": 100.0,
        "next": 0,
        "workers": [],
        "functions": {},
        "clients": [],
        "running": {},
        "ready": 0,
        "known": 0,
        "slots": 0,
        "counters": {},
        "impossible": [],
    }
    return Head(0.0, {**view, **fields})


def at_work():
    """Return a model of a cluster at work, with an error and a long task."""
    model = Model()
    model.begin(head())
    facts = {
        "cpu": 1.5,
        "memory": {"total": 512 << 20, "heap": 512 << 20},
        "running": [(1, 0x2A, "slow", 12.0)],
    }
    events = [
        (100.0, "worker-joined", "w1", 2, "host", {}, 1 << 30),
        (100.0, "submitted", 0x10, 40, "inc", "client"),
        (100.0, "submitted", 0x2A, 1, "slow", "client"),
        (101.0, "ran", 0x10, 30, "inc", "w1", 3.0, 0, 0),
        (101.5, "failed", 0x2F, 1, "inc", "w1", "raised", "ValueError", "[b]no", 0x2F),
        (102.0, "sample", "w1", facts),
    ]
    model.take(Batch(0, 0, 104.0, events))
    model.refresh(
        {
            **head().overview,
            "running": {"slow": 1, "inc": 1},
            "ready": 9,
            "slots": 2,
        }
    )
    return model


def test_lines_tell_what_is_going_on():
    model = at_work()
    (worker,) = lines.workers(model)
    assert worker.cells[:5] == ("w1", "2", "75%", "512 MiB", "1 GiB")
    inc = next(line for line in lines.functions(model) if line.name == "inc")
    assert inc.cells[:5] == ("inc", "31", "40", "1", "1")
    assert inc.cells[5] == "100 ms" and inc.cells[7] == "450 ms"
    (slow,) = lines.running(model)
    assert slow.cells == ("slow-2a", "14 s", "w1", "1") and slow.key == "slow-2a"
    (error,) = lines.errors(model)
    assert error.cells == ("inc", "1", "ValueError", "[b]no") and error.key == "inc-2f"
    text = lines.headline(model, "live")
    assert "1 worker, 2 slots" in text and "31" not in text and "30 done" in text


class Acted:
    """Stands for the future of a task."""

    def __init__(self, done, task):
        self.done, self.task = done, task

    def cancel(self, reason):
        self.done.append(("cancel", self.task, reason))

    def retry(self):
        self.done.append(("retry", self.task))


class Replayed(Feed):
    """A feed of a model that stands still, and remembers what is asked of it."""

    def __init__(self):
        super().__init__()
        self.model = at_work()
        self.status = "live"
        self.done = []

    async def ask(self, topic, **fields):
        assert topic == "explain"
        (key,) = fields["names"]
        return {"text": "it [is] on w1", "task": int(key.rpartition("-")[2], 16)}

    def act(self, task, do):
        do(Acted(self.done, task))


@pytest.fixture
def app():
    pytest.importorskip("textual")
    from covey.cli.top_screen import Top

    return Top(Replayed())


def shown(app, name):
    table = app._table(name)
    return [[str(cell) for cell in table.get_row_at(n)] for n in range(table.row_count)]


async def test_the_screen_shows_and_follows(app):
    async with app.run_test(size=(140, 40)) as pilot:
        assert shown(app, "running") == [["slow-2a", "14 s", "w1", "1"]]
        assert shown(app, "errors")[0][3] == "[b]no"
        later = Batch(6, 0, 105.0, [(105.0, "ran", 0x38, 5, "inc", "w1", 0.5, 0, 0)])
        app._feed.model.take(later)
        app.fill()
        await pilot.pause()
        assert [row[1] for row in shown(app, "functions") if row[0] == "inc"] == ["36"]
        assert shown(app, "running")[0][1] == "15 s"


async def test_keys_explain_and_cancel_the_marked_task(app):
    async with app.run_test(size=(140, 40)) as pilot:
        await pilot.press("e")
        await pilot.pause()
        assert "slow-2a: it [is] on w1" in app.screen.text
        await pilot.press("escape")
        await pilot.press("c")
        await pilot.pause()
        await pilot.press("n")
        await pilot.press("c")
        await pilot.pause()
        await pilot.press("y")
        await app.workers.wait_for_complete(
            [w for w in app.workers if w.name == "_act"]
        )
        assert app._feed.done == [("cancel", 0x2A, "from covey top")]
        app._table("errors").focus()
        await pilot.press("r")
        await pilot.pause()
        await pilot.press("y")
        await app.workers.wait_for_complete(
            [w for w in app.workers if w.name == "_act"]
        )
        assert app._feed.done[1:] == [("retry", 0x2F)]


async def test_a_line_that_names_no_task_is_refused_in_words(app):
    async with app.run_test(size=(140, 40)) as pilot:
        app._table("workers").focus()
        await pilot.press("c")
        await pilot.pause()
        assert app._feed.done == [] and len(app.screen_stack) == 1
        assert any("mark a line" in note.message for note in app._notifications)


def test_without_its_packages_there_is_one_line_and_the_status(monkeypatch):
    class Client:
        def __enter__(self):
            return self

        def __exit__(self, *error):
            return False

    seen = []
    top = import_module("covey.cli.top")  # In its package, that is the command.
    monkeypatch.setattr(top, "find_spec", lambda _: None)
    monkeypatch.setattr(top, "client_of", lambda address: Client())
    monkeypatch.setattr(top, "watch_status", lambda client, output: seen.append(output))
    answer = CliRunner().invoke(top.top, [])
    assert answer.exit_code == 0 and seen == ["table"]
    assert (
        answer.stderr.count("\n") == 1 and "pip install 'covey[tui]'" in answer.stderr
    )
