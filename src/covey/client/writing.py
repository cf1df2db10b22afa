"""How one client writes its functions and values.

What can be imported on the other side always goes by reference.  For the rest
there are two ways, and the client takes the one that its readers can follow::

    all runners have our minor version of Python,
    and our major version of cloudpickle          ──►  by value: bytecode, exact
    some have others, or nobody is here yet       ──►  by source: text, checked

``functions="import"`` allows nothing but names; with a serializer other than
``"pickle"``, no pickle is written or read anywhere on behalf of the client.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from covey import plugins
from covey.client.engine import Engine
from covey.client.environments import chosen_python
from covey.client.functions import FunctionCache, Pickled, digest_of
from covey.client.modules import Bundle, OwnModules
from covey.client.reloads import Reloads
from covey.errors import NotPicklable, UsageError
from covey.serde import code, registry
from covey.serde.formats import PICKLE, Format, format_named
from covey.serde.functions import dumps_name, label, split_head, with_head

_WAYS: Final = ("auto", "import", "value", "source")
_AS_USUAL: Final = nullcontext()

#: So many functions are kept with what was put before their bytes, which may be whole
#: packages; and so many of their bytes, but the last few however large they are.
_HEADED_MAX: Final = 256
_HEADED_BYTES_MAX: Final = 64 << 20
_HEADED_LEAST: Final = 8


class Writing:
    """Turns the functions of one client into bytes, and says how values follow.

    Args:
        engine: knows which Pythons there are on the cluster.
        functions: how functions go that cannot be imported: ``"value"``,
            ``"source"``, or ``"auto"``: by source as soon as a worker is known
            whose runners have another minor version of Python, or another major
            version of cloudpickle.  ``"import"``: they do not go at all.
        serializer: the family in which values go, if a call does not say.
        modules: the user's own modules.
        environment: what all functions ask for; see ``environments``.
        reloads: of modules that runners import from where this process does, if any do.

    Raises:
        UsageError: there is no such way, or no such family.
    """

    def __init__(
        self,
        engine: Engine,
        functions: str = "auto",
        serializer: str = "pickle",
        modules: OwnModules | None = None,
        environment: str = "",
        reloads: Reloads | None = None,
    ) -> None:
        if functions not in _WAYS:
            raise UsageError(
                f"functions= takes {', '.join(map(repr, _WAYS))}, not {functions!r}"
            )
        registry.load_plugins(plugins.serializers())
        #: The user's own modules, which may have to go along with functions.
        self.modules = modules or OwnModules(auto=False)
        self._engine = engine
        self.live_in(environment)
        self._functions = functions
        self._form = format_named(serializer)
        #: Whether nothing may be read that pickle wrote.
        self.plain = functions == "import" and serializer != "pickle"
        self._reloads = reloads
        look = None if reloads is None else reloads.look
        self._by_value = FunctionCache(look)
        self._by_source = FunctionCache(look)
        #: Functions with something before their bytes, by digest and family, those used
        #: last at the end.
        self._headed: OrderedDict[tuple[Any, ...], Pickled] = OrderedDict()
        self._headed_bytes = 0
        self._heading = threading.Lock()

    def live_in(self, environment: str) -> None:
        """Have all functions from now on ask for *environment*."""
        self.environment = environment
        python = chosen_python(environment)
        #: Whether it asks for another minor version of Python than ours, if for any.
        self._foreign_python = python != code.text(code.MINOR) if python else None

    def form(self, serializer: str | None) -> Format:
        """Return how values go in a call that asks for *serializer*."""
        return self._form if serializer is None else format_named(serializer)

    def pickles(self, form: Format) -> bool:
        """Say whether functions and values both go as pickle has them."""
        return form is PICKLE and self._functions != "import"

    def demand_pickle(self, what: str) -> None:
        """Raise unless this client may pickle.

        Raises:
            UsageError: it may not; *what* needs it.
        """
        if not self.pickles(self._form):
            raise UsageError(
                f"{what} needs pickle, and this client was made with "
                f"serializer={self._form.name!r} and functions={self._functions!r}; "
                f"make another Client for it"
            )

    @property
    def chooses(self) -> bool:
        """Whether it is left to us how functions travel."""
        return self._functions == "auto"

    @property
    def by_source(self) -> bool:
        """Whether code that cannot be imported goes as text now."""
        if self._functions != "auto":
            return self._functions == "source"
        readers, foreign = self._engine.readers, self._foreign_python
        if foreign is None:
            foreign = readers.foreign_python
        return foreign or readers.foreign_cloudpickle

    def chosen(self) -> AbstractContextManager[None]:
        """Inside ``with``, what this thread pickles is written as was chosen."""
        return registry.by_source() if self.by_source else _AS_USUAL

    def function(
        self,
        function: Callable[..., Any],
        form: Format,
        arguments: bytes = b"",
        *,
        alone: bool = False,
    ) -> Pickled:
        """Return a function as bytes, which say how its results are written.

        Args:
            function: what is to be called.
            form: how its arguments and results go.
            arguments: bytes of arguments, which may name modules as well.
            alone: without any modules.

        Raises:
            NotPicklable: it cannot travel; the message names the culprit.
        """
        if self._functions == "import":
            payload = dumps_name(function, form.name)
            pickled = Pickled(label(function), digest_of(payload), payload)
            if self._reloads is not None:
                self._reloads.look()
        elif self.by_source:
            with registry.by_source():
                pickled = self._by_source.pickled(function)
        elif self._functions == "auto" and not self._engine.workers:
            pickled = self._for_whoever_comes(function)
        else:
            pickled = self._by_value.pickled(function)
        reloads = self._reloads
        if reloads is not None:
            reloads.look_at_times()
            if reloads.count:
                return self._with_head(
                    pickled, form, arguments, alone, {"reloads": reloads.head}
                )
        if form is PICKLE and self.modules.idle and not self.environment:
            return pickled  # Nothing goes before it, and most are such.
        return self._with_head(pickled, form, arguments, alone, {})

    def _with_head(
        self,
        pickled: Pickled,
        form: Format,
        arguments: bytes,
        alone: bool,
        head: dict[str, Any],
    ) -> Pickled:
        """Put before a function what its runner has to know first; see ``function``."""
        if form is not PICKLE:
            head["serializer"] = form.name
        bundles: tuple[Bundle, ...] = ()
        if not (alone or self.modules.idle):
            bundles = self.modules.needed(pickled.payload, arguments)
            if bundles:
                head["modules"] = [[b.name, b.digest, len(b.data)] for b in bundles]
        if head:
            pickled = self._headed_by(head, bundles, pickled)
        if self.environment:
            # The same bytes in another environment are another function.
            mixed = digest_of(self.environment.encode() + pickled.digest)
            pickled = pickled._replace(digest=mixed)
        return pickled

    def _for_whoever_comes(self, function: Callable[..., Any]) -> Pickled:
        """No worker is here yet, and nobody knows which Python the first will have.

        Text can be read by all of them; what has none goes by value.
        """
        try:
            with registry.by_source():
                return self._by_source.pickled(function)
        except NotPicklable:
            return self._by_value.pickled(function)

    def _headed_by(
        self, head: dict[str, Any], bundles: tuple[Bundle, ...], pickled: Pickled
    ) -> Pickled:
        key = (
            pickled.digest,
            head.get("serializer"),
            head.get("reloads", (0, 0))[1],
            *(b.digest for b in bundles),
        )
        with self._heading:
            headed = self._headed.get(key)
            if headed is not None:
                self._headed.move_to_end(key)
                return headed
            before, rest = split_head(pickled.payload)
            body = b"".join([*(bundle.data for bundle in bundles), rest])
            payload = with_head(body, {**before, **head})
            headed = Pickled(pickled.label, digest_of(payload), payload)
            self._headed[key] = headed
            self._headed_bytes += len(payload)
            while len(self._headed) > _HEADED_MAX or (
                self._headed_bytes > _HEADED_BYTES_MAX
                and len(self._headed) > _HEADED_LEAST
            ):
                _, oldest = self._headed.popitem(last=False)
                self._headed_bytes -= len(oldest.payload)
        return headed
