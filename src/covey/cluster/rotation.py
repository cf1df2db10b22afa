"""The connection files of a scheduler that runs, and how its secrets are exchanged.

What is told of it must fit together at any time: the files, the certificate that its
listener shows, and what its dashboard knows.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from covey.cluster.door import Door
from covey.errors import UsageError
from covey.net.connection_file import (
    Life,
    remove_connection_file,
    write_connection_file,
)
from covey.net.join_string import Connection
from covey.net.listen import Listener
from covey.net.tls import Certificate
from covey.secret import Secret
from covey.wire.keys import Keys


class Files:
    """The connection files of one scheduler.

    Args:
        paths: where they are.
        listener: where the scheduler listens.
        keys: what it knows; changed in place by the scheduler.
        life: what its next life has to know of this one.
    """

    def __init__(
        self, paths: list[Path], listener: Listener, keys: Keys, life: Life
    ) -> None:
        self.paths = paths
        self._listener = listener
        self._keys = keys
        self._life = life
        #: Those of the dashboard and of Prometheus, if there are any.
        self.doors: list[Door] = []

    @property
    def connection(self) -> Connection:
        """What lets others in at present."""
        return Connection(self._listener.address, self._keys)

    def write(self) -> None:
        """Write all of them.

        Raises:
            UsageError: one cannot be written.
        """
        for path in self.paths:
            write_connection_file(path, self.connection, life=self._life)

    def remove(self) -> None:
        """Remove those that are still ours."""
        for path in self.paths:
            remove_connection_file(path, self.connection)

    def renew(
        self, fresh: Keys, make_certificate: Callable[[Secret], Certificate | None]
    ) -> str:
        """Let everything know other secrets; the scheduler takes them over next.

        Returns:
            The fingerprint of the certificate that is shown from now on.

        Raises:
            UsageError: a file cannot be written; then all is as it was.
        """
        assert fresh.client is not None
        certificate = make_certificate(fresh.client)
        mark = certificate.fingerprint if certificate is not None else ""
        place = Connection(self._listener.address._replace(fingerprint=mark), fresh)
        try:
            for path in self.paths:
                write_connection_file(path, place, life=self._life)
        except UsageError:
            with contextlib.suppress(UsageError):
                self.write()
            raise
        if certificate is not None:
            self._listener.renew(certificate)
        for door in self.doors:
            door.renew(place)
        return mark
