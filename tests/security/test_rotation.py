"""The secrets of a cluster are exchanged while it runs: who is in stays in."""

from __future__ import annotations

import http.cookiejar
import os
import pickle
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import numpy as np
import pytest

from covey import Client, LocalCluster, errors
from covey.client.current import as_current, get_client
from covey.net.connection_file import read_connection_file
from covey.net.join_string import parse_join_string
from covey.secret import Secret
from covey.wire.keys import Keys
from covey.wire.rotation import opened, sealed

COMMAND = [sys.executable, "-m", "covey"]


def start(*arguments, said=""):
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdin.write(said)
    process.stdin.close()
    process.stdin = None
    return process


def end(*processes, number=signal.SIGTERM):
    for process in processes:
        if process.poll() is None:
            process.send_signal(number)
        # A worker whose scheduler has begun anew keeps for a minute what nobody has
        # asked for yet, before it leaves.
        process.communicate(timeout=90)


def command(*arguments, path):
    done = subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "COVEY_CONNECTION_FILE": str(path)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def inc(x):
    return x + 1


def from_within(x):
    """Be a client inside of a task."""
    return get_client().submit(inc, x).result(20)


@pytest.mark.system
def test_secrets_are_exchanged_under_a_cluster_that_works(tmp_path):
    pytest.importorskip("cryptography")
    path = tmp_path / "c.json"
    how = ("--host", "0.0.0.0", "--port", "0", "--connection-file", str(path))
    scheduler = start("scheduler", *how, "--no-dashboard")
    assert "tls://0.0.0.0" in scheduler.stdout.readline()
    old = command("token", "show", path=path).strip()
    for_worker = command("token", "show", "--worker", path=path).strip()
    workers = [
        start("worker", "--nworkers", "1", "--name", "a", "-", said=old),
        start("worker", "--nworkers", "1", "--name", "b", "-", said=for_worker),
    ]
    try:
        with Client(old) as before:
            before.wait_for_workers(2, timeout=30)
            assert before.submit(from_within, 1, workers="a").result(30) == 2
            held = before.submit(np.ones, 200_000, workers="a")
            shared = before.submit(inc, 41)
            passed_on = pickle.dumps(shared)
            told = command("token", "rotate", path=path)
            # The task that was a client has one of its own.
            assert "2 workers and 2 clients were told" in told
            fresh = command("token", "show", path=path).strip()
            check_files(path, old, fresh)
            check_old_ones_are_refused(path, old, for_worker)
            check_who_is_in_stays(before, held)
            with Client(fresh, set_as_default=False) as after:
                with as_current(after):
                    assert pickle.loads(passed_on).result(30) == 42
                check_who_is_in_stays(after, after.submit(np.ones, 200_000))
            # Another life of the scheduler has the new secrets, too.
            end(scheduler, number=signal.SIGKILL)
            port = str(parse_join_string(fresh).address.port)
            scheduler = start("scheduler", *how[:3], port, *how[4:], "--no-dashboard")
            check_who_is_in_stays(before, held)
    finally:
        end(*workers, scheduler)


def check_files(path, old, fresh):
    one, other = parse_join_string(old), parse_join_string(fresh)
    assert one.keys != other.keys
    assert one.keys.worker != other.keys.worker
    assert one.address.fingerprint != other.address.fingerprint
    assert one.address.port == other.address.port
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_connection_file(path).keys == other.keys


def check_old_ones_are_refused(path, old, for_worker):
    with pytest.raises(errors.AuthRefused, match="another certificate"):
        Client(old, set_as_default=False, timeout=5)
    place = read_connection_file(path).address
    told = parse_join_string(old)._replace(address=place)
    with pytest.raises(errors.AuthRefused, match="does not know the secret"):
        Client(told, set_as_default=False, timeout=5)
    late = start("worker", "--nworkers", "1", "-", said=for_worker)
    _, said = late.communicate(timeout=60)
    assert late.returncode != 0
    assert "Take the join string of the cluster" in said


def check_who_is_in_stays(client, held):
    # By new connections to the workers' data ports, and between these.
    assert held.result(30).sum() == 200_000
    there = client.submit(np.add, held, held, workers="b")
    assert there.result(30).sum() == 400_000
    # By tasks that are clients themselves.
    assert client.submit(from_within, 1, workers="a").result(30) == 2
    with pytest.raises(errors.UsageError, match="joined with a worker's secret"):
        client.submit(from_within, 1, workers="b").result(30)
    # And over the next connection, when this one breaks.
    client.session.engine._uplink.cut()
    assert client.submit(inc, 1, key=None).result(30) == 2
    # What it passes on about itself lets others in.
    with Client(client.connection, set_as_default=False, timeout=10) as friend:
        assert friend.submit(inc, 2).result(30) == 3


@pytest.mark.system
def test_a_cluster_of_a_program_keeps_its_secret():
    with LocalCluster(1) as cluster, Client(cluster) as client:
        only = "only those of a cluster that `covey scheduler` runs"
        with pytest.raises(errors.UsageError, match=only):
            client.session.ask("rotate")
        assert client.submit(inc, 1).result(30) == 2


def test_each_secret_is_sealed_for_those_who_know_the_old_one():
    old, fresh = (Keys.of_client(Secret.fresh()) for _ in range(2))
    message = sealed(old, fresh, "ab")
    assert opened(old, message) == fresh
    # A worker gets no more than a worker's.
    worker = opened(Keys.of_worker(old.worker), message)
    assert worker == Keys.of_worker(fresh.worker)
    assert worker.client is None
    stranger = opened(Keys.of_client(Secret.fresh()), message)
    assert stranger.client != fresh.client
    assert sealed(old, fresh, "ab").client != message.client
    for secret in (old.client, fresh.client, old.worker, fresh.worker):
        assert bytes.fromhex(secret.reveal()) not in (message.client, message.worker)


def test_nonsense_is_no_secret():
    old, fresh = (Keys.of_client(Secret.fresh()) for _ in range(2))
    message = sealed(old, fresh, "")
    for wrong in (b"", message.client[:-1], message.client + b"x"):
        broken = type(message)(message.nonce, wrong, wrong)
        with pytest.raises(errors.RemoteProtocolError, match="is none"):
            opened(old, broken)


def test_tokens_of_before_are_good_still_and_others_are_not():
    old, fresh = (Keys.of_client(Secret.fresh()) for _ in range(2))
    keys = Keys.of_client(old.client)
    token = keys.token(7)
    keys.become(fresh)
    assert keys == fresh
    assert keys.token(7) != token
    assert keys.fits(7, token)
    assert keys.fits(7, fresh.token(7))
    assert not keys.fits(8, token)
    # They are remembered for a while, not for ever.
    for _ in range(8):
        keys.become(Keys.of_client(Secret.fresh()))
    assert not keys.fits(7, token)


@pytest.mark.system
@pytest.mark.slow  # A dashboard has to come up twice.
def test_pages_have_to_be_opened_anew(tmp_path):
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")
    path = tmp_path / "c.json"
    how = ("--port", "0", "--connection-file", str(path), "--dashboard-address", ":0")
    scheduler = start("scheduler", *how)
    for _ in range(2):
        scheduler.stdout.readline()
    try:
        with Client(str(path), set_as_default=False) as client:
            assert visit(client.dashboard_link) == 200
            unused = client.dashboard_link
            command("token", "rotate", path=path)
            # The process that knows the old secret ends; the next visit starts another.
            while (found := visit(client.dashboard_link)) != 200:
                assert found in {401, "cut off"}
            assert visit(unused) == 401
            assert client.connection.keys == read_connection_file(path).keys
    finally:
        end(scheduler)


def visit(link):
    """Open a page as a browser does, which keeps its cookies."""
    jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
    try:
        return urllib.request.build_opener(jar).open(link, timeout=20).status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return "cut off"
