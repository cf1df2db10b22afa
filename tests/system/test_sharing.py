"""Two clients, one name: each gets the value, by the id that it has chosen."""

from __future__ import annotations

import pytest

import covey
from covey import settings
from covey.client import bringing

pytestmark = pytest.mark.system


def large():
    return b"x" * 3_000_000


def test_a_large_value_is_fetched_under_the_id_of_the_task_itself():
    with (
        covey.LocalCluster(n_workers=1) as cluster,
        covey.Client(cluster) as ann,
        covey.Client(cluster) as bob,
    ):
        hers = ann.submit(large, key="model")
        assert len(hers.result(30)) == 3_000_000
        his = bob.submit(large, key="model")
        assert len(his.result(30)) == 3_000_000
        # As an argument it goes by that other id, too.
        assert bob.submit(len, his).result(30) == 3_000_000
        del hers
        assert len(bob.gather([his])[0]) == 3_000_000


def test_a_holder_that_does_not_answer_is_asked_until_its_grace_is_over(monkeypatch):
    grace = settings.Settings().scheduler.worker_grace_seconds
    pauses = bringing.FETCH_PAUSES_SECONDS
    assert sum(pauses) > grace
    monkeypatch.setattr(bringing, "FETCH_PAUSES_SECONDS", (0.0,) * len(pauses))
    with covey.Client(n_workers=1, processes=False) as client:
        future = client.submit(large)
        covey.wait([future])
        vain = iter(range(len(pauses) - 1))
        fetch = future.session.bringer._fetch_from

        async def in_the_end(worker, tasks):
            return next(vain, None) is None and await fetch(worker, tasks)

        monkeypatch.setattr(future.session.bringer, "_fetch_from", in_the_end)
        assert len(future.result(30)) == 3_000_000


def test_who_writes_into_a_large_argument_is_told_to_copy():
    np = pytest.importorskip("numpy")

    def store(x):
        x[0] = 1

    with covey.Client(n_workers=1, processes=False) as client:
        future = client.submit(store, np.zeros(1_000_000))
        with pytest.raises(ValueError, match="is read-only") as caught:
            future.result(30)
        assert "x = x.copy() or x = covey.writable(x)" in caught.value.__notes__[0]
        assert "x.copy(deep=True)" in caught.value.__notes__[0]
