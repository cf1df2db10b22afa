"""Addresses of odd forms, and files and folders that others have prepared."""

from __future__ import annotations

import os

import pytest

from covey.client.resolve import resolve_target
from covey.errors import CoveyError, UsageError
from covey.net.addresses import parse_address
from covey.net.connection_file import private_directory, read_connection_file
from covey.net.join_string import parse_join_string
from covey.worker import environments

TOKEN = "b" * 64

ODD = [
    "unix:",
    "unix://",
    "unix:relative",
    "unix:\0abstract",
    "unix:/with\nlines",
    "host:\N{SUPERSCRIPT TWO}",
    "host:\N{ARABIC-INDIC DIGIT THREE}",
    "host:" + "9" * 5000,
    "host:-1",
    "host:65536",
    ":8786",
    "::1",
    "[::1",
    "[::g]:1",
    "\ud800:1",
    "a" * 64 + ":1",
    ("a" * 60 + ".") * 5 + ":1",
    ".",
    "a..b:1",
    "user@host:1",
    "host name:1",
    "host\0:1",
    "\N{ZERO WIDTH SPACE}host:1",
    "https://host:1",
    "tls://host:1",
    f"tls://host:1/sha256:{'g' * 64}",
]


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_an_address_of_no_known_form_is_refused_in_our_words(text, monkeypatch):
    with pytest.raises(UsageError) as caught:
        parse_address(text)
    assert len(str(caught.value)) < 600
    monkeypatch.setenv("COVEY_ADDRESS", text.replace("\0", "").replace("\ud800", "?"))
    with pytest.raises(CoveyError):
        resolve_target(None, None, {})
    with pytest.raises(UsageError) as caught:
        parse_join_string(f"covey://client:{TOKEN}@{text}/plain")
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["h", "h:0", "h.:1", "10.0.0.7:1", "[::1]:1", "[fe80::1%eth0]:1", "b\xfccher.de:1"],
)
def test_an_address_of_a_known_form_is_taken(text):
    assert parse_address(text).port in {0, 1, 8786}


@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "nothing"])
def test_what_is_no_file_is_no_connection_file(kind, tmp_path):
    """Somebody else may have put it where one is expected; nobody waits for it."""
    path = tmp_path / "cluster.json"
    if kind == "pipe":
        os.mkfifo(path, 0o600)
    elif kind == "folder":
        path.mkdir(0o700)
    elif kind == "link":
        path.symlink_to("/etc/hostname")
    with pytest.raises(UsageError, match=r"cluster\.json"):
        read_connection_file(path)


@pytest.mark.parametrize("kind", ["file", "pipe", "link", "dangling", "open", "under"])
def test_a_private_folder_that_others_have_prepared_is_refused(kind, tmp_path):
    path = tmp_path / "covey-1000"
    match kind:
        case "file":
            path.touch()
        case "pipe":
            os.mkfifo(path)
        case "link":
            (tmp_path / "theirs").mkdir(0o700)
            path.symlink_to(tmp_path / "theirs")
        case "dangling":
            path.symlink_to(tmp_path / "nowhere")
        case "open":
            path.mkdir()
            path.chmod(0o770)
        case "under":
            path.touch()
            path = path / "clusters"
    with pytest.raises(UsageError, match="covey-1000"):
        private_directory(path)


def test_programs_are_kept_in_no_folder_of_another_user(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = environments.cache_folder()
    assert folder.stat().st_mode & 0o077 == 0
    monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(PermissionError, match="another user"):
        environments.cache_folder()
