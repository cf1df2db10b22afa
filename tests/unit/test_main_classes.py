"""A class of ``__main__`` is read with each value as it was when that was written (page 49)."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from covey.errors import NotPicklable
from covey.payload import Pack
from covey.serde.packing import Packer

SOURCE = """
NOTHING = object()
LOG = []
COUNT = 1

class A:
    def nothing(self): return NOTHING
    def log(self, it): LOG.append(it)

class B:
    def is_nothing(self, it): return it is NOTHING
    def logged(self): return LOG

class Base:
    y = 1

class Sub(Base):
    seen = 0
    def count(self): return COUNT
"""


@pytest.fixture
def main():
    """Return what a program would have in its ``__main__``."""
    names = {"__name__": "__main__"}
    exec(SOURCE, names)
    return names


def read_elsewhere(packer, program):
    """Run *program*, which reads values one by one, in a process that knows no class."""
    pack = packer.take()
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import pickle, sys\nfrom covey.serde.packing import loads_pack\n"
            "values = loads_pack(pickle.load(sys.stdin.buffer))\n" + program,
        ],
        input=pickle.dumps(Pack(pack.sizes, bytes(pack.data))),
        capture_output=True,
        check=True,
    )
    return done.stdout.decode().split()


def test_two_classes_share_what_they_shared(main):
    packer = Packer()
    packer.add((main["A"](), main["B"]()))
    program = """
a, b = next(iter(values))
a.log(1)
print(b.is_nothing(a.nothing()), b.logged())
"""
    assert read_elsewhere(packer, program) == ["True", "[1]"]


def test_each_value_has_the_class_as_it_was(main):
    packer = Packer()
    for number in range(3):
        main["Base"].y = main["COUNT"] = number
        packer.add(main["Sub"]())
    found = read_elsewhere(packer, "for v in values: print(v.y, v.count())")
    assert found == ["0", "0", "1", "1", "2", "2"]


def test_what_a_task_sets_on_a_class_is_not_there_for_the_next(main):
    packer = Packer()
    for _ in range(3):
        packer.add(main["Sub"]())
    program = """
for v in values:
    type(v).seen += 1
    print(v.seen)
"""
    assert read_elsewhere(packer, program) == ["1", "1", "1"]


def test_what_could_not_be_written_leaves_nothing_behind(main):
    packer = Packer()
    with pytest.raises(NotPicklable):
        packer.add((main["Sub"](), (x for x in ())))
    main["COUNT"] = 7
    packer.add(main["Sub"]())
    assert read_elsewhere(packer, "for v in values: print(v.count())") == ["7"]
