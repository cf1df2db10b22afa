"""How one client writes its functions and values.

What can be imported on the other side always goes by reference.  For the rest
there are two ways, and the client takes the one that its readers can follow::

    all runners have our minor version of Python  ──►  by value: bytecode, exact
    some have another one                         ──►  by source: text, checked
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, Literal, TypeAlias

from covey.client.engine import Engine
from covey.client.functions import FunctionCache, Pickled
from covey.errors import UsageError
from covey.serde import registry

Functions: TypeAlias = Literal["auto", "value", "source"]

_WAYS: Final = ("auto", "value", "source")
_AS_USUAL: Final = nullcontext()


class Writing:
    """Turns the functions of one client into bytes, and says how values follow.

    Args:
        engine: knows which Pythons there are on the cluster.
        functions: how functions go that cannot be imported: ``"value"``,
            ``"source"``, or ``"auto"``: by source as soon as a worker is known
            whose runners have another minor version of Python.

    Raises:
        UsageError: there is no such way.
    """

    def __init__(self, engine: Engine, functions: str = "auto") -> None:
        if functions not in _WAYS:
            raise UsageError(
                f"functions= takes {', '.join(map(repr, _WAYS))}, not {functions!r}"
            )
        self._engine = engine
        self._functions = functions
        self._by_value = FunctionCache()
        self._by_source = FunctionCache()

    @property
    def by_source(self) -> bool:
        """Whether code that cannot be imported goes as text now."""
        return self._functions == "source" or (
            self._functions == "auto" and self._engine.foreign_python
        )

    def chosen(self) -> AbstractContextManager[None]:
        """Inside ``with``, what this thread pickles is written as was chosen."""
        return registry.by_source() if self.by_source else _AS_USUAL

    def function(self, function: Callable[..., Any]) -> Pickled:
        """Return a function as bytes.

        Raises:
            NotPicklable: it cannot travel; the message names the culprit.
        """
        if self.by_source:
            with registry.by_source():
                return self._by_source.pickled(function)
        return self._by_value.pickled(function)
