"""Objects of classes of a program's own ``__main__``, there and back."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import dataclasses
from covey import Client, LocalCluster

STEP = 1

class Point:
    made = 0
    def __init__(self, x):
        self.x = x
    def moved(self):
        return Point(self.x + STEP)

@dataclasses.dataclass
class Pair:
    first: Point
    others: list

def moved(point):
    return point.moved()

def first(pair):
    pair.others.append(1)
    return pair.first, len(pair.others)

def count(point):
    Point.made += 1
    return Point.made == point.made

if __name__ == "__main__":
    with Client(n_workers=2, threads_per_worker=1) as client:
        points = [Point(i) for i in range(3000)]
        once = client.map(moved, points)
        twice = client.map(moved, once)
        found = client.gather(twice)
        assert {type(point) for point in found} == {Point}
        assert [point.x for point in found] == [i + 2 for i in range(3000)]
        others = []
        pairs = client.map(first, [Pair(point, others) for point in points])
        assert {n for _, n in client.gather(pairs)} == {1}
        assert not others
        # What a class was when it was sent, and not when it was sent for the first time.
        for STEP in (10, 100, 10):
            assert client.submit(moved, Point(1)).result().x == 1 + STEP
            assert [p.x for p in client.gather(client.map(moved, points[:50]))] == [
                i + STEP for i in range(50)
            ]
        assert all(client.gather(client.map(count, points[:50])))
        mixed = [Point(i) if i % 7 == 0 else i for i in range(500)]
        kinds = client.gather(client.map(lambda x: type(x).__name__, mixed))
        assert kinds == [type(x).__name__ for x in mixed]
        print("right")
"""


def test_objects_of_main_go_there_and_back(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, str(path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == "right\n", done.stderr
