"""dask's own tests, with another scheduler as the default: a pytest plugin.

::

    pytest -c tests/dask_suite/suite.ini -p dask_suite --pyargs dask.array

dask installs its tests with itself, and they know nothing of covey.  Most of them
compare through helpers that say ``scheduler="sync"`` unless a test says otherwise,
or set that for a whole module.  Both defaults become the client here; what a test
asks for in so many words stays.

``--scheduler distributed`` runs the same tests on ``dask.distributed``, and
``--scheduler sync`` as dask means them: to tell what is our fault from what is
not.  ``known.txt`` beside this file lists the tests that fail on covey, and why;
they are expected to.
"""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

#: Where dask's own tests say that they compute with ``sync`` unless told otherwise.
_HELPERS = ("dask.array.utils", "dask.dataframe.utils", "dask.bag.utils")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that the module's first lines name."""
    parser.addoption(
        "--scheduler", default="covey", choices=["covey", "distributed", "sync"]
    )


def _client(name: str) -> Any:
    """Return a client of two processes of one thread each."""
    if name == "covey":
        import covey

        return covey.Client(n_workers=2, threads_per_worker=1)
    from distributed import Client

    return Client(n_workers=2, threads_per_worker=1, dashboard_address=None)


@pytest.fixture(scope="session")
def _scheduler(request: pytest.FixtureRequest) -> Iterator[Any]:
    name = request.config.getoption("--scheduler")
    if name == "sync":
        yield "sync"
        return
    client = _client(name)
    yield client
    client.close()


@pytest.fixture(autouse=True)
def _as_default(_scheduler: Any, request: pytest.FixtureRequest) -> Iterator[None]:
    import dask

    with contextlib.ExitStack() as stack:
        # Tests use threads and temporary folders of their own; what they warn of is
        # for dask's developers.
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(dask.config.set(scheduler=_scheduler))
        for helper in _helpers():
            _say(helper, _scheduler)
        yield


def _helpers() -> list[Any]:
    found = []
    for name in _HELPERS:
        with contextlib.suppress(ImportError):
            module = __import__(name, fromlist=["assert_eq"])
            found.append(module.assert_eq)
    return found


def _say(helper: Any, scheduler: Any) -> None:
    """Let *scheduler* be what *helper* computes with by default."""
    named = [
        parameter.name
        for parameter in inspect.signature(helper).parameters.values()
        if parameter.default is not inspect.Parameter.empty
        and parameter.kind is not inspect.Parameter.KEYWORD_ONLY
    ]
    defaults = list(helper.__defaults__)
    if "scheduler" in named:
        defaults[named.index("scheduler")] = scheduler
        helper.__defaults__ = tuple(defaults)


# What is known to fail.


def _known() -> dict[str, str]:
    """Return the tests that fail on covey, each with the reason."""
    reason = ""
    known = {}
    for line in Path(__file__).with_name("known.txt").read_text().splitlines():
        if line.startswith("#"):
            reason = line.lstrip("# ")
        elif line:
            known[line] = reason
    return known


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Expect the failures that are known."""
    if config.getoption("--scheduler") != "covey":
        return
    known = _known()
    for item in items:
        path = item.path.as_posix()
        function = item.name.partition("[")[0]
        test = f"{path[path.rfind('/dask/') + 1 :]}::{function}"
        if test in known:
            item.add_marker(pytest.mark.xfail(reason=known[test], strict=False))
