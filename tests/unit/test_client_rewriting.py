"""What runners of another Python could not read is written again, as text, and once."""

from __future__ import annotations

import asyncio

import pytest

from covey.client import rewriting
from covey.client.core.ledger import Ledger
from covey.client.functions import digest_of
from covey.client.numbers import Numbers
from covey.client.readers import Readers
from covey.client.rewriting import Rewriting, Unwritable
from covey.payload import Pack
from covey.serde import refs, registry
from covey.serde.columns import columns_payload
from covey.serde.functions import dumps_function, loads_function, with_head
from covey.serde.packing import Packer, loads_pack
from covey.serde.places import PLACES_CODEC
from covey.wire.base import Failure
from covey.wire.client_link import DefineFunction, Failed, Retry, Rewrite, Submit

BASE = 1 << 20
OFFSET = 40


class Ref(refs.Reference):
    def __init__(self, task):
        self.task = task

    def __reduce__(self):
        refs.note(self.task)
        return (refs.resolve, (self.task,))


@pytest.fixture
def main(tmp_path, monkeypatch):
    """Return what a program has at its top: a class, and functions that use it."""
    path = tmp_path / "program.py"
    path.write_text(
        "class Point:\n"
        "    def __init__(self, x):\n"
        "        self.x = x\n"
        "    def twice(self):\n"
        "        return Point(2 * self.x)\n"
        "def helper(x):\n"
        "    return x + 40\n"
        "def work(point, other=0):\n"
        "    return helper(point.twice().x) + other\n"
    )
    names = {"__name__": "__main__"}
    exec(compile(path.read_text(), str(path), "exec"), names)
    module = __import__("sys").modules["__main__"]
    for name in ("Point", "helper", "work"):
        monkeypatch.setattr(module, name, names[name], raising=False)
    return names


def define(function, number=1, environment=""):
    payload = dumps_function(function)
    digest = digest_of(payload)
    return DefineFunction(number, digest, "work", payload, environment)


def submit(*calls, base=BASE, whole=()):
    packer = Packer()
    for call in calls:
        packer.add(call)
    pack = packer.take()
    sizes, data = pack.sizes_bytes(), bytes(pack.data)
    return Submit(base, len(calls), 1, sizes, data, whole=whole)


def arguments(made):
    return list(loads_pack(Pack.from_wire(made.sizes, made.data)))


def test_function_and_arguments_go_as_text(main):
    twice = main["Point"].twice
    made = submit((main["Point"](1),), (main["Point"](2), 5))
    assert b"code_of" in made.data
    changed, pickled = rewriting._rewritten(made, define(main["work"]))
    assert b"code_of" not in pickled.payload + changed.data
    assert b"def work" in pickled.payload
    assert (changed.base, changed.n, changed.options) == (BASE, 2, made.options)
    work = loads_function(pickled.payload)
    assert [work(*call) for call in arguments(changed)] == [42, 49]
    # Reading what it wrote itself has not changed the program's own class.
    assert main["Point"].twice is twice


def test_inputs_stay_what_they_are(main):
    made = submit(([Ref(7), main["Point"](1)], Ref(9)), whole=((7, 1), (9, 1)))
    changed, _ = rewriting._rewritten(made, define(main["work"]))
    assert changed.whole == made.whole
    with refs.inputs_as({7: "seven", 9: "nine"}):
        ((both, nine),) = arguments(changed)
    assert (both[0], both[1].x, nine) == ("seven", 1, "nine")


def test_what_comes_before_a_function_stays(main):
    told = define(main["work"], environment='{"python": "3.13"}')
    bundle = b"files of a module"
    head = {"modules": [["mine", "d1", len(bundle)]], "serializer": "pickle"}
    payload = with_head(bundle + told.payload, head)
    told = DefineFunction(1, b"d", "work", payload, told.environment)
    with registry.by_source():
        pickled = rewriting._function(told)
    assert bundle in pickled.payload
    assert b"code_of" not in pickled.payload
    # In another environment it is another function.
    assert pickled.digest != digest_of(pickled.payload)


def test_columns_of_results_have_nothing_to_write(main):
    payload = columns_payload([-3])
    size = len(payload).to_bytes(4, "little")
    made = Submit(BASE, 2, 1, 2 * size, 2 * payload, aligned=(BASE - 3,))
    changed, _ = rewriting._rewritten(made, define(main["work"]))
    assert changed.data == made.data


def test_calls_in_places_stay_what_they_are(main):
    packer = Packer()
    packer.add_all([("key", (-1, 2), (0,))], bytes((PLACES_CODEC,)))
    packer.add((main["Point"](1),))
    pack = packer.take()
    made = Submit(BASE, 2, 1, pack.sizes_bytes(), bytes(pack.data), aligned=(BASE,))
    changed, _ = rewriting._rewritten(made, define(main["work"]))
    assert changed.data.startswith(pack[0])
    assert changed.data != made.data and b"code_of" not in changed.data


@pytest.mark.parametrize("why", ["by name", "no text", "a value that fails"])
def test_what_cannot_go_by_source_is_told(why, main):
    made, told = submit((1,)), define(main["work"])
    match why:
        case "by name":
            told = define(len)
        case "no text":
            told = define(eval("lambda x: x"))
        case "a value that fails":
            made = Submit(BASE, 1, 1, (3).to_bytes(4, "little"), b"\x80\x05.")
    with pytest.raises(Unwritable):
        rewriting._rewritten(made, told)


# Whose failures these are.


class World:
    """A client's tables around a ``Rewriting``."""

    def __init__(self, main):
        self.ledger, self.readers = Ledger(), Readers()
        self.posted, self.failed = [], []
        self.rewriting = Rewriting(
            self.ledger, Numbers(self.post), self.readers, self.post, self.failed.append
        )
        self.ledger.note(define(main["work"]))
        self.ledger.note(submit(*[(main["Point"](i),) for i in range(4)]))
        self.ledger.note(submit((1,), base=BASE + 10, whole=((BASE, 1),)))

    def post(self, message):
        self.posted.append(message)
        self.ledger.note(message)

    async def fail(self, *told):
        """Tell of failures: (task, origin); return which of them are to stay."""
        stay = []
        for task, origin in told:
            failure = Failure("raised", rewriting._SKEW, "no", b"", origin)
            message = Failed(task, 1, failure)
            if not self.rewriting.takes(message):
                stay.append(task)
        if self.rewriting._work is not None:
            await self.rewriting._work
        return stay

    def said(self):
        """Return what was posted since the last time: rewritten and retried tasks."""
        written = [m.made.base for m in self.posted if isinstance(m, Rewrite)]
        again = [b for m in self.posted if isinstance(m, Retry) for b, _ in m.extents]
        self.posted.clear()
        return written, again


@pytest.fixture
def world(main):
    return World(main)


def test_one_failure_has_all_written_that_was_submitted_with_it(world):
    async def story():
        assert await world.fail((BASE + 1, -1), (BASE + 10, BASE + 1)) == []
        assert world.said() == ([BASE], [BASE + 1, BASE + 10])
        assert world.readers.foreign_python
        made, told = world.ledger.made(BASE + 3)
        assert b"code_of" not in made.data + told.payload
        # Another one ran meanwhile: it is not written, but said again.
        assert await world.fail((BASE + 2, -1)) == []
        assert world.said() == ([BASE], [BASE + 2])

    asyncio.run(story())


def test_it_is_tried_once(world):
    async def story():
        assert await world.fail((BASE, -1), (BASE + 10, BASE)) == []
        world.said()
        assert await world.fail((BASE, -1), (BASE + 10, BASE)) == [BASE, BASE + 10]
        assert world.said() == ([], [])

    asyncio.run(story())


def test_it_is_tried_once_also_for_whoever_holds_only_what_comes_after(world):
    async def story():
        assert await world.fail((BASE + 10, BASE)) == []
        assert world.said() == ([BASE], [BASE + 10])
        assert await world.fail((BASE + 10, BASE)) == [BASE + 10]

    asyncio.run(story())


def test_what_is_of_no_use_fails_as_it_did(world, monkeypatch):
    def unwritable(*_):
        raise Unwritable

    async def story():
        monkeypatch.setattr(rewriting, "_rewritten", unwritable)
        assert await world.fail((BASE, -1), (BASE + 10, BASE)) == []
        assert [message.base for message in world.failed] == [BASE, BASE + 10]
        assert world.said() == ([], [])
        assert await world.fail((BASE + 10, BASE)) == [BASE + 10]

    asyncio.run(story())


def test_nobody_waits_for_ever_if_something_goes_wrong_here(world, monkeypatch):
    def broken(*_):
        raise RuntimeError("a mistake of ours")

    async def story():
        monkeypatch.setattr(world.rewriting._numbers, "take", broken)
        with pytest.raises(RuntimeError, match="ours"):
            await world.fail((BASE, -1), (BASE + 10, BASE))
        assert [message.base for message in world.failed] == [BASE, BASE + 10]

    asyncio.run(story())


@pytest.mark.parametrize(
    ("kind", "type_name"), [("raised", "ValueError"), ("died", rewriting._SKEW)]
)
def test_other_failures_are_none_of_its_business(world, kind, type_name):
    assert not world.rewriting.takes(Failed(BASE, 1, Failure(kind, type_name, "")))
    unknown = Failure("raised", rewriting._SKEW, "")
    assert not world.rewriting.takes(Failed(BASE + 999, 1, unknown))
