"""Event loops: uvloop where it runs, asyncio's own elsewhere."""

from __future__ import annotations

import asyncio

from covey.net.parting import part


def close_event_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Let the links that were closed end, then close *loop*, which has stopped."""
    try:
        loop.run_until_complete(part())
    finally:
        loop.close()


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return a new event loop of the fastest kind installed.  No policy is set."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()
