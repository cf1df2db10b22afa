"""What stands in a graph of dask for a value that is on the cluster.

``persist`` gives collections whose graphs are made of these::

    Held(("x", 0), future)

For a client of covey it is another name of the future, and no task.  Any other scheduler
of dask calls it, as it does with all data of a graph, and gets the value: fetched from
the cluster, as long as the client of the future is open.

A collection that is an argument of a task, or is computed in one, comes to the runner
with the values in place of the futures.

The runners import this room, so it knows neither client nor wire.
"""

from __future__ import annotations

from typing import Any

from dask._task_spec import DataNode

from covey.serde import refs


class Held(DataNode):
    """A node of dask whose value a future holds.

    Args:
        key: what it is called in the graph.
        value: the future; in a runner its value.
    """

    __slots__ = ()

    @property
    def block_fusion(self) -> bool:
        """That it stays a node by itself: whoever it was fused with would need a task."""
        return True

    def copy(self) -> Held:
        """Return another one of the same value."""
        return Held(self.key, self.value)

    def substitute(self, subs: dict[Any, Any], key: Any = None) -> Held:
        """Return it under another key."""
        del subs
        return self if key is None or key == self.key else Held(key, self.value)

    def __call__(self, values: Any = ()) -> Any:
        """Return the value.

        Raises:
            UsageError: the client of the future was closed.
        """
        del values
        held: Any = self.value
        if not issubclass(type(held), refs.Reference):
            return held
        # There is a client in this process, for it has made a future.
        from covey.client.adopting import value_elsewhere

        return value_elsewhere(held, repr(self.key))

    def result(self) -> Any:
        """Return the value, as the future itself would: dask's ``assert_eq`` asks so."""
        return self()

    def __reduce__(self) -> tuple[object, ...]:
        return (Held, (self.key, self.value))
