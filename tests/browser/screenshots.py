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
    "life": "tasks/{total}",
    "graph": "graph",
    "graph-tasks": "graph?show=tasks",
    "memory": "memory",
    "network": "network",
    "profile": "profile?function=fit",
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


def distance(left: np.ndarray, right: np.ndarray, shift: int) -> float:
    """Compare two parts, one of them moved along."""
    return float(np.abs(left - np.roll(right, shift)).sum())


def smooth(part: np.ndarray) -> np.ndarray:
    """Take the noise out of a part."""
    return np.convolve(part, np.ones(9) / 9, mode="same")


def score(left: np.ndarray, right: np.ndarray) -> float:
    """Find the shift at which two parts fit best."""
    left, right = smooth(left), smooth(right)
    return min(distance(left, right, shift) for shift in range(random.randint(20, 90)))


def fit(left: np.ndarray, right: np.ndarray) -> float:
    """Fit a model to two parts."""
    return score(left, right) + score(right, left)


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


def work(
    client: covey.Client, stop: threading.Event, totals: list[covey.Future[float]]
) -> None:
    """Keep the cluster busy; the last things that were done are in *totals*."""
    while not stop.is_set():
        parts = client.map(load, range(40))
        scores = client.map(fit, parts, parts[::-1])
        total = client.submit(summary, *scores[:30])
        lines = client.map(parse, range(200))
        covey.wait([total, *lines])
        totals[:] = [*totals[-1:], total]


def shoot(page: Page, base: str, task: str, totals: list[str], folder: Path) -> None:
    """Take all pictures."""
    for theme in ("dark", "light"):
        page.evaluate(f"localStorage.setItem('covey-theme', '{theme}')")
        page.reload()
        for name, place in PAGES.items():
            page.goto(f"{base}#/{place.format(impossible=task, total=totals[-1].key)}")
            page.wait_for_timeout(8000 if name == "profile" else 2500)
            shot = Image.open(BytesIO(page.screenshot()))
            # Few colours are enough, and a third of the bytes.
            shot.quantize(256).save(folder / f"{name}-{theme}.png", optimize=True)


def main() -> None:
    """Work, and take pictures meanwhile."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore", UserWarning)
    stop = threading.Event()
    cluster = covey.LocalCluster(n_workers=6, machines=3)
    with cluster, covey.Client(cluster) as client, sync_playwright() as play:
        impossible = client.map(train, range(12), resources={"GPU": 1})
        totals: list[covey.Future[float]] = []
        worker = threading.Thread(target=work, args=(client, stop, totals))
        worker.start()
        browser = play.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(client.dashboard_link)
        page.wait_for_selector("[data-testid=workers]")
        time.sleep(WARM_UP_SECONDS)
        shoot(page, page.url.partition("#")[0], impossible[0].key, totals, folder)
        browser.close()
        stop.set()
        worker.join(60)


if __name__ == "__main__":
    main()
