"""Early words: who is told what by whom, and what becomes of those that cannot be told."""

from __future__ import annotations

import asyncio
import itertools
import mmap
import os
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from covey.client.core.ranges import Range, Wishes
from covey.client.countdown import Countdown, End
from covey.client.early import LATE_BY_CHANCE, PAUSE_MOST, EarlyWords, early_words
from covey.client.questions import Questions
from covey.ids import first_task_id
from covey.net.addresses import Address
from covey.payload import Pack
from covey.store.early import VALUE_BYTES, Ear, Voice, make_page
from covey.wire.client_link import Answer
from covey.worker.agent import INLINE_BYTES

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere no thread leads"
)

CLIENT = 11
TASK = first_task_id(CLIENT) + 5


@pytest.fixture
def directory(tmp_path):
    make_page(str(tmp_path))
    return str(tmp_path)


@pytest.fixture
def ear(directory):
    ear = Ear(directory, CLIENT)
    yield ear
    ear.close()


@pytest.fixture
def voice(directory):
    return Voice(directory)


# Ears and voices.


def test_who_waits_is_told_once_and_who_does_not_is_not(ear, voice):
    voice.tell(TASK, b"nobody has asked")
    ear.ask(TASK)
    voice.tell(TASK + 1, b"another one")
    voice.tell(TASK, b"value")
    assert ear.hear() == (TASK, b"value")
    assert ear.hear() is None
    ear.ask(TASK + 1)
    voice.tell(TASK, b"he has gone on")
    assert ear.hear() is None


def test_each_client_has_an_ear_and_runners_tell_all_of_them(directory, ear, voice):
    other = Ear(directory, CLIENT + 1)
    task = first_task_id(CLIENT + 1)
    ear.ask(TASK), other.ask(task)
    for speaker in (voice, Voice(directory)):
        speaker.tell(TASK, b"x")
        speaker.tell(task, b"y")
        assert (ear.hear(), other.hear()) == ((TASK, b"x"), (task, b"y"))
    other.close()


def test_two_clients_that_share_a_place_lose_a_word_and_nothing_else(directory, ear):
    far = CLIENT + 512
    other, voice = Ear(directory, far), Voice(directory)
    ear.ask(TASK)
    other.ask(first_task_id(far))
    voice.tell(TASK, b"x")
    voice.tell(first_task_id(far), b"y")
    assert ear.hear() is None
    assert other.hear() == (first_task_id(far), b"y")
    other.close()


def test_what_is_not_small_goes_as_it_always_does(ear, voice):
    assert VALUE_BYTES <= INLINE_BYTES, "or it would not come along as well"
    ear.ask(TASK)
    voice.tell(TASK, bytes(VALUE_BYTES + 1))
    assert ear.hear() is None
    voice.tell(TASK, bytes(VALUE_BYTES))
    assert ear.hear() == (TASK, bytes(VALUE_BYTES))


def test_where_an_ear_is_full_or_gone_nothing_happens(directory, ear, voice):
    ear.ask(TASK)
    for number in range(1000):
        voice.tell(TASK, b"%d" % number)
    heard = 0
    while (word := ear.hear()) is not None:
        assert word == (TASK, b"%d" % heard)
        heard += 1
    assert 0 < heard < 1000
    ear.close()
    voice.tell(TASK, b"x")
    assert ear.hear() is None
    assert not [*Path(directory).glob("early-*")]
    ear.close()


@pytest.mark.parametrize("size", [0, 1, 8, 9 + VALUE_BYTES, 100_000])
def test_what_is_no_word_is_none(directory, ear, size):
    (path,) = Path(directory).glob("early-*")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(bytes(size), str(path))
    assert ear.hear() is None
    assert ear.hear() is None


def test_who_comes_removes_what_killed_ones_left_and_only_that(directory, ear):
    left = Ear(directory, CLIENT + 1)
    left._socket.close()
    Path(directory, "scheduler").touch()
    late = Ear(directory, CLIENT + 2)
    names = {path.name for path in Path(directory).iterdir()}
    assert names == {"waits", "scheduler", "early-b", "early-d"}
    late.close()


def test_the_next_life_of_a_cluster_keeps_the_page(directory, ear):
    make_page(directory)
    ear.ask(TASK)
    Voice(directory).tell(TASK, b"x")
    assert ear.hear() == (TASK, b"x")
    assert Path(directory, "waits").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", [Voice, lambda directory: Ear(directory, CLIENT)])
def test_where_there_is_no_page_nothing_can_be_told(tmp_path, kind):
    with pytest.raises(OSError):
        kind(str(tmp_path))
    (tmp_path / "waits").write_bytes(bytes(100))
    with pytest.raises(OSError):
        kind(str(tmp_path))
    assert not [*tmp_path.glob("early-*")]


def test_a_page_is_no_link_to_elsewhere(tmp_path):
    there = tmp_path / "there"
    there.write_bytes(bytes(mmap.PAGESIZE))
    (tmp_path / "waits").symlink_to(there)
    for act in (make_page, Voice, lambda directory: Ear(directory, CLIENT)):
        with pytest.raises(OSError):
            act(str(tmp_path))


# What a client makes of them.


@pytest.fixture
def engine():
    todo = []
    return SimpleNamespace(
        wishes=Wishes(),
        loop=SimpleNamespace(call_soon_threadsafe=lambda *call: todo.append(call)),
        todo=todo,
        outbox=SimpleNamespace(quiet=False),
        expect_lull=None,
        lull_is_coming=True,
    )


@pytest.fixture
def words(engine, ear):
    return EarlyWords(engine, ear)


def wished(engine, task, n=1):
    wish = Range(task, n, "f", None)
    engine.wishes.add(wish)
    return wish


def test_a_word_ends_what_is_waited_for(engine, words, voice):
    wish = wished(engine, TASK)
    end = End(wish, 0)
    words.ask(end)
    voice.tell(TASK, b"x")
    words.take()
    assert end.fired and (wish.status[0], wish.payload(0)) == (1, b"x")
    assert engine.wishes.untold == {TASK}
    assert not engine.todo, "nobody had to be woken"
    words.take()


def test_others_that_watch_are_told_by_the_loop(engine, words, voice):
    wish = wished(engine, TASK)
    end, told = End(wish, 0), []
    countdown = Countdown(lambda: told.append(TASK))
    countdown.add(wish, [0])
    countdown.armed()
    words.ask(end)
    voice.tell(TASK, b"x")
    words.take()
    assert end.fired and not told
    ((call, *arguments),) = engine.todo
    call(*arguments)
    assert told == [TASK] and not wish.watchers


def test_while_the_client_is_being_closed_it_ends_the_wait_and_no_more(
    engine, words, voice
):
    def closed(*_):
        raise RuntimeError("Event loop is closed")

    engine.loop.call_soon_threadsafe, engine.lull_is_coming = closed, False
    end = End(wished(engine, TASK), 0)
    words.ask(end)
    voice.tell(TASK, b"x")
    words.take()
    assert end.fired


def test_of_a_task_of_a_map_nobody_asks(engine, words, voice):
    words.ask(End(wished(engine, TASK, 3), 1))
    voice.tell(TASK + 1, b"x")
    assert words._ear.hear() is None


def told(engine, words, voice, task, *, late):
    """Have a task waited for, and ended; return whether a word was of any use."""
    wish = wished(engine, task)
    words.ask(End(wish, 0))
    if late:
        engine.wishes.finished(task, Pack.of([b"x"]))
    voice.tell(task, b"x")
    words.take()
    in_time = task in engine.wishes.untold
    engine.wishes.finished(task, Pack.of([b"x"]))
    return in_time


def test_where_it_is_of_no_use_it_is_asked_for_less_and_less(
    engine, words, monkeypatch
):
    asked = []
    monkeypatch.setattr(words._ear, "ask", asked.append)
    monkeypatch.setattr(words._ear, "hear", lambda: (asked[-1], b"x"))
    for number in range(300):
        before = len(asked)
        wish = wished(engine, TASK + number)
        words.ask(End(wish, 0))
        engine.wishes.finished(TASK + number, Pack.of([b"x"]))
        if len(asked) > before:
            words.take()
    pauses = [b - a - 1 for a, b in itertools.pairwise(asked)]
    assert pauses[:LATE_BY_CHANCE] == [0] * LATE_BY_CHANCE
    pauses = pauses[LATE_BY_CHANCE:]
    assert pauses[:6] == [1, 3, 7, 15, 31, PAUSE_MOST]
    assert set(pauses[6:]) == {PAUSE_MOST}


def test_a_few_that_come_too_late_are_chance(engine, words, voice):
    for number in range(LATE_BY_CHANCE):
        assert not told(engine, words, voice, TASK + number, late=True)
    assert told(engine, words, voice, TASK + 10, late=False), "none is left out"
    for number in range(LATE_BY_CHANCE):
        assert not told(engine, words, voice, TASK + 20 + number, late=True)
    assert told(engine, words, voice, TASK + 30, late=False), "they are counted anew"


def test_it_is_asked_for_again_where_it_is_of_use(engine, words, voice):
    late = LATE_BY_CHANCE + 1
    for first in (0, 100):
        for number in range(first, first + late):
            assert not told(engine, words, voice, TASK + number, late=True)
        of_use = [
            told(engine, words, voice, TASK + number, late=False)
            for number in range(first + late, first + late + 4)
        ]
        assert of_use == [False, True, True, True], "one was left out"


def test_elsewhere_there_are_none(directory):
    def at(address):
        return early_words(SimpleNamespace(address=address, client_id=CLIENT))

    assert at(Address("127.0.0.1", 8786, "")) is None
    assert at(Address("", 0, "/nowhere/scheduler")) is None
    found = at(Address("", 0, f"{directory}/scheduler"))
    assert found is not None
    os.fstat(found.fd)
    found.close()


# Questions.


def questions_of(wishes, post=pytest.fail, look=lambda: None):
    return Questions(post, wishes, asyncio.get_running_loop(), look)


def test_who_asks_about_what_ended_early_asks_when_the_scheduler_knows():
    async def ask():
        wishes, posted = Wishes(), []
        looks = []
        questions = questions_of(wishes, posted.append, lambda: looks.append(1))
        wishes.add(Range(TASK, 1, "f", None))
        assert wishes.ends_early(TASK)
        asked = [asyncio.create_task(questions.ask("info")) for _ in range(2)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert not posted and len(questions.waiting) == 2
        assert looks, "a thread that led may have left that for later"
        wishes.finished(TASK, Pack.of([b"x"]))
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(posted) == 2
        for each in posted:
            questions.answered(Answer(each.request, "here"))
        assert await asyncio.gather(*asked) == ["here"] * 2
        assert not (questions.asked or questions.waiting)

    asyncio.run(asyncio.wait_for(ask(), 10))


def test_who_asks_when_all_is_over_is_told_so():
    async def ask():
        wishes = Wishes()
        questions = questions_of(wishes)
        wishes.add(Range(TASK, 1, "f", None))
        assert wishes.ends_early(TASK)
        asked = asyncio.create_task(questions.ask("info"))
        await asyncio.sleep(0)
        questions.end(ConnectionError("over"))
        with pytest.raises(ConnectionError, match="over"):
            await asked

    asyncio.run(asyncio.wait_for(ask(), 10))


def test_who_leaves_gives_the_scheduler_a_moment_to_tell(monkeypatch):
    async def leave():
        wishes = Wishes()
        questions = questions_of(wishes)
        await questions.settle()
        wishes.add(Range(TASK, 1, "f", None))
        assert wishes.ends_early(TASK)
        with monkeypatch.context() as patch:
            patch.setattr("covey.client.questions.SETTLE_SECONDS", 0.001)
            await questions.settle()
        assert wishes.untold
        monkeypatch.setattr("covey.client.questions.SETTLE_SECONDS", 30.0)
        leaves = asyncio.create_task(questions.settle())
        await asyncio.sleep(0)
        assert not leaves.done()
        wishes.finished(TASK, Pack.of([b"x"]))
        await leaves

    asyncio.run(asyncio.wait_for(leave(), 10))
