"""What a user's program does, for one cell of the matrix of Pythons.

``python program.py CONNECTION_FILE`` prints one JSON object: for each subject
``"right"``, ``"refused: ..."`` with the reason, or what went wrong.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import sys
import traceback

from covey import Client
from covey.errors import NotPicklable, VersionSkew

SCALE = 3


class Odd(Exception):
    """An exception of the program's own."""

    def __init__(self, number):
        super().__init__(number)
        self.number = number


@dataclasses.dataclass
class Point:
    """A class of the program's own."""

    x: int
    label: str = "p"

    def moved(self, by: int = 1) -> Point:
        return Point(self.x + by * SCALE, self.label)


def inc(x):
    return x + 1


def helped(x: int, *, plus: int = 1) -> int:
    return inc(x) * SCALE + plus


def twice(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(function(*args))

    return wrapper


@twice
def decorated(x):
    return inc(x)


def scaled(by):
    def inner(x):
        return x * by

    return inner


def raise_odd(x):
    if x % 2:
        raise Odd(x)
    return x


def make_point(x):
    return Point(x)


def total(points):
    return sum(point.moved().x for point in points)


def squares(n):
    import numpy as np

    return np.arange(n, dtype="float64") ** 2


def array_sum(array):
    return float(array.sum())


def runner_version():
    return list(sys.version_info[:2])


def subjects(client):
    """Yield the name of each subject, and what checks it."""

    def result(function, *args, **kwargs):
        return client.submit(function, *args, **kwargs).result(60)

    def errors():
        assert client.submit(raise_odd, 2).result(60) == 2
        try:
            result(raise_odd, 3)
        except Odd as error:
            return error.number == 3
        return False

    def numpy_data():
        import numpy as np

        small, large = np.arange(10.0), np.ones((300, 1000))
        assert result(array_sum, small) == 45.0
        assert result(array_sum, large) == 300_000.0
        back = client.submit(squares, 200_000)
        assert client.submit(array_sum, back).result(60) == (np.arange(2e5) ** 2).sum()
        return np.array_equal(back.result(60), np.arange(2e5) ** 2)

    yield "by reference", lambda: result(math.sqrt, 9) == 3.0
    yield "future", lambda: result(helped, 1, plus=2) == 8
    yield (
        "map",
        lambda: client.gather(client.map(inc, range(100))) == list(range(1, 101)),
    )
    yield (
        "chain",
        lambda: client.submit(inc, client.submit(helped, 1)).result(60) == 8,
    )
    yield "decorator", lambda: result(decorated, 1) == 3
    yield "closure", lambda: result(scaled(SCALE + 1), 5) == 20
    yield "lambda", lambda: result(lambda x: x * SCALE, 2) == 6
    yield "partial", lambda: result(functools.partial(helped, plus=0), 1) == 6
    yield "function as argument", lambda: result(lambda f, x: f(x), scaled(2), 4) == 8
    yield "class in", lambda: result(total, [Point(1), Point(2)]) == 9
    yield "class out", lambda: result(make_point, 7) == Point(7)
    yield (
        "class through",
        lambda: (
            client.submit(Point.moved, client.submit(make_point, 1)).result(60)
            == Point(4)
        ),
    )
    yield "errors", errors
    yield "numpy", numpy_data


def main():
    """Run all subjects on the cluster whose connection file is named."""
    outcomes = {}
    with Client(sys.argv[1], timeout=60) as client:
        client.wait_for_workers(1, timeout=60)
        outcomes["runner"] = client.submit(runner_version).result(60)
        for name, check in subjects(client):
            try:
                outcomes[name] = "right" if check() else "wrong answer"
            except (NotPicklable, VersionSkew, ModuleNotFoundError) as error:
                outcomes[name] = f"refused: {type(error).__name__}: {error}"
            except BaseException:
                outcomes[name] = traceback.format_exc()
    sys.stdout.write(json.dumps(outcomes))


if __name__ == "__main__":
    main()
