"""Connection files: where a cluster is, and the secrets that open it.

A scheduler writes one, mode 0600, in a directory of mode 0700; workers and
clients of the same user find it by the address, so nobody types a secret::

    $XDG_RUNTIME_DIR/covey/  or  /tmp/covey-UID/
        clusters/8786.json          a scheduler listening on port 8786
        local-x7f3/scheduler        the sockets of an embedded cluster

What others could have written or read is refused.  A file that was left behind by
a process that was killed is told from one that counts.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from covey.errors import NoScheduler, UsageError
from covey.net.addresses import (
    Address,
    host_identity,
    is_loopback,
    is_wildcard,
    parse_address,
)
from covey.net.join_string import Connection
from covey.secret import Secret
from covey.wire.keys import Keys

#: Two processes may tidy up and begin at the same moment, but not for long.
_TRIES: Final = 5


def runtime_directory() -> Path:
    """Return this user's private directory for sockets and connection files.

    Raises:
        UsageError: it belongs to somebody else, or others can look into it.
    """
    return private_directory(_runtime_path())


def _runtime_path() -> Path:
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and os.access(base, os.W_OK):
        return Path(base) / "covey"
    return Path(tempfile.gettempdir()) / f"covey-{os.getuid()}"


def fresh_directory(role: str) -> str:
    """Make a private directory for the sockets of this process.

    Directories of processes that are gone (a killed one cannot tidy up) are
    removed first.
    """
    for _ in range(_TRIES):
        runtime = runtime_directory()
        _sweep(runtime, role)
        try:
            prefix = f"{role}-{os.getpid()}-"
            return tempfile.mkdtemp(prefix=prefix, dir=runtime)
        except FileNotFoundError:
            continue  # Another process has just removed the empty directory.
    raise UsageError(f"{runtime_directory()} disappears as soon as it is made")


def leave_runtime_directory() -> None:
    """Remove the runtime directory if nothing of anybody is in it any more."""
    runtime = _runtime_path()
    for path in (runtime / "clusters", runtime):
        try:
            path.rmdir()
        except OSError:
            continue  # Somebody else is there, or has removed it already.


def _sweep(runtime: Path, role: str) -> None:
    for path in runtime.glob(f"{role}-*-*"):
        pid = path.name.split("-")[1]
        if pid.isdigit() and not _is_alive(int(pid)):
            shutil.rmtree(path, ignore_errors=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False  # No process has such a number.
    except PermissionError:
        return True
    return True


def private_directory(path: Path) -> Path:
    """Make sure that *path* is a directory that only this user can enter.

    Raises:
        UsageError: it is not, and we do not change what is not ours.
    """
    for left in reversed(range(_TRIES)):
        try:
            status = _made(path)
            break
        except OSError as error:
            if left and isinstance(error, FileNotFoundError):
                continue  # Another process has just removed the empty directory.
            raise UsageError(
                f"{path} cannot be made a directory of this user ({error.strerror}); "
                f"set XDG_RUNTIME_DIR to a directory of your own"
            ) from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise UsageError(
            f"{path} must be a directory of this user, and is not; remove it, or set "
            f"XDG_RUNTIME_DIR to a directory of your own"
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise UsageError(f"{path} can be entered by other users; run: chmod 700 {path}")
    return path


def _made(path: Path) -> os.stat_result:
    """Make a directory unless it is there; return what the kernel knows of it."""
    with contextlib.suppress(FileExistsError):  # It is there, and no directory.
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path.lstat()


class Life(NamedTuple):
    """One life of a scheduler: of which cluster, and the how-manieth."""

    cluster: str
    epoch: int


def write_connection_file(
    path: Path,
    connection: Connection,
    *,
    worker: bool = False,
    life: Life | None = None,
) -> None:
    """Write *connection* to *path*, readable by this user only.

    An older file of this user is replaced.

    Args:
        path: where to.
        connection: what to write.
        worker: leave out what makes a client.
        life: what the next life of the scheduler has to know of this one.

    Raises:
        UsageError: the place cannot be written.
    """
    try:
        _write(path, connection, worker, life)
    except OSError as error:
        raise UsageError(
            f"the connection file {path} cannot be written: {error.strerror}"
        ) from error


def _write(path: Path, connection: Connection, worker: bool, life: Life | None) -> None:
    keys = connection.keys
    secret = keys.worker if worker or keys.client is None else keys.client
    only_worker = secret is keys.worker
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    fresh.unlink(missing_ok=True)
    fd = os.open(fresh, flags, 0o600)
    with os.fdopen(fd, "w") as file:
        fields: dict[str, Any] = {
            "address": str(connection.address),
            "role": "worker" if only_worker else "client",
            "token": secret.reveal(),
            "pid": os.getpid(),
            "host": host_identity(),
        }
        if life is not None:
            fields.update(life._asdict())
        json.dump(fields, file)
        file.write("\n")
    fresh.replace(path)


def read_connection_file(path: Path) -> Connection:
    """Read a connection file.

    Raises:
        UsageError: it is not there, not ours, open to others, or garbled.
        NoScheduler: the process that wrote it has ended.
    """
    connection, fields = _read(path)
    if _has_died(fields):
        raise _gone(path, connection, fields)
    return connection


def _gone(path: Path, connection: Connection, fields: dict[str, Any]) -> NoScheduler:
    return NoScheduler(
        f"the cluster at {connection.address.shown} is gone: its process "
        f"{fields['pid']} has ended without removing its connection file {path}. "
        f"Start it again (at the same port it goes on with what clients and workers "
        f"still know), or start a new one"
    )


def left_behind(path: Path) -> tuple[Keys, Life] | None:
    """Return what a scheduler left that died: the next one goes on with it.

    ``None`` if there is none, or if it was told to end, or lives.
    """
    try:
        connection, fields = _read(path)
        life = Life(str(fields["cluster"]), int(fields["epoch"]))
    except (UsageError, KeyError, ValueError):
        return None
    if not _has_died(fields) or connection.keys.client is None:
        return None
    return connection.keys, life


def is_overtaken(path: Path, life: Life) -> bool:
    """Whether a file tells of a later life of the same cluster than *life*."""
    try:
        _, fields = _read(path)
        found = Life(str(fields["cluster"]), int(fields["epoch"]))
    except (UsageError, KeyError, ValueError):
        return False
    return found.cluster == life.cluster and found.epoch > life.epoch


def _has_died(fields: dict[str, Any]) -> bool:
    """Whether the process that wrote a file has ended, as far as can be told."""
    # Process ids of another machine, or another container, tell us nothing.
    return fields.get("host") == host_identity() and not _is_alive(int(fields["pid"]))


def _read(path: Path) -> tuple[Connection, dict[str, Any]]:
    try:
        # What somebody else put there may be a pipe: nobody waits for its writer.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise UsageError(
            f"the connection file {path} cannot be read ({error.strerror}); it is "
            f"written by `covey scheduler --connection-file {path}`"
        ) from error
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        os.close(fd)
        raise UsageError(f"{path} is no connection file: it is not a file at all")
    with os.fdopen(fd) as file:
        if status.st_uid not in {os.getuid(), 0}:
            raise UsageError(f"the connection file {path} belongs to another user")
        if stat.S_IMODE(status.st_mode) & 0o077:
            raise UsageError(
                f"the connection file {path} can be read by other users, so its secret "
                f"is none any more; run: chmod 600 {path}, and start a new cluster"
            )
        text = file.read()
    try:
        connection, fields = _parsed(text)
    except (UsageError, ValueError, KeyError, TypeError) as error:
        problem = str(error)
    else:
        # From here on nobody needs it, and variables are shown in many a place.
        del text, fields["token"]
        return connection, fields
    del text
    raise UsageError(f"{path} is no connection file: {problem}")


def _parsed(text: str) -> tuple[Connection, dict[str, Any]]:
    fields: dict[str, Any] = json.loads(text)
    connection = Connection(parse_address(fields["address"]), _keys(fields))
    int(fields["pid"])
    return connection, fields


def _keys(fields: dict[str, Any]) -> Keys:
    secret = Secret.of_digits(fields["token"])
    if fields["role"] == "client":
        return Keys.of_client(secret)
    return Keys.of_worker(secret)


def remove_connection_file(path: Path, connection: Connection) -> None:
    """Remove *path*, unless another cluster's file has replaced it by now."""
    try:
        found = read_connection_file(path)
        same = found.keys.worker == connection.keys.worker
        if same and found.address == connection.address:
            path.unlink(missing_ok=True)
    except (UsageError, NoScheduler):
        pass  # It is not ours any more.


def file_for(port: int) -> Path:
    """Return where a scheduler on *port* of this machine writes its file."""
    return private_directory(runtime_directory() / "clusters") / f"{port}.json"


@contextlib.contextmanager
def turn() -> Iterator[None]:
    """Be the only process of this user that opens a port and writes the file of it.

    Two may have bound one port as long as neither listens: the one that cannot listen
    there in the end must not have replaced the other one's file.
    """
    for left in reversed(range(_TRIES)):
        folder = private_directory(runtime_directory() / "clusters")
        try:
            fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            break
        except FileNotFoundError:
            if not left:
                raise
            continue  # Another process has just removed the empty directory.
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def known_connections() -> Iterator[tuple[Path, Connection]]:
    """Yield the connection files of this user on this machine."""
    folder = runtime_directory() / "clusters"
    if not folder.is_dir():
        return
    for path in sorted(folder.glob("*.json")):
        try:
            yield path, read_connection_file(path)
        except (UsageError, NoScheduler):
            continue


def connection_for(address: Address) -> Connection | None:
    """Return what opens the cluster at *address*, if a file of ours tells of it."""
    for _, connection in known_connections():
        known = connection.address
        if _means(address, known):
            # By the name that the user gave it, and the certificate that we know.
            here = address._replace(fingerprint=known.fingerprint)
            return connection._replace(address=here)
    return None


def remains_of(address: Address) -> NoScheduler | None:
    """Return what to say of a cluster at *address* that ended without tidying up."""
    for path in sorted((runtime_directory() / "clusters").glob("*.json")):
        try:
            connection, fields = _read(path)
        except UsageError:
            continue
        if _means(address, connection.address) and _has_died(fields):
            return _gone(path, connection, fields)
    return None


def _means(address: Address, known: Address) -> bool:
    """Whether a cluster that listens at *known* is reached at *address*."""
    if known.port != address.port:
        return False
    local = is_loopback(known.host) and is_loopback(address.host)
    return known.host == address.host or local or is_wildcard(known.host)
