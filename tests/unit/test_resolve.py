"""An address that leads nowhere: what is known is said, the likeliest first."""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import pytest

from covey.client import resolve
from covey.client.resolve import resolve_target
from covey.errors import NoScheduler, UsageError
from covey.net.addresses import host_identity, parse_address
from covey.net.connection_file import file_for, write_connection_file
from covey.net.join_string import Connection
from covey.secret import Secret
from covey.wire.keys import Keys


@pytest.fixture(autouse=True)
def _own_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def known(port):
    secret = Secret.fresh()
    place = parse_address(f"127.0.0.1:{port}")
    write_connection_file(file_for(port), Connection(place, Keys.of_client(secret)))
    return file_for(port)


def test_first_of_all_it_is_said_that_nobody_listens():
    other = free_port()
    known(other)
    port = free_port()
    with pytest.raises(NoScheduler) as caught:
        resolve_target(f"127.0.0.1:{port}", None, {})
    text = str(caught.value)
    assert text.startswith(f"no scheduler answers at tcp://127.0.0.1:{port}")
    assert "refused" in text
    assert f"Clusters of yours: tcp://127.0.0.1:{other}" in text


def test_a_scheduler_that_is_being_started_is_waited_for(monkeypatch):
    port = free_port()
    monkeypatch.setattr(resolve.time, "sleep", lambda _: known(port))
    found = resolve_target(f"127.0.0.1:{port}", None, {}, 30.0)
    assert found.address.port == port


def test_a_name_that_nobody_knows_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(resolve.time, "sleep", lambda _: pytest.fail("it waits"))
    with pytest.raises(NoScheduler, match="does the name .* resolve"):
        resolve_target("nobody.invalid:8786", None, {}, 30.0)


def test_the_file_of_a_cluster_may_come_a_moment_after_its_port(monkeypatch):
    pauses = []

    def sleep(_):
        pauses.append(0)
        if len(pauses) == 3:
            known(port)

    monkeypatch.setattr(resolve.time, "sleep", sleep)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        # Even for somebody who does not wait for a cluster to be started.
        assert resolve_target(f"127.0.0.1:{port}", None, {}).address.port == port
    assert len(pauses) == 3


def test_a_file_that_comes_while_we_ask_who_listens_counts(monkeypatch):
    monkeypatch.setattr(resolve, "_STRANGER_LOOKS", 0)
    unknown = resolve._unknown

    def slow(address, waited):
        known(address.port)
        return unknown(address, waited)

    monkeypatch.setattr(resolve, "_unknown", slow)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert resolve_target(f"127.0.0.1:{port}", None, {}).address.port == port


def test_who_listens_there_may_be_somebody_else(monkeypatch):
    monkeypatch.setattr(resolve.time, "sleep", lambda _: None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(
            UsageError, match="something listens .* secret is not known"
        ):
            resolve_target(f"localhost:{port}", None, {})


def test_a_cluster_that_was_killed_is_told_from_one_that_never_was():
    port = free_port()
    path = known(port)
    fields = json.loads(path.read_text())
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    fields.update(pid=process.pid, host=host_identity())
    path.write_text(json.dumps(fields))
    with pytest.raises(NoScheduler) as caught:
        resolve_target(f"127.0.0.1:{port}", None, {})
    assert f"its process {process.pid} has ended" in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["foo bar", "tcp://foo bar", "foo bar:8786", ""])
def test_what_is_no_address_is_refused(text):
    with pytest.raises(UsageError, match="not an address"):
        resolve_target(text, None, {})
