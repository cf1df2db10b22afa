"""The dashboard's process: who is let in, what is shown, and that it harms nobody."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from urllib.parse import urlsplit

import psutil
import pytest

import covey
from covey import clock
from covey.dashboard.access import Gate
from covey.dashboard.launch import bind
from covey.recording import Told, read

pytest.importorskip("starlette", reason="needs covey[dashboard]")
pytest.importorskip("uvicorn", reason="needs covey[dashboard]")
pytest.importorskip("websockets", reason="needs covey[dashboard]")

pytestmark = pytest.mark.system


def boom(number):
    print("about to fail")  # noqa: T201
    raise ValueError(f"no {number}")


class Browser:
    """As much of a browser as is needed: a cookie, and headers of one's choice."""

    def __init__(self, link):
        parts = urlsplit(link)
        self.place = parts.netloc
        self.cookie = ""
        self.visited = self.get(f"{parts.path}?{parts.query}")

    def ask(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection(self.place, timeout=20)
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookie:
            headers["Cookie"] = self.cookie
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        cookie = answer.getheader("Set-Cookie")
        if cookie:
            assert "HttpOnly" in cookie and "SameSite=strict" in cookie
            self.cookie = cookie.partition(";")[0]
        connection.close()
        return answer, text

    def get(self, path, **headers):
        return self.ask("GET", path, **headers)

    def frame(self):
        # As one who has seen nothing, and waits for news.
        answer, text = self.get("/api/frame?since=0.0.0.0.0")
        assert answer.status == 200, text
        return json.loads(text)

    def post(self, path, key, **headers):
        own = {"Origin": f"http://{self.place}", "X-Covey": "act", **headers}
        return self.ask("POST", path, json.dumps({"key": key}), **own)

    def until(self, fits):
        deadline = clock.monotonic() + 20
        while not fits(frame := self.frame()):
            assert clock.monotonic() < deadline, frame
        return frame


@pytest.fixture(scope="module")
def client():
    with covey.Client(n_workers=2) as made:
        # Before anybody looks on.
        made.gather(made.map(str, range(10)))
        # Started here, it belongs to no test.
        assert made.dashboard_link
        yield made


@pytest.fixture
def browser(client):
    made = Browser(client.dashboard_link)
    # The page is there at once; its client of the scheduler comes a moment later.
    made.until(lambda frame: frame["status"] == "live")
    return made


def test_it_shows_counts_errors_prints_and_tasks(client, browser):
    kept = client.map(abs, range(50))
    client.gather(kept)
    failing = client.map(boom, range(3))
    covey.wait(failing)
    frame = browser.until(lambda f: f["totals"]["failed"] == 3)
    lines = {line["label"]: line for line in frame["functions"]}
    assert lines["abs"]["done"] == 50
    assert lines["str"]["done"] == lines["str"]["submitted"] == 10
    assert "str" in {rect[4] for rect in frame["rects"]}, "it has looked back"
    (cause,) = frame["errors"]
    assert cause["count"] == 3, "they differ in a number only"
    assert cause["message"] in {"no 0", "no 1", "no 2"}
    assert any("about to fail" in log[4] for log in frame["logs"])
    _, text = browser.get(f"/api/task?key={failing[1].key}")
    found = json.loads(text)
    assert "ValueError: no 1" in found["text"]
    assert "in boom" in found["traceback"]
    _, page = browser.get("/status")
    assert "app.js" in page
    assert [what for _, what, _, _ in found["life"]] == [
        "submitted",
        "raised",
        "failed",
    ]
    graph = json.loads(browser.get("/api/graph")[1])
    assert graph["groups"] and graph["path"]
    memory = json.loads(browser.get("/api/memory")[1])
    lines = {line["label"]: line for line in memory["labels"]}
    assert lines["abs"]["n"] == lines["abs"]["wanted"] == len(kept)
    assert frame["totals"]["dashboard_rss"] >= 0


def test_it_shows_what_code_runs(client, browser):
    def spin(until):
        import time

        while time.time() < until:
            pass

    future = client.submit(spin, clock.wall() + 4)
    deadline = clock.monotonic() + 20
    while True:
        status, text = browser.get("/api/profile?function=spin")
        assert status.status == 200, text
        found = json.loads(text)
        if found["names"]:
            break
        assert clock.monotonic() < deadline, found
        time.sleep(0.3)
    assert any("spin" in name for name in found["names"])
    assert ("local", "spin") in {tuple(s[:2]) for s in found["subjects"]}
    assert browser.get("/api/profile?seconds=soon")[0].status == 409
    future.cancel()


def test_prometheus_reads_with_a_token_that_opens_nothing_else(client, browser):
    pytest.importorskip("prometheus_client")
    client.gather(client.map(divmod, range(1, 51), range(1, 51)))
    browser.until(lambda f: any(n["label"] == "divmod" for n in f["functions"]))
    browser.cookie = ""
    bearer = f"Bearer {Gate(client.connection.keys.client).bearer()}"
    answer, text = browser.get("/metrics", Authorization=bearer)
    assert answer.status == 200
    assert 'covey_function_seconds_count{function="divmod"} 50.0' in text
    assert 'covey_worker_memory_bytes{account="heap",worker="local"}' in text
    assert browser.get("/metrics", Authorization="Bearer 00")[0].status == 401
    assert browser.get("/api/frame", Authorization=bearer)[0].status == 401


def test_acting_needs_its_right(client, browser):
    impossible = client.submit(abs, 1, workers=["nobody"], allow_other_workers=False)
    # From here on the scheduler knows it.
    assert "nobody" in impossible.explain()
    view = Browser(client.dashboard_link.replace("code=act", "code=view"))
    assert view.visited[0].status == 401, "a right cannot be changed"
    key = impossible.key
    assert browser.post("/api/cancel", key, Origin="http://evil.com")[0].status == 403
    assert browser.post("/api/cancel", key, X_Covey="")[0].status == 403
    assert browser.ask("GET", f"/api/cancel?key={key}")[0].status == 405
    assert not impossible.done()
    answer, text = browser.post("/api/cancel", key)
    assert answer.status == 200, text
    with pytest.raises(covey.errors.TaskCancelled, match="dashboard"):
        impossible.result(20)
    assert browser.post("/api/cancel", "nothing-0")[0].status == 409


def test_strangers_are_not_let_in(client):
    link = client.dashboard_link
    browser = Browser(link)
    assert "http-equiv=refresh" in browser.visited[1]
    assert browser.get("/status")[0].status == 200
    for name in ("Content-Security-Policy", "X-Content-Type-Options"):
        assert browser.get("/status")[0].getheader(name)
    assert browser.get("/status", Host="evil.com")[0].status == 403
    again = Browser(link)
    assert again.visited[0].status == 401, "a code is good once"
    for path in ("/status", "/api/frame", "/api/graph", "/metrics", "/app.js"):
        assert again.get(path)[0].status == 401
    assert again.get("/health")[1] == "ok\n"


def test_a_web_socket_resumes_where_it_was(client, browser):
    from websockets.exceptions import InvalidStatus
    from websockets.sync.client import connect

    address = f"ws://{browser.place}/api/stream"
    cookie = {"Cookie": browser.cookie}
    own = f"http://{browser.place}"
    with connect(address, additional_headers=cookie, origin=own) as socket:
        socket.send("")
        frame = json.loads(socket.recv(timeout=20))
        assert frame["fresh"]
    client.gather(client.map(len, ["x"] * 7))
    with connect(address, additional_headers=cookie, origin=own) as socket:
        while not any(line["label"] == "len" for line in frame["functions"]):
            socket.send(frame["cursor"])
            frame = json.loads(socket.recv(timeout=20))
            assert not frame["fresh"]
    for wrong in (
        {},
        {"origin": own},
        {"additional_headers": cookie, "origin": "http://evil.com"},
    ):
        with pytest.raises(InvalidStatus, match="403"), connect(address, **wrong):
            pass


def test_a_stopped_dashboard_holds_nobody_up(client, browser):
    pid = client.cluster._dashboard.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        assert client.gather(client.map(abs, range(20_000))) == list(range(20_000))
        assert psutil.Process(pid).status() == psutil.STATUS_STOPPED
    finally:
        os.kill(pid, signal.SIGCONT)
    browser.until(lambda f: f["totals"]["done"] >= 20_000)


def test_what_a_stopped_dashboard_misses_is_said_and_counted(monkeypatch):
    monkeypatch.setenv("COVEY_SCHEDULER__EVENTS_KEPT", "200")
    with covey.Client(n_workers=1, set_as_default=False) as own:
        browser = Browser(own.dashboard_link)
        browser.until(lambda f: f["status"] == "live")
        pid = own.cluster._dashboard.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            # One by one, or they would be few events.
            for number in range(300):
                assert own.submit(abs, number).result(20) == number
        finally:
            os.kill(pid, signal.SIGCONT)
        frame = browser.until(lambda f: f["totals"]["done"] == 300)
        assert frame["dropped"] > 0
        assert any("too fast" in finding["text"] for finding in frame["suspects"])


def test_a_killed_dashboard_is_started_again(client):
    os.kill(client.cluster._dashboard.pid, signal.SIGKILL)
    client.cluster._dashboard._process.wait(20)
    assert client.submit(abs, -1).result(20) == 1
    try:
        again = Browser(client.dashboard_link)
        assert again.until(lambda f: f["totals"]["workers"] == 1)
    finally:
        client.cluster._dashboard.close()


def test_the_scheduler_opens_its_door_to_the_first_visitor(tmp_path):
    pytest.importorskip("prometheus_client")
    with bind("127.0.0.1:0") as free:
        port = free.getsockname()[1]
    file = tmp_path / "cluster.json"
    scheduler = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "covey",
            "scheduler",
            "--port",
            "0",
            "--connection-file",
            str(file),
            "--dashboard-address",
            ":0",
            "--record",
            str(tmp_path / "run.covey"),
            "--metrics",
            str(port),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert scheduler.stdout.readline().startswith("covey scheduler at")
        said = scheduler.stdout.readline()
        # It writes to a pipe: others might read what opens the dashboard.
        assert said.startswith("dashboard at http://127.0.0.1:") and "code=" not in said
        with covey.Client(file, set_as_default=False) as other:
            link = other.dashboard_link
            bearer = f"Bearer {Gate(other.connection.keys.client).bearer()}"
        assert not psutil.Process(scheduler.pid).children()
        browser = Browser(link)
        assert browser.until(lambda f: f["status"] == "live")
        with covey.Client(file, set_as_default=False) as other:
            assert Browser(other.dashboard_link).get("/status")[0].status == 200
        # What Prometheus reads has no pages, and a door of its own.
        numbers = Browser(f"http://127.0.0.1:{port}/health?")
        assert numbers.visited[1] == "ok\n"
        answer, text = numbers.get("/metrics", Authorization=bearer)
        assert answer.status == 200 and "covey_workers 0.0" in text
        assert numbers.get("/metrics")[0].status == 401
        for path in ("/", "/status", "/app.js", "/api/frame"):
            assert numbers.get(path, Authorization=bearer)[0].status == 404
        for child in psutil.Process(scheduler.pid).children():
            child.kill()
            child.wait(20)
        with covey.Client(file, set_as_default=False) as other:
            # Whoever knocks next is let in by a new process.
            assert Browser(other.dashboard_link).get("/status")[0].status == 200
    finally:
        scheduler.terminate()
        scheduler.communicate(timeout=20)
    told = [r.topic for r in read(tmp_path / "run.covey") if isinstance(r, Told)]
    assert told[-2:] == ["graph", "memory"], "how all stood when it was ended"
