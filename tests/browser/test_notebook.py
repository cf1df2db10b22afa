"""A client in a notebook: a real JupyterLab, kernel and browser."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from importlib.util import find_spec

import pytest

pytestmark = pytest.mark.browser

CELLS = (
    """\
import pathlib, time
import covey
client = covey.Client(n_workers=2)
client""",
    """\
may_end = pathlib.Path("may-end").absolute()
def work(x):
    while not may_end.exists():
        time.sleep(0.05)
    return x
client.gather(client.map(abs, range(150)))
client.submit(work, 1).result()""",
)


def notebook():
    """Return a notebook that shows a client, and then is busy until a file is there."""
    cells = [
        {
            "cell_type": "code",
            "execution_count": None,
            "id": f"cell-{number}",
            "metadata": {},
            "outputs": [],
            "source": text,
        }
        for number, text in enumerate(CELLS)
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    metadata = {"kernelspec": kernel}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


@pytest.fixture
def lab(tmp_path):
    """Start a JupyterLab in a folder; return where it is."""
    for needed in ("jupyterlab", "anywidget"):
        if find_spec(needed) is None:
            pytest.skip(f"needs {needed}: pip install 'covey[browser]'")
    (tmp_path / "run.ipynb").write_text(json.dumps(notebook()))
    places = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    own = {name: str(tmp_path / name) for name in (*places, "IPYTHONDIR")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    settings = {"token": "known", "port": 0, "port_retries": 0, "root_dir": tmp_path}
    process = subprocess.Popen(
        command + [f"--ServerApp.{name}={value}" for name, value in settings.items()],
        env={**os.environ, **own},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        line = next(line for line in process.stderr if "http://localhost" in line)
        rest = threading.Thread(target=process.stderr.read)
        rest.start()
        place = line.partition("http://")[2].partition("/")[0]
        yield f"http://{place}"
    finally:
        process.terminate()
        process.wait(30)
        rest.join(20)
        process.stderr.close()


def await_kernel(page, lab):
    """Wait until the kernel is connected: what is run before that may be lost."""
    for _ in range(300):
        kernels = page.request.get(f"{lab}/api/kernels?token=known").json()
        if any(k["connections"] and k["execution_state"] == "idle" for k in kernels):
            return
        page.wait_for_timeout(100)
    raise AssertionError(kernels)


def test_a_client_is_live_while_a_cell_runs(browser, lab, tmp_path):
    page = browser.new_page()
    page.goto(f"{lab}/lab/tree/run.ipynb?token=known")
    page.wait_for_selector(".jp-Notebook", timeout=60_000)
    await_kernel(page, lab)
    page.locator(".jp-Notebook .jp-CodeCell").first.locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    card = page.locator("[data-testid=covey-cluster]")
    card.wait_for(timeout=60_000)
    # The kernel is busy with this cell, and can be asked nothing.
    page.keyboard.press("Shift+Enter")
    card.locator(".covey-row", has_text="abs150 / 150").wait_for(timeout=30_000)
    card.locator(".covey-row", has_text="work0 / 1").wait_for(timeout=30_000)
    (tmp_path / "may-end").touch()
    card.locator(".covey-row", has_text="work1 / 1").wait_for(timeout=30_000)
    with page.expect_popup() as opened:
        card.locator("button").click()
    opened.value.wait_for_selector("[data-testid=workers]", timeout=30_000)
    page.close()
