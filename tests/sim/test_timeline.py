"""Virtual time: calls come when they are due, in whatever slices it is kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from covey.sim.timeline import SLICE_SECONDS, Timeline

#: Within a slice, on its edges, some slices away, and days.
DELAYS = st.one_of(
    st.floats(0.0, 3 * SLICE_SECONDS),
    st.integers(0, 4).map(lambda n: n * SLICE_SECONDS),
    st.floats(0.0, 1e6),
)


@given(st.lists(st.tuples(DELAYS, st.lists(DELAYS, max_size=4)), max_size=30))
def test_calls_are_made_in_order_of_time_and_then_of_asking(plan):
    timeline = Timeline()
    made, asked = [], []

    def ask(delay, then=()):
        due = (timeline.now + delay, len(asked))
        asked.append(due)
        timeline.after(delay, call, due, then)

    def call(due, then):
        assert timeline.now == due[0]
        made.append(due)
        for delay in then:
            ask(delay)

    for delay, then in plan:
        ask(delay, then)
    while timeline.step():
        pass
    assert made == sorted(asked)


@given(st.lists(DELAYS, max_size=20), st.lists(DELAYS, max_size=5))
def test_what_is_asked_for_while_time_stands_comes_in_order_as_well(first, later):
    timeline = Timeline()
    made = []
    for delay in first:
        timeline.at(delay, made.append, delay)
    timeline.run(SLICE_SECONDS)
    assert timeline.now == SLICE_SECONDS
    assert made == sorted(d for d in first if d <= SLICE_SECONDS)
    for delay in later:
        timeline.at(delay, made.append, max(delay, SLICE_SECONDS))
    timeline.run(2e6)
    rest = [max(delay, SLICE_SECONDS) for delay in later]
    assert made == sorted([*first, *rest])
