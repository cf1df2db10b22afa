"""Codes, cookies and hosts of the dashboard."""

from __future__ import annotations

import pytest

from covey import clock
from covey.dashboard.access import (
    CODE_SECONDS,
    COOKIE_SECONDS,
    Gate,
    host_is_ours,
    same_origin,
)
from covey.secret import Secret

SECRET = Secret(b"s" * 32)


@pytest.mark.parametrize("right", ["view", "act"])
def test_a_code_is_good_once_and_made_by_whoever_has_the_secret(right):
    code = Gate(SECRET).code(right)
    gate = Gate(SECRET)
    assert gate.admit(code) == right
    assert gate.admit(code) is None
    assert gate.admit(gate.code(right)) == right


def test_a_right_cannot_be_changed_nor_a_code_become_a_cookie():
    gate = Gate(SECRET)
    code, cookie = gate.code("view"), gate.cookie("view")
    assert gate.admit(code.replace("view", "act")) is None
    assert gate.right_of(cookie.replace("view", "act")) is None
    assert gate.right_of(code) is None
    assert gate.admit(cookie) is None
    assert gate.right_of(cookie) == "view"
    assert Gate(Secret(b"t" * 32)).right_of(cookie) is None


@pytest.mark.parametrize(
    "nonsense", ["", ".", "...", "act", "é.é.é", "act.1.2." + "0" * 32]
)
def test_nonsense_lets_nobody_in(nonsense):
    gate = Gate(SECRET)
    assert gate.admit(nonsense) is None
    assert gate.right_of(nonsense) is None


def test_codes_and_cookies_end(monkeypatch):
    gate = Gate(SECRET)
    code, cookie = gate.code("act"), gate.cookie("act")
    now = clock.wall()
    monkeypatch.setattr(clock, "wall", lambda: now + CODE_SECONDS + 1)
    assert gate.admit(code) is None
    assert gate.right_of(cookie) == "act"
    monkeypatch.setattr(clock, "wall", lambda: now + COOKIE_SECONDS + 1)
    assert gate.right_of(cookie) is None


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1:8787", "localhost:1", "LOCALHOST", "[::1]:80", "127.9.9.9", "hub"],
)
def test_hosts_that_are_ours(host):
    assert host_is_ours(host, frozenset({"hub"}))


@pytest.mark.parametrize(
    "host",
    ["evil.com", "127.0.0.1.evil.com", "", "10.0.0.1:8787", "[::2]", "localhost.evil"],
)
def test_hosts_that_are_not(host):
    assert not host_is_ours(host, frozenset({"hub"}))


def test_origins():
    assert same_origin("http://127.0.0.1:8787", "127.0.0.1:8787")
    assert not same_origin("http://127.0.0.1:8788", "127.0.0.1:8787")
    assert not same_origin("http://evil.com", "127.0.0.1:8787")
    assert not same_origin("null", "127.0.0.1:8787")
    assert not same_origin(None, "127.0.0.1:8787")
