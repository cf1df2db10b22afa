"""What dask is set to in a program, in its tasks."""

from __future__ import annotations

import pytest

config = pytest.importorskip("dask.config")

from covey import Client  # noqa: E402  (only where dask is)
from covey.interop import dask_settings  # noqa: E402


def settings(*keys):
    import dask.config

    return [dask.config.get(key, None) for key in keys]


def test_runners_of_this_process_have_its_settings():
    chosen = {"array.chunk-size": "1MiB", "covey-test": {"a": 5, "b": object()}}
    with config.set(chosen), Client(n_workers=1, set_as_default=False) as client:
        found = client.submit(settings, "array.chunk-size", "covey-test.a").result()
        assert found == ["1MiB", 5]
        assert client.submit(settings, "covey-test.b").result() == [None]


def test_what_is_no_plain_value_or_too_long_is_not_handed_on():
    def handed_on():
        return config.collect_env(dask_settings.inherited())

    odd = {"scheduler": object(), "covey-test": {"x": [1, object()], "y": [1, "z"]}}
    with config.set(odd):
        assert handed_on()["covey-test"] == {"y": [1, "z"]}
        assert "scheduler" not in handed_on()
    with config.set({"covey-test": "x" * 200_000}):
        assert handed_on() == {}
