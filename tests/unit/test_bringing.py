"""Bringing values that are lost with their worker while they are asked for."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from covey.client.bringing import Bringer
from covey.client.core.ranges import Range, Wishes
from covey.client.decoding import Lazy
from covey.client.fetching import Session
from covey.errors import Disconnected
from covey.net.answers import Loot
from covey.net.arrivals import FreshMemory
from covey.payload import Pack
from covey.wire.client_link import Want

BASE = 1000
BY_DEAD, BY_LIVING = 7, 8


class Cluster:
    """A client's engine, and what it hears when it asks where a value is."""

    def __init__(self, *news):
        self.wishes = Wishes()
        self.wish = Range(BASE, 1, "f", None)
        self.wishes.add(self.wish)
        self.wish.held = 1
        self.news = list(news)
        self.asked = []
        self.kept_as = {}
        self.workers = {
            worker: SimpleNamespace(addresses=(str(worker),), host="there")
            for worker in (BY_DEAD, BY_LIVING)
        }
        self.asker = self

    def check(self):
        """All is well."""

    def tokens_for(self, extents, shared):
        return ()

    def post(self, message):
        assert message == Want(((BASE, 1),))
        asyncio.get_running_loop().call_soon(self.hear)

    def hear(self):
        """All that comes in one turn of the loop."""
        for happens in self.news.pop(0):
            happens(self.wish)
        if self.news:
            asyncio.get_running_loop().call_soon(self.hear)

    async def get(self, addresses, extents, host, tokens, worker):
        self.asked.append(worker)
        if worker == BY_DEAD:
            raise Disconnected("it was killed")
        loot = Loot(FreshMemory())
        loot.packs.append((BASE, Pack.of([b"value"])))
        return loot

    def call(self, work):
        return asyncio.run(work)


def stored(worker):
    return lambda wish: wish.store(0, 1, worker, 100)


def reverted(wish):
    wish.revert(0, 1)


def test_what_is_lost_in_the_turn_in_which_its_place_was_told_is_waited_for():
    cluster = Cluster([stored(BY_DEAD), reverted], [stored(BY_LIVING)])
    cluster.wish.store(0, 1, BY_DEAD, 100)
    asyncio.run(Bringer(cluster, plain=False).fetch([(cluster.wish, 0)]))
    assert cluster.asked == [BY_DEAD, BY_LIVING]
    assert isinstance(cluster.wish.values[0], Lazy)


def session_of(cluster):
    session = Session.__new__(Session)
    session.engine, session.plain = cluster, False
    session.bringer = Bringer(cluster, plain=False)
    future = SimpleNamespace(
        _range=cluster.wish, _index=0, session=session, released=False, key="f"
    )
    return session, future


def test_what_is_lost_before_anybody_asks_for_its_value_is_waited_for():
    cluster = Cluster([stored(BY_LIVING)])
    session, future = session_of(cluster)
    stored(BY_DEAD)(cluster.wish)
    reverted(cluster.wish)
    assert session._stored([future]) == [(session, [(cluster.wish, 0)])]
    session._bring([future])
    assert cluster.asked == [BY_LIVING]
    assert isinstance(cluster.wish.values[0], Lazy)


def test_what_was_brought_before_its_worker_is_lost_is_there():
    cluster = Cluster()
    session, future = session_of(cluster)
    stored(BY_LIVING)(cluster.wish)
    session._bring([future])
    cluster.wish.values[0] = "decoded"
    reverted(cluster.wish)
    assert session._collect([future], "raise") == ["decoded"]
