"""What tasks print, for the client that asked: its own, in order, none silently missed."""

from __future__ import annotations

from covey.events import Ring
from covey.scheduler.core.listening import STRETCHES_MAX
from covey.scheduler.core.machine import Left, Said
from covey.scheduler.core.prints import PRINTS_KEPT, SHORT, Prints
from covey.wire.client_link import Answer, Ask
from covey.wire.worker_link import Printed


def ask(world, client, number=-1, topic="prints", request=1):
    """Ask, and return what *client* is answered at once."""
    orders = world.core.step(
        Said(client.peer, [Ask(request, topic, number=number)]), world.now
    )
    return [m.body for m in orders.get(client.peer, ()) if isinstance(m, Answer)]


def told(world, client):
    """Return the texts that *client* is told now, with where it stands and missed."""
    orders = world.core.tell_audience(world.now)
    bodies = [m.body for m in orders.get(client.peer, ()) if isinstance(m, Answer)]
    return [(after, [e[6] for e in found], n) for after, found, n in bodies]


def prints(world, worker, task, *texts):
    for text in texts:
        worker.say(Printed(task, "stdout", text, 0))


def test_each_client_is_told_what_its_own_tasks_print(world):
    worker = world.new_worker()
    mine, other = world.new_client(), world.new_client()
    assert ask(world, mine) == ask(world, other) == []
    task, foreign = mine.submit(1), other.submit(1)
    prints(world, worker, foreign, "theirs\n")
    prints(world, worker, task, "mine\n")
    assert world.core.watched
    assert told(world, mine) == [(2, ["mine\n"], 0)]
    assert not world.core.watched, "who does not ask costs nothing"


def test_prints_of_others_are_passed_over_for_good(world):
    worker = world.new_worker()
    mine, other = world.new_client(), world.new_client()
    ask(world, mine)
    foreign = other.submit(1)
    prints(world, worker, foreign, "theirs\n")
    assert told(world, mine) == []
    assert not world.core.watched
    prints(world, worker, mine.submit(1), "mine\n")
    assert told(world, mine) == [(2, ["mine\n"], 0)]


def test_who_asks_too_late_hears_how_much_was_missed(world):
    worker, mine = world.new_worker(), world.new_client()
    task = mine.submit(1)
    prints(world, worker, task, *["x\n"] * (PRINTS_KEPT + 7))
    ask(world, mine, 0)
    ((after, found, missed),) = told(world, mine)
    assert (after, len(found), missed) == (7 + STRETCHES_MAX, STRETCHES_MAX, 7)


def test_a_client_that_leaves_gets_the_last_words_at_once(world):
    worker, mine = world.new_worker(), world.new_client()
    ask(world, mine)
    task = mine.submit(1)
    prints(world, worker, task, "last\n")
    body, nothing = ask(world, mine, topic="last-prints", request=2)
    assert [event[6] for event in body[1]] == ["last\n"] and nothing is None
    ask(world, mine, body[0])
    assert ask(world, mine, topic="last-prints") == [(1, [], 0), None]
    world.core.step(Left(mine.peer), world.now)
    assert not world.state.listeners


def test_prints_outlive_a_flood_of_other_events(world):
    worker, mine = world.new_worker(), world.new_client()
    task = mine.submit(1)
    prints(world, worker, task, "kept\n")
    for _ in range(world.state.events.capacity + 1):
        world.state.events.append((0.0, "other"))
    ((event,),) = [ask(world, mine, topic="logs")[0]]
    assert event[6] == "kept\n"


def test_what_was_printed_long_ago_stays_in_the_stream_as_its_beginning():
    events = Ring[tuple](20)
    kept = Prints(events, 0, capacity=3)
    for number in range(10):
        events.append(("other", number))
        text = f"{number}" * 1000 if number % 2 else "short"
        kept.enter((0.0, "printed", 7, "f", "w", "stdout", text, number))
    texts = [event[6] for event in events.since(0).events if event[1] == "printed"]
    assert [len(text) for text in texts[-3:]] == [1000, 5, 1000]
    assert texts[-3:] == [event[6] for event in kept.since(0).events]
    for number, text in enumerate(texts[:-3]):
        assert len(text) < SHORT + 50
        if number % 2:
            assert text.startswith(f"{number}" * SHORT)
            assert text.endswith("(800 characters more)")
    # What else there is of such an event stays, in its place.
    assert [event[-1] for event in events.since(0).events[1::2]] == list(range(10))
