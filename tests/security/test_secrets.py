"""Secrets do not show themselves, and join strings say what they mean."""

from __future__ import annotations

import copy
import pickle
import traceback

import cloudpickle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.errors import AuthRefused, UsageError
from covey.net.addresses import Address, parse_address
from covey.net.connection_file import read_connection_file, write_connection_file
from covey.net.join_string import Connection, parse_join_string
from covey.net.scheme import is_join_string
from covey.secret import Secret
from covey.wire.keys import TOKEN_BYTES, Keys, Role

FINGERPRINT = "ab" * 32
PLAIN = Address("10.0.0.7", 8786, "")
PINNED = PLAIN._replace(fingerprint=FINGERPRINT)


def spellings(secret):
    """Return every way in which the secret could be written by accident."""
    digits = secret.reveal()
    value = bytes.fromhex(digits)
    return [digits, repr(value), str(value), digits.upper()]


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{!r:>40}".format, ascii])
def test_nothing_shows_a_secret(show):
    secret = Secret.fresh()
    keys = Keys.of_client(secret)
    connection = Connection(PINNED, keys)
    for thing in (secret, keys, connection, [secret], {"keys": keys}, (connection,)):
        shown = show(thing)
        assert not [word for word in spellings(secret) if word in shown]


def test_a_traceback_with_locals_shows_no_secret():
    secret = Secret.fresh()
    keys = Keys.of_client(secret)
    try:
        keys.of_role(Role.CLIENT, "no number")
        Keys.of_worker(secret).of_role(Role.CLIENT, 0)
    except AuthRefused as error:
        told = traceback.TracebackException.from_exception(error, capture_locals=True)
        text = "".join(told.format())
    assert "secret" in text
    assert not [word for word in spellings(secret) if word in text]


@pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps, copy.deepcopy])
def test_a_secret_does_not_travel_by_accident(dumps):
    for thing in (Secret.fresh(), Keys.of_client(Secret.fresh())):
        with pytest.raises(TypeError, match="does not travel"):
            dumps({"inside": [thing]})


def test_a_bad_secret_is_refused_without_repeating_it():
    for digits in ("a secret that somebody chose", "12", "", None):
        with pytest.raises(ValueError) as caught:
            Secret.of_digits(digits)
        assert not digits or digits not in str(caught.value)


def test_secrets_are_equal_when_their_bytes_are():
    secret = Secret.fresh()
    assert secret == Secret.of_digits(secret.reveal())
    assert secret != Secret.fresh()
    assert secret != secret.reveal()
    assert len({secret, Secret.of_digits(secret.reveal())}) == 1


def test_there_is_no_way_back():
    """What is derived differs from its source and from everything else derived."""
    secret = Secret.fresh()
    keys = Keys.of_client(secret)
    derived = [
        keys.worker,
        keys.of_role(Role.ASKER, 0),
        keys.of_role(Role.ASKER, 1),
        secret.derive(b"data"),
        keys.worker.derive(b"data"),
    ]
    assert len({secret, *derived}) == 1 + len(derived)
    assert Keys.of_worker(keys.worker).of_role(Role.ASKER, 5) == keys.of_role(
        Role.ASKER, 5
    )


@given(st.integers(1, (1 << 62) - 1), st.integers(1, (1 << 62) - 1))
def test_a_token_fits_one_task(one, other):
    keys = Keys.of_client(Secret(b"s" * 32))
    token = keys.token(one)
    assert len(token) == TOKEN_BYTES
    assert Keys.of_worker(keys.worker).fits(one, token)
    assert keys.fits(other, token) == (one == other)
    assert not keys.fits(one, b"")
    assert not keys.fits(one, token[:-1])
    assert not Keys.of_client(Secret(b"t" * 32)).fits(one, token)


# Join strings.


@pytest.mark.parametrize(
    "address",
    [
        PLAIN,
        PINNED,
        Address("::1", 1, ""),
        Address("fe80::1", 65535, "", FINGERPRINT),
        Address("host.example", 8786, "", FINGERPRINT),
    ],
    ids=str,
)
def test_a_join_string_comes_back_as_it_went(address):
    connection = Connection(address, Keys.of_client(Secret.fresh()))
    text = connection.join_string()
    assert is_join_string(text)
    assert parse_join_string(f" {text}\n") == connection
    for_worker = parse_join_string(connection.join_string(worker=True))
    assert for_worker.address == address
    assert for_worker.keys == Keys.of_worker(connection.keys.worker)
    assert parse_address(str(address)) == address


def test_a_join_string_for_workers_says_nothing_that_makes_a_client():
    secret = Secret.fresh()
    text = Connection(PLAIN, Keys.of_client(secret)).join_string(worker=True)
    assert secret.reveal() not in text
    only_worker = parse_join_string(text)
    with pytest.raises(UsageError, match="only the worker's"):
        only_worker.join_string()
    with pytest.raises(AuthRefused):
        only_worker.keys.of_role(Role.CLIENT, 0)


def test_a_wildcard_is_told_as_an_address_that_others_can_reach():
    text = Connection(
        Address("0.0.0.0", 8786, "", FINGERPRINT), Keys.of_client(Secret.fresh())
    ).join_string()
    assert "0.0.0.0" not in text


def test_a_cluster_on_a_socket_has_no_join_string():
    local = Connection(Address("", 0, "/s"), Keys.of_client(Secret.fresh()))
    with pytest.raises(UsageError, match="own machine only"):
        local.join_string()


@given(st.data())
def test_a_garbled_join_string_is_refused_and_not_repeated(data):
    secret = Secret.fresh()
    text = Connection(PINNED, Keys.of_client(secret)).join_string()
    cut = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(UsageError) as caught:
        parse_join_string(text[:cut])
    assert secret.reveal() not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "covey://",
        "covey://host:1",
        "covey://ab@host:1/plain",
        "covey://scheduler:" + "ab" * 32 + "@host:1/plain",
        "covey://client:" + "zz" * 32 + "@host:1/plain",
        "covey://client:" + "ab" * 32 + "@host:1/sha256:12",
        "covey://client:" + "ab" * 32 + "@host:1/md5:" + "ab" * 32,
        "covey://client:" + "ab" * 32 + "@host:99999/plain",
    ],
)
def test_nonsense_is_no_join_string(text):
    with pytest.raises(UsageError):
        parse_join_string(text)


def test_an_address_with_tls_says_whom_to_trust():
    for text in ("tls://h:1", "tls://h:1/", "tls://h:1/sha256:", "tls://h:1/sha256:xy"):
        with pytest.raises(UsageError, match="no fingerprint"):
            parse_address(text)
    assert PINNED.shown == "tls://10.0.0.7:8786"


# Connection files.


@pytest.mark.parametrize("worker", [False, True])
def test_a_connection_file_comes_back_as_it_went(tmp_path, worker):
    path = tmp_path / "c.json"
    keys = Keys.of_client(Secret.fresh())
    write_connection_file(path, Connection(PINNED, keys), worker=worker)
    found = read_connection_file(path)
    assert found.address == PINNED
    assert found.keys == (Keys.of_worker(keys.worker) if worker else keys)
    assert (keys.client.reveal() in path.read_text()) != worker
