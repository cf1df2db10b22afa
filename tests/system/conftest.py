"""One cluster of two runners for all tests that do not break it."""

from __future__ import annotations

import threading
import time

import pytest

import covey


@pytest.fixture(scope="session")
def client():
    with covey.Client(n_workers=2) as shared:
        yield shared


@pytest.fixture(scope="session")
def until():
    """Wait for what a cluster does without telling the test, on a slow machine, too."""

    def until(holds, seconds=30):
        deadline = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > deadline:
                return False
            threading.Event().wait(0.01)
        return True

    return until
