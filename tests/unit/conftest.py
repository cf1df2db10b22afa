"""What tests of operations count with."""

from __future__ import annotations

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120

import counting  # noqa: F401  # from here on, tests find them by their names
import interrupting  # noqa: F401

sys.path.pop(0)


@pytest.fixture
def figure():
    """Show a figure, which ``pytest -rP`` prints."""

    def show(text):
        sys.stdout.write(text + "\n")

    return show
