"""Calls that only follow one another become one task.

What one call makes and nobody but one other call takes need not leave the runner: no
copy is made of it for others, and nobody is told of it::

    x = random(n)                    task x, task s:  the array goes to shared memory
    s = sum(x)           ──►         task s:          it stays where it was made

So it is with two calls of which the second takes nothing but the first one's result; nothing
is lost by it, for they could never have run side by side.  Where tasks have options of
their own (retries, a time limit), each stays for itself.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from covey.interop.dask_lowering import Plain
from covey.interop.dask_names import Names
from covey.interop.dask_node import Chain, Link
from covey.interop.dask_packing import Ref, Shelf

#: A task of more calls than this tells too little of how far it is.
LINKS_MAX: Final = 8

#: So many are told apart by what their nodes are called; each is a function of its own.
NAMES_MAX: Final = 64

#: Arguments in which no result is hidden.
_SIMPLE: Final = frozenset({int, float, complex, bool, str, bytes, type(None), slice})


def join(
    nodes: Sequence[Ref],
    inputs: list[list[int]],
    users: Sequence[Sequence[int]],
    wanted: Collection[int],
    shelf: Shelf,
    names: Names,
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

    Returns:
        Whether there were any.
    """
    chains: dict[tuple[tuple[Link, ...], tuple[str, ...]], Chain] = {}
    found = False
    for number, sources in enumerate(inputs):
        if len(sources) != 1 or len(users[sources[0]]) != 1 or sources[0] in wanted:
            continue
        ref = nodes[number]
        source = nodes[sources[0]]
        node = ref.node
        if type(node) is Plain and _can_follow(node, source):
            links, labels = _links(source.node, node), _labels(source, names)
            if len(chains) >= NAMES_MAX and (links, labels) not in chains:
                labels = ()
            chain = chains.get((links, labels))
            if chain is None:
                chain = chains[links, labels] = Chain(links, labels)
            if shelf.fits_whole(chain):
                ref.node = _joined(chain, source, node)
                source.node = None
                inputs[number], inputs[source.number] = inputs[source.number], []
                found = True
    return found


def _can_follow(node: Plain, source: Ref) -> bool:
    """Whether a call takes a result just as it is, and nothing that is hidden."""
    first = source.node
    if type(first) is not Plain or first.kwargs or node.kwargs or not node.places:
        return False
    if type(first.function) is Chain and len(first.function.links) >= LINKS_MAX:
        return False
    return all(arg is source or type(arg) in _SIMPLE for arg in node.args)


def _links(first: Plain, node: Plain) -> tuple[Link, ...]:
    """Return what is called when *node* follows *first*."""
    if type(first.function) is Chain:
        before = first.function.links
    else:
        before = (Link(first.function, len(first.args), ()),)
    return (*before, Link(node.function, len(node.args), node.places))


def _labels(source: Ref, names: Names) -> tuple[str, ...]:
    """Return what is called up to *source*."""
    function = source.node.function
    before = function.labels if type(function) is Chain else ()
    return (*before, names.of(source.key))


def _joined(chain: Chain, source: Ref, node: Plain) -> Plain:
    first = source.node
    if type(first.function) is Chain:
        keys, *args = first.args
        places = first.places
    else:
        # The keys come before the arguments.
        keys, args = (), first.args
        places = tuple([at + 1 for at in first.places])
    own = [None if at in node.places else arg for at, arg in enumerate(node.args)]
    return Plain(
        chain,
        ((*keys, source.key), *args, *own),
        places,
        first.inputs,
        None,
        first.extras + node.extras,
    )
