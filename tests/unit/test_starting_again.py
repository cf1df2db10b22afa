"""Runners that do not come up: tried again as long as the worker is good for anything."""

from __future__ import annotations

import asyncio
import errno
from types import SimpleNamespace

import pytest

from covey.wire.base import Failure
from covey.worker import starting
from covey.worker.starting import START_FAILURES_MAX, Starting

BUSY = OSError(errno.EAGAIN, "Resource temporarily unavailable")
DIED = Failure("died", "RunnerDied", "exited with code 3")


class Scene:
    """A worker with two runners, whose starts go as they are told to."""

    def __init__(self, monkeypatch, *, keeps=True):
        self.outcomes = {}
        self.starts = []
        self.told, self.given_up, self.without, self.pauses = [], [], [], []
        self.processes = [None, None]

        async def prepare(environment):
            return environment

        async def sleep(seconds):
            self.pauses.append(seconds)

        monkeypatch.setattr(starting, "asyncio", SimpleNamespace(sleep=sleep))
        self.starting = Starting(
            "w",
            self.processes,
            SimpleNamespace(prepare=prepare, forget=lambda _: None),
            self.make,
            self.told.append,
            lambda *what: self.without.append(what),
            self.given_up.append,
            lambda: keeps,
        )

    def make(self, number, environment, python):
        assert python == environment

        async def start():
            self.starts.append(number)
            problems = self.outcomes.get(number)
            if problems:
                raise problems.pop(0)

        return SimpleNamespace(number=number, ready=False, start=start)

    def spawn(self, number, environment=""):
        asyncio.run(self.starting.spawn(number, environment))

    def come_up(self, number):
        self.spawn(number)
        self.processes[number].ready = True
        self.starting.came_up(number)

    def end(self, number):
        return self.starting.ended(self.processes[number], DIED)


def test_a_fork_that_fails_is_tried_again_and_told_once(monkeypatch):
    scene = Scene(monkeypatch)
    scene.come_up(0)
    scene.outcomes[1] = [BUSY] * 9
    scene.spawn(1)
    assert scene.starts == [0, *[1] * 10]
    assert scene.processes[1] is not None
    assert not scene.given_up
    (text,) = scene.told
    assert "temporarily unavailable" in text
    assert "ulimit" in text
    assert scene.pauses == [0.25, 0.5, 1, 2, 4, 8, 15, 15, 15]
    scene.starting.came_up(1)
    assert scene.told[1:] == [""]


def test_a_worker_that_keeps_values_does_not_end_for_want_of_runners(monkeypatch):
    scene = Scene(monkeypatch)
    scene.come_up(0)
    assert scene.end(0)
    scene.outcomes[0] = [BUSY] * 5
    scene.spawn(0)
    assert not scene.given_up
    assert scene.processes[0] is not None


@pytest.mark.parametrize("keeps", [True, False])
def test_runners_that_end_before_they_are_ready(monkeypatch, keeps):
    scene = Scene(monkeypatch, keeps=keeps)
    scene.come_up(0)
    assert scene.end(0)
    for times in range(START_FAILURES_MAX):
        scene.spawn(0)
        assert scene.end(0) is (keeps or times < START_FAILURES_MAX - 1)
    assert bool(scene.given_up) is not keeps
    if keeps:
        assert not scene.pauses
        scene.spawn(0)
        assert scene.pauses == [0.25]
        assert "exited with code 3" in scene.told[0]


def test_a_worker_that_never_had_a_runner_gives_up(monkeypatch):
    scene = Scene(monkeypatch)
    scene.outcomes[0] = [BUSY]
    scene.spawn(0)
    assert scene.given_up == [f"a runner cannot be started: {BUSY}"]
    assert scene.processes == [None, None]


def test_one_that_cannot_be_started_waits_for_the_other_to_come_up(monkeypatch):
    scene = Scene(monkeypatch)
    scene.spawn(0)
    scene.outcomes[1] = [BUSY]
    scene.spawn(1)
    assert not scene.given_up
    assert scene.processes[1] is not None


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EAGAIN])
def test_only_what_stays_so_fails_the_tasks_of_an_environment(monkeypatch, number):
    scene = Scene(monkeypatch)
    scene.come_up(0)
    scene.outcomes[1] = [OSError(number, "no")]
    scene.spawn(1, "other")
    stays = number == errno.ENOENT
    assert [what[:2] for what in scene.without] == ([(1, "other")] if stays else [])
    assert (scene.processes[1] is None) is stays
