"""What a worker makes of the profiles of its runners."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from covey.errors import RemoteProtocolError
from covey.wire.worker_link import Profiled
from covey.worker.profiling import Profiling

FRAMES = ["f\tm.py\t1", "g\tm.py\t9"]


class Control:
    def __init__(self):
        self.told = []

    def tell(self, operation):
        self.told.append(operation)


@pytest.fixture
async def made():
    said = []
    controls = [Control(), Control()]
    processes = [SimpleNamespace(control=control) for control in controls]
    labels = {3: "fit", 4: "fit", 5: "load"}
    profiling = Profiling(
        [*processes, None], lambda fn: labels.get(fn, ""), said.append
    )
    yield SimpleNamespace(profiling=profiling, said=said, controls=controls)
    profiling.stop()


async def test_runners_are_asked_and_their_trees_added_up_by_function(made):
    made.profiling.look(60.0, 0.5, alone=False)
    assert [control.told for control in made.controls] == [[["profile", 2.0]]] * 2
    made.profiling.look(60.0, 0.5, alone=False)
    assert len(made.controls[0].told) == 1, "it goes on asking by itself"
    made.profiling.take([(3, FRAMES, [0, 0, 0, 10, 1, 1, 20])])
    made.profiling.take([(4, FRAMES[:1], [0, 0, 0, 5]), (5, FRAMES[1:], [0, 0, 0, 7])])
    made.profiling._go_on()
    assert made.said == [
        Profiled("fit", tuple(FRAMES), (0, 0, 0, 15, 1, 1, 20)),
        Profiled("load", tuple(FRAMES[1:]), (0, 0, 0, 7)),
    ]
    assert len(made.controls[0].told) == 2


async def test_nobody_is_asked_when_the_time_is_over(made):
    made.profiling.look(0.0, 0.5, alone=False)
    assert [control.told for control in made.controls] == [[], []]
    made.profiling.take([(3, FRAMES[:1], [0, 0, 0, 5])])
    made.profiling._go_on()
    assert [message.label for message in made.said] == ["fit"], "the last one is told"


async def test_many_workers_tell_less_often(made):
    made.profiling.look(60.0, 4.0, alone=False)
    assert made.controls[0].told == [["profile", 16.0]]


async def test_a_runner_that_talks_nonsense_is_done_for(made):
    with pytest.raises(RemoteProtocolError, match="a runner says"):
        made.profiling.take([(3, FRAMES, [0, 7, 0, 1])])


async def test_a_function_that_is_forgotten_has_no_name(made):
    made.profiling.take([(99, FRAMES[:1], [0, 0, 0, 5])])
    made.profiling._go_on()
    assert [message.label for message in made.said] == [""]
