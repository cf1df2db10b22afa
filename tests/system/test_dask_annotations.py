"""What ``dask.annotate`` says around a call."""

from __future__ import annotations

import pytest

dask = pytest.importorskip("dask")

import dask.array as da  # noqa: E402  (only where dask is)
from dask import delayed  # noqa: E402

from covey import AsyncClient, Retry, errors  # noqa: E402
from covey.client.options import without_overruled  # noqa: E402
from covey.compat.client import Client as AsDistributed  # noqa: E402

NOWHERE = "nobody-of-this-name"


def once(path):
    """Fail, but for the second time."""
    if not path.exists():
        path.touch()
        raise OSError("not yet")
    return "done"


#: What is called, with a collection that was made before.
CALLS = {
    "compute": lambda client, made, path: made.compute(),
    "client.compute": lambda client, made, path: client.compute(made).result(),
    "persist": lambda client, made, path: made.persist().compute(),
    "client.persist": lambda client, made, path: client.persist(made).compute(),
    "get": lambda client, made, path: client.get({"x": (once, path)}, "x"),
    "submit": lambda client, made, path: client.submit(once, path).result(),
    "map": lambda client, made, path: client.map(once, [path])[0].result(),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("retries", [1, Retry(1), lambda key: 1])
def test_the_tasks_of_a_call_are_as_it_is_annotated(client, tmp_path, call, retries):
    path, other = tmp_path / "mark", tmp_path / "other"
    made, made_again = delayed(once)(path), delayed(once)(other)
    of_keys = callable(retries) and not isinstance(retries, Retry)
    with dask.annotate(retries=retries):
        if of_keys and call in {"submit", "map"}:
            with pytest.raises(
                errors.UsageError, match=r"retries=.* asked for each key"
            ):
                CALLS[call](client, made, path)
        else:
            assert CALLS[call](client, made, path) == "done"
    with pytest.raises(OSError, match="not yet"):
        CALLS[call](client, made_again, other)


def test_the_calls_of_a_script_for_distributed_are_annotated(client, tmp_path):
    other = AsDistributed(client.cluster, set_as_default=False)
    with other, dask.annotate(retries=1):
        assert other.submit(once, tmp_path / "a").result() == "done"
        assert other.map(once, [tmp_path / "b"])[0].result() == "done"


async def test_what_is_awaited_is_annotated(client, tmp_path):
    async with AsyncClient(client.cluster) as other:
        with dask.annotate(retries=1):
            assert await other.submit(once, tmp_path / "a") == "done"
            assert await other.get({"x": (once, tmp_path / "b")}, "x") == "done"


def test_keywords_and_layers_mean_more_than_what_is_around_a_call(client):
    (here,) = client.ncores()
    with dask.annotate(workers=here):
        layered = da.ones(4, chunks=2)
    with dask.annotate(workers=NOWHERE, allow_other_workers=True):
        # Not those of the call: these are a must.
        future = client.submit(abs, -1, workers=here)
        assert future.result() == 1
        assert client.compute(delayed(abs)(-2), workers=here).result() == 2
    with dask.annotate(workers=NOWHERE):
        kept = layered.persist(optimize_graph=False)
    assert kept.sum().compute() == 4


def test_a_wish_is_none_for_other_workers():
    said = {"workers": ["a"], "allow_other_workers": True, "color": "red"}
    assert without_overruled(said, {}) == {
        "workers": ["a"],
        "allow_other_workers": True,
    }
    assert without_overruled(said, {"workers": "b"}) == {}


@pytest.mark.parametrize("call", CALLS)
def test_an_annotation_that_is_nearly_an_option_is_told(client, tmp_path, call):
    path = tmp_path / "mark"
    path.touch()
    made = delayed(once)(path)
    with (
        dask.annotate(prioriy=5, color="red", resource_hint=1),
        pytest.warns(
            UserWarning, match=r"annotate\(prioriy=\).*mean priority="
        ) as told,
    ):
        assert CALLS[call](client, made, path) == "done"
    assert not any("color" in str(w.message) for w in told)
    assert not any("resource_hint" in str(w.message) for w in told)


def test_of_a_layer_as_well(client):
    with dask.annotate(retires=2):
        layered = da.ones(4, chunks=2)
    with pytest.warns(UserWarning, match=r"annotate\(retires=\).*mean retries="):
        assert layered.sum().compute() == 4
