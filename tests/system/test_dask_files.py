"""Files that many tasks write to: one task at a time, whichever runner it is in."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("dask")
xarray = pytest.importorskip("xarray")
pytest.importorskip("h5netcdf")

import dask  # noqa: E402  (only where it is)
import dask.array as da  # noqa: E402
from dask import utils  # noqa: E402
from xarray.backends import locks  # noqa: E402

h5py = pytest.importorskip("h5py")

from covey import errors  # noqa: E402
from covey.interop.file_lock import FileLock  # noqa: E402
from covey.wire.client_link import WorkerSeen  # noqa: E402


class OneAtATime:
    """Fails if it is written to while another process, or thread, does so.

    Args:
        folder: where each writer leaves a mark meanwhile; and one for good.
    """

    def __init__(self, folder):
        self.folder = folder

    def __setitem__(self, place, value):
        mark = os.open(self.folder / "busy", os.O_CREAT | os.O_EXCL)
        os.close(mark)
        # Long enough for the other runner to come by, if nothing keeps it.
        threading.Event().wait(0.02)
        (self.folder / f"{place[0].start}").write_text(str(value.sum()))
        (self.folder / "busy").unlink()


def test_chunks_of_a_netcdf_file_are_written_by_all_runners(client, tmp_path):
    drawn = np.random.default_rng(1).random((200, 50))
    data = xarray.Dataset({"a": (("x", "y"), drawn)})
    path = tmp_path / "chunked.nc"
    lazy = data.chunk(x=10) + 1
    lazy.to_netcdf(path, engine="h5netcdf")
    with xarray.open_dataset(path, engine="h5netcdf") as back:
        assert back.equals(data + 1)
    with xarray.open_dataset(path, engine="h5netcdf", chunks={"x": 25}) as back:
        assert float(back.a.sum()) == pytest.approx(drawn.sum() + drawn.size)
    assert list(tmp_path.iterdir()) == [path]


def test_a_netcdf_file_may_be_written_later(client, tmp_path):
    data = xarray.Dataset({"a": ("x", np.arange(40.0))})
    later = data.chunk(x=4).to_netcdf(
        tmp_path / "later.nc", engine="h5netcdf", compute=False
    )
    client.compute(later, sync=True)
    with xarray.open_dataset(tmp_path / "later.nc", engine="h5netcdf") as back:
        assert back.equals(data)


def test_xarray_is_given_the_lock_of_whoever_computes(client, tmp_path):
    key = str(tmp_path / "x.nc")
    assert locks.get_dask_scheduler() == "multiprocessing"
    assert isinstance(locks.get_write_lock(key), FileLock)
    with dask.config.set(scheduler="threads"):
        assert locks.get_dask_scheduler() == "threaded"
        assert isinstance(locks.get_write_lock(key), type(threading.Lock()))


def test_a_lock_that_xarray_chose_for_threads_is_told_as_one(client, tmp_path):
    data = xarray.Dataset({"a": ("x", np.arange(40.0))}).chunk(x=4)
    with dask.config.set(scheduler="threads"):
        later = data.to_netcdf(tmp_path / "x.nc", engine="h5netcdf", compute=False)
    with pytest.raises(errors.NotPicklable, match="lock that xarray chose.*set_as_def"):
        client.compute(later, sync=True)
    with pytest.raises(errors.NotPicklable, match="create it inside the task"):
        client.submit(len, [threading.Lock()])


def test_a_client_that_is_not_the_default_one_may_be_chosen(tmp_path):
    # A process of its own: here is a default client.
    script = """
import sys, dask, numpy, xarray
from covey import Client
with Client(n_workers=1, set_as_default=False) as client:
    data = xarray.Dataset({"a": ("x", numpy.arange(40.0))})
    with dask.config.set(scheduler=client):
        data.chunk(x=4).to_netcdf(sys.argv[1], engine="h5netcdf")
    assert xarray.open_dataset(sys.argv[1]).equals(data)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "x.nc")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_xarray_computes_and_persists(client):
    chunked = xarray.Dataset({"a": (("x", "y"), np.ones((10, 10)))}).chunk(x=5)
    assert float(chunked.a.mean().compute()) == 1
    assert float(chunked.persist().a.sum()) == 100
    assert float(chunked.groupby("x").mean().a.sum().compute()) == 100


@pytest.mark.parametrize("lock", [True, "given"])
def test_one_chunk_at_a_time_is_stored(client, tmp_path, lock):
    if lock == "given":
        lock = FileLock(tmp_path / "lock")
    da.store(da.ones(60, chunks=5), OneAtATime(tmp_path), lock=lock)
    written = [path.read_text() for path in tmp_path.iterdir()]
    assert written == ["5.0"] * 12


def test_without_a_lock_chunks_meet(client, tmp_path):
    # If this one passes too, the test above shows nothing.
    with pytest.raises(FileExistsError):
        da.store(da.ones(60, chunks=5), OneAtATime(tmp_path), lock=False)


def test_a_lock_of_one_machine_is_refused_on_two(client, tmp_path, monkeypatch):
    assert isinstance(utils.get_scheduler_lock(scheduler=client), FileLock)
    assert isinstance(
        utils.get_scheduler_lock(scheduler="threads"), utils.SerializableLock
    )
    far = WorkerSeen(1 << 40, "far", (), "another", 1)
    monkeypatch.setitem(client.session.engine.workers, far.worker, far)
    with pytest.raises(errors.UsageError, match=r"2 hosts.*lock=False"):
        da.store(da.ones(6, chunks=5), OneAtATime(tmp_path))


@pytest.mark.parametrize("kind", ["array", "map of a file", "several"])
def test_an_array_of_numpy_is_no_target(client, tmp_path, kind):
    if kind == "map of a file":
        target = np.memmap(tmp_path / "it", dtype=float, mode="w+", shape=10)
    else:
        target = np.zeros(10)
    ones = da.ones(10, chunks=5)
    several = ([ones], [target]) if kind == "several" else (ones, target)
    with pytest.raises(errors.UsageError, match=r"target\[...\] = x.compute\(\)"):
        da.store(*several)
    # Threads of this process have the array itself.
    ones.store(target, scheduler="threads")
    assert target.sum() == 10


@pytest.fixture
def hdf5(tmp_path):
    path = tmp_path / "it.h5"
    with h5py.File(path, "w") as file:
        file["group/x"] = np.arange(1000.0)
    return path


def test_an_hdf5_data_set_is_read_by_all_runners(client, hdf5):
    file = h5py.File(hdf5)
    x = da.from_array(file["group/x"], chunks=100)
    assert x.sum().compute() == 499_500
    assert da.from_array(file["group/x"], lock=True).sum().compute() == 499_500
    opened = client.gather(client.map(str, [file, file["group"], file["group/x"]]))
    assert opened == [str(file), str(file["group"]), str(file["group/x"])]
    # As what a task returns, too, whose file stays open with it.
    returned = client.submit(lambda group: group["x"], file["group"]).result()
    assert returned[999] == 999
    assert returned.file.mode == "r"


def test_an_hdf5_file_is_written_in_this_process_only(client, tmp_path):
    path = tmp_path / "new.h5"
    ones = da.ones(60, chunks=5)
    with pytest.raises(errors.UsageError, match=r"new.h5 is open for writing here"):
        ones.to_hdf5(path, "x")
    with h5py.File(path, "a") as file:
        with pytest.raises(errors.UsageError, match=r"scheduler='threads'"):
            da.store(ones, file["x"])
        with pytest.raises(errors.UsageError, match=r"open it with mode 'r'"):
            da.from_array(file["x"]).sum().compute()
    with dask.config.set(scheduler="threads"):
        ones.to_hdf5(path, "x")
    with h5py.File(path) as file:
        assert da.from_array(file["x"], chunks=7).sum().compute() == 60


def test_what_others_cannot_open_is_refused(client, hdf5):
    with h5py.File(hdf5) as file:
        closed = file["group/x"]
    with pytest.raises(errors.NotPicklable, match="its file is closed"):
        client.submit(len, closed)
    with (
        h5py.File(io.BytesIO(hdf5.read_bytes()), "r") as file,
        pytest.raises(errors.NotPicklable, match="driver 'fileobj' is not found"),
    ):
        client.submit(len, file["group/x"])
    with h5py.File(hdf5) as file:
        hdf5.rename(hdf5.with_name("elsewhere"))
        with pytest.raises(errors.NotPicklable, match="driver 'sec2' is not found"):
            client.submit(len, file["group/x"])


def test_a_lock_travels_by_its_path_and_leaves_nothing(tmp_path):
    lock = FileLock(Path(os.path.relpath(tmp_path)) / "lock")
    other = pickle.loads(pickle.dumps(lock))
    with lock:
        assert lock.locked()
        assert other.locked()
        assert not other.acquire(blocking=False)
    assert not lock.locked()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RuntimeError, match="not acquired"):
        other.release()


def test_threads_that_wait_for_a_lock_get_it_in_turn(tmp_path):
    inside, most, done = [], [], []

    def enter():
        lock = FileLock(tmp_path / "lock")
        for _ in range(50):
            with lock:
                inside.append(1)
                most.append(len(inside))
                inside.pop()
        done.append(1)

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done) == 4
    assert max(most) == 1
