"""The played network: late, in order, in pieces, and never made up."""

from __future__ import annotations

from random import Random

import pytest

from covey.sim.network import SILENCE_SECONDS, End, Network, Node, Weather
from covey.sim.timeline import Timeline, Trace
from covey.wire.client_link import FromClient, Release


class Wire:
    """One connection, and what came out of its ends."""

    def __init__(self, seed=0):
        self.timeline = Timeline()
        self.network = Network(
            self.timeline, Random(seed), Weather(0.001, 0.001, 1e6), Trace()
        )
        self.a, self.b = Node("a"), Node("b")
        self.came = []
        self.lost = []
        self.near = End(self.a, FromClient, lambda e, batch: None, self._lost)
        self.far = End(
            self.b, FromClient, lambda e, batch: self.came.extend(batch), self._lost
        )
        self.connection = self.network.connect(self.near, self.far)

    def _lost(self, end):
        self.lost.append(end.node.name)

    def say(self, *numbers):
        for number in numbers:
            self.near.send(Release(((number, 1),)))

    def numbers(self):
        return [message.extents[0][0] for message in self.came]


@pytest.fixture
def wire():
    return Wire()


def test_bytes_come_in_order_and_late(wire):
    wire.say(*range(20))
    assert not wire.came
    wire.timeline.run(1.0)
    assert wire.numbers() == list(range(20))


def test_what_is_stuck_behind_a_blocked_path_comes_when_it_heals(wire):
    wire.network.block("a", "b")
    wire.say(*range(5))
    wire.timeline.run(SILENCE_SECONDS / 2)
    assert not wire.came
    wire.network.heal("a", "b")
    wire.timeline.run(SILENCE_SECONDS)
    assert wire.numbers() == list(range(5))
    assert not wire.lost


@pytest.mark.parametrize("way", [("a", "b"), ("b", "a")])
def test_a_connection_without_acknowledgements_breaks_at_both_ends(wire, way):
    wire.network.block(*way)
    wire.timeline.run(SILENCE_SECONDS + 2.0)
    assert sorted(wire.lost) == ["a", "b"]


def test_a_short_block_after_a_long_silence_breaks_nothing(wire):
    wire.network.block("a", "b")
    wire.timeline.run(SILENCE_SECONDS - 1.0)
    wire.network.heal("a", "b")
    wire.network.block("a", "b")
    wire.timeline.run(SILENCE_SECONDS + 1.0)
    assert not wire.lost


@pytest.mark.parametrize("seed", range(20))
def test_a_broken_connection_has_brought_a_beginning_of_what_was_sent(seed):
    wire = Wire(seed)
    wire.say(*range(10))
    wire.network.break_(wire.connection)
    wire.timeline.run(5.0)
    assert wire.numbers() == list(range(len(wire.came)))
    assert sorted(wire.lost) == ["a", "b"]


def test_connections_break_in_the_middle_of_frames():
    cuts = set()
    for seed in range(20):
        wire = Wire(seed)
        wire.say(*range(10))
        wire.network.break_(wire.connection)
        wire.timeline.run(5.0)
        cuts.add(len(wire.came))
    assert len(cuts) > 3


def test_a_process_that_is_paused_hears_all_when_it_goes_on(wire):
    wire.b.pause()
    wire.say(1, 2, 3)
    wire.timeline.run(1.0)
    assert not wire.came
    wire.b.resume()
    assert wire.numbers() == [1, 2, 3]


def test_a_process_that_is_gone_hears_nothing_and_is_missed(wire):
    wire.b.die()
    wire.network.gone(wire.b)
    wire.say(1)
    wire.timeline.run(5.0)
    assert not wire.came
    assert wire.lost == ["a"]


def test_who_closes_is_still_heard_to_the_end(wire):
    wire.say(1, 2)
    wire.near.close()
    wire.say(3)
    wire.timeline.run(5.0)
    assert wire.numbers() == [1, 2]
    assert wire.lost == ["b"]
