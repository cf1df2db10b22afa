"""What all tests share: `system` tests are checked for what they leave behind.

A test marked ``system`` starts processes.  When it ends, no process that stems
from it, no temporary directory or socket, and no shared memory may be left;
a test that leaves something fails, however right its answer was.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import psutil
import pytest

# How long an example takes says how busy the machine is, and nothing of the code.
hypothesis.settings.register_profile(
    "covey",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("covey")

#: Ending is asked for before a test returns; the kernel may need a moment.
PATIENCE_SECONDS = 5.0

#: Every process inherits it, so that even an orphan can be told by its test.
MARK = "COVEY_TEST_MARK"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let golden transcripts be written anew."""
    parser.addoption(
        "--rewrite", action="store_true", help="write the golden transcripts anew"
    )


@pytest.fixture(autouse=True)
def _nothing_left(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[None]:
    """Fail a ``system`` test that leaves a process, a directory or shared memory."""
    # Made before TMPDIR changes: it must outlive this test's folder.
    tmp_path_factory.getbasetemp()
    if request.node.get_closest_marker("system") is None:
        yield
        return
    # A temporary folder of its own, with a short name: the path of a unix
    # socket may be no longer than about a hundred characters.
    folder = Path(tempfile.mkdtemp(prefix="ct-"))
    mark = uuid.uuid4().hex
    monkeypatch.setenv(MARK, mark)
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    memory_before = _shared_memory()
    yield
    _, alive = psutil.wait_procs(_marked(mark), timeout=PATIENCE_SECONDS)
    processes = [_describe(process) for process in alive]
    for process in alive:
        # The next test shall not pay for this one.
        process.kill()
    # The runtime directory itself stays, as it does for users; it is empty.
    kept = {folder / "covey", folder / "covey" / "clusters"}
    paths = sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path not in kept
    )
    paths += sorted(_shared_memory() - memory_before)
    shutil.rmtree(folder)
    assert not processes, f"left running: {processes}"
    assert not paths, f"left lying about: {paths}"


def _marked(mark: str) -> list[psutil.Process]:
    """Return the other processes that carry *mark* in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found.append(process)
        except psutil.Error:
            continue
    return found


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {process.cmdline()}"
    except psutil.Error:
        return str(process.pid)


def _shared_memory() -> set[str]:
    folder = Path("/dev/shm")
    return {str(path) for path in folder.glob("covey*")} if folder.is_dir() else set()
