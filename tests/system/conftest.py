"""One cluster of two runners for all tests that do not break it."""

from __future__ import annotations

import pytest

import covey


@pytest.fixture(scope="session")
def client():
    with covey.Client(n_workers=2) as shared:
        yield shared
