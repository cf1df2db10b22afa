"""The page behind a proxy that puts it below a path, as notebook servers do."""

from __future__ import annotations

import asyncio
import threading

import pytest

import covey

pytestmark = pytest.mark.browser

PREFIX = "/user/me/proxy"


class Proxy:
    """Serves ``/user/me/proxy/PORT/...`` from that port; takes the prefix off, no more.

    Args:
        websockets: whether it lets them through; some do not.
    """

    def __init__(self, *, websockets=True):
        self._websockets = websockets
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self.upgraded = self.refused = 0

    def __enter__(self):
        self._thread.start()
        serving = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(serving, self._loop).result(20)
        port = self._server.sockets[0].getsockname()[1]
        self.place = f"127.0.0.1:{port}"
        return self

    def __exit__(self, *_):
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()

    async def _close(self):
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader, writer):
        try:
            await self._pass_on(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # One of the two sides has hung up.
        finally:
            writer.close()

    async def _pass_on(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line, *headers = head.split("\r\n")[:-2]
        method, path, version = line.split(" ")
        upgrade = any(each.lower().startswith("upgrade:") for each in headers)
        if not path.startswith(f"{PREFIX}/") or (upgrade and not self._websockets):
            self.refused += upgrade
            writer.write(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n")
            return
        self.upgraded += upgrade
        port, _, rest = path.removeprefix(f"{PREFIX}/").partition("/")
        if not upgrade:
            # One request for each connection: what follows is not looked into.
            kept = [each for each in headers if not each.lower().startswith("conn")]
            headers = [*kept, "Connection: close"]
        there, here = await asyncio.open_connection("127.0.0.1", int(port))
        text = "\r\n".join([f"{method} /{rest} {version}", *headers, "", ""])
        here.write(text.encode())

        async def copy(source, target):
            while data := await source.read(1 << 16):
                target.write(data)
                await target.drain()
            target.close()

        await asyncio.gather(copy(reader, here), copy(there, writer))


@pytest.fixture
def behind(monkeypatch, browser, client):
    """Open the page by the link that a notebook of a hub shows; return that page."""
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/me/")
    context = browser.new_context()

    def opened(proxy):
        link = client.dashboard_link
        assert link.startswith(f"{PREFIX}/")
        page = context.new_page()
        page.goto(f"http://{proxy.place}{link}")
        page.wait_for_selector("[data-testid=workers]", timeout=20_000)
        return page

    yield opened
    context.close()


def test_everything_is_found_below_a_path(behind, client):
    with Proxy() as proxy:
        page = behind(proxy)
        assert page.url.startswith(f"http://{proxy.place}{PREFIX}/")
        assert "code=" not in page.url
        page.wait_for_selector("[data-testid=link]:has-text('live')")
        assert proxy.upgraded == 1
        future = client.submit(abs, 1, resources={"GPU": 1})
        page.goto(page.url.partition("#")[0] + f"#/tasks/{future.key}")
        page.click("button:has-text('Cancel')")
        with pytest.raises(covey.errors.TaskCancelled, match="from the dashboard"):
            future.result(20)
        with page.expect_download() as saved:
            page.click("nav a:has-text('save report')")
        assert saved.value.suggested_filename == "covey-report.html"
        page.close()


def test_where_no_websocket_gets_through_the_page_polls(behind, client):
    with Proxy(websockets=False) as proxy:
        page = behind(proxy)
        page.wait_for_selector("[data-testid=link]:has-text('live')")
        assert proxy.refused and not proxy.upgraded
        before = int(page.inner_text("[data-testid=done] b").replace(",", ""))
        client.gather(client.map(abs, range(50)))
        page.wait_for_function(
            f"() => document.querySelector('[data-testid=done] b').innerText === '{before + 50}'",
            timeout=20_000,
        )
        page.close()
