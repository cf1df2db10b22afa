"""The commands that watch, on a real cluster."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from click.testing import CliRunner

import covey
import covey.errors
from covey.cli import group
from covey.dashboard.feed import LiveFeed
from covey.net.connection_file import write_connection_file

pytestmark = pytest.mark.system


def failing(number):
    raise ValueError(f"no {number}")


async def until(app, pilot, what):
    """Wait for the tables to show something, as long as a slow machine may need."""
    async with asyncio.timeout(60):
        while not what():
            await pilot.pause(0.05)
            app.fill()


def names(app, table):
    return [line.cells[0] for line in app._lines.get(table) or ()]


async def test_top_watches_a_cluster_and_cancels_what_it_runs(client):
    pytest.importorskip("textual")
    from covey.cli.top_screen import Top

    app = Top(LiveFeed(client.connection))
    async with app.run_test(size=(150, 40)) as pilot:
        await until(app, pilot, lambda: app._feed.status == "live")
        sleeper = client.submit(time.sleep, 300)
        failed = client.map(failing, range(3))
        await asyncio.to_thread(covey.wait, failed)
        await until(app, pilot, lambda: "failing" in names(app, "errors"))
        only = [sleeper.key]
        await until(app, pilot, lambda: [n.key for n in app._lines["running"]] == only)
        await pilot.press("e")
        await until(app, pilot, lambda: hasattr(app.screen, "text"))
        assert sleeper.key in app.screen.text
        await pilot.press("escape")
        await pilot.press("c")
        await until(app, pilot, lambda: len(app.screen_stack) > 1)
        await pilot.press("y")
        await until(app, pilot, sleeper.done)
        assert sleeper.cancelled()


def noisy(number):
    print("hello", number)  # noqa: T201
    if number == 3:
        raise ValueError("three")
    return number


@pytest.fixture
def ask(client, tmp_path, monkeypatch):
    """Run a command against the shared cluster; return what it printed."""
    path = tmp_path / "cluster.json"
    write_connection_file(path, client.connection)
    monkeypatch.setenv("COVEY_CONNECTION_FILE", str(path))

    def asked(*arguments, code=0):
        answer = CliRunner().invoke(group, arguments)
        assert answer.exit_code == code, answer.output
        return answer.output

    yield asked
    path.unlink()


def test_tasks_and_what_they_printed(client, ask):
    futures = client.map(noisy, range(5))
    covey.wait(futures)
    lines = [json.loads(line) for line in ask("tasks", "-o", "jsonl").splitlines()]
    (line,) = [line for line in lines if line["function"] == "noisy"]
    assert line["submitted"] >= 5 and line["failed"] >= 1
    assert ask("tasks").splitlines()[0].split()[:2] == ["function", "submitted"]
    assert ask("logs", "--task", futures[2].key) == f"{futures[2].key}  hello 2\n"
    (row,) = json.loads(ask("logs", "--task", futures[2].key, "-o", "json"))
    assert (row["worker"], row["text"]) == ("local", "hello 2\n")
    assert ask("logs", "--worker", "nobody") == ""
    assert "three" in ask("tasks", "explain", futures[3].key)


def test_tasks_of_others_are_cancelled_and_retried(client, ask, tmp_path):
    sleeper = client.submit(time.sleep, 300)
    ask("tasks", "cancel", sleeper.key, "--reason", "enough")
    with pytest.raises(covey.errors.TaskCancelled, match="enough"):
        sleeper.result(30)
    path = tmp_path / "there"
    failing = client.submit(path.read_text)
    assert isinstance(failing.exception(30), FileNotFoundError)
    path.write_text("now it is")
    ask("tasks", "retry", failing.key)
    client.scheduler_info()  # What was said to this client before the answer is here.
    assert failing.result(30) == "now it is"


def test_workers_and_status(client, ask):
    (worker,) = json.loads(ask("workers", "-o", "json"))
    assert worker["slots"] == 2
    assert ask("workers").splitlines()[1].startswith("local")
    assert json.loads(ask("status", "-o", "jsonl"))["workers"][0]["name"] == "local"
    assert ask("status").startswith("scheduler ")


def busy(seconds):
    print("begun")  # noqa: T201
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def test_a_profile_names_the_frame_that_takes_the_time(client, ask):
    tasks = client.map(busy, [300] * 2)
    while len(client.logs(tasks)) < len(tasks):
        client.scheduler_info()
    table = ask("profile", "--seconds", "2").splitlines()
    assert table[0].split() == ["own", "share", "with", "calls", "frame"]
    assert any("busy" in line for line in table[1:]), table
    lines = ask("profile", "--seconds", "0.2", "-o", "collapsed")
    assert "busy (its tasks)" not in lines and "busy" in lines
    ask("profile", "--seconds", "0.1", "--function", "nothing", code=1)
    client.cancel(tasks)


def test_numbers_for_prometheus(client, ask):
    pytest.importorskip("prometheus_client")
    client.gather(client.map(abs, range(10)))
    assert 'covey_worker_cpu{worker="local"}' in ask("metrics")
    assert ask("token", "show", "--metrics").strip().isalnum()


def test_prints_can_be_followed(client, ask, monkeypatch):
    from covey.cli import asking

    shown = []

    class Enough(Exception):
        pass

    def noted(row, output):
        shown.append(row["text"])
        if row["text"] == "hello 11\n":
            raise Enough
        if len(shown) == 1:
            later.append(client.submit(noisy, 11))

    later = []
    first = client.submit(noisy, 10)
    covey.wait(first)
    monkeypatch.setattr(asking, "_show_print", noted)
    answer = CliRunner().invoke(group, ["logs", "--follow"])
    assert isinstance(answer.exception, Enough)
    assert shown.count("hello 11\n") == 1
