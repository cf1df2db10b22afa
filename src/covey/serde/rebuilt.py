"""Functions and classes made from source text, on the reader's side.

``source`` writes them; this room makes them again, with whatever Python reads.
A function needs more than its text::

    def outer(scale):                       def factory(scale):      # its closure
        def inner(x, y=[1]):        ──►         def inner(x, y=None):
            return helper(x) * scale                return helper(x) * scale
        return inner                            return inner

Decorators, defaults and annotations are taken out of the text: they were evaluated
where the function was defined, and their values come along.  Line numbers are kept, and
the text is given to ``linecache``, so that tracebacks look as they do at home.

The same function made twice from the same text is compiled once.  The same class
is made once as long as somebody holds it, and its author gets back the very class
that he sent: ``isinstance`` holds on both sides.
"""

from __future__ import annotations
import __future__

import builtins
import linecache
from functools import lru_cache
from importlib import import_module
from types import CellType, CodeType, FunctionType
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from weakref import WeakKeyDictionary, WeakValueDictionary

from covey.errors import VersionSkew
from covey.serde.code import MINOR
from covey.serde.code import text as version_text

if TYPE_CHECKING:
    import ast

#: The code of what was made here has a file name that begins like this.
MADE: Final = "<source of "

_FACTORY: Final = "covey_factory"

#: Classes by the name that their author gave them, whether made here or written here.
_classes: WeakValueDictionary[str, type] = WeakValueDictionary()
#: The source of classes that were made here; and names of those written here.
_sources: WeakKeyDictionary[type, Source] = WeakKeyDictionary()
_ids: WeakKeyDictionary[type, str] = WeakKeyDictionary()


class Source(NamedTuple):
    """The text of one function or class, and where it stood.

    Attributes:
        text: a ``def``, ``class`` or ``lambda``, indented as it was.
        name: its own name; ``<lambda>`` for a lambda.
        qualname: with the names of what it stood in.
        module: the module that it was defined in.
        free: the variables of its closure.
        futures: the ``from __future__`` features that its file had turned on.
        file: the name of its file, for tracebacks.
        line: the line of that file that the text begins with, from 1 on.
    """

    text: str
    name: str
    qualname: str
    module: str
    free: tuple[str, ...]
    futures: tuple[str, ...]
    file: str
    line: int


# Functions.


@lru_cache(maxsize=512)
def compiled(source: Source) -> CodeType:
    """Compile the text of a function; return the code of that function alone.

    Raises:
        VersionSkew: this Python does not know some of the syntax.
    """
    factory = _factory(source)
    file = f"{MADE}{source.file}>"
    code: CodeType = compile(
        factory, file, "exec", flags=_flags(source), dont_inherit=True
    )
    _show_in_tracebacks(source, file)
    # The factory is never called: what it would make is taken out of it.
    for name in (_FACTORY, source.name):
        found = [c for c in code.co_consts if isinstance(c, CodeType)]
        code = next(c for c in found if c.co_name == name)
    return code


def _factory(source: Source) -> ast.Module:
    """Return a module with a function that returns the one that is meant."""
    import ast

    node = parsed(source)
    if isinstance(node, ast.Lambda):
        body: list[ast.stmt] = [ast.Return(node)]
    else:
        assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        node.decorator_list = []
        node.returns = None
        if hasattr(node, "type_params"):
            node.type_params = []
        body = [node]
        if source.name not in source.free:
            # Else a function that calls itself would do so through its closure.
            body.insert(0, ast.Global([source.name]))
    arguments = node.args
    arguments.defaults = [ast.Constant(None) for _ in arguments.defaults]
    arguments.kw_defaults = [d and ast.Constant(None) for d in arguments.kw_defaults]
    for argument in ast.walk(arguments):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    # The empty factory is parsed, so that it has all fields of this Python's grammar.
    module = ast.parse(f"def {_FACTORY}({', '.join(source.free)}): pass")
    factory = module.body[0]
    assert isinstance(factory, ast.FunctionDef)
    factory.body = body
    return ast.fix_missing_locations(module)


def parsed(source: Source) -> ast.Lambda | ast.stmt:
    """Return the tree of a text, with the line numbers that it had at home.

    Raises:
        VersionSkew: this Python does not know some of the syntax.
    """
    import ast

    wrap, lines_before = _wrap(source)
    try:
        module = ast.parse(wrap + source.text + (")" if wrap == "(" else ""))
    except SyntaxError as error:
        raise VersionSkew(
            f"the source of {source.qualname} ({source.file}, line {source.line}) uses "
            f"syntax that Python {version_text(MINOR)} does not know: {error.msg}. "
            f"Write it for the oldest Python of the cluster, or ask for runners of "
            f"your own"
        ) from None
    ast.increment_lineno(module, source.line - 1 - lines_before)
    first = module.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Lambda):
        return first.value
    return first.body[0] if isinstance(first, ast.If) else first


def _wrap(source: Source) -> tuple[str, int]:
    """Return what must stand before a text, and how many lines that takes.

    The text of a method is indented.  To dedent it would change strings inside.
    """
    if source.name == "<lambda>":
        return "(", 0
    return ("if 1:\n", 1) if source.text[0] in " \t" else ("", 0)


def _show_in_tracebacks(source: Source, file: str) -> None:
    """Let ``linecache`` know the text under the name that its code has."""
    known = linecache.cache.get(file)
    lines = list(known[2]) if known is not None and len(known) > 2 else []
    wrap, lines_before = _wrap(source)
    text = wrap + source.text + (")" if wrap == "(" else "")
    fresh = [line + "\n" for line in text.split("\n")]
    start = source.line - 1 - lines_before
    lines += ["\n"] * (start + len(fresh) - len(lines))
    lines[start : start + len(fresh)] = fresh
    # A modification time of None marks text that is in no file.
    linecache.cache[file] = (len(lines), None, lines, file)


def function_of(namespace: dict[str, Any], *source: Any) -> FunctionType:
    """Make a function from source; unpickling calls this.  ``fill`` follows.

    Args:
        namespace: becomes its globals; functions of one value share it.
        *source: the fields of ``Source``.
    """
    origin = Source(*source)
    _begin(namespace, origin)
    code = compiled(origin)
    closure = tuple(CellType() for _ in code.co_freevars) or None
    function = FunctionType(code, namespace, origin.name, None, closure)
    function.__qualname__ = origin.qualname
    function.__module__ = origin.module
    return function


def _begin(namespace: dict[str, Any], source: Source) -> None:
    """Put into a new namespace what every module has."""
    namespace.setdefault("__name__", source.module)
    namespace.setdefault("__builtins__", builtins)


def fill(made: Any, state: dict[str, Any]) -> None:
    """Give a function or class what it refers to; unpickling calls this."""
    for name in state["imports"]:
        import_module(name)
    if isinstance(made, type):
        _fill_class(made, state)
        return
    made.__globals__.update(state["globals"])
    made.__name__ = state["name"]
    made.__doc__ = state["doc"]
    made.__defaults__ = state["defaults"]
    made.__kwdefaults__ = state["kwdefaults"]
    made.__annotations__ = state["annotations"]
    made.__dict__.update(state["fields"])
    cells = state["cells"]
    for name, cell in zip(
        made.__code__.co_freevars, made.__closure__ or (), strict=True
    ):
        if name in cells:  # It may not have had a value yet.
            cell.cell_contents = cells[name]


# Classes.


def class_of(
    class_id: str, namespace: dict[str, Any], early: dict[str, Any], *source: Any
) -> type:
    """Make a class from source, or find it; unpickling calls this.

    Args:
        class_id: what its author calls it.
        namespace: becomes the globals of its methods.
        early: the globals that its definition itself needs, such as its bases.
        *source: the fields of ``Source``.
    """
    import ast

    known = _classes.get(class_id)
    if known is not None:
        return known
    origin = Source(*source)
    _begin(namespace, origin)
    namespace.update(early)
    module = ast.Module([parsed(origin)], type_ignores=[])  # type: ignore[list-item]
    file = f"{MADE}{origin.file}>"
    code = compile(module, file, "exec", dont_inherit=True, flags=_flags(origin))
    _show_in_tracebacks(origin, file)
    scope: dict[str, Any] = {}
    exec(code, namespace, scope)  # noqa: S102  # running the user's code is what a runner is for
    made: type = scope[origin.name]
    _classes[class_id] = made
    _sources[made] = origin
    _ids[made] = class_id
    return made


def _flags(source: Source) -> int:
    features = [getattr(__future__, name, None) for name in source.futures]
    return sum(f.compiler_flag for f in features if f is not None)


def _fill_class(made: type, state: dict[str, Any]) -> None:
    if made not in _sources:
        return  # Ours, come home: it has all it needs.
    namespace = state["namespace"]
    namespace.update(state["globals"])
    for name, value in state["fields"].items():
        setattr(made, name, value)


def source_of(class_: type) -> Source | None:
    """Return the source that a class was made from here, if it was."""
    return _sources.get(class_)


def id_of(class_: type) -> str:
    """Return the name by which both sides know a class; a new one if need be."""
    known = _ids.get(class_)
    if known is None:
        import uuid

        known = _ids[class_] = uuid.uuid4().hex
        _classes[known] = class_
    return known


def was_made(value: Any) -> bool:
    """Say whether a function or class was made from source in this process."""
    if type(value) is FunctionType:
        return value.__code__.co_filename.startswith(MADE)
    return isinstance(value, type) and value in _sources
