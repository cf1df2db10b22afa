"""Where the model's news comes from: a cluster, or (in ``past``) a recording."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Literal

import msgspec
import psutil

from covey import clock
from covey.client.client import Client
from covey.client.future import Future
from covey.dashboard.model import Model
from covey.errors import CoveyError, UsageError
from covey.net.join_string import Connection
from covey.recording import Batch, Head
from covey.stacks import Profiles

Status = Literal["live", "reconnecting", "replay"]

#: How often everything is looked at that no event tells.
REFRESH_SECONDS: Final = 1.0

#: What code runs is looked at for so long after a page has asked.
PROFILE_SECONDS: Final = 10.0

#: So much of what happened before the first visitor is looked at.
PAST_EVENTS: Final = 30_000

#: A scheduler that is gone is tried again this often.
RETRY_SECONDS: Final = 1.0


class Feed:
    """What all feeds have: a model, and what may be asked beyond it."""

    def __init__(self) -> None:
        self.model = Model()
        self.status: Status = "reconnecting"
        self.problem = ""
        #: What code was seen to run, as long as somebody wanted to know.
        self.profiles = Profiles()

    async def follow(self, on_news: Callable[[], None]) -> None:
        """Take in what happens, and call *on_news* after each batch."""

    async def ask(self, topic: str, **fields: Any) -> Any:
        """Ask the scheduler a question.

        Raises:
            UsageError: there is nobody to ask.
        """
        del topic, fields
        raise UsageError("there is no scheduler that could be asked")

    def act(self, task: int, do: Callable[[Future[Any]], object]) -> None:
        """Do something with a task.

        Raises:
            UsageError: there is no scheduler that could be told.
        """
        del task, do
        raise UsageError("there is no scheduler that could change anything")

    def look_at_code(self) -> None:
        """Have the cluster look at what code runs, for a while."""

    def close(self) -> None:
        """Follow no more."""


class LiveFeed(Feed):
    """Follows a cluster; when its scheduler is gone, waits for it to come back."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection
        self._client: Client | None = None
        self._closed = False
        #: Until when somebody wants to know what code runs, by our clock.
        self._profile_until = 0.0
        self._profile_next = 0

    async def follow(self, on_news: Callable[[], None]) -> None:
        """Take in what happens until ``close`` is called."""
        while not self._closed:
            try:
                self._client = await asyncio.to_thread(self._connect)
                await self._follow(on_news)
            except CoveyError as error:
                self.status, self.problem = "reconnecting", str(error)
                on_news()
            finally:
                self._leave()
            await asyncio.sleep(RETRY_SECONDS)

    def _connect(self) -> Client:
        return Client(
            self._connection, set_as_default=False, name="dashboard", timeout=2.0
        )

    async def _follow(self, on_news: Callable[[], None]) -> None:
        view = await self.ask("overview")
        if self.model.cluster not in {"", view["cluster"]}:
            self.model = Model()
        if not self.model.cluster:
            await self._look_back(view["next"])
        self.model.begin(Head(clock.wall(), view))
        self.status, self.problem = "live", ""
        on_news()
        refreshing = asyncio.ensure_future(self._refresh())
        self._profile_next = 0
        try:
            while True:
                first, _, dropped, data, now = await self.ask(
                    "watch", number=self.model.next_event
                )
                events = msgspec.msgpack.decode(data)
                self.model.take(Batch(first, dropped, now, events))
                on_news()
        finally:
            refreshing.cancel()
            # Before its client is closed, of which it still awaits an answer.
            await asyncio.gather(refreshing, return_exceptions=True)

    async def _look_back(self, end: int) -> None:
        """Take in what happened before we came, as far as the scheduler remembers."""
        number = max(0, end - PAST_EVENTS)
        while number < end:
            first, events, _ = await self.ask("events", number=number)
            events = events[: max(0, end - first)]
            if not events:
                return
            # What was long ago is no loss.
            self.model.take(Batch(first, 0, events[-1][0], events))
            number = first + len(events)

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            self.model.refresh(await self.ask("overview"))
            rss = psutil.Process().memory_info().rss
            self.model.counters["dashboard_rss_bytes"] = rss
            if clock.monotonic() < self._profile_until:
                await self._profile()

    def look_at_code(self) -> None:
        """Have the cluster look at what code runs, for a while."""
        self._profile_until = clock.monotonic() + PROFILE_SECONDS

    async def _profile(self) -> None:
        answer = await self.ask("profile", number=self._profile_next)
        self._profile_next = answer["next"]
        for at, worker, label, names, nodes in answer["seen"]:
            self.profiles.add(at, worker, label, names, nodes)

    async def ask(self, topic: str, **fields: Any) -> Any:
        """Ask the scheduler a question."""
        engine = self._there().session.engine
        engine.check()
        return await asyncio.wrap_future(engine.start(engine.ask(topic, **fields)))

    def act(self, task: int, do: Callable[[Future[Any]], object]) -> None:
        """Do something with a task, whoever submitted it."""
        client = self._there()
        # A client may do as it likes with what it holds, and we have the secret that
        # makes us hold anything.
        token = self._connection.keys.token(task)
        future = client.future_of(task, "task", None, token)
        do(future)
        future.release()

    def _there(self) -> Client:
        if self._client is None:
            why = self.problem or "it is being looked for; try again in a moment"
            raise UsageError(f"the scheduler is not there: {why}")
        return self._client

    def _leave(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def close(self) -> None:
        """Follow no more."""
        self._closed = True
        self._leave()
