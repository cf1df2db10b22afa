"""Two clients, one name: each gets the value, by the id that it has chosen."""

from __future__ import annotations

import pytest

import covey

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
