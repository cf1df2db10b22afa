"""Functions and classes as source: the text must be theirs, and mean the same."""

from __future__ import annotations

import dataclasses
import enum
import functools
import importlib.util
import io
import pickle
import subprocess
import sys
from pathlib import Path
from types import CodeType

import cloudpickle
import pytest

from covey.errors import NotPicklable, VersionSkew
from covey.serde import code, rebuilt, registry, source
from covey.serde.functions import dumps_function
from covey.serde.packing import Packer, loads_pack
from covey.serde.values import dumps_inline

PROGRAM = '''
"""A program, as somebody would run it."""
import dataclasses, enum, functools
import xml.etree.ElementTree

LIMIT = 10
words = ["a", "b"]

def helper(x):
    return x * LIMIT

def noisy(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs) + 1
    return wrapper

@noisy
def decorated(x: int, y=[3], *, z: "int" = 4) -> int:
    """Has a docstring."""
    return helper(x) + y[0] + z

def fact(n):
    return 1 if n < 2 else n * fact(n - 1)

def even(n):
    return True if n == 0 else odd(n - 1)

def odd(n):
    return False if n == 0 else even(n - 1)

def outer(scale):
    def inner(x, *, plus=1):
        nonlocal scale
        return [x * scale + plus for _ in words]
    return inner

def parse(text):
    return xml.etree.ElementTree.fromstring(text).tag

class Base:
    count = 0
    def __init__(self, x):
        self.x = x
    def value(self):
        return helper(self.x)

class Child(Base):
    """Calls its parent."""
    def value(self):
        return super().value() + 1
    @staticmethod
    def twin(x):
        return Child(x)
    @property
    def half(self):
        return self.x / 2

@dataclasses.dataclass
class Point:
    x: int
    tags: "list[str]" = dataclasses.field(default_factory=list)
    def moved(self):
        return Point(self.x + 1, [*self.tags, "moved"])

class Colour(enum.Enum):
    RED = 1
    def next(self):
        return Colour.RED

pair = (lambda x: x + 1, lambda x: x * 2)
default = lambda x, y=LIMIT: (
    x * y
)
text = """
indented
  more"""
def strings():
        return """
  kept as it is
"""
'''


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A module that nobody else can import."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    spec = importlib.util.spec_from_file_location("program", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "program", module)
    spec.loader.exec_module(module)
    # As if it were the program that runs: nothing of it can be imported.
    monkeypatch.setattr(source, "importable", _not_in_program)
    return module


_importable = source.importable


def _not_in_program(value):
    return getattr(value, "__module__", None) != "program" and _importable(value)


def there(value):
    """Return *value* as another process would see it."""
    file = io.BytesIO()
    with registry.by_source():
        registry.by_value_pickler(file, None).dump(value)
    ours = dict(rebuilt._classes)
    rebuilt._classes.clear()
    try:
        return pickle.loads(file.getvalue())
    finally:
        rebuilt._classes.clear()
        rebuilt._classes.update(ours)


CALLS = {
    "decorated": lambda p: p.decorated(2),
    "fact": lambda p: p.fact(6),
    "even": lambda p: p.even(7),
    "parse": lambda p: p.parse("<a/>"),
    "strings": lambda p: p.strings(),
    "default": lambda p: p.default(3),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_function_means_the_same_there(program, name):
    function = there(getattr(program, name))
    assert function is not getattr(program, name)

    class Other:
        pass

    setattr(Other, name, staticmethod(function))
    assert CALLS[name](Other) == CALLS[name](program)
    assert function.__doc__ == getattr(program, name).__doc__
    assert function.__name__ == getattr(program, name).__name__


def test_a_closure_takes_its_values_along(program):
    assert there(program.outer(5))(2, plus=3) == [13, 13]
    assert there(functools.partial(program.outer(5), 2))() == [11, 11]


def test_lambdas_on_one_line_are_told_apart(program):
    one, two = there(program.pair)
    assert (one(5), two(5)) == (6, 10)


def test_functions_of_one_value_share_their_globals(program):
    even, odd = there((program.even, program.odd))
    assert even.__globals__ is odd.__globals__
    assert even.__globals__["odd"] is odd


def test_classes_are_made_of_their_text(program):
    child = there(program.Child(4))
    assert child.value() == 41
    assert child.half == 2
    assert type(child.twin(5)) is type(child)
    assert there(program.Point(1)).moved().tags == ["moved"]
    assert there(program.Colour.RED).next().value == 1


def test_a_class_attribute_goes_as_it_is_now(program):
    program.Base.count = 7
    assert there(program.Base).count == 7


def test_a_class_comes_home_as_itself(program):
    point = there(program.Point(1))
    assert type(point) is not program.Point
    file = io.BytesIO()
    registry.by_value_pickler(file, None).dump(point.moved())
    home = pickle.loads(file.getvalue())
    assert type(home) is program.Point
    assert home == program.Point(2, ["moved"])


def test_what_was_made_of_text_goes_on_as_text(program):
    inner = there(program.outer)(3)
    file = io.BytesIO()
    # Not asked for text: but there is no other way to a third Python.
    registry.by_value_pickler(file, None).dump(inner)
    assert b"Code" not in file.getvalue()
    assert pickle.loads(file.getvalue())(2) == [7, 7]


def test_tracebacks_show_the_lines_of_home(program):
    import traceback

    try:
        there(program.helper)(None)
    except TypeError as error:
        lines = traceback.format_exc().splitlines()
        assert error.__traceback__.tb_next.tb_lineno == 10
        assert any("return x * LIMIT" in line for line in lines)


def test_a_file_that_was_edited_is_refused(program):
    edited = PROGRAM.replace("x * LIMIT", "x + LIMIT")
    Path(program.__file__).write_text(edited)
    with pytest.raises(NotPicklable, match="helper.*is not what it was compiled from"):
        there(program.helper)
    with pytest.raises(NotPicklable, match="helper"):
        there(program.decorated)


def test_without_a_file_there_is_no_source():
    scope = {"__name__": "__main__"}
    exec("def typed(): return 1", scope)
    with pytest.raises(NotPicklable, match="typed .*source text is not to be found"):
        there(scope["typed"])


def test_a_class_inside_a_function_is_refused_by_name():
    class Local:
        def method(self):
            return 1

    with pytest.raises(NotPicklable, match="Local.*move it to the top"):
        there(Local())


def test_syntax_that_is_too_new_names_both(program):
    text = "def f():\n    return (((\n"
    made = source.Source(text, "f", "f", "m", (), (), "new.py", 3)
    with pytest.raises(VersionSkew, match=r"f \(new.py, line 3\).*Python 3\.\d+ does"):
        rebuilt.compiled(made)


# By value: bytecode says who compiled it.


def test_bytecode_of_another_python_is_refused_by_name(monkeypatch):
    data = dumps_function(lambda x: x + 1)
    assert pickle.loads(data)(1) == 2
    monkeypatch.setattr(code, "MINOR", (3, 99))
    with pytest.raises(VersionSkew, match=r"Python 3\.\d+, and this .* Python 3\.99"):
        pickle.loads(data)


def test_code_that_another_cloudpickle_wrote_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(code, "cloudpickle_version", lambda: "4.0.1")
    data = dumps_function(lambda x: x + 1)
    for same in ("4.9", ""):
        # Other releases of it are not worth a word, and neither is what is not known.
        monkeypatch.setattr(code, "cloudpickle_version", lambda v=same: v)
        assert pickle.loads(data)(1) == 2
    monkeypatch.setattr(code, "cloudpickle_version", lambda: "3.1.2")
    with pytest.raises(
        VersionSkew, match=r"cloudpickle 4\.0\.1, .* cloudpickle 3\.1\.2"
    ):
        pickle.loads(data)


def test_the_version_of_cloudpickle_is_told_without_importing_it():
    program = (
        "import sys; from covey.version import cloudpickle_version\n"
        "print(cloudpickle_version(), 'cloudpickle' in sys.modules)"
    )
    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert said.stdout.split() == [cloudpickle.__version__, "False"]


def test_no_code_object_is_made_of_it_before(monkeypatch):
    made = []
    data = dumps_inline([lambda: 1, {"f": lambda: 2}])
    monkeypatch.setattr(code, "MINOR", (3, 99))
    monkeypatch.setattr(code, "CodeType", lambda *_: made.append(1))
    with pytest.raises(VersionSkew):
        pickle.loads(data)
    assert not made


def test_plain_data_needs_no_agreement(monkeypatch):
    packer = Packer()
    packer.add((1, "__main__", dataclasses.field, enum.Enum))
    monkeypatch.setattr(code, "MINOR", (3, 99))
    assert next(loads_pack(packer.take()))[1] == "__main__"


def test_the_whole_of_a_function_is_compared():
    def inner():
        return [x * 2 for x in (1, 2)]

    one = inner.__code__
    assert source._same(one, one.replace(co_name="other"))
    assert not source._same(one, one.replace(co_consts=(*one.co_consts, 1)))
    assert isinstance(one, CodeType)
