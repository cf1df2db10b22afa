"""What nobody could read is written again, as text: once, and without being asked.

Functions go by value as long as all workers that are known can read that.  Then one joins
whose runners have another Python, and is given tasks that waited::

    runner      VersionSkew: a function was sent by value from Python 3.13 ...
    client      reads the bytes that it sent, writes them by source      (Rewrite)
                and has the task tried again, with all that failed for it  (Retry)

The bytes are read here, where they were written.  A task that has failed so twice has failed;
and so has one whose code cannot go by source.
"""

from __future__ import annotations

import asyncio
import io
import pickle
from collections.abc import Callable
from typing import Any, Final

import msgspec

from covey.client.core.ledger import Ledger
from covey.client.functions import Pickled, digest_of
from covey.client.numbers import Numbers
from covey.client.readers import Readers
from covey.ids import TaskId
from covey.payload import Pack
from covey.serde import refs, registry
from covey.serde.call import Call
from covey.serde.columns import columns_of
from covey.serde.functions import dumps_function, split_head, with_head
from covey.serde.packing import Packer
from covey.serde.places import PLACES_CODEC
from covey.serde.values import PICKLE_CODEC
from covey.wire.base import Message
from covey.wire.client_link import DefineFunction, Failed, Retry, Rewrite, Submit

#: The name of the failure that this is about.
_SKEW: Final = "covey.errors.VersionSkew"


class Unwritable(Exception):
    """It cannot be written in another way."""


class _Inputs:
    """All inputs, as what stands for them."""

    def __getitem__(self, task_id: int) -> refs.ById:
        return refs.ById(task_id)

    def part(self, task_id: int, index: int) -> refs.PartOf:
        """Return what stands for one of several values."""
        return refs.PartOf(task_id, index)

    def function(self, task_id: int) -> refs.AsFunction:
        """Return what stands for a function."""
        return refs.AsFunction(refs.ById(task_id))


class _Reader(pickle.Unpickler):
    """Reads what this process wrote, and leaves its classes as they are.

    cloudpickle finds them again by a number, and would then set their attributes anew: to
    methods whose globals are no longer those of the module.
    """

    def find_class(self, module: str, name: str) -> Any:
        """Return what *name* stands for."""
        found = super().find_class(module, name)
        if name != "_class_setstate":
            return found

        def set_state(class_: type, state: Any) -> type:
            if set(state[0]) <= set(vars(class_)):
                return class_
            filled: type = found(class_, state)
            return filled

        return set_state


def _read(payload: bytes) -> Any:
    return _Reader(io.BytesIO(payload)).load()


class Rewriting:
    """Writes tasks again that failed because their runners have another Python.

    Args:
        ledger: knows what was submitted.
        numbers: gives numbers to functions.
        readers: is told that by value will not do any more.
        post: sends a message.
        fail: takes failures that stay.
    """

    def __init__(
        self,
        ledger: Ledger,
        numbers: Numbers,
        readers: Readers,
        post: Callable[[Message], None],
        fail: Callable[[Failed], None],
    ) -> None:
        self._ledger = ledger
        self._numbers = numbers
        self._readers = readers
        self._post = post
        self._fail = fail
        #: Tasks that were written again; those for which it was of no use; and which
        #: others were tried again for which of them.
        self._seen: set[TaskId] = set()
        self._lost: set[TaskId] = set()
        self._followed: set[tuple[TaskId, TaskId]] = set()
        #: What was written, by the first task that was submitted with it.
        self._written: dict[TaskId, tuple[Submit, Pickled]] = {}
        #: Failures that may yet be none, by the tasks that are to blame.
        self._held: list[tuple[list[TaskId], Failed]] = []
        self._work: asyncio.Task[None] | None = None

    def takes(self, message: Failed) -> bool:
        """Say whether this failure may be mended; if so, see to it."""
        failure = message.failure
        if failure.kind != "raised" or failure.type_name != _SKEW:
            return False
        blamed = list(range(message.base, message.base + message.n))
        if failure.origin >= 0:
            follows = (message.base, failure.origin)
            if follows in self._followed:
                self._lost.add(failure.origin)
            self._followed.add(follows)
            blamed = [failure.origin]
        else:
            self._lost |= self._seen.intersection(blamed)
        if not self._lost.isdisjoint(blamed):
            return False
        if any(self._ledger.made(task) is None for task in blamed):
            return False
        self._readers.foreign_python = True
        self._held.append((blamed, message))
        if self._work is None:
            self._work = asyncio.ensure_future(self._mend())
        return True

    async def _mend(self) -> None:
        # What failed for the same reason is told in the same moment.
        await asyncio.sleep(0)
        while self._held:
            held, self._held = self._held, []
            try:
                failed = await self._write({t for blamed, _ in held for t in blamed})
            except BaseException:
                # Whatever went wrong here: nobody waits for ever because of it.
                self._work = None
                for _, message in held:
                    self._fail(message)
                raise
            again: list[tuple[TaskId, int]] = []
            for blamed, message in held:
                if failed.isdisjoint(blamed):
                    again.append((message.base, message.n))
                else:
                    self._fail(message)
            if again:
                self._post(Retry(tuple(again)))
        self._work = None

    async def _write(self, tasks: set[TaskId]) -> set[TaskId]:
        """Write tasks again, with those that were submitted with them.

        Returns:
            Those for which that is of no use.
        """
        failed: set[TaskId] = set()
        for task in sorted(tasks):
            found = self._ledger.made(task)
            if task in self._seen or found is None:
                continue
            made, function = found
            if made.base not in self._written:
                try:
                    written = await asyncio.to_thread(_rewritten, made, function)
                except Unwritable:
                    failed.add(task)
                    continue
                self._written[made.base] = written
            made, pickled = self._written[made.base]
            # Others of these failed as well, or ran meanwhile and may fail yet.
            self._seen |= tasks.intersection(range(made.base, made.base + made.n))
            number = self._numbers.take(pickled, function.environment)
            self._post(Rewrite(msgspec.structs.replace(made, fn=number)))
            self._numbers.done([number])
        self._lost |= failed
        return failed


def _rewritten(made: Submit, told: DefineFunction) -> tuple[Submit, Pickled]:
    """Return a submission and its function by source; another thread calls.

    Raises:
        Unwritable: that cannot be, or would be the same.
    """
    try:
        with registry.by_source():
            pickled = _function(told)
            pack = _arguments(Pack.from_wire(made.sizes, made.data))
    except Exception as error:
        # Values of the user's are read and written, and they may do anything.
        raise Unwritable from error
    sizes, data = pack.sizes_bytes(), bytes(pack.data)
    if pickled.payload == told.payload and data == made.data:
        raise Unwritable
    return msgspec.structs.replace(made, sizes=sizes, data=data), pickled


def _function(told: DefineFunction) -> Pickled:
    """Write a function by source; what comes before its bytes stays."""
    head, rest = split_head(told.payload)
    if "import" in head:
        return Pickled(told.label, told.digest, told.payload)
    ahead = sum(size for _, _, size in head.get("modules", ()))
    payload = dumps_function(_read(rest[ahead:]))
    if head:
        payload = with_head(rest[:ahead] + payload, head)
    digest = digest_of(payload)
    if told.environment:
        digest = digest_of(told.environment.encode() + digest)
    return Pickled(told.label, digest, payload)


def _arguments(pack: Pack) -> Pack:
    """Write arguments by source, but for those that no pickle holds."""
    if columns_of(pack) is not None:
        return pack
    packer = Packer()
    with refs.inputs_as(_Inputs()):
        for payload in pack:
            if payload[0] == PLACES_CODEC:
                # Who wrote it made sure that all in there can be imported.
                packer.add_written(bytes(payload))
                continue
            if payload[0] != PICKLE_CODEC:
                return pack
            call = _read(bytes(payload))
            if not isinstance(call, tuple | Call) or packer.add(call) is not None:
                raise Unwritable
    return packer.take()
