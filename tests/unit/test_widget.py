"""What a notebook shows of a cluster: the texts, and how long somebody looks for them."""

from __future__ import annotations

import gc
import subprocess
import sys
import types
from importlib.util import find_spec

import pytest

from covey.client import widget
from covey.client.widget import Watch, bundle_of, view_of
from covey.errors import Disconnected


def overview(**changes):
    memory = {"total": 1 << 30}
    workers = [
        {
            "name": f"w{n}",
            "slots": 2,
            "assigned": n,
            "memory_limit_bytes": 4 << 30,
            "facts": {"cpu": 1.0, "memory": memory} if n else {},
        }
        for n in range(40)
    ]
    functions = {
        "fit": {"submitted": 10, "done": 4, "failed": 1, "seconds": 8.0},
        "load": {"submitted": 90, "done": 90, "failed": 0, "seconds": None},
    }
    return {
        "now": 20.0,
        "workers": workers,
        "slots": 80,
        "functions": functions,
        "impossible": [{"n": 2, "key": "fit-1", "asks": "GPU=1", "offers": "none"}],
        **changes,
    }


def test_everything_is_text_and_what_has_to_do_comes_first():
    shown = view_of(overview(), before=(10.0, 45))
    tiles = {name: value for value, name in shown["tiles"]}
    assert tiles == {
        "workers": "40",
        "slots": "80",
        "tasks to do": "5",
        "done": "94",
        "failed": "1",
        "a second": "5",
        "cpu": "49%",
        "of 160 GiB": "39 GiB",
    }
    assert shown["functions"] == [
        ("fit", 0.5, True, "5 / 10, 1 failed, 8 s each, 500 ms left"),
        ("load", 1.0, False, "90 / 90"),
    ]
    assert len(shown["workers"]) == 32 and shown["more"] == "and 8 more"
    assert shown["workers"][0] == ("w0", 0.0, 0.0, "no tasks, 0 B"), (
        "it said nothing yet"
    )
    assert shown["workers"][1] == ("w1", 0.5, 0.25, "1 task, 1 GiB")
    assert shown["impossible"] == ["2 tasks cannot run: fit-1 asks for GPU=1"]


def test_an_empty_cluster_is_no_division_by_zero():
    shown = view_of(overview(workers=[], slots=0, functions={}, impossible=[]))
    assert shown["functions"] == shown["workers"] == shown["impossible"] == []
    assert ("0", "workers") in shown["tiles"]


def test_of_many_functions_the_rest_is_one_line():
    line = {"submitted": 1, "done": 1, "failed": 0, "seconds": 1.0}
    many = {f"f{n}": line for n in range(50)}
    shown = view_of(overview(functions=many))["functions"]
    assert len(shown) == 12
    assert shown[-1][0] == "39 others"


class Client:
    """As much of a client as is looked at."""

    address = "here"

    def __init__(self, *answers):
        self.answers = list(answers)
        self.status = "running"
        self.session = types.SimpleNamespace(engine=self)

    def ask(self, topic):
        assert topic == "overview"

    def call(self, work, timeout):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            self.status = "reconnecting"
            raise answer
        return answer


def watching(client, monkeypatch, *, left, busy=()):
    """Watch without waiting, until so many answers are left; return what was told."""
    told = []
    clock = iter(range(1000))
    monkeypatch.setattr(widget, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(widget.clock, "monotonic", lambda: 5.0 * next(clock))
    busy = list(busy)
    watch = Watch(client, told.append, lambda: bool(busy and busy.pop()))
    watch.seen()
    thread = watch._thread
    if thread is not None:
        thread.join(20)
        assert not thread.is_alive()
    assert len(client.answers) == left
    return told


def test_nobody_looks_any_longer_than_somebody_sees_it(monkeypatch):
    view = overview()
    told = watching(Client(*[view] * 9), monkeypatch, left=5)
    assert len(told) == 1, "only what has changed is sent"
    assert told[-1]["status"] == "running" and told[-1]["scheduler"] == "here"


def test_a_page_cannot_speak_while_a_cell_runs(monkeypatch):
    watching(Client(*[overview()] * 12), monkeypatch, left=6, busy=[True] * 3)


def test_a_scheduler_that_is_away_leaves_what_was_seen(monkeypatch):
    client = Client(overview(), Disconnected("away"))
    watch = Watch(client, lambda _: None, lambda: False)
    watch._told = watch.look()
    shown = watch.look()
    assert shown["status"] == "reconnecting" and len(shown["tiles"]) == 8


def test_a_screen_keeps_no_client_alive():
    client = Client(overview())
    watch = Watch(client, lambda _: None, lambda: False)
    watch._told = watch.look()
    del client
    gc.collect()
    assert watch.look()["status"] == "closed"


def test_without_a_notebook_or_the_extra_there_is_the_card_only(monkeypatch):
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    assert bundle_of(Client()) is None
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    monkeypatch.setattr(widget, "find_spec", lambda _: None)
    assert bundle_of(Client()) is None


#: What is imported stays, and other tests ask whether they are in a notebook.
IN_A_PROCESS = """
import ipykernel
from covey.client import widget

class Client:
    status, address, dashboard_link = "closed", "here", "http://here/"

client = Client()
first, second = widget.bundle_of(client), widget.bundle_of(client)
assert first == second and list(first) == ["application/vnd.jupyter.widget-view+json"]
made, watch = widget._widgets[client]
assert made.shown == {"status": "closed"}, made.shown
sent = []
made.send = sent.append
made._handle_custom_msg("link", [])
assert sent == [{"link": "http://here/"}]
assert "link" not in made.shown, "notebooks keep what is state"
assert "export default" in made._esm
del client, made, watch
import gc; gc.collect()
assert not widget._widgets
"""


def test_a_client_has_one_widget_however_often_it_is_shown():
    for needed in ("anywidget", "ipykernel"):
        if find_spec(needed) is None:
            pytest.skip(f"needs {needed}: covey[jupyter]")
    done = subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
