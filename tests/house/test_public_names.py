"""The names that users type, pinned.

A name may join this list; one that stands here stays, or goes with a
deprecation and an entry in the changelog.
"""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import pytest

import covey
from covey import errors

PUBLIC = {
    "AsyncClient",
    "Client",
    "Executor",
    "Future",
    "LocalCluster",
    "Pool",
    "Retry",
    "as_completed",
    "delete",
    "explain",
    "fire_and_forget",
    "get_client",
    "progress",
    "record",
    "visualize",
    "wait",
    "writable",
}

#: What else the front page may show: every error, and the version.
ERRORS = {
    name
    for name, value in vars(errors).items()
    if isinstance(value, type) and issubclass(value, errors.CoveyError)
}


def test_the_front_page_shows_what_was_promised():
    assert set(covey.__all__) >= PUBLIC
    assert set(covey.__all__) - PUBLIC <= ERRORS | {"__version__", "RemoteData"}


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_is_there_and_documented(name):
    assert inspect.getdoc(getattr(covey, name)), f"{name} has no docstring"


def test_dir_shows_the_public_names():
    assert set(covey.__all__) <= set(dir(covey))


def test_names_that_do_not_exist_say_so():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = covey.no_such_name


def test_the_dask_door_stands_where_the_seeds_knock():
    pytest.importorskip("dask")
    assert callable(importlib.import_module("covey.dask").get)


#: What takes long to import, and is imported where it is first used: others' packages, and
#: of the standard library what takes more than a few milliseconds.
HEAVY = """
    asyncio click cloudpickle concurrent.futures covey.client covey.cluster
    covey.errors covey.net covey.wire cryptography dask distributed email http inspect
    joblib json logging msgspec multiprocessing numpy pandas pathlib pickle psutil
    pyarrow rich socket ssl subprocess tempfile threading uvloop
""".split()


@pytest.fixture(scope="module")
def loaded():
    """Return the modules that a fresh Python has after ``import covey``, and had not before."""
    program = (
        "import sys; had = {*sys.modules}; import covey; print(*{*sys.modules} - had)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return frozenset(answer.stdout.split())


def test_importing_covey_loads_covey(loaded):
    assert "covey" in loaded


@pytest.mark.parametrize("name", HEAVY)
def test_importing_covey_does_not_load(loaded, name):
    assert name not in loaded


CLIENT_METHODS = """
    submit map gather scatter get compute persist cancel run who_has
    wait_for_workers scheduler_info ncores dashboard_link close shutdown
    get_executor retire_workers
""".split()

FUTURE_METHODS = """
    result exception traceback done cancelled cancel status key
    add_done_callback explain release retry __await__
""".split()


@pytest.mark.parametrize("name", CLIENT_METHODS)
def test_clients_have_the_promised_methods(name):
    assert hasattr(covey.Client, name)
    assert hasattr(covey.AsyncClient, name)


@pytest.mark.parametrize("name", FUTURE_METHODS)
def test_futures_have_the_promised_methods(name):
    assert hasattr(covey.Future, name)


SUBMIT_KEYWORDS = (
    "key pure priority retries timeout resources workers allow_other_workers".split()
)


@pytest.mark.parametrize("method", ["submit", "map"])
@pytest.mark.parametrize("keyword", SUBMIT_KEYWORDS)
def test_submit_and_map_take_the_promised_keywords(method, keyword):
    parameters = inspect.signature(getattr(covey.Client, method)).parameters
    assert parameters[keyword].kind is inspect.Parameter.KEYWORD_ONLY
