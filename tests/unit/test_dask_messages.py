"""The messages of one graph: who is used later is kept until then, and no longer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covey.interop import dask_messages
from covey.interop.dask_annotations import OptionsOf
from covey.interop.dask_messages import Messages
from covey.interop.dask_order import Sequencer, users_of
from covey.interop.dask_packing import Ref
from covey.wire.client_link import Release, SubmitGraph

BASE = 1000


class Ingest:
    """Packs nothing; notes what is said, and how much of the order was known then."""

    def __init__(self, inputs, refs, large=(), breaks_at=None):
        self.options = OptionsOf({}, {})
        self.inputs, self.refs = inputs, refs
        self.large = set(large)
        self.breaks_at = breaks_at
        self.posted, self.held = [], []

    @property
    def promised(self):
        return bool(self.large)

    def bring(self, ref):
        if ref.number not in self.large:
            return 0
        self.large.remove(ref.number)
        return dask_messages.BROUGHT_BYTES

    def pack(self, packer, chosen, needs, functions):
        for ref in chosen:
            if ref.number == self.breaks_at:
                raise ValueError(ref.number)
            packer.add(None)
            needs.append(tuple(self.refs[s].task for s in self.inputs[ref.number]))
            functions.append(1)
        return len(chosen)

    def take_functions(self, chosen):
        return tuple(chosen)

    def hold(self, ref):
        self.held.append(ref)

    def post(self, message):
        self.posted.append(message)


def tasks_in(extents):
    return [task for base, n in extents for task in range(base, base + n)]


def heed(posted, held):
    """Take messages as the scheduler does; return what is kept at the end."""
    kept, wanted, unused = set(), set(), BASE
    for message in posted:
        if type(message) is Release:
            gone = tasks_in(message.extents)
            assert kept.issuperset(gone) and not wanted.intersection(gone)
            kept.difference_update(gone)
            continue
        assert type(message) is SubmitGraph and message.base == unused
        here = range(unused, unused + len(message.fns))
        for task, needs in zip(here, message.needs, strict=True):
            for need in needs:
                assert need < task
                assert need in here or need in kept or need in wanted
        unused = here.stop
        wanted.update(tasks_in(message.wanted))
        kept.update(tasks_in(message.coming))
    assert wanted == {ref.task for ref in held}
    return kept


@st.composite
def graphs(draw):
    """Return for each node what it takes."""
    n = draw(st.integers(1, 30))
    return [
        draw(st.lists(st.integers(0, node - 1), unique=True, max_size=4))
        if node
        else []
        for node in range(n)
    ]


@pytest.fixture
def small_messages(monkeypatch):
    monkeypatch.setattr(dask_messages, "CHUNK_TASKS", 4)


def sent(inputs, wanted, **how):
    refs = [Ref(-1, number, object(), number) for number in range(len(inputs))]
    ingest = Ingest(inputs, refs, **how)
    sequencer = Sequencer(inputs, users_of(inputs))
    Messages(ingest, refs, sequencer, BASE, wanted, {}).send()
    return ingest, refs


@pytest.mark.usefixtures("small_messages")
@given(graphs(), st.data())
def test_what_later_messages_use_is_kept_until_they_are_there(inputs, data):
    nodes = st.integers(0, len(inputs) - 1)
    drawn = data.draw(st.lists(nodes, unique=True))
    # What nobody takes is wanted, or else it would be no part of the graph.
    users = users_of(inputs)
    wanted = list(dict.fromkeys([*drawn, *(n for n, u in enumerate(users) if not u)]))
    large = data.draw(st.sets(nodes))
    ingest, refs = sent([*map(list, inputs)], wanted, large=large)
    assert sorted(ref.task for ref in refs) == [*range(BASE, BASE + len(inputs))]
    assert {ref.number for ref in ingest.held} == set(wanted)
    assert not heed(ingest.posted, ingest.held)
    assert not ingest.large


@pytest.mark.usefixtures("small_messages")
@given(graphs(), st.data())
def test_nothing_is_kept_for_a_node_that_cannot_be_packed(inputs, data):
    users = users_of(inputs)
    wanted = [number for number, of in enumerate(users) if not of]
    breaks_at = data.draw(st.integers(0, len(inputs) - 1))
    refs = [Ref(-1, number, object(), number) for number in range(len(inputs))]
    inputs = [*map(list, inputs)]
    ingest = Ingest(inputs, refs, breaks_at=breaks_at)
    messages = Messages(
        ingest, refs, Sequencer(inputs, users), BASE, wanted, dict[Ref, list[Ref]]()
    )
    with pytest.raises(ValueError, match=str(breaks_at)):
        messages.send()
    assert not heed(ingest.posted, ingest.held)


@pytest.mark.usefixtures("small_messages")
def test_the_first_message_leaves_before_the_order_is_known():
    known = []

    class Looks(Ingest):
        def post(self, message):
            known.append(len(self.refs) - [ref.task for ref in self.refs].count(-1))
            super().post(message)

    inputs = [[node - 1] if node else [] for node in range(100)]
    refs = [Ref(-1, number, object(), number) for number in range(100)]
    ingest = Looks(inputs, refs)
    sequencer = Sequencer(inputs, users_of(inputs))
    Messages(ingest, refs, sequencer, BASE, [99], {}).send()
    assert known[0] == 4
    # A link of a chain is used by the next one, and by nothing else.
    submits = [m for m in ingest.posted if type(m) is SubmitGraph]
    assert all(len(tasks_in(m.coming)) == 1 for m in submits[:-1])


@pytest.mark.usefixtures("small_messages")
def test_another_name_is_the_same_task():
    refs = [Ref(-1, "x", object(), 0), Ref(-1, "y", object(), 1)]
    other = Ref(-1, "z", None, 2)
    inputs = [[], [0]]
    ingest = Ingest(inputs, refs)
    sequencer = Sequencer(inputs, users_of(inputs))
    Messages(ingest, refs, sequencer, BASE, [1], {refs[0]: [other]}).send()
    assert other.task == refs[0].task == BASE
