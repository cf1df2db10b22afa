"""The site: pages, frames, questions, and the two things that change something.

Everybody is sent the same bytes: a frame is made once for all pages that stand at the
same place.  Each request passes ``_check`` first: whose Host, which cookie, which right.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import msgspec
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
)
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from covey.dashboard import bundle, metrics
from covey.dashboard.access import Gate, Right, host_is_ours, same_origin
from covey.dashboard.feed import Feed
from covey.dashboard.questions import Questions
from covey.dashboard.trace import trace
from covey.errors import CoveyError, UsageError

#: Pages are sent what is new at most this often.
FRAME_SECONDS: Final = 0.2

#: A long poll is answered after so long, even when nothing is new.
POLL_SECONDS: Final = 10.0

_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}

_REFUSED: Final = """<!doctype html><meta charset=utf-8><title>covey</title><link rel=icon href=data:,>
<h1>This dashboard does not know you</h1>
<p>A link is good for one visit. Get a new one: <code>covey dashboard</code> in a shell, or
<code>client.dashboard_link</code> in Python.</p>"""

_NOT_OURS: Final = """covey: this dashboard is not known by that name.
If a proxy leads here, tell the name of its host where the dashboard runs:
COVEY_DASHBOARD__NAMES=hub.example.org
"""

#: Not a redirect: the cookie is kept from a visit that another site began, and a page of
#: our own begins the next one.
_LET_IN: Final = """<!doctype html><meta charset=utf-8><title>covey</title><link rel=icon href=data:,>
<meta http-equiv=refresh content="0; url=status"><a href=status>Go on</a>"""

_encode: Final = msgspec.json.Encoder().encode

_Handler = Callable[[Request], Awaitable[Response]]


class Site:
    """The web site of one feed.

    Args:
        feed: what is shown.
        gate: who is let in.
        port: where it listens: cookies of several dashboards must not meet.
        names: further names under which this host is reached.
        pages: whether there is more than numbers for Prometheus.
    """

    def __init__(
        self,
        feed: Feed,
        gate: Gate,
        port: int,
        names: frozenset[str] = frozenset(),
        *,
        pages: bool = True,
    ) -> None:
        self.feed = feed
        self._questions = Questions(feed)
        self._gate = gate
        self._cookie = f"covey-{port}"
        self._names = names
        self._news = asyncio.Event()
        self._frames: dict[str, tuple[int, bytes]] = {}
        self._following: asyncio.Task[None] | None = None
        self._ending = False
        numbers = [
            Route("/health", _health),
            Route("/metrics", self._guard(self._metrics)),
        ]
        self.app = Starlette(
            routes=[*numbers, *self._routes()] if pages else numbers,
            lifespan=self._life,
        )

    def _routes(self) -> list[Route | WebSocketRoute]:
        return [
            Route("/", self._guard(self._page)),
            Route("/status", self._guard(self._page)),
            Route("/app.js", self._guard(self._asset)),
            Route("/app.css", self._guard(self._asset)),
            Route("/api/frame", self._guard(self._frame)),
            Route("/api/search", self._guard(self._search)),
            Route("/api/task", self._guard(self._task)),
            Route("/api/graph", self._guard(self._graph)),
            Route("/api/memory", self._guard(self._memory)),
            Route("/api/profile", self._guard(self._profile)),
            Route("/api/trace", self._guard(self._trace)),
            Route("/api/report", self._guard(self._report)),
            Route("/api/cancel", self._guard(self._cancel), methods=["POST"]),
            Route("/api/retry", self._guard(self._retry), methods=["POST"]),
            WebSocketRoute("/api/stream", self._stream),
        ]

    @contextlib.asynccontextmanager
    async def _life(self, app: Any) -> AsyncIterator[None]:
        del app
        self._following = asyncio.ensure_future(self.feed.follow(self._on_news))
        try:
            yield
        finally:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
            await asyncio.to_thread(self.feed.close)

    def let_go(self) -> None:
        """Answer everybody who waits; nobody is let wait any more."""
        self._ending = True
        self._on_news()

    def _on_news(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()

    # Who may.

    def _right(self, connection: HTTPConnection) -> Right | None:
        return self._gate.right_of(connection.cookies.get(self._cookie, ""))

    def _host_is_ours(self, connection: HTTPConnection) -> bool:
        return host_is_ours(connection.headers.get("host", ""), self._names)

    def _guard(self, handler: _Handler) -> _Handler:
        async def guarded(request: Request) -> Response:
            response = self._check(request)
            if response is None:
                try:
                    response = await handler(request)
                except CoveyError as error:
                    response = JSONResponse({"error": str(error)}, 409)
            response.headers.update(_HEADERS)
            return response

        return guarded

    def _check(self, request: Request) -> Response | None:
        """Return the answer to a request that goes no further."""
        if not self._host_is_ours(request):
            return PlainTextResponse(_NOT_OURS, 403)
        right = self._right(request)
        if right is None and request.url.path == "/metrics":
            # A program that asks again and again has no cookie.
            shown = request.headers.get("authorization", "")
            right = "view" if self._gate.may_measure(shown) else None
        code = request.query_params.get("code")
        if code is not None and right is None:
            right = self._gate.admit(code)
            if right is not None:
                response = HTMLResponse(_LET_IN)
                response.set_cookie(
                    self._cookie,
                    self._gate.cookie(right),
                    httponly=True,
                    samesite="strict",
                )
                return response
        if right is None:
            return HTMLResponse(_REFUSED, 401)
        if code is not None:
            return HTMLResponse(_LET_IN)
        if request.method == "POST":
            own = same_origin(
                request.headers.get("origin"),
                request.headers.get("host", ""),
                self._names,
            )
            # No form of another site can set a header.
            if not own or request.headers.get("x-covey") != "act":
                return PlainTextResponse("not from this page", 403)
            if right != "act":
                return JSONResponse({"error": "this link may look, not act"}, 403)
        return None

    # Pages.

    async def _page(self, request: Request) -> Response:
        del request
        try:
            html = bundle.page().read_text(encoding="utf-8")
        except UsageError as error:
            return PlainTextResponse(f"covey: {error}\n", 503)
        return HTMLResponse(html, headers={"Cache-Control": "no-cache"})

    async def _asset(self, request: Request) -> Response:
        name = request.url.path.rpartition("/")[2]
        return FileResponse(bundle.STATIC / name, headers={"Cache-Control": "no-cache"})

    async def _metrics(self, request: Request) -> Response:
        accept = request.headers.get("accept", "")
        text, kind = metrics.text(self.feed.model, accept)
        return Response(text, media_type=kind)

    # Frames.

    def frame(self, cursor: str) -> bytes:
        """Return what is new since *cursor*, made once for all who stand there."""
        model = self.feed.model
        known = self._frames.get(cursor)
        if known is not None and known[0] == model.version:
            return known[1]
        frame = {**model.frame(cursor), "status": self.feed.status}
        if self.feed.problem:
            frame["problem"] = self.feed.problem
        data = _encode(frame)
        if known is None and len(self._frames) > 32:
            self._frames.clear()
        self._frames[cursor] = (model.version, data)
        return data

    async def _frame(self, request: Request) -> Response:
        """Answer a long poll."""
        cursor = request.query_params.get("since", "")
        if cursor and not self._ending:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._news.wait()
            await asyncio.sleep(FRAME_SECONDS)
        return Response(self.frame(cursor), media_type="application/json")

    async def _stream(self, socket: WebSocket) -> None:
        """Send frames as they come; each goes out when the one before was taken in."""
        own = same_origin(
            socket.headers.get("origin"), socket.headers.get("host", ""), self._names
        )
        if not own or not self._host_is_ours(socket) or self._right(socket) is None:
            await socket.close()
            return
        await socket.accept()
        try:
            while not self._ending:
                # The page asks for the next frame by telling where it stands, so a
                # hidden or slow one is never behind by more than one.
                cursor = await socket.receive_text()
                if cursor:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(POLL_SECONDS):
                            await self._news.wait()
                await socket.send_text(self.frame(cursor).decode())
                await asyncio.sleep(FRAME_SECONDS)
            await socket.close()
        except WebSocketDisconnect:
            return

    # Questions.

    async def _search(self, request: Request) -> Response:
        text = request.query_params.get("q", "")[:200]
        return JSONResponse(self.feed.model.search(text))

    async def _task(self, request: Request) -> Response:
        return _json(await self._questions.task(request.query_params.get("key", "")))

    async def _graph(self, request: Request) -> Response:
        del request
        return _json(await self._questions.graph())

    async def _memory(self, request: Request) -> Response:
        del request
        return _json(await self._questions.memory())

    async def _profile(self, request: Request) -> Response:
        asked = request.query_params
        try:
            seconds = float(asked.get("seconds") or 0)
        except ValueError:
            raise UsageError("seconds= takes a number") from None
        function, worker = asked.get("function", ""), asked.get("worker", "")
        return _json(self._questions.profile(function, worker, seconds))

    async def _trace(self, request: Request) -> Response:
        del request
        return Response(
            json.dumps(trace(self.feed.model)),
            media_type="application/json",
            headers={"Content-Disposition": 'attachment; filename="covey-trace.json"'},
        )

    async def _report(self, request: Request) -> Response:
        del request
        answers = await self._questions.to_keep()
        frame = {**self.feed.model.frame(""), "status": "replay", "answers": answers}
        return HTMLResponse(
            bundle.report(frame, "covey report"),
            headers={"Content-Disposition": 'attachment; filename="covey-report.html"'},
        )

    # Acting.

    async def _cancel(self, request: Request) -> Response:
        task = await self._named(request)
        self.feed.act(task, lambda future: future.cancel("from the dashboard"))
        return JSONResponse({"ok": True})

    async def _retry(self, request: Request) -> Response:
        task = await self._named(request)
        self.feed.act(task, lambda future: future.retry())
        return JSONResponse({"ok": True})

    async def _named(self, request: Request) -> int:
        """Return the task whose key the body of a request gives."""
        try:
            body = await request.json()
            key = str(body["key"])
        except (ValueError, KeyError, TypeError):
            raise UsageError("the request does not name a task") from None
        answer = await self.feed.ask("explain", names=(key,))
        if "task" not in answer:
            raise UsageError(f"{key}: {answer['text']}")
        return int(answer["task"])


def _json(found: Any) -> Response:
    return Response(_encode(found), media_type="application/json")


async def _health(request: Request) -> Response:
    del request
    return PlainTextResponse("ok\n")
