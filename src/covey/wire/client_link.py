"""What client and scheduler tell each other.

Ids are the client's own: it hands them out itself, in runs of consecutive
numbers, so that submitting needs no answer.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from covey.wire.base import (
    DEFAULT_OPTIONS,
    Attempt,
    Bytes,
    Count,
    Extent,
    Failure,
    Id,
    IdOrNone,
    Message,
    Options,
)

# From the client.


class DefineFunction(Message, frozen=True, tag=1):
    """The bytes of a function; ``fn`` is this client's number for it."""

    fn: Id
    digest: bytes
    label: str
    payload: bytes
    #: What its runners need, as JSON; empty for the workers' usual runners.
    environment: str = ""


class ForgetFunction(Message, frozen=True, tag=18):
    """This client will not use this number of a function again."""

    fn: Id


class Submit(Message, frozen=True, tag=2):
    """Wish for ``n`` calls of one function.

    ``sizes`` and ``data`` are a pack of arguments, one payload a task.
    ``aligned`` lists first ids: task ``base + i`` needs ``aligned[j] + i``.
    ``whole`` lists extents that every task needs entirely.  ``groups`` lists
    (first, g), for inputs of which every task needs g, one after the other: task
    ``base + i`` those from ``first + g * i`` on.
    ``name`` makes the (single) task shareable: who submits the same name
    again gets the same task, if ``identity`` is the same: what was called, with what.
    (Large arguments are in ``data`` by the ids under which they were brought.)
    """

    base: Id
    n: Count
    fn: Id
    sizes: bytes
    data: bytes
    options: Options = DEFAULT_OPTIONS
    aligned: tuple[Id, ...] = ()
    whole: tuple[Extent, ...] = ()
    name: str | None = None
    groups: tuple[Extent, ...] = ()
    identity: bytes = b""


def taken_by(message: Submit) -> list[Extent]:
    """Return the inputs of all tasks of *message* together."""
    n = message.n
    return [
        *((first, n) for first in message.aligned),
        *((first, g * n) for first, g in message.groups),
        *message.whole,
    ]


class SubmitGraph(Message, frozen=True, tag=3):
    """Wish for tasks that depend on each other.

    Task ``base + i`` calls ``fns[i]``, needs the ids ``needs[i]``, and is
    better run early when ``order[i]`` is low.  Only the tasks in ``wanted``
    (extents) are kept for the client; the others go when they were used.  Those in
    ``coming`` are used by tasks of later messages as well: they are made and kept,
    though nobody is told of them, until the client releases them.
    """

    base: Id
    fns: tuple[Id, ...]
    sizes: bytes
    data: bytes
    needs: tuple[tuple[Id, ...], ...]
    order: tuple[int, ...]
    wanted: tuple[Extent, ...]
    options: tuple[Options, ...] = (DEFAULT_OPTIONS,)
    options_of: tuple[Id, ...] = ()
    coming: tuple[Extent, ...] = ()


class Scatter(Message, frozen=True, tag=4):
    """Small values to be placed on workers; payloads as in a pack.

    There are to be ``copies`` of each on different workers, or one on every worker.
    """

    base: Id
    n: Count
    sizes: bytes
    data: bytes
    workers: tuple[str, ...] = ()
    broadcast: bool = False
    copies: Count = 1


class Placed(Message, frozen=True, tag=5):
    """The client has put a large value on a worker by itself.

    From there it is to be copied to others until ``copies`` workers have it, or all;
    only to those that ``workers`` names, if it names any.  As long as it is ``kept``,
    the client can bring it again.
    """

    task: Id
    worker: Id
    nbytes: Bytes
    workers: tuple[str, ...] = ()
    broadcast: bool = False
    copies: Count = 1
    kept: bool = False


class NotBrought(Message, frozen=True, tag=19):
    """The client cannot bring a value again, though it had kept it."""

    task: Id


class Release(Message, frozen=True, tag=6):
    """The client no longer wants these."""

    extents: tuple[Extent, ...]


class Cancel(Message, frozen=True, tag=7):
    """Stop these for everybody: running ones too, or only what no worker has yet."""

    extents: tuple[Extent, ...]
    reason: str = ""
    running: bool = True


class Retry(Message, frozen=True, tag=8):
    """Run these failed tasks once more."""

    extents: tuple[Extent, ...]


class Rewrite(Message, frozen=True, tag=39):
    """What was submitted before, function and arguments written in another way.

    Runners could not read it.  Who is running already is left alone.
    """

    made: Submit


class Want(Message, frozen=True, tag=9):
    """The client has come to hold futures that another client made.

    ``tokens``, one for each task in turn, are what came along with the futures; none
    is needed for tasks that the client made itself, or holds already.
    """

    extents: tuple[Extent, ...]
    tokens: tuple[bytes, ...] = ()


class Detach(Message, frozen=True, tag=10):
    """Let these run to their end, though nobody may want them any more."""

    extents: tuple[Extent, ...]


class Ask(Message, frozen=True, tag=11):
    """A question about the cluster; answered by ``Answer`` with its number."""

    request: Id
    topic: str
    extents: tuple[Extent, ...] = ()
    number: int = 0
    names: tuple[str, ...] = ()


class Goodbye(Message, frozen=True, tag=12):
    """The sender is leaving in good order; ``shutdown`` takes the cluster along."""

    shutdown: bool = False


# From a client that was there before: what another life of the scheduler knew.


class Recall(Message, frozen=True, tag=13):
    """What follows, up to ``Recalled``, was said before.

    It is the definitions and submissions of all that is still held or taken by
    something held.  ``Held`` tells which of these tasks count.
    """


class Held(Message, frozen=True, tag=14):
    """Of what was recalled, the client holds these.

    The results of those in ``had`` are with the client already; those in
    ``detached`` shall run to their end, whoever leaves.
    """

    wanted: tuple[Extent, ...] = ()
    had: tuple[Extent, ...] = ()
    detached: tuple[Extent, ...] = ()


class Ended(Message, frozen=True, tag=15):
    """Tasks that the client holds, and knows to have failed for good."""

    base: Id
    n: Count
    failure: Failure


class Recalled(Message, frozen=True, tag=16):
    """That was all.  The client also holds tasks of other clients.

    It waits for those in ``foreign``; the results of those in ``had`` are with it
    already.  ``tokens`` are theirs, first the one and then the other, as in ``Want``.
    """

    foreign: tuple[Extent, ...] = ()
    tokens: tuple[bytes, ...] = ()
    had: tuple[Extent, ...] = ()


class Tried(Message, frozen=True, tag=17):
    """Tasks that have not succeeded so far, and are to be tried again.

    The client that made them is told so each time, and tells another life of the
    scheduler in turn, which goes on counting.  ``failed`` attempts failed, ``lost``
    ones were lost with their worker; the latest are listed.
    """

    base: Id
    n: Count
    failed: Id
    lost: Id
    attempts: tuple[Attempt, ...] = ()


class Publish(Message, frozen=True, tag=37):
    """Keep these tasks under a name, whoever leaves, with what stands for them.

    ``payload`` is for whoever asks for the name.  A name that is taken stays with
    what it names.
    """

    name: str
    payload: bytes
    extents: tuple[Extent, ...] = ()


class Unpublish(Message, frozen=True, tag=38):
    """Nothing is to be kept under this name any more."""

    name: str


# From the scheduler.


class Over(Message, frozen=True, tag=30):
    """Tasks that were detached have ended, or were never to be run."""

    extents: tuple[Extent, ...]


class Finished(Message, frozen=True, tag=20):
    """Tasks are done; their small results ride along."""

    base: Id
    n: Count
    sizes: bytes
    data: bytes


class Stored(Message, frozen=True, tag=21):
    """Tasks are done; their results rest on a worker.

    ``source`` is the id under which the worker keeps the first of them: another
    one than ``base`` when the task is shared under a name; ``token`` lets the client
    fetch that.
    """

    base: Id
    n: Count
    worker: Id
    nbytes: Bytes
    source: IdOrNone = -1
    token: bytes = b""


class Failed(Message, frozen=True, tag=22):
    """Tasks have failed for good."""

    base: Id
    n: Count
    failure: Failure


class Reverted(Message, frozen=True, tag=23):
    """Results were lost; the tasks are pending again."""

    base: Id
    n: Count


class BringAgain(Message, frozen=True, tag=29):
    """A value that the client had placed is lost: it may have kept it."""

    task: Id


class Answer(Message, frozen=True, tag=24):
    """The answer to an ``Ask``: plain data."""

    request: Id
    body: Any = None


class Notice(Message, frozen=True, tag=25):
    """Something the user should know at once; shown as a warning."""

    text: str


class WorkerSeen(Message, frozen=True, tag=26):
    """Where a worker's data can be fetched.  Sent before it is first named.

    ``python`` is the version that its runners have, such as ``3.12.1``, and
    ``cloudpickle`` that of what reads functions there.
    """

    worker: Id
    name: str
    addresses: tuple[str, ...]
    host: str
    slots: Id
    python: str = ""
    cloudpickle: str = ""


class WorkerGone(Message, frozen=True, tag=27):
    """A worker has left."""

    worker: Id


class Closing(Message, frozen=True, tag=28):
    """Nothing comes after this: the scheduler ends, or has done with this client."""

    reason: str
    #: Whether it goes on for others.
    refused: bool = False


FromClient: TypeAlias = (
    DefineFunction
    | ForgetFunction
    | Submit
    | SubmitGraph
    | Scatter
    | Placed
    | NotBrought
    | Release
    | Cancel
    | Retry
    | Rewrite
    | Want
    | Detach
    | Ask
    | Goodbye
    | Recall
    | Held
    | Ended
    | Recalled
    | Tried
    | Publish
    | Unpublish
)
ToClient: TypeAlias = (
    Finished
    | Stored
    | Failed
    | Reverted
    | BringAgain
    | Answer
    | Notice
    | WorkerSeen
    | WorkerGone
    | Closing
    | Tried
    | Over
)
