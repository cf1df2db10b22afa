"""``covey profile``: which frames the time goes to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from covey.cli.profiling import frames
from covey.stacks import Tree

NAMES = [f"f{n}\tfile{n}.py\t{n}" for n in range(4)]
STACKS = st.lists(
    st.tuples(
        st.lists(st.sampled_from(NAMES), min_size=1, max_size=6), st.integers(1, 99)
    )
)


@given(STACKS)
def test_own_times_add_up_and_calls_count_once(stacks):
    tree = Tree()
    for stack, microseconds in stacks:
        tree.add(stack, microseconds)
    rows = {row["frame"]: row for row in frames(tree)}
    for name in {name for stack, _ in stacks for name in stack}:
        function, file, line = name.split("\t")
        row = rows[f"{function} ({file}:{line})"]
        own = sum(time for stack, time in stacks if stack[-1] == name)
        total = sum(time for stack, time in stacks if name in stack)
        assert round(row["own_seconds"] * 1e6) == own
        assert round(row["total_seconds"] * 1e6) == total
    order = [row["own_seconds"] for row in frames(tree)]
    assert order == sorted(order, reverse=True)


def test_the_tasks_of_a_function_are_a_frame_without_a_file():
    tree = Tree()
    tree.add(["work\t\t0", NAMES[1]], 5)
    assert [row["frame"] for row in frames(tree)] == [
        "f1 (file1.py:1)",
        "work (its tasks)",
    ]
