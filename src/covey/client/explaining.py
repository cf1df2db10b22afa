"""Why a task is not done yet."""

from __future__ import annotations

from typing import Any

from covey.client.future import Future


def explain(future: Future[Any]) -> str:
    """Say in a sentence how a task stands, and what it waits for.

    Raises:
        Disconnected: the scheduler cannot be asked.
    """
    return future.explain()
