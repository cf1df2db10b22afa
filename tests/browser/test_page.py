"""The page, in a real browser, on a cluster that works."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest

import covey

pytestmark = pytest.mark.browser

_COVEY = [sys.executable, "-m", "covey"]


def inside(n):
    """Count the points of seed 002 that fall into the circle."""
    draw = random.Random(n).random
    return sum(draw() ** 2 + draw() ** 2 < 1 for _ in range(n))


def nap(seconds):
    time.sleep(seconds)
    return seconds


def boom():
    print("last words")  # noqa: T201
    raise ValueError("a reason of its own")


def text(page, selector):
    return page.locator(selector).inner_text()


def tile(page, name):
    return text(page, f"[data-testid={name}] b").replace(",", "")


def until(page, script):
    # A function, not a string: the page's policy forbids eval, for tests as well.
    page.wait_for_function(f"() => {script}", timeout=20_000)


def shows(page, name, value):
    found = f"document.querySelector('[data-testid={name}] b').innerText"
    until(page, f"{found}.replace(',', '') === '{value}'")


def test_counts_are_right_and_the_code_is_out_of_the_address(page, client):
    before = int(tile(page, "done"))
    client.gather(client.map(inside, [1000] * 300))
    shows(page, "done", before + 300)
    line = page.locator("[data-testid=function-inside]")
    assert "300 / 300" in line.inner_text()
    assert "code=" not in page.url
    assert text(page, "[data-testid=link]") == "live"
    assert tile(page, "workers") == "2"


def test_a_failing_task_is_under_errors_with_its_traceback(page, client):
    future = client.submit(boom)
    covey.wait(future)
    page.click("nav a:has-text('Errors')")
    error = page.locator("[data-testid=error]", has_text="a reason of its own")
    error.wait_for()
    error.locator("summary").click()
    until(page, "document.body.innerText.includes('in boom')")
    error.locator(".keys a").last.click()
    until(page, "document.body.innerText.includes('last words')")
    assert future.key in page.inner_text("main")


def test_an_impossible_task_is_a_suspect_with_the_true_reason(page, client):
    future = client.submit(abs, 1, resources={"GPU": 1})
    finding = page.locator(".suspects li", has_text="GPU=1")
    finding.wait_for()
    assert "1 task cannot run" in finding.inner_text()
    finding.locator("a").click()
    explanation = page.locator("[data-testid=explanation]")
    explanation.wait_for()
    assert "no worker can run it: it asks for GPU=1" in explanation.inner_text()
    page.click("button:has-text('Cancel')")
    with pytest.raises(covey.errors.TaskCancelled, match="from the dashboard"):
        future.result(20)
    until(page, "document.querySelector('[data-testid=said]').innerText !== ''")


def test_acting_needs_its_right(browser, client):
    from covey.dashboard.launch import link

    secret = client.connection.keys.client
    place = client.cluster._dashboard.place
    future = client.submit(abs, 1, resources={"GPU": 1})
    context = browser.new_context()
    page = context.new_page()
    page.goto(link(secret, place, "view"))
    page.wait_for_selector("[data-testid=workers]")
    page.goto(f"http://{place}/status#/tasks/{future.key}")
    page.click("button:has-text('Cancel')")
    until(page, "document.body.innerText.includes('this link may look, not act')")
    assert not future.done()
    context.close()


def test_keys_and_names_of_every_control(page, client):
    page.keyboard.press("g")
    page.keyboard.press("w")
    page.wait_for_selector("table[aria-label=workers]")
    assert page.url.endswith("#/workers")
    page.keyboard.press("g")
    page.keyboard.press("h")
    page.wait_for_selector("[data-testid=workers]")
    # Where there is nothing to search, the tasks are searched.
    page.keyboard.press("/")
    page.wait_for_selector("#search:focus")
    assert page.url.endswith("#/tasks")
    page.keyboard.type("inside")
    page.wait_for_selector("table[aria-label='tasks that ran'] tbody tr")
    page.keyboard.press("Tab")
    dark = page.evaluate("document.documentElement.dataset.theme")
    page.keyboard.press("d")
    until(page, f"document.documentElement.dataset.theme !== '{dark}'")
    assert page.url.endswith("#/tasks?q=inside"), "a link leads back to what was found"
    for name in PAGES:
        page.goto(page.url.split("#")[0] + f"#/{name}")
        page.wait_for_selector("main section")
        assert page.evaluate(NAMELESS) == [], name


NAMELESS = """[...document.querySelectorAll(
    'button, a, input, select, canvas, table, [role=img]')]
    .filter(e => !e.parentElement.closest('[role=img]') && !(e.innerText || e.getAttribute('aria-label') || '').trim())
    .map(e => e.outerHTML)"""

PAGES = "tasks graph memory network profile workers errors logs system".split()


def test_what_code_runs_is_seen_and_linked(page, client):
    def spin(until):
        while time.time() < until:
            pass

    spin.__module__ = "__main__"
    future = client.submit(spin, time.time() + 8)
    page.goto(page.url.split("#")[0] + "#/profile?function=spin")
    page.wait_for_selector("table[aria-label='functions by their own time'] tbody tr")
    row = page.locator("table[aria-label='functions by their own time'] tbody tr").first
    assert "spin" in row.inner_text()
    label = page.locator("[data-testid=flame]").get_attribute("aria-label")
    assert "frames, showing everything" in label
    page.focus("[data-testid=flame]")
    page.keyboard.press("ArrowDown")
    until(
        page,
        "document.querySelector('[data-testid=flame]').ariaLabel.includes('spin')",
    )
    future.cancel()


def test_a_task_has_a_life_neighbours_and_holders(page, client):
    parts = client.map(inside, [100, 200])
    total = client.submit(max, *parts)
    total.result(20)
    page.goto(page.url.split("#")[0] + f"#/tasks/{total.key}")
    page.wait_for_selector("[data-testid=life] li.good")
    assert "submitted" in text(page, "[data-testid=life]")
    needs = page.locator("table[aria-label='what it needs'] tbody tr")
    needs.first.wait_for()
    assert needs.count() == 2
    page.goto(page.url.split("#")[0] + "#/memory")
    page.wait_for_selector("table[aria-label='largest values'] tbody tr")
    page.goto(page.url.split("#")[0] + "#/graph?show=tasks")
    page.wait_for_selector("[data-testid=task-graph]")
    assert "longest chain" in text(page, "[data-testid=critical]")


def test_a_stopped_dashboard_is_said_to_lag_and_recovers(page, client):
    pid = client.cluster._dashboard.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        # The page says so; the cluster does not notice.
        until(
            page,
            "document.querySelector('[data-testid=link]').innerText.includes('lagging')",
        )
        assert client.gather(client.map(inside, [10] * 2_000))
    finally:
        os.kill(pid, signal.SIGCONT)
    done = client.scheduler_info()["counters"]["tasks_done"]
    until(page, "document.querySelector('[data-testid=link]').innerText === 'live'")
    shows(page, "done", done)


def test_a_running_task_grows_and_a_click_leads_to_it(page, client):
    future = client.submit(nap, 3.0)
    until(page, "document.body.innerText.includes('nap')")
    assert "task stream" in page.locator("canvas").first.get_attribute("aria-label")
    future.result(20)
    page.goto(page.url.split("#")[0] + f"#/tasks/{future.key}")
    until(page, "document.body.innerText.includes('it is done')")


def test_a_recording_shows_the_same_offline(browser, client, tmp_path):
    from covey.dashboard.bundle import report
    from covey.dashboard.past import replay

    path = tmp_path / "run.covey"
    with covey.record(path, client):
        client.gather(client.map(inside, [500] * 40))
    frame = {**replay(path).frame(""), "status": "replay"}
    done = frame["totals"]["done"]
    file = tmp_path / "report.html"
    file.write_text(report(frame, "a run"))
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto(file.as_uri())
    page.wait_for_selector("[data-testid=workers]")
    assert tile(page, "done").replace(" ", "") in {str(done), f"{done}"}
    assert text(page, "[data-testid=link]") == "recorded"
    assert page.title() == "a run"
    context.close()


def test_a_recording_has_the_pages_of_a_live_cluster(browser, client, tmp_path):
    path, file = tmp_path / "run.covey", tmp_path / "report.html"
    with covey.record(path, client):
        total = client.submit(max, *client.map(inside, [100, 200]))
        failed, slow = client.submit(boom), client.submit(nap, 3.0)
        covey.wait([total, failed, slow])
    subprocess.run([*_COVEY, "report", str(path), "-o", str(file)], check=True)
    context = browser.new_context(offline=True)
    page = context.new_page()
    page.goto(file.as_uri() + "#/errors")
    error = page.locator("[data-testid=error]", has_text="a reason of its own")
    error.locator("summary").click()
    until(page, "document.body.innerText.includes('in boom')")
    page.goto(file.as_uri() + f"#/tasks/{failed.key}")
    until(page, "document.body.innerText.includes('last words')")
    assert page.locator("button:has-text('Cancel')").count() == 0
    page.goto(file.as_uri() + "#/graph?show=tasks")
    page.wait_for_selector("[data-testid=task-graph]")
    until(page, "document.body.innerText.includes('as it stood at')")
    page.goto(file.as_uri() + "#/profile?function=nap")
    page.wait_for_selector("table[aria-label='functions by their own time'] tbody tr")
    page.goto(file.as_uri() + "#/memory")
    page.wait_for_selector("table[aria-label='largest values'] tbody tr")
    page.goto(file.as_uri() + "#/tasks?q=inside")
    page.wait_for_selector("table[aria-label='tasks that ran'] tbody tr")
    context.close()


def test_a_saved_report_has_the_graph_and_what_code_ran(
    page, browser, client, tmp_path
):
    total = client.submit(max, *client.map(inside, [100, 200]))
    total.result(20)
    page.goto(page.url.split("#")[0] + "#/profile")
    future = client.submit(nap, 2.0)
    page.wait_for_selector("table[aria-label='functions by their own time'] tbody tr")
    with page.expect_download() as saved:
        page.click("nav a:has-text('save report')")
    file = tmp_path / "report.html"
    saved.value.save_as(file)
    future.result(20)
    context = browser.new_context(offline=True)
    kept = context.new_page()
    kept.goto(file.as_uri() + "#/graph")
    kept.wait_for_selector("[data-testid=critical]")
    kept.goto(file.as_uri() + "#/profile")
    kept.wait_for_selector("table[aria-label='functions by their own time'] tbody tr")
    kept.goto(file.as_uri() + "#/tasks/nap-1")
    until(kept, "document.body.innerText.includes('cannot be asked any more')")
    context.close()


def test_a_worker_that_is_killed_turns_lost(browser):
    scheduler = subprocess.Popen(
        [*_COVEY, "scheduler", "--port", "0", "--dashboard-address", ":0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    worker = None
    context = browser.new_context()
    try:
        address = scheduler.stdout.readline().split()[3]
        link = next(
            line
            for line in iter(scheduler.stdout.readline, "")
            if line.startswith("dashboard at ")
        )
        with covey.Client(address.removeprefix("tcp://")) as client:
            link = client.dashboard_link
        worker = subprocess.Popen(
            [
                *_COVEY,
                "worker",
                address.removeprefix("tcp://"),
                "--name",
                "alice",
                "--nworkers",
                "1",
            ],
            stderr=subprocess.DEVNULL,
        )
        page = context.new_page()
        page.goto(link)
        page.wait_for_selector("[data-testid=worker-alice]", timeout=20_000)
        worker.send_signal(signal.SIGKILL)
        page.wait_for_selector(
            "[data-testid=worker-alice][data-state=lost]", timeout=30_000
        )
        page.locator(".suspects li", has_text="worker alice left").wait_for()
        assert page.locator("[data-testid=link]").inner_text() == "live"
    finally:
        context.close()
        for process in (worker, scheduler):
            if process is not None:
                process.terminate()
                process.wait(20)
        scheduler.stdout.close()
