"""The door: strangers get little, and keep nobody out."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from covey.errors import AuthRefused, RemoteProtocolError, UsageError
from covey.net import door, link
from covey.net.addresses import Address
from covey.net.connect import open_link
from covey.net.door import STRANGERS_MAX, STRANGERS_PER_ADDRESS_MAX
from covey.net.listen import listen
from covey.net.loop import close_event_loop, new_event_loop
from covey.net.tls import IN_CLEAR, make_certificate
from covey.secret import Secret
from covey.wire.data_link import FromAsker, FromKeeper
from covey.wire.keys import Keys, Role

KEYS = Keys.of_client(Secret(b"s" * 32))
ANYWHERE = Address("127.0.0.1", 0, "")


@functools.cache
def certificate():
    pytest.importorskip("cryptography")
    return make_certificate()


@pytest.fixture(params=["tcp", "tls"])
def cover(request):
    return certificate() if request.param == "tls" else None


def run(work):
    async def bounded():
        async with asyncio.timeout(30):
            await work

    loop = new_event_loop()
    try:
        loop.run_until_complete(bounded())
    finally:
        close_event_loop(loop)


def ignore(*_):
    pass


class Guard:
    """Counts who came in and who did not."""

    def __init__(self):
        self.opened = []
        self.turned_away = 0
        self._news = asyncio.Event()

    def on_open(self, link):
        self.opened.append(link)
        self._news.set()

    def on_turned_away(self):
        self.turned_away += 1
        self._news.set()

    async def until(self, true):
        while not true():
            self._news.clear()
            await self._news.wait()


@contextlib.asynccontextmanager
async def listening(address=ANYWHERE, cover=None, keys=KEYS):
    guard = Guard()
    guard.listener = await listen(
        address,
        FromAsker,
        role=Role.KEEPER,
        keys=keys,
        version="1",
        on_open=guard.on_open,
        on_messages=ignore,
        on_lost=ignore,
        on_turned_away=guard.on_turned_away,
        certificate=cover,
    )
    try:
        yield guard
    finally:
        await guard.listener.close()


async def dial(address, keys=KEYS, **keywords):
    return await open_link(
        address,
        FromKeeper,
        role=Role.ASKER,
        keys=keys,
        version="1",
        on_messages=ignore,
        on_lost=ignore,
        **{"timeout_seconds": 5.0, **keywords},
    )


async def strangers(address, count, host="127.0.0.1"):
    """Open connections that say nothing."""
    loop = asyncio.get_running_loop()
    found = []
    for _ in range(count):
        sock = socket.socket()
        sock.bind((host, 0))
        sock.setblocking(False)
        await loop.sock_connect(sock, (address.host, address.port))
        found.append(sock)
    return found


def test_one_address_gets_few_places_and_the_newest_have_them(cover):
    async def story():
        async with listening(cover=cover) as guard:
            place = guard.listener.address
            many = await strangers(place, 3 * STRANGERS_PER_ADDRESS_MAX)
            await guard.until(
                lambda: guard.turned_away == 2 * STRANGERS_PER_ADDRESS_MAX
            )
            assert len(guard.listener.door) == STRANGERS_PER_ADDRESS_MAX
            # Who belongs here gets in all the same, from the same address.
            friend = await dial(place)
            await guard.until(lambda: guard.opened)
            assert not friend.lost
            friend.close()
            loop = asyncio.get_running_loop()
            # The oldest have had to go.
            assert await loop.sock_recv(many[0], 1) == b""
            for sock in many:
                sock.close()

    run(story())


def test_all_together_get_so_many_places():
    async def story():
        async with listening() as guard:
            place = guard.listener.address
            crowds = [
                await strangers(place, STRANGERS_PER_ADDRESS_MAX, f"127.0.1.{number}")
                for number in range(1, 6)
            ]
            await guard.until(lambda: guard.turned_away == STRANGERS_PER_ADDRESS_MAX)
            assert len(guard.listener.door) == STRANGERS_MAX
            friend = await dial(place)
            friend.close()
            for crowd in crowds:
                for sock in crowd:
                    sock.close()

    run(story())


def test_who_has_proved_himself_is_no_stranger(cover):
    async def story():
        async with listening(cover=cover) as guard:
            links = [
                await dial(guard.listener.address)
                for _ in range(STRANGERS_PER_ADDRESS_MAX + 3)
            ]
            assert not any(link.lost for link in links)
            assert len(guard.listener.door) == 0
            assert guard.turned_away == 0
            for one in links:
                one.close()

    run(story())


def test_whoever_is_slow_is_cut_off(cover, monkeypatch):
    monkeypatch.setattr(link, "HANDSHAKE_SECONDS", 0.05)

    async def story():
        async with listening(cover=cover) as guard:
            (sock,) = await strangers(guard.listener.address, 1)
            await guard.until(lambda: guard.turned_away == 1)
            assert await asyncio.get_running_loop().sock_recv(sock, 1) == b""
            sock.close()

    run(story())


@pytest.mark.parametrize(
    "noise", [b"GET / HTTP/1.1\r\n\r\n" + b"x" * 64, os.urandom(4096), b"\xff" * 70]
)
def test_noise_is_cut_off_and_counted(cover, noise):
    async def story():
        async with listening(cover=cover) as guard:
            (sock,) = await strangers(guard.listener.address, 1)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(sock, noise)
            await guard.until(lambda: guard.turned_away == 1)
            assert not guard.opened
            sock.close()

    run(story())


def test_a_wrong_secret_is_turned_away_and_counted(cover):
    async def story():
        async with listening(cover=cover) as guard:
            with pytest.raises(AuthRefused):
                await dial(guard.listener.address, Keys.of_client(Secret(b"t" * 32)))
            await guard.until(lambda: guard.turned_away == 1)

    run(story())


# TLS.


def test_another_certificate_is_refused():
    async def story():
        async with listening(cover=certificate()) as guard:
            told = guard.listener.address._replace(fingerprint="ab" * 32)
            with pytest.raises(AuthRefused, match="another certificate"):
                await dial(told)
            assert not guard.opened

    run(story())


def test_one_in_the_middle_is_refused():
    """He shows his own certificate, and passes on all that is said."""

    async def story():
        async with listening(cover=certificate()) as guard:
            place = guard.listener.address

            async def relay(reader, writer):
                from covey.net.tls import caller_context

                far_reader, far_writer = await asyncio.open_connection(
                    place.host, place.port, ssl=caller_context()
                )

                async def pump(source, sink):
                    while data := await source.read(4096):
                        sink.write(data)
                    sink.close()

                await asyncio.gather(
                    pump(reader, far_writer),
                    pump(far_reader, writer),
                    return_exceptions=True,
                )

            from covey.net.tls import listener_context

            own = make_certificate()
            server = await asyncio.start_server(
                relay, "127.0.0.1", 0, ssl=listener_context(own)
            )
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(AuthRefused, match="another certificate"):
                await dial(place._replace(port=port))
            # Even who was told to trust his certificate notices.
            fooled = place._replace(port=port, fingerprint=own.fingerprint)
            with pytest.raises(AuthRefused, match="does not know the secret"):
                await dial(fooled)
            server.close()
            assert not guard.opened

    run(story())


def test_a_caller_in_clear_is_told_of_tls():
    async def story():
        async with listening(cover=certificate()) as guard:
            plain = guard.listener.address._replace(fingerprint="")
            with pytest.raises((AuthRefused, ConnectionError)):
                await dial(plain, timeout_seconds=0.0)
            assert not guard.opened

    run(story())


def test_a_listener_in_clear_is_no_listener_with_tls():
    async def story():
        async with listening() as guard:
            told = guard.listener.address._replace(fingerprint="ab" * 32)
            with pytest.raises((RemoteProtocolError, ConnectionError)):
                await dial(told, timeout_seconds=0.0)
            assert not guard.opened

    run(story())


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1", "TLSv1_2"])
def test_an_older_tls_is_refused(version):
    import ssl
    import warnings

    async def story():
        async with listening(cover=certificate()) as guard:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                context.maximum_version = ssl.TLSVersion[version]
            place = guard.listener.address
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await asyncio.open_connection(place.host, place.port, ssl=context)

    run(story())


def test_a_certificate_is_the_same_whenever_it_is_made_from_one_secret():
    pytest.importorskip("cryptography")
    secret = Secret.fresh()
    assert make_certificate(secret) == make_certificate(secret)
    assert make_certificate(secret) != make_certificate(Secret.fresh())
    assert make_certificate() != make_certificate()
    assert secret.reveal() not in repr(make_certificate(secret))


# Where one may listen.


@pytest.mark.parametrize("host", ["", "0.0.0.0", "::", "192.0.2.7", "example.org"])
def test_no_port_is_opened_on_a_network_without_tls(host):
    async def story():
        with pytest.raises(UsageError, match="without TLS"):
            async with listening(Address(host, 0, "")):
                pass

    run(story())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.0.0.2"])
def test_this_machine_needs_none(host):
    async def story():
        async with listening(Address(host, 0, "")) as guard:
            (await dial(guard.listener.address)).close()

    run(story())


def test_a_localhost_that_is_somewhere_else_is_noticed(monkeypatch):
    """What a name means says /etc/hosts, and perhaps a name server."""
    resolve = asyncio.base_events.BaseEventLoop.getaddrinfo

    async def misled(loop, host, port, **how):
        return await resolve(loop, "0.0.0.0", port, **how)

    async def story():
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(type(loop), "getaddrinfo", misled, raising=False)
        with pytest.raises(
            UsageError, match=r"localhost is 0\.0\.0\.0 on this machine"
        ):
            async with listening(Address("localhost", 0, "")):
                pass

    asyncio.run(story())


def test_a_network_may_be_trusted_in_so_many_words():
    async def story():
        async with listening(Address("0.0.0.0", 0, ""), IN_CLEAR) as guard:
            here = guard.listener.address._replace(host="127.0.0.1")
            assert not here.fingerprint
            (await dial(here)).close()

    run(story())


# Unix sockets.

CALL = """
import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sock = socket.socket(socket.AF_UNIX)
sock.settimeout(10)
sock.connect(sys.argv[1])
try:
    print(sock.recv(1))
except ConnectionError:
    print(b"")
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can call as somebody else")
def test_another_user_is_turned_away_by_the_kernels_word(tmp_path):
    for folder in [tmp_path, *tmp_path.parents][:-2]:
        folder.chmod(0o755)
    path = tmp_path / "s"

    async def story():
        async with listening(Address("", 0, str(path))) as guard:
            path.chmod(0o777)
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", CALL, str(path), stdout=subprocess.PIPE
            )
            said, _ = await process.communicate()
            assert said == b"b''\n"
            assert guard.turned_away == 1
            (await dial(guard.listener.address)).close()
            await guard.until(lambda: guard.opened)

    # Waiting for a process takes the loop of the main thread.
    asyncio.run(story())


def test_the_kernel_says_who_calls(monkeypatch, tmp_path):
    monkeypatch.setattr(door.os, "getuid", lambda: 4711)
    monkeypatch.setattr(door, "_peer_uid", lambda _: 4712)

    async def story():
        async with listening(Address("", 0, str(tmp_path / "s"))) as guard:
            with pytest.raises(ConnectionError):
                await dial(guard.listener.address, timeout_seconds=0.0)
            await guard.until(lambda: guard.turned_away == 1)

    run(story())


def test_own_sockets_are_in_a_directory_that_others_cannot_enter():
    from covey.net.connection_file import fresh_directory

    path = Path(fresh_directory("test"))
    try:
        for folder in (path, path.parent):
            assert folder.stat().st_mode & 0o077 == 0
    finally:
        path.rmdir()
