"""Calls that only follow one another become one task.

What one call makes and nobody but one other call takes need not leave the runner: no
copy is made of it for others, and nobody is told of it::

    x = random(n)                    task x, task s:  the array goes to shared memory
    s = sum(x)           ──►         task s:          it stays where it was made

So it is with two calls of which the second takes nothing but the first one's result; nothing
is lost by it, for they could never have run side by side.  Where tasks have options of
their own (retries, a time limit), each stays for itself.

Two that are nothing but calls become a ``Chain``, one function for all tasks that make the
same calls.  Where one of them is more than that, as are most that dask makes for data
frames (an empty frame is among their arguments), they become a ``Row``: nodes of dask, as
they were, in one node.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from covey.interop.dask_lowering import Plain, is_call
from covey.interop.dask_names import Names
from covey.interop.dask_node import Chain, Link, Row
from covey.interop.dask_packing import Ref, Shelf

#: A task of more calls than this tells too little of how far it is.
LINKS_MAX: Final = 8

#: So many are told apart by what their nodes are called; each is a function of its own.
NAMES_MAX: Final = 64

#: Arguments in which no result is hidden, and which are small.
_SIMPLE: Final = frozenset({int, float, complex, bool, str, bytes, type(None), slice})


def join(
    nodes: Sequence[Ref],
    inputs: list[list[int]],
    users: Sequence[Sequence[int]],
    wanted: Collection[int],
    shelf: Shelf,
    names: Names,
    whole: Callable[[Any], Any],
) -> bool:
    """Make one call of those that only follow one another.

    Whoever took a node that is no task any more takes what it took, and that takes
    nothing: so it says in *inputs* then.

    Args:
        nodes: the nodes of a graph, by number.
        inputs: for each of them, the numbers of what it takes.
        users: for each of them, the numbers of who takes it.
        wanted: the numbers of those whose results somebody holds; they stay tasks.
        shelf: says which functions can be defined by themselves.
        names: tells what nodes are called.
        whole: returns the node of a key as dask has it.

    Returns:
        Whether there were any.
    """
    chains: dict[tuple[tuple[Link, ...], tuple[str, ...]], Chain] = {}
    #: By their last one's number, the keys of those that are one.
    rows: dict[int, tuple[Any, ...]] = {}
    found = False
    for number, sources in enumerate(inputs):
        if len(sources) != 1 or len(users[sources[0]]) != 1 or sources[0] in wanted:
            continue
        ref = nodes[number]
        source = nodes[sources[0]]
        node = ref.node
        before = rows.get(source.number, (source.key,))
        if len(before) >= LINKS_MAX:
            continue
        if _is_more(node, source.node):
            keys = (*before, ref.key)
            labels = tuple(map(names.of, keys))
            ref.node = Row(tuple(map(whole, keys)), labels)
        elif type(node) is Plain and _can_follow(node, source):
            links, labels = _links(source.node, node), _labels(source, names)
            if len(chains) >= NAMES_MAX and (links, labels) not in chains:
                labels = ()
            chain = chains.get((links, labels))
            if chain is None:
                chain = chains[links, labels] = Chain(links, labels)
            if not shelf.fits_whole(chain):
                continue
            ref.node = _joined(chain, source, node, ref.key)
        else:
            continue
        rows[number] = (*before, ref.key)
        source.node = None
        inputs[number], inputs[source.number] = inputs[source.number], []
        found = True
    return found


def _is_more(node: Any, source: Any) -> bool:
    """Whether one of two calls is more than a ``Plain`` one."""
    if type(node) is Plain and type(source) is Plain:
        return False
    return all(type(one) in {Plain, Row} or is_call(one) for one in (node, source))


def _can_follow(node: Plain, source: Ref) -> bool:
    """Whether a call takes a result just as it is, and nothing that is hidden."""
    if type(source.node) is not Plain or not node.places:
        return False
    named = node.kwargs.values() if node.kwargs else ()
    return all(arg is source or _is_simple(arg) for arg in node.args) and all(
        map(_is_simple, named)
    )


def _is_simple(value: Any) -> bool:
    kind = type(value)
    if kind is list or kind is tuple:
        return all(map(_is_simple, value))
    return kind in _SIMPLE


def _links(first: Plain, node: Plain) -> tuple[Link, ...]:
    """Return what is called when *node* follows *first*."""
    if type(first.function) is Chain:
        before = first.function.links
    else:
        before = (_link(first, ()),)
    return (*before, _link(node, node.places))


def _link(node: Plain, places: tuple[int, ...]) -> Link:
    named = bool(node.kwargs)
    return Link(node.function, len(node.args) + named, places, named)


def _given(node: Plain) -> tuple[Any, ...]:
    """Return the arguments of a link: the named ones are the last."""
    return (*node.args, node.kwargs) if node.kwargs else node.args


def _labels(source: Ref, names: Names) -> tuple[str, ...]:
    """Return what is called up to *source*."""
    function = source.node.function
    before = function.labels if type(function) is Chain else ()
    return (*before, names.of(source.key))


def _joined(chain: Chain, source: Ref, node: Plain, key: Any) -> Plain:
    first = source.node
    if type(first.function) is Chain:
        keys, *args = first.args
        places = first.places
    else:
        # The keys come before the arguments.
        keys, args = (source.key,), _given(first)
        places = tuple([at + 1 for at in first.places])
    own = [None if at in node.places else arg for at, arg in enumerate(_given(node))]
    return Plain(
        chain,
        ((*keys, key), *args, *own),
        places,
        first.inputs,
        None,
        first.extras + node.extras,
    )
