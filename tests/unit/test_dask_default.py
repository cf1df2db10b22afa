"""Becoming dask's default scheduler, and leaving no trace afterwards."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from covey.interop import dask_default

config = pytest.importorskip("dask.config")


@pytest.fixture
def settings(monkeypatch):
    """Return what dask is set to; put everything back in the end.

    A client that other tests share is default by now: here there is none.
    """
    monkeypatch.setattr(dask_default, "_clients", [])
    monkeypatch.setattr(dask_default, "_ours", {})
    before = dict(config.config)
    with config.set({"scheduler": None, "dataframe.shuffle.method": None}):
        yield lambda: (
            config.get("scheduler", None),
            config.get("dataframe.shuffle.method", None),
        )
    config.config.clear()
    config.config.update(before)
    assert not dask_default._clients
    assert not dask_default._ours


def test_the_newest_client_is_the_default_and_the_one_before_comes_back(settings):
    one, two = object(), object()
    before = settings()
    dask_default.set_default(one)
    assert settings() == (one, "tasks")
    dask_default.set_default(two)
    assert settings() == (two, "tasks")
    dask_default.unset_default(one)
    assert settings() == (two, "tasks")
    dask_default.unset_default(two)
    assert settings() == before
    dask_default.unset_default(two)
    assert settings() == before


def test_what_the_user_chose_before_comes_back(settings):
    config.set({"scheduler": "threads", "dataframe.shuffle.method": "disk"})
    client = object()
    dask_default.set_default(client)
    assert settings() == (client, "disk")
    dask_default.unset_default(client)
    assert settings() == ("threads", "disk")


def test_what_the_user_chose_since_stays(settings):
    client = object()
    dask_default.set_default(client)
    config.set({"scheduler": "synchronous", "dataframe.shuffle.method": "disk"})
    dask_default.unset_default(client)
    assert settings() == ("synchronous", "disk")


def run_script(text):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_dask_is_not_imported_but_waited_for():
    run_script(
        """
        import importlib.util, sys
        from covey.interop import dask_default
        client = object()
        dask_default.set_default(client)
        assert "dask" not in sys.modules
        # Looking whether dask is there is not importing it.
        assert importlib.util.find_spec("dask") is not None
        assert "dask" not in sys.modules
        import dask.config
        assert dask.config.get("scheduler") is client
        assert dask_default._finder not in sys.meta_path
        import importlib
        importlib.reload(dask)
        dask_default.unset_default(client)
        assert dask.config.get("scheduler", None) is None
        """
    )


def test_a_client_that_goes_first_leaves_nothing_waiting():
    run_script(
        """
        import sys
        from covey.interop import dask_default
        client = object()
        before = list(sys.meta_path)
        dask_default.begin(client)
        dask_default.set_default(client)
        assert sys.meta_path != before
        dask_default.unset_default(client)
        dask_default.end(client)
        assert sys.meta_path == before
        import dask.config
        assert dask.config.get("scheduler", None) is None
        """
    )
