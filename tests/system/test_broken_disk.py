"""A real disk that breaks after values were spilled there.

It is a file on a file system of memory that is smaller than it claims to be: what does not
fit there is refused when the kernel writes it, long after the worker did.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from covey import Client, config, errors, wait

pytestmark = [pytest.mark.system, pytest.mark.slow]

MIB = 1 << 20
LIMIT = 400 * MIB


def run(*command):
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@contextlib.contextmanager
def breaking_disk(folder, mebibytes):
    """Yield a directory on a disk that has room for so much, and says for 1 GiB."""
    if os.getuid() or not (shutil.which("losetup") and shutil.which("mkfs.ext4")):
        pytest.skip("a disk that breaks can only be made by root, with loop devices")
    memory, disk = folder / "memory", folder / "disk"
    memory.mkdir()
    disk.mkdir()
    with contextlib.ExitStack() as stack:
        try:
            run("mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "none", str(memory))
            stack.callback(run, "umount", "-l", str(memory))
            image = memory / "image"
            image.touch()
            os.truncate(image, 1 << 30)
            device = run("losetup", "-f", "--show", str(image))
            stack.callback(run, "losetup", "-d", device)
            run("mkfs.ext4", "-q", "-O", "^has_journal", "-m", "0", device)
            run("mount", device, str(disk))
            stack.callback(run, "umount", "-l", str(disk))
        except subprocess.CalledProcessError as error:
            pytest.skip(f"a disk that breaks cannot be made here: {error.stderr}")
        yield disk


def break_it(disk):
    """Have the kernel write what it has, and let go of that memory."""
    device = disk.stat().st_dev
    flushed = subprocess.run(["sync", "-f", str(disk)], check=False)
    assert flushed.returncode, "the disk has taken everything"
    for path in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if path.stat().st_dev == device:
                fd = os.open(path, os.O_RDONLY)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(fd)


def full(number):
    return np.full(2 * MIB, float(number))  # 16 MiB


def is_full(array, number):
    return bool((array == number).all())


def spilled(client):
    return next(iter(client.memory().values()))["spilled"]


def test_results_are_right_after_the_disk_has_lost_what_was_spilled(tmp_path, until):
    with (
        breaking_disk(tmp_path, 16) as disk,
        config.override(worker__spill_directory=str(disk)),
        Client(n_workers=2, memory_limit=LIMIT) as client,
    ):
        futures = client.map(full, range(15))
        wait(futures, timeout=60)
        assert until(lambda: spilled(client) > 40 * MIB)
        break_it(disk)
        right = client.gather(client.map(is_full, futures, range(15)))
        assert right == [True] * 15
        assert all(is_full(f.result(60), n) for n, f in enumerate(futures))
        # The worker is the same, and goes on.
        assert client.submit(full, 7).result(60)[0] == 7.0
        assert client.scheduler_info()["counters"]["tasks_failed"] == 0


def test_a_scattered_value_that_the_disk_has_lost_is_an_error_that_names_it(
    tmp_path, until
):
    with (
        breaking_disk(tmp_path, 16) as disk,
        config.override(worker__spill_directory=str(disk)),
        Client(n_workers=1, memory_limit=LIMIT) as client,
    ):
        brought = [client.scatter(full(n)) for n in range(24)]
        assert until(lambda: spilled(client) > 40 * MIB)
        break_it(disk)
        wait(client.map(is_full, brought, range(24)), timeout=60)
        lost = [f for f in brought if f.status == "error"]
        assert lost
        for future in lost:
            with pytest.raises(errors.DataLost, match="has not kept") as caught:
                future.result()
            assert str(disk) in str(caught.value)
        for number, future in enumerate(brought):
            if future not in lost:
                assert is_full(future.result(60), number)


def cut_and_read(array, folder, flag):
    """Read a value; the first time that one is mapped from a file, cut that off before."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    mapped = {int(line.split()[4]) for line in maps if f"{folder}/" in line}
    if mapped and not flag.exists():
        flag.touch()
        for path in Path("/proc").glob("[0-9]*/fd/*"):
            with contextlib.suppress(OSError):
                if (
                    f"{folder}/" in str(path.readlink())
                    and path.stat().st_ino in mapped
                ):
                    os.truncate(path, 4096)
    return float(array[-1])


def test_a_task_that_dies_of_what_cannot_be_read_runs_again_without_it(tmp_path, until):
    folder = tmp_path / "spilled"
    folder.mkdir()
    with (
        config.override(worker__spill_directory=str(folder)),
        Client(n_workers=2, memory_limit=LIMIT) as client,
    ):
        futures = client.map(full, range(15))
        wait(futures, timeout=60)
        assert until(lambda: spilled(client) > 40 * MIB)
        read = [
            client.submit(cut_and_read, future, folder, tmp_path / "flag")
            for future in futures
        ]
        assert client.gather(read) == [float(n) for n in range(15)]
        assert (tmp_path / "flag").exists()
        assert client.scheduler_info()["counters"]["tasks_failed"] == 0
