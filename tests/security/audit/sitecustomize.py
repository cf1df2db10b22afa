"""Imported by every Python that starts with this folder on its path: watches it.

What processes bind, connect to and unpickle goes to ``$COVEY_AUDIT_LOG``, a line each:
the role, the event, and what it was about.  ``pickle.find_class`` is not raised for
plain containers, so the functions that unpickle are watched as well.
"""

from __future__ import annotations

import os
import pickle
import socket
import sys

ROLES = {"covey.cluster.embedded": "control", "covey.runner": "runner"}


def _role():
    words = [word.rpartition("/")[2] for word in sys.orig_argv]
    if "covey" in words and {"scheduler", "worker"} & set(words):
        return "control"
    return next((role for name, role in ROLES.items() if name in words), "client")


def _watch(path):
    role = _role()
    log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    inet = {socket.AF_INET, socket.AF_INET6}

    def note(event, detail):
        os.write(log, f"{role}\t{event}\t{detail}\n".encode())

    def heard(event, arguments):
        if event in {"socket.bind", "socket.connect"}:
            sock, address = arguments
            if sock.family in inet:
                note(event, address[0])
        elif event == "pickle.find_class" and role == "control":
            note(event, ".".join(arguments))

    sys.addaudithook(heard)
    note("started", os.getpid())
    if role == "control":

        def watched(function):
            def call(*arguments, **keywords):
                note("unpickled", function.__name__)
                return function(*arguments, **keywords)

            return call

        pickle.load = watched(pickle.load)
        pickle.loads = watched(pickle.loads)
        pickle.Unpickler = watched(pickle.Unpickler)


if os.environ.get("COVEY_AUDIT_LOG"):
    _watch(os.environ["COVEY_AUDIT_LOG"])
