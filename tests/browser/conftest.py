"""A Chromium, and a cluster with something to see."""

from __future__ import annotations

import os
import shutil
import warnings

import pytest

import covey

WIDTH, HEIGHT = 1440, 900


def chromium():
    """Return the path of a Chromium, or ``None``."""
    named = os.environ.get("COVEY_CHROMIUM")
    return named or shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="session")
def browser():
    api = pytest.importorskip(
        "playwright.sync_api", reason="needs playwright: pip install 'covey[browser]'"
    )
    path = chromium()
    if path is None:
        pytest.skip("needs a Chromium: apt install chromium, or set COVEY_CHROMIUM")
    with api.sync_playwright() as play:
        # Tests may run as root in a container, where its sandbox cannot.
        made = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture(scope="module")
def client():
    cluster = covey.LocalCluster(n_workers=4, machines=2)
    with cluster, covey.Client(cluster) as made:
        yield made


@pytest.fixture
def page(browser, client):
    context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT})
    made = context.new_page()
    problems = []
    made.on("pageerror", lambda error: problems.append(str(error)))
    made.on(
        "console",
        lambda message: (
            problems.append(message.text) if message.type == "error" else None
        ),
    )
    made.goto(client.dashboard_link)
    made.wait_for_selector("[data-testid=workers]")
    yield made
    context.close()
    assert not problems


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        # Tasks that cannot run are part of the play.
        warnings.simplefilter("ignore", UserWarning)
        yield
