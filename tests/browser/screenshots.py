"""Pictures of every page, light and dark, of a cluster with work to show.

``make screenshots`` puts them into ``docs/images``.
"""

from __future__ import annotations

import random
import sys
import threading
import time
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from conftest import HEIGHT, WIDTH, chromium
from PIL import Image
from playwright.sync_api import Page, sync_playwright

import covey

PAGES = {
    "home": "",
    "tasks": "tasks",
    "task": "tasks/{impossible}",
    "graph": "graph",
    "memory": "memory",
    "network": "network",
    "workers": "workers",
    "errors": "errors",
    "logs": "logs",
    "system": "system",
}

#: So long the cluster works before the first picture.
WARM_UP_SECONDS = 15


def load(part: int) -> np.ndarray:
    """Read a part of the data."""
    time.sleep(random.uniform(0.02, 0.12))
    if part % 20 == 7:
        print(f"part {part} has no header, taking the names of part 0")  # noqa: T201
    return np.ones(100_000)


def fit(left: np.ndarray, right: np.ndarray) -> float:
    """Fit a model to two parts."""
    time.sleep(random.uniform(0.05, 0.3))
    return float(left.sum() + right.sum())


def parse(line: int) -> int:
    """Read a line, if it can be read."""
    time.sleep(0.01)
    if line % 97 == 13:
        raise ValueError(f"line {line % 3}: unterminated string")
    return line


def summary(*scores: float) -> float:
    """Sum up."""
    time.sleep(0.2)
    return sum(scores)


def train(model: int) -> int:
    """Train on a graphics card."""
    return model


def work(client: covey.Client, stop: threading.Event) -> None:
    """Keep the cluster busy."""
    while not stop.is_set():
        parts = client.map(load, range(40))
        scores = client.map(fit, parts, parts[::-1])
        total = client.submit(summary, *scores[:30])
        lines = client.map(parse, range(200))
        covey.wait([total, *lines])


def shoot(page: Page, base: str, task: str, folder: Path) -> None:
    """Take all pictures."""
    for theme in ("dark", "light"):
        page.evaluate(f"localStorage.setItem('covey-theme', '{theme}')")
        page.reload()
        for name, place in PAGES.items():
            page.goto(f"{base}#/{place.format(impossible=task)}")
            page.wait_for_timeout(2500)
            shot = Image.open(BytesIO(page.screenshot()))
            # Few colours are enough, and a third of the bytes.
            shot.quantize(200).save(folder / f"{name}-{theme}.png", optimize=True)


def main() -> None:
    """Work, and take pictures meanwhile."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore", UserWarning)
    stop = threading.Event()
    cluster = covey.LocalCluster(n_workers=6, machines=3)
    with cluster, covey.Client(cluster) as client, sync_playwright() as play:
        impossible = client.map(train, range(12), resources={"GPU": 1})
        worker = threading.Thread(target=work, args=(client, stop))
        worker.start()
        browser = play.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(client.dashboard_link)
        page.wait_for_selector("[data-testid=workers]")
        time.sleep(WARM_UP_SECONDS)
        shoot(page, page.url.partition("#")[0], impossible[0].key, folder)
        browser.close()
        stop.set()
        worker.join(60)


if __name__ == "__main__":
    main()
