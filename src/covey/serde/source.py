"""Functions and classes on their way to another version of Python: as source text.

Bytecode cannot go (see ``code``), text can.  What can be imported on the other side
still goes by reference; for the rest, this room finds the text and what the
text refers to::

    function ──► text of its def or lambda
             ──► values: closure, defaults, attributes        pickled, so again by
             ──► the globals that its code names              reference or by source

The text is compiled here first, and what comes out must be the bytecode of the
function that is meant: a file that was edited since, or a function that some
tool has rewritten, is refused and not quietly replaced by something else.
"""

from __future__ import annotations
import __future__

import ast
import copy
import dis
import linecache
import sys
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

from covey.errors import NotPicklable, VersionSkew
from covey.serde import rebuilt
from covey.serde.rebuilt import Source

_GLOBAL_OPERATIONS: Final = {
    "LOAD_GLOBAL",
    "STORE_GLOBAL",
    "DELETE_GLOBAL",
    "LOAD_NAME",
}

#: Class attributes of these types are sent as they are now, not as the text says.
_PLAIN: Final = (type(None), bool, int, float, complex, str, bytes)

_trees: dict[str, tuple[list[str], ast.Module]] = {}


def importable(value: Any) -> bool:
    """Say whether a function or class is what importing its name gives."""
    module = getattr(value, "__module__", None)
    name = getattr(value, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str) or module == "__main__":
        return False
    cloudpickle = sys.modules.get("cloudpickle")
    if cloudpickle is not None:
        # Modules of which the user said that they shall not go by reference.
        chosen = cloudpickle.list_registry_pickle_by_value()
        if chosen and {module, module.partition(".")[0]} & chosen:
            return False
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is value


# What a pickler asks.


def reduce_function(
    function: FunctionType, namespaces: dict[int, dict[str, Any]]
) -> tuple[Any, ...]:
    """Return what pickle needs to know about a function.

    Args:
        function: one that cannot be imported on the other side.
        namespaces: globals of functions in the same value, by their identity.

    Raises:
        NotPicklable: its source cannot be had; says why.
    """
    code = function.__code__
    source = _function_source(function)
    namespace = namespaces.setdefault(id(function.__globals__), {})
    cells = {}
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        try:
            cells[name] = cell.cell_contents
        except ValueError:
            continue  # It has no value yet.
    names = set(_global_names(code))
    state = {
        "globals": _globals(function.__globals__, names),
        "imports": _submodules(function.__globals__, names, code),
        "defaults": function.__defaults__,
        "kwdefaults": function.__kwdefaults__,
        "annotations": dict(getattr(function, "__annotations__", {})),
        "fields": {k: v for k, v in vars(function).items() if k != "__wrapped__"},
        "cells": cells,
        "name": function.__name__,
        "doc": function.__doc__,
    }
    return (
        rebuilt.function_of,
        (namespace, *source),
        state,
        None,
        None,
        rebuilt.fill,
    )


def reduce_class(
    class_: type, namespaces: dict[int, dict[str, Any]]
) -> tuple[Any, ...]:
    """Return what pickle needs to know about a class.

    Raises:
        NotPicklable: its source cannot be had; says why.
    """
    source = rebuilt.source_of(class_) or _class_source(class_)
    known = _globals_of_class(class_)
    namespace = namespaces.setdefault(id(known), {})
    tree = rebuilt.parsed(source)
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    early = _names_at_definition(tree) - {class_.__name__}
    fields = {
        name: value
        for name, value in vars(class_).items()
        if type(value) in _PLAIN and not name.startswith("__")
    }
    if issubclass(type(class_), type) and type(class_) is not type:
        fields = {}  # A metaclass may have made other things of them.
    state = {
        "namespace": namespace,
        "globals": _globals(known, names - early),
        "imports": _submodules(known, names, None),
        "fields": fields,
    }
    arguments = (rebuilt.id_of(class_), namespace, _globals(known, early), *source)
    return (rebuilt.class_of, arguments, state, None, None, rebuilt.fill)


def reduce_module(module: ModuleType) -> tuple[Any, ...]:
    """Return what pickle needs to know about a module: its name."""
    from importlib import import_module

    return (import_module, (module.__name__,))


def reduce_code(code: CodeType) -> tuple[Any, ...]:
    """Refuse: whatever this code object belongs to, we have no text of it."""
    raise _no_source(code.co_name, "it is bytecode that belongs to no function")


# Names.


def _global_names(code: CodeType) -> Iterator[str]:
    """Yield the names of the globals that *code*, or code inside it, uses."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in _GLOBAL_OPERATIONS:
            yield str(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)


def _globals(known: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: known[name] for name in sorted(names) if name in known}


def _submodules(
    known: dict[str, Any], names: set[str], code: CodeType | None
) -> tuple[str, ...]:
    """Return modules that must be imported though only a parent of them is named.

    ``import xml.etree.ElementTree`` binds ``xml`` alone.
    """
    attributes = set(names)
    waiting = [code] if code is not None else []
    while waiting:
        current = waiting.pop()
        attributes.update(current.co_names)
        waiting += [c for c in current.co_consts if isinstance(c, CodeType)]
    parents = {
        value.__name__ + "."
        for name in names
        if isinstance(value := known.get(name), ModuleType)
    }
    return tuple(
        sorted(
            name
            for name in list(sys.modules)
            for parent in parents
            if name.startswith(parent)
            and attributes.issuperset(name[len(parent) :].split("."))
        )
    )


def _names_at_definition(tree: ast.AST) -> set[str]:
    """Return the names that are looked up when a class statement is executed."""
    found = set()
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting.append(node.args)
            waiting += getattr(node, "decorator_list", ())
            waiting += filter(None, [getattr(node, "returns", None)])
            continue
        waiting += ast.iter_child_nodes(node)
    return found


def _globals_of_class(class_: type) -> dict[str, Any]:
    for value in vars(class_).values():
        function = getattr(value, "__func__", value)
        if isinstance(function, FunctionType) and (
            function.__module__ == class_.__module__
        ):
            return function.__globals__
    return vars(sys.modules[class_.__module__])


# Text.


def _no_source(name: str, why: str) -> NotPicklable:
    return NotPicklable(
        f"{name} cannot travel by source to another version of Python: {why}. Put it "
        f"into a module that both sides can import, or use the same minor version of "
        f"Python on both sides"
    )


def _tree(file: str, name: str, known: dict[str, Any]) -> tuple[list[str], ast.Module]:
    """Return the lines and the tree of a file, parsed once while it stays the same."""
    linecache.checkcache(file)
    lines = linecache.getlines(file, known)
    if not lines:
        raise _no_source(name, f"its source text is not to be found in {file}")
    cached = _trees.get(file)
    if cached is not None and cached[0] == lines:
        return cached
    try:
        tree = ast.parse("".join(lines))
    except SyntaxError as error:
        raise _no_source(
            name, f"{file} cannot be parsed (any more): {error}"
        ) from error
    if len(_trees) >= 64:
        _trees.clear()
    _trees[file] = (lines, tree)
    return lines, tree


def _futures(code: CodeType) -> tuple[str, ...]:
    return tuple(
        name
        for name in __future__.all_feature_names
        if code.co_flags & getattr(__future__, name).compiler_flag
        and getattr(__future__, name).getMandatoryRelease() is None
    )


def _function_source(function: FunctionType) -> Source:
    """Find the text that *function* was compiled from, and make sure of it."""
    code = function.__code__
    name = function.__qualname__
    file = code.co_filename
    lines, tree = _tree(file, name, function.__globals__)
    shown = file.removeprefix(rebuilt.MADE).removesuffix(">")
    candidates = []
    for node in ast.walk(tree):
        if not _may_be(node, code):
            continue
        candidates.append(
            Source(
                _segment(node, lines),
                code.co_name,
                name,
                function.__module__ or "__main__",
                code.co_freevars,
                _futures(code),
                shown,
                node.lineno,  # type: ignore[attr-defined]
            )
        )
    for source in candidates:
        try:
            if _same(rebuilt.compiled(source), code):
                return source
        except (VersionSkew, SyntaxError, StopIteration):
            continue
    if candidates:
        raise _no_source(
            name,
            f"the text at {shown}, line {code.co_firstlineno}, is not what it was "
            f"compiled from; the file was changed, or a tool rewrote the function",
        )
    raise _no_source(
        name,
        f"there is no function of that name at {shown}, line {code.co_firstlineno}",
    )


def _may_be(node: ast.AST, code: CodeType) -> bool:
    """Say whether *node* begins where *code* does, and has its name."""
    if isinstance(node, ast.Lambda):
        return code.co_name == "<lambda>" and node.lineno == code.co_firstlineno
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
    # What was made from source has lost its decorators.
    return node.name == code.co_name and code.co_firstlineno in (first, node.lineno)


def _segment(node: ast.AST, lines: list[str]) -> str:
    """Return the text of *node*; that of a statement with its indentation."""
    if isinstance(node, ast.Lambda):
        text = ast.get_source_segment("".join(lines), node)
        assert text is not None
        return text
    assert isinstance(node, ast.stmt) and node.end_lineno is not None
    first = node.lineno
    if isinstance(node, ast.ClassDef):
        first = min([first, *(d.lineno for d in node.decorator_list)])
    return "".join(lines[first - 1 : node.end_lineno]).rstrip("\n")


def _same(one: CodeType, other: CodeType) -> bool:
    """Say whether two code objects do the same."""
    for field in (
        "co_code",
        "co_names",
        "co_varnames",
        "co_freevars",
        "co_cellvars",
        "co_argcount",
        "co_posonlyargcount",
        "co_kwonlyargcount",
    ):
        if getattr(one, field) != getattr(other, field):
            return False
    if len(one.co_consts) != len(other.co_consts):
        return False
    return all(
        _same(a, b)
        if isinstance(a, CodeType) and isinstance(b, CodeType)
        else type(a) is type(b) and repr(a) == repr(b)
        for a, b in zip(one.co_consts, other.co_consts, strict=True)
    )


def _class_source(class_: type) -> Source:
    """Find the text that *class_* was defined by, and make sure of it."""
    name = class_.__qualname__
    if "." in name:
        raise _no_source(
            name, "it is defined inside of something else; move it to the top"
        )
    code = next(_codes_of(class_), None)
    module = sys.modules.get(class_.__module__)
    file = code.co_filename if code is not None else getattr(module, "__file__", None)
    if file is None:
        raise _no_source(name, "its module has no file")
    lines, tree = _tree(file, name, vars(module) if module is not None else {})
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            futures = _futures(code) if code is not None else ()
            text = _segment(node, lines)
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            module_name = class_.__module__
            source = Source(text, name, name, module_name, (), futures, file, first)
            if _defines(source, class_):
                return source
    raise _no_source(
        name,
        f"the text in {file} is not what it was made from; the file was changed, or "
        f"a tool rewrote the class",
    )


def _codes_of(class_: type) -> Iterator[CodeType]:
    for value in vars(class_).values():
        function = getattr(value, "__func__", value)
        if isinstance(function, FunctionType) and (
            function.__qualname__ == f"{class_.__qualname__}.{function.__name__}"
            and not function.__code__.co_filename.startswith("<string>")
        ):
            yield function.__code__


def _defines(source: Source, class_: type) -> bool:
    """Say whether the methods in the text are those of the class."""
    tree = copy.deepcopy(rebuilt.parsed(source))
    module = ast.Module([tree], type_ignores=[])  # type: ignore[list-item]
    body = compile(module, source.file, "exec", dont_inherit=True)
    found: dict[str, list[CodeType]] = {}
    waiting = [body]
    while waiting:
        current = waiting.pop()
        for constant in current.co_consts:
            if isinstance(constant, CodeType):
                waiting.append(constant)
                found.setdefault(constant.co_name, []).append(constant)
    return all(
        any(_same(code, candidate) for candidate in found.get(code.co_name, ()))
        for code in _codes_of(class_)
        if code.co_name in found
    )
