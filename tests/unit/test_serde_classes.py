"""Classes of ``__main__`` that many values have: written once, loaded once, and still right."""

from __future__ import annotations

import builtins
import pickle
import subprocess
import sys
import textwrap
from types import SimpleNamespace

import pytest

from covey.payload import Pack
from covey.serde import bundles, classes, packing, refs
from covey.serde.functions import dumps_function, loads_function
from covey.serde.packing import Packer, loads_pack

SOURCE = """
import abc, collections, dataclasses, enum

class Point:
    kind = "a"
    def __init__(self, x): self.x = x
    def twice(self): return 2 * self.x

class Deep(Point):
    __slots__ = ("y",)
    def __init__(self, x): super().__init__(x); self.y = Point(x)

class Shares:
    NOTHING = object()
    ITEMS = []
    def __init__(self, x): self.x, self.nothing = x, Shares.NOTHING
    def is_nothing(self): return self.nothing is Shares.NOTHING

class Adds(Point):
    def __getstate__(self):
        covey_test_adds()
        return {"x": self.x}

@dataclasses.dataclass(frozen=True)
class Record:
    x: int
    names: list = dataclasses.field(default_factory=list)

class Colour(enum.Enum):
    RED = 1
    BLUE = 2

class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self): ...

class Square(Shape):
    def __init__(self, x): self.x = x
    def area(self): return self.x * self.x

Pair = collections.namedtuple("Pair", "x y")

def kind(): return Point.kind
"""


@pytest.fixture
def main():
    """Return what a program would have in its ``__main__``."""
    names = {"__name__": "__main__"}
    exec(textwrap.dedent(SOURCE), names)
    classes.forget()
    yield names
    classes.forget()


@pytest.fixture
def counted(monkeypatch):
    """Count how often classes are written, and loaded."""
    counts = {"written": 0, "loaded": 0}
    write = packing.class_alone

    def class_alone(class_):
        counts["written"] += 1
        return write(class_)

    def loads(data):
        counts["loaded"] += 1
        return pickle.loads(data)

    monkeypatch.setattr(packing, "class_alone", class_alone)
    monkeypatch.setattr(classes, "pickle", SimpleNamespace(loads=loads))
    return counts


def elsewhere():
    """Go on as a process that has these classes from others."""
    classes._own.clear()


def pack_of(values, *, together=False):
    packer = Packer()
    if together:
        packer.add(values[0])
        assert packer.add_all(values[1:]) > 0
    else:
        for value in values:
            assert packer.add(value) is None
    return packer.take()


def read_elsewhere(pack, expression):
    """Evaluate *expression* of ``values`` in another process, which knows no class."""
    program = f"""
import pickle, sys
from covey.serde.packing import loads_pack
values = list(loads_pack(pickle.load(sys.stdin.buffer)))
print(({expression}))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=pickle.dumps(Pack(pack.sizes, bytes(pack.data))),
        capture_output=True,
        check=True,
    )
    return done.stdout.decode().strip()


@pytest.mark.parametrize("together", [False, True])
def test_a_class_is_written_once_a_pack_and_loaded_once(main, counted, together):
    packs = [pack_of([main["Point"](i) for i in range(100)], together=together)]
    assert counted["written"] == 1
    packs.append(pack_of([main["Point"](i) for i in range(100)], together=together))
    assert counted["written"] == 2
    for pack in packs:
        assert [point.x for point in loads_pack(pack)] == [*range(100)]
    assert counted["loaded"] == 1


@pytest.mark.parametrize(
    ("make", "expression", "found"),
    [
        ("Point", "[v.twice() for v in values]", "[0, 2, 4]"),
        ("Deep", "[(v.x, v.y.twice()) for v in values]", "[(0, 0), (1, 2), (2, 4)]"),
        ("Shares", "[v.is_nothing() for v in values][-1:]", "[True]"),
        (
            "Record",
            "[v.x for v in values], values[0] == values[1]",
            "([0, 1, 2], False)",
        ),
        ("Square", "[v.area() for v in values]", "[0, 1, 4]"),
    ],
)
def test_instances_of_all_sorts_arrive_in_another_process(
    main, make, expression, found
):
    pack = pack_of([main[make](i) for i in range(3)])
    assert read_elsewhere(pack, expression) == found


def test_enumerations_and_named_tuples_arrive_in_another_process(main):
    values = [
        main["Colour"].RED,
        main["Pair"](1, 2),
        main["Colour"].BLUE,
        main["Point"],
    ]
    found = read_elsewhere(
        pack_of(values), "values[0].name, values[1].y, values[2].value, values[3].kind"
    )
    assert found == "('RED', 2, 2, 'a')"


def test_what_is_shared_with_a_class_is_one_object_with_it(main):
    shares, items = main["Shares"], main["Shares"].ITEMS
    values = [[shares(1)], [shares, items], [shares(2), shares.is_nothing]]
    for index, expression in (
        (0, "values[0][0].is_nothing()"),
        (1, "values[0][0].ITEMS is values[0][1]"),
        (
            2,
            "values[0][0].is_nothing() and type(values[0][0]).is_nothing is values[0][1]",
        ),
    ):
        for before in ([], [main["Point"](1), shares]):
            pack = pack_of([*before, values[index]])
            at = len(before)
            told = expression.replace("values[0]", f"values[{at}]")
            assert read_elsewhere(pack, told) == "True"


def test_no_two_values_share_an_object(main):
    names = ["a"]
    first, second = loads_pack(
        pack_of([main["Record"](1, names), main["Record"](1, names)])
    )
    first.names.append("b")
    assert second.names == ["a"]


def test_a_class_that_changes_between_two_values_is_written_anew(main):
    point, packer = main["Point"], Packer()
    for kind in "aab":
        point.kind = kind
        packer.add(point(1))
    point.more = 1
    packer.add(point(1))
    found = "[v.kind for v in [values[0]]], hasattr(values[-1], 'more')"
    pack = packer.take()
    assert read_elsewhere(pack.cut(0, 2), "[v.kind for v in values]") == "['a', 'a']"
    assert read_elsewhere(pack.cut(2, 3), "[v.kind for v in values]") == "['b']"
    assert read_elsewhere(pack, found) == "(['b'], True)"


def test_a_class_that_was_changed_and_changed_back_is_what_it_was(main):
    point, packs = main["Point"], {}
    for kind in "ab":
        point.kind = kind
        packs[kind] = pack_of([point(1)])
    elsewhere()
    for kind in "abab":
        (value,) = loads_pack(packs[kind])
        assert value.kind == kind


def test_a_function_that_brings_another_state_of_a_class_does_not_stay_unnoticed(main):
    point = main["Point"]
    pack = pack_of([point(1)])
    point.kind = "b"
    function = dumps_function(main["kind"])
    point.kind = "c"
    elsewhere()
    assert [value.kind for value in loads_pack(pack)] == ["a"]
    assert loads_function(function)() == "b"
    assert [value.kind for value in loads_pack(pack)] == ["a"]


def test_the_programs_own_class_stays_as_it_is_when_it_comes_back(main):
    point = main["Point"]
    twice = point.twice
    pack = pack_of([point(1)])
    point.kind = "b"
    (value,) = loads_pack(pack)
    assert type(value) is point
    assert point.kind == "b"
    assert point.twice is twice


def test_classes_are_loaded_anew_when_modules_are(main, counted):
    pack = pack_of([main["Point"](1), main["Point"](2)])
    list(loads_pack(pack))
    bundles.forget(["no_such_module_of_covey"])
    list(loads_pack(pack))
    assert counted["loaded"] == 2


def test_a_future_in_a_class_is_an_input_of_each_value(main):
    main["Point"].before = refs.ById(7)
    packer = Packer()
    with refs.capture() as found:
        for index in range(3):
            packer.add(main["Point"](index))
            assert found.task_ids.count(7) >= index + 1
    elsewhere()
    with refs.inputs_as({7: "seven"}):
        assert [value.before for value in loads_pack(packer.take())] == ["seven"] * 3


def test_a_large_class_goes_as_a_whole(main, counted):
    main["Point"].table = bytes(classes.CLASS_BYTES_MAX)
    pack = pack_of([main["Point"](i) for i in range(3)])
    assert counted["written"] == 1
    assert [value.x for value in loads_pack(pack)] == [0, 1, 2]
    assert not classes._loaded


def test_so_many_classes_are_known_and_no_more(main):
    point = main["Point"]
    for index in range(classes._LOADED_MAX + 10):
        made = type("Made", (point,), {"index": index, "__module__": "__main__"})
        (value,) = loads_pack(pack_of([made(1)]))
        assert value.index == index
    assert len(classes._loaded) <= classes._LOADED_MAX


def test_a_packer_that_is_called_by_what_it_pickles_mixes_nothing_up(main, monkeypatch):
    packer = Packer()
    inner = lambda: packer.add(main["Point"](2))  # noqa: E731
    monkeypatch.setattr(builtins, "covey_test_adds", inner, raising=False)
    packer.add(main["Point"](0))
    packer.add(main["Adds"](1))
    packer.add(main["Point"](3))
    assert [value.x for value in loads_pack(packer.take())] == [0, 2, 1, 3]
