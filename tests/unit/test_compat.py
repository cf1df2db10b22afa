"""covey in the place of distributed: which names are there, and how arguments are read."""

from __future__ import annotations

import pickle
import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest

from covey.compat import distributed, missing, names
from covey.compat.cluster import local_keywords
from covey.errors import UsageError

#: All that ``distributed.__all__`` has, in 2026.8.0, besides modules.
THEIRS = """
    Actor ActorFuture Adaptive BaseActorFuture CancelledError Client CompatibleExecutor
    CondaInstall Environ Event Future KilledWorker LocalCluster Lock MultiLock Nanny
    NannyPlugin InstallPlugin PipInstall Queue Reschedule SSHCluster Scheduler
    SchedulerPlugin Security Semaphore SpecCluster Status SubprocessCluster TimeoutError
    UploadDirectory UploadFile Variable Worker WorkerPlugin as_completed connect
    default_client fire_and_forget futures_of get_client get_task_metadata get_task_stream
    get_worker local_client performance_report print progress rejoin rpc secede span wait
    warn worker_client
""".split()


@pytest.fixture
def theirs(monkeypatch):
    monkeypatch.setattr(names, "_let_dask_rechunk_by_tasks", lambda: None)
    module = ModuleType("distributed")
    names.fill(module)
    return module


def test_every_name_of_theirs_is_there(theirs):
    assert set(THEIRS) <= set(theirs.__all__)
    for module in names.MODULES:
        names.fill(ModuleType(module))


def test_what_is_missing_says_so_when_it_is_used(theirs):
    for name in missing.WHY:
        there = getattr(theirs, name)
        assert not isinstance(3, there)
        with pytest.raises(UsageError, match=f"distributed.{name} is not to be had"):
            there("argument", keyword=1)
    assert pickle.loads(pickle.dumps(theirs.Lock)) is theirs.Lock


def test_keywords_of_a_local_cluster():
    given = {
        "n_workers": 2,
        "threads_per_worker": None,
        "memory_limit": "1GB",
        "processes": None,
        "silence_logs": 30,
        "scheduler_port": 0,
        "dashboard_address": None,
        "ip": "127.0.0.1",
        "security": None,
    }
    assert local_keywords(given) == {
        "n_workers": 2,
        "memory_limit": 2_000_000_000,
        "processes": True,
        "port": 0,
        "dashboard_address": None,
        "host": "127.0.0.1",
    }
    for limit in ("auto", None, 0, 0.5):
        assert local_keywords({"memory_limit": limit}) == {}
    with pytest.raises(UsageError, match="worker_class= of distributed's LocalCluster"):
        local_keywords({"worker_class": object})


def test_a_module_that_is_not_there_is_named():
    finder = distributed._Finder()
    assert finder.find_spec("distributed.lock", None) is not None
    assert finder.find_spec("distributed_else", None) is None
    with pytest.raises(ModuleNotFoundError, match="distributed.shuffle is asked for"):
        finder.find_spec("distributed.shuffle", None)


def test_it_is_refused_where_the_real_one_is_in_use(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", SimpleNamespace())
    with pytest.raises(UsageError, match="imported already"):
        distributed.install()
    assert distributed._finder not in sys.meta_path


def test_it_costs_nothing_until_somebody_asks():
    program = (
        "import sys; from covey.compat import distributed as d; d.install(); d.install();"
        "print(sys.meta_path.count(d._finder), *sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    count, *modules = answer.stdout.split()
    assert count == "1"
    assert not {"distributed", "covey.client.client", "msgspec"} & set(modules)
