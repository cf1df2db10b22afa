"""What tasks of a dask graph are called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from covey.interop.dask_lowering import Plain
from covey.interop.dask_node import Chain, Row
from covey.interop.dask_packing import Ref
from covey.serde.functions import encodable


def label_of(key: Any) -> str:
    """Return the name of a key without its token and position."""
    text = str(key[0]) if isinstance(key, tuple) and key else str(key)
    text = encodable(text)
    head, _, tail = text.rpartition("-")
    # A token may have dashes in it, if it is a UUID: inc-4122de2b-6d1d-4c65-...
    if len(tail) == 12 and text.count("-") >= 5:
        head = text.rsplit("-", 5)[0]
    return head if head and len(tail) >= 8 else text[:80]


class Names:
    """Knows the names of keys; of those that begin alike it looks at one.

    Args:
        look: is shown what keys begin with, once each.
    """

    __slots__ = ("_known", "_look")

    def __init__(self, look: Callable[[str], None]) -> None:
        self._look = look
        self._known: dict[str, str] = {}

    def of(self, key: Any) -> str:
        """Return ``label_of(key)``."""
        head = key[0] if type(key) is tuple and key else key
        if type(head) is not str:
            return label_of(key)
        name = self._known.get(head)
        if name is None:
            self._look(head)
            name = self._known[head] = label_of(head)
        return name

    def of_task(self, ref: Ref) -> str:
        """Return the name of a task: of all calls that it makes, if it is several."""
        node, name = ref.node, self.of(ref.key)
        if type(node) is Plain and type(node.function) is Chain:
            return node.function.name(name)
        return node.name if type(node) is Row else name
