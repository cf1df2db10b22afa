"""Futures of tasks that another client has made, taken over by this one.

They come by themselves, as arguments, if both clients are of this process; or as bytes,
in a task or under a name (``current.rebind``).  Who holds a future of a task has a token
that lets others hold it, too, and hands it on with the future.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from covey.client import current
from covey.client.core.ranges import Range
from covey.client.future import Future
from covey.errors import UsageError
from covey.ids import TaskId
from covey.wire.client_link import Want

if TYPE_CHECKING:
    from covey.client.fetching import Session


def future_of(
    session: Session, task: TaskId, label: str, name: str | None, token: bytes = b""
) -> Future[Any]:
    """Return a future, of this session, of a task that some client has made.

    Args:
        session: of the client that is to hold it.
        task: its id.
        label: what its key begins with.
        name: its key, if it was given one.
        token: came along with the future of another client, and lets us hold it.

    Raises:
        UsageError: we have made it ourselves, and have released it.
    """
    engine = session.engine
    known = engine.wishes.find(task)
    held = session.hold(known, task - known.base) if known is not None else None
    if held is not None:
        return held
    kept = current.kept_tokens.get()
    if engine.owns(task) and (known is not None or task not in kept):
        raise UsageError(
            f"the future of task {task:x} was released before it came back here"
        )
    token = kept.get(task, token)
    wish = Range(task, 1, label, name)
    # First, so that whatever is raised from now on lets go of the task.
    future: Future[Any] = Future(session, wish, 0)
    session.enter(wish)
    engine.tokens[task] = token
    engine.post(Want(((task, 1),), (token,)))
    return future


def check_open(future: Future[Any], ours: str, user: str = "") -> None:
    """Refuse a future of a client that has been closed.

    Args:
        future: what another client is to take over.
        ours: what that other client is called.
        user: what takes it, if it stands in a graph.

    Raises:
        UsageError: its client is closed, or has lost its cluster for good.
    """
    theirs = future.session.engine
    if theirs.closed or theirs.broken is not None:
        met = f"{user} takes {future.key}," if user else f"{future.key} is"
        again = " (or persist that collection)" if user else ""
        raise UsageError(
            f"{met} a future of the client {theirs.name!r}, which was closed: what it "
            f"held is gone, and {ours!r} cannot take it. Submit that task{again} again"
        )


def value_elsewhere(future: Future[Any], user: str) -> Any:
    """Return the value of a future, for what runs on no cluster of ours.

    Args:
        future: whose value is wanted.
        user: what stands for it there.

    Raises:
        UsageError: its client is closed, or has lost its cluster for good.
    """
    theirs = future.session.engine
    if theirs.closed or theirs.broken is not None:
        raise UsageError(
            f"{user} is what {future.key} holds, a future of the client {theirs.name!r}, "
            f"which was closed: the value is gone. Compute while that client is open, "
            f"or persist (or submit) it again"
        )
    return future.result()


def adopted(session: Session, future: Future[Any]) -> Future[Any]:
    """Return a future, of this session, of the task that *future* of another is of.

    Raises:
        UsageError: the other client is closed, or is one of another cluster.
    """
    theirs, ours = future.session.engine, session.engine
    check_open(future, ours.name)
    if theirs.cluster != ours.cluster:
        raise UsageError(
            f"{future.key} is a future of the client {theirs.name!r}, whose cluster "
            f"({theirs.address.shown}) is another than that of {ours.name!r} "
            f"({ours.address.shown}): its value is not here. Pass future.result(), or "
            f"scatter that"
        )
    if not future.done():
        # It was wished for over a link of its own, which may be the slower one.  After
        # an answer over that link, the scheduler knows the task.
        future.session.ask("who_has", extents=((future.id, 1),))
    wish, token = future._range, theirs.token_of(future.id)
    taken = future_of(session, future.id, wish.label, wish.name, token)
    # If it is let go over there before we are known to want it, the task is gone.
    taken._range.hold([future])
    return taken
