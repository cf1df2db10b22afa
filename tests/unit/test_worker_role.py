"""What `covey worker` says of the scheduler that it is with."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from covey.cluster import roles
from covey.cluster.roles import WorkerRole
from covey.errors import Disconnected
from covey.net.addresses import parse_address
from covey.net.join_string import Connection
from covey.secret import Secret
from covey.wire.introductions import Welcome
from covey.wire.keys import Keys

PLACE = Connection(parse_address("127.0.0.1:8786"), Keys.of_client(Secret.fresh()))


@pytest.mark.parametrize(
    ("cluster", "epoch", "says"),
    [
        ("one", 1, "is with its scheduler again, which had heard nothing of it"),
        ("one", 2, "is with a scheduler again, which was started anew"),
        ("two", 1, "is with a scheduler again, which was started anew"),
    ],
)
def test_who_was_given_up_is_told_from_who_has_another_scheduler(cluster, epoch, says):
    async def scenario():
        said = []
        role = WorkerRole(lambda: PLACE, {}, said.append)
        role._agent = SimpleNamespace(attach=lambda *_: 0, report=lambda *_: 0)
        old = SimpleNamespace(unheard=lambda _: [])
        role.on_welcome(None, Welcome(3, "one", 1, "0"), None)
        role.on_welcome(None, Welcome(4, cluster, epoch, "0"), old)
        # It is never the one before the last that counts.
        role.on_welcome(None, Welcome(5, cluster, epoch, "0"), old)
        return said

    joined, first, second = asyncio.run(scenario())
    assert joined.startswith("joined the scheduler")
    assert first.startswith(says)
    assert second.startswith("is with its scheduler again")


def leaving(monkeypatch, *steps):
    """Let a worker go through *steps*; return whether it ends, before it has drained."""
    monkeypatch.setattr(roles, "GONE_SECONDS", 0.0)

    async def scenario():
        role = WorkerRole(lambda: PLACE, {})
        old = SimpleNamespace(unheard=lambda _: [])
        role._agent = SimpleNamespace(
            attach=lambda *_: 0, report=lambda *_: 0, leave=lambda: 0
        )
        role._uplink = SimpleNamespace(line=old)
        happen = {
            "signal": role._on_signal,
            "away": lambda: role.on_away(None),
            "back": role.on_back,
            "another": lambda: role.on_welcome(None, Welcome(4, "one", 2, "0"), old),
        }
        for step in steps:
            happen[step]()
        # The timer, if there is one, is due in the next turn.
        for _ in range(3):
            await asyncio.sleep(0.001)
        return role._ended.done()

    return asyncio.run(scenario())


def test_who_leaves_and_has_nobody_to_leave_to_does_not_wait_for_long(monkeypatch):
    assert leaving(monkeypatch, "away", "signal")
    assert leaving(monkeypatch, "signal", "away")
    assert leaving(monkeypatch, "away", "back", "signal", "away", "away")


def test_who_leaves_waits_for_a_scheduler_that_is_there_or_comes_back(monkeypatch):
    assert not leaving(monkeypatch, "signal")
    assert not leaving(monkeypatch, "away")
    assert not leaving(monkeypatch, "away", "back", "signal")
    assert not leaving(monkeypatch, "signal", "away", "back")
    assert not leaving(monkeypatch, "away", "signal", "another")


@pytest.mark.parametrize("scheduler", ["goes at that moment", "does not answer"])
def test_who_is_told_to_end_as_it_joins_does_so_whatever_the_scheduler_does(scheduler):
    async def scenario():
        role = WorkerRole(lambda: PLACE, {})

        async def greet():
            role._on_signal()
            if scheduler == "does not answer":
                await asyncio.Event().wait()
            raise Disconnected("the connection broke")

        assert not await role._unless_told_to_end(greet())
        return await role._ended

    assert asyncio.run(scenario()) == ""


def test_who_joins_in_vain_and_was_not_told_to_end_says_why():
    async def greet():
        raise Disconnected("the connection broke")

    async def scenario():
        await WorkerRole(lambda: PLACE, {})._unless_told_to_end(greet())

    with pytest.raises(Disconnected, match="the connection broke"):
        asyncio.run(scenario())
