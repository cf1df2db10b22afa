"""Who reads what comes to a client: the loop, or a thread that waits for it."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import select
import socket
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from interrupting import interrupted_at

from covey import clock
from covey.client.core.ranges import Range, Wishes
from covey.client.countdown import Countdown, End, Signal
from covey.client.early import EarlyWords
from covey.client.listening import listen
from covey.net.inlet import inlet_of
from covey.net.link import Link
from covey.net.shared_line import SharedLine
from covey.payload import Pack
from covey.store.early import Ear, Voice, make_page
from covey.wire.client_link import Finished, Notice, ToClient
from covey.wire.framing import FrameReader, encode_ack, encode_frame
from covey.wire.keys import Role
from covey.wire.session import ACK_FRAMES, Session

pytestmark = pytest.mark.skipif(
    not hasattr(select, "epoll"), reason="elsewhere the loop alone reads"
)


class Loop:
    """Does what it is told, and reads what it may, when the test says so."""

    def __init__(self):
        self.todo = []
        self.readers = {}

    def call_soon(self, call, *args):
        self.todo.append((call, args))

    call_soon_threadsafe = call_soon

    def add_reader(self, fd, call):
        self.readers[fd] = call

    def remove_reader(self, fd):
        self.readers.pop(fd, None)

    def turn(self):
        while True:
            if self.todo:
                call, args = self.todo.pop(0)
                call(*args)
                continue
            poll = select.poll()
            for fd in self.readers:
                poll.register(fd, select.POLLIN)
            come = poll.poll(0)
            if not come:
                return
            for fd, _ in come:
                self.readers[fd]()


class Transport:
    """A transport that has stopped reading."""

    def __init__(self, sock):
        self.sock = sock
        self.closing = False

    def get_extra_info(self, name):
        return self.sock if name == "socket" else None

    def pause_reading(self):
        """It does not read anyway."""

    def is_closing(self):
        return self.closing

    def write(self, data):
        self.sock.sendall(data)

    def close(self):
        self.closing = True

    abort = close


class OneLink(Link):
    """A link that stands already."""

    def __init__(self, sock, loop, on_messages):
        self._loop = loop
        self._transport = Transport(sock)
        self._on_messages = on_messages
        self._handshake = self._problem = self._raw_left = self._takes_raw = None
        self.reader = FrameReader(ToClient)
        self.outlet = self.inlet = None
        self.lost = self.yields = False
        self.bytes_sent = self.bytes_received = 0


class Talk:
    """A client, as far as it listens, and a peer that keeps what it has sent."""

    def __init__(self):
        self.loop = Loop()
        self.session = Session(1)
        self.line = SharedLine(self.session, Role.SCHEDULER, pytest.fail, self.loop)
        self.wishes = Wishes()
        self.by_loop = []
        self.sent = []
        self.ends = []
        self.connect()
        self.engine = SimpleNamespace(
            line=self.line,
            thread_id=0,
            loop=self.loop,
            wishes=self.wishes,
            outbox=SimpleNamespace(quiet=False),
            lull_is_coming=True,
            early=None,
            has_time=lambda: False,
        )

    def hear_from(self, directory, client=0):
        """Have runners tell early words; return what tells one, whoever waits."""
        make_page(directory)
        self.engine.early = EarlyWords(self.engine, Ear(directory, client))
        ear, voice = self.engine.early._ear, Voice(directory)

        def tell(task):
            waits, ear._words[0] = ear._words[0], task
            voice.tell(task, b"x")
            ear._words[0] = waits

        return tell

    @contextlib.contextmanager
    def going_on(self):
        """Have the loop run in a thread of its own meanwhile; a link is followed by another."""
        over = threading.Event()

        def run():
            while not over.wait(0.001):
                self.loop.turn()
                self.reconnect_if_cut()

        there = threading.Thread(target=run)
        there.start()
        try:
            yield
        finally:
            over.set()
            there.join()

    def connect(self):
        ours, self.theirs = socket.socketpair()
        self.ends += [ours, self.theirs]
        ours.setblocking(False)
        self.link = OneLink(ours, self.loop, self.on_messages)
        self.line.attach(self.link, 0)

    def reconnect_if_cut(self):
        if self.link._transport.closing:
            self.link.lost = True
            self.link.inlet.close()
            self.line.detach()
            self.connect()
            for frame in self.sent[self.session.received :]:
                self.theirs.sendall(frame)

    def on_messages(self, _, batch):
        for message in batch:
            self.by_loop.append(message)
            if type(message) is Finished:
                pack = Pack.from_wire(message.sizes, message.data)
                self.wishes.finished(message.base, pack)

    def say(self, *messages):
        self.sent.append(encode_frame(messages))
        self.theirs.sendall(self.sent[-1])

    def wish(self, task):
        wish = Range(task, 1, "task", None)
        self.wishes.add(wish)
        return wish

    def close(self):
        self.link.inlet = None
        for sock in self.ends:
            sock.close()


@pytest.fixture
def talk():
    it = Talk()
    yield it
    it.close()


def done(task):
    return Finished(task, 1, b"\1\0\0\0", b"x")


def test_who_waits_for_a_result_takes_it_from_the_socket(talk):
    wish = talk.wish(7)
    end = End(wish, 0)
    talk.say(done(7))
    assert listen(talk.engine, end, 5.0)
    assert (wish.payload(0), wish.status[0], wish.pending) == (b"x", 1, 0)
    assert not wish.watchers
    assert (talk.session.received, talk.link.bytes_received) == (1, len(talk.sent[0]))
    assert not talk.loop.todo, "nobody had to be woken"
    talk.loop.turn()
    assert not talk.by_loop


def test_then_the_loop_reads_again(talk):
    talk.wish(7), talk.wish(8)
    talk.say(done(7))
    assert listen(talk.engine, End(talk.wishes.find(7), 0), 5.0)
    talk.say(done(8))
    talk.loop.turn()
    assert talk.by_loop == [done(8)]
    assert talk.session.received == 2


def test_it_takes_the_results_of_others_as_well(talk):
    one, other = talk.wish(7), talk.wish(8)
    end, ends_too = End(one, 0), End(other, 0)
    talk.say(done(8), done(7))
    assert listen(talk.engine, end, 5.0)
    assert ends_too.fired
    assert talk.session.received == 1
    assert not talk.loop.todo


@pytest.mark.parametrize(
    "first",
    [
        pytest.param([Notice("hear"), done(7)], id="other messages"),
        pytest.param([Finished(7, 2, b"\1\0\0\0\1\0\0\0", b"xy")], id="several tasks"),
        pytest.param([done(99)], id="nobody's task"),
        pytest.param([Notice("x" * 5000)], id="a long frame"),
    ],
)
def test_all_else_is_for_the_loop_and_in_its_order(talk, first):
    talk.wish(7), talk.wish(8)
    talk.wishes.add(Range(99, 2, "task", None))
    end = End(talk.wishes.find(8), 0)
    talk.say(*first)
    talk.say(done(8))
    with talk.going_on():
        assert listen(talk.engine, end, 5.0)
    assert talk.by_loop[: len(first)] == first
    assert talk.session.received == 2


def test_the_last_words_are_heard_before_the_end_is(talk):
    talk.wish(7)
    talk.say(Notice("this is the end"))
    talk.theirs.shutdown(socket.SHUT_WR)
    assert not listen(talk.engine, End(talk.wishes.find(7), 0), 0.01)
    # The loop may see that the socket has ended before it sees what it was left.
    (readable,) = talk.loop.readers.values()
    readable()
    assert talk.by_loop == [Notice("this is the end")]
    assert talk.link._transport.closing


def test_what_the_other_side_has_heard_is_for_the_loop(talk):
    talk.wish(7)
    end = End(talk.wishes.find(7), 0)
    for _ in range(3):
        talk.session.push(b"frame")
    talk.theirs.sendall(encode_ack(1))
    assert not listen(talk.engine, end, 0.001), "that is no reason to lead no more"
    talk.theirs.sendall(encode_ack(2) + encode_frame([done(7)]))
    assert listen(talk.engine, end, 5.0) and not talk.by_loop
    assert talk.session.acked == 0 and talk.session.received == 1
    # The loop reads the next one before it does what it was told to.
    late, talk.loop.todo = talk.loop.todo, []
    talk.theirs.sendall(encode_ack(3))
    talk.loop.turn()
    assert talk.session.acked == 3
    talk.loop.todo = late
    talk.loop.turn()
    assert talk.session.acked == 3 and not talk.link._transport.closing


def test_a_peer_that_has_heard_more_than_was_said_is_left(talk):
    end = End(talk.wish(7), 0)
    talk.theirs.sendall(encode_ack(9))
    assert not listen(talk.engine, end, 0.001)
    talk.loop.turn()
    assert talk.link._transport.closing


def test_who_waits_takes_what_has_come_together(talk):
    end = End(talk.wish(7), 0)
    talk.wish(8)
    talk.theirs.sendall(encode_frame([done(8)]) + encode_frame([done(7)]))
    assert listen(talk.engine, end, 5.0) and not talk.by_loop
    assert talk.session.received == 2
    assert all(wish.status[0] for wish in talk.wishes.all())


@pytest.mark.parametrize("cut", range(1, 12))
def test_half_a_frame_behind_it_is_for_the_loop(talk, cut):
    end = End(talk.wish(7), 0)
    talk.wish(8)
    last = encode_frame([done(8)])
    talk.theirs.sendall(encode_frame([done(7)]) + last[:cut])
    assert not listen(talk.engine, end, 0.001)
    talk.theirs.sendall(last[cut:])
    talk.loop.turn()
    assert talk.session.received == 2 and len(talk.by_loop) == 2


def test_others_that_watch_are_told_by_the_loop(talk):
    wish = talk.wish(7)
    told = []
    end = End(wish, 0)
    countdown = Countdown(lambda: told.append(threading.current_thread()))
    countdown.add(wish, [0])
    countdown.armed()
    talk.say(done(7))
    assert listen(talk.engine, end, 5.0)
    assert not told
    talk.loop.turn()
    assert told == [threading.main_thread()], "the loop runs in this one here"
    assert talk.session.received == 1


def test_who_does_not_get_it_in_time_leaves_the_loop_to_read(talk):
    end = End(talk.wish(7), 0)
    assert not listen(talk.engine, end, 0.0)
    assert not listen(talk.engine, end, 0.001)
    talk.say(done(7))
    talk.loop.turn()
    assert end.fired


def test_it_need_not_come_by_the_socket(talk):
    wish = talk.wish(7)
    end = End(wish, 0)
    leads = threading.Event()

    def lead():
        poll = talk.link.inlet._poll
        talk.link.inlet._poll = SimpleNamespace(
            poll=lambda timeout: (leads.set(), poll.poll(timeout))[1]
        )
        listen(talk.engine, end, 5.0)

    there = threading.Thread(target=lead)
    there.start()
    assert leads.wait(5.0)
    wish.finish_one(b"y")
    there.join(5.0)
    assert not there.is_alive()


def test_a_link_that_ends_is_left(talk):
    wish = talk.wish(7)
    end = End(wish, 0)
    talk.theirs.close()
    there = threading.Thread(target=listen, args=(talk.engine, end, 5.0))
    there.start()
    while not talk.link._transport.closing:
        talk.loop.turn()
    talk.reconnect_if_cut()
    talk.say(done(7))
    while not end.fired and there.is_alive():
        talk.loop.turn()
    there.join(5.0)
    assert not there.is_alive()


def test_a_loop_that_has_ended_is_told_nothing(talk, monkeypatch):
    """The client is being closed, which ends all that is waited for."""
    wish = talk.wish(7)

    def closed(*_):
        raise RuntimeError("Event loop is closed")

    def whole(reader, data):
        talk.link.lost = True
        monkeypatch.setattr(talk.loop, "call_soon_threadsafe", closed)

    monkeypatch.setattr(FrameReader, "whole", whole)
    monkeypatch.setattr(FrameReader, "all_whole", lambda *_: None)
    talk.say(done(7))
    assert not listen(talk.engine, End(wish, 0), 0.001)


def test_of_two_that_wait_one_leads(talk):
    ends = [End(talk.wish(task), 0) for task in (7, 8)]
    there = [threading.Thread(target=listen, args=(talk.engine, e, 5.0)) for e in ends]
    with talk.going_on():
        for thread in there:
            thread.start()
        talk.say(done(7))
        talk.say(done(8))
        for thread in there:
            thread.join(5.0)
    assert not any(thread.is_alive() for thread in there)
    assert talk.session.received == 2
    assert all(wish.status[0] for wish in talk.wishes.all())


class Sleeps:
    """Looks once only, in place of ``Spin``."""

    pause = 0
    slept = True

    def poll(self, poll, milliseconds):
        return poll.poll(milliseconds)


def test_the_handler_of_a_signal_may_wait_as_well(talk):
    """It runs in the thread that leads, which cannot go on before it has ended."""
    wish, inner = talk.wish(7), talk.wish(8)
    inlet = talk.link.inlet
    inlet._spin = Sleeps()
    poll = inlet._poll

    def with_handler(timeout):
        inlet._poll = poll
        talk.say(done(8))
        with talk.going_on():
            assert listen(talk.engine, End(inner, 0), 5.0)
        talk.say(done(7))
        return poll.poll(timeout)

    inlet._poll = SimpleNamespace(poll=with_handler)
    end = End(wish, 0)
    assert not listen(talk.engine, end, 0.001), "it is the loop's turn now"
    talk.loop.turn()
    assert end.fired and talk.session.received == 2


def test_the_loop_steps_aside_for_who_has_the_turn(talk, monkeypatch):
    """It may need the very core, to give back the turn: so the loop must not spin."""
    wish, inlet = talk.wish(7), talk.link.inlet
    aside = []
    valve = inlet._valve

    def moved(fd, events):
        if not events:
            talk.say(done(7))
            # Here the kernel has the loop run, on the core of the thread that shuts it.
            inlet._readable()
            assert len(aside) == 1 and not wish.status[0]
            del aside[:]
        valve.modify(fd, events)

    monkeypatch.setattr("covey.net.inlet.time.sleep", aside.append)
    inlet._valve = SimpleNamespace(modify=moved, fileno=valve.fileno)
    assert listen(talk.engine, End(wish, 0), 5.0)
    assert not aside and wish.status[0]
    inlet._valve = valve
    more = [talk.wish(task) for task in (17, 18)]
    talk.say(done(17))
    assert listen(talk.engine, End(more[0], 0), 5.0)
    talk.say(done(18))
    inlet._readable()
    assert aside and more[1].status[0], "who has led may lead again, but did not"
    monkeypatch.setattr(clock, "monotonic", lambda: inlet._led + 1.0)
    del aside[:]
    other = talk.wish(8)
    talk.say(done(8))
    inlet._readable()
    assert not aside and other.status[0], "it is long ago"


@pytest.mark.parametrize("elsewhere", [False, True])
def test_it_may_wait_twice_and_others_meanwhile(talk, elsewhere):
    """The turn is free then, but not what the thread below waits on."""
    wish, *inner = [talk.wish(task) for task in (7, 8, 9)]
    inlet = talk.link.inlet
    inlet._spin = Sleeps()
    poll, polls = inlet._poll, []

    def wait(wish):
        talk.say(done(wish.base))
        assert listen(talk.engine, End(wish, 0), 5.0)

    def with_handler(timeout):
        polls.append(timeout)
        if len(polls) > 1:
            raise RuntimeError("concurrent poll() invocation")
        with talk.going_on():
            wait(inner[0])
            if elsewhere:
                there = threading.Thread(target=wait, args=(inner[1],))
                there.start()
                there.join()
            else:
                wait(inner[1])
        talk.say(done(7))
        return poll.poll(timeout)

    inlet._poll = SimpleNamespace(poll=with_handler)
    end = End(wish, 0)
    assert not listen(talk.engine, end, 0.001), "it is the loop's turn now"
    talk.loop.turn()
    assert end.fired and talk.session.received == 3
    assert inner[1].status[0] and len(polls) == 1
    # Who waits next leads again.
    inlet._poll = poll
    talk.wish(10)
    talk.say(done(10))
    assert listen(talk.engine, End(talk.wishes.find(10), 0), 5.0)
    assert done(10) not in talk.by_loop


def test_that_handler_may_come_in_the_midst_of_a_message(talk, monkeypatch):
    wish, inner = talk.wish(7), talk.wish(8)
    whole = FrameReader.whole

    def with_handler(reader, data):
        monkeypatch.undo()
        talk.say(done(8))
        with talk.going_on():
            assert listen(talk.engine, End(inner, 0), 5.0)
        return whole(reader, data)

    monkeypatch.setattr(FrameReader, "whole", with_handler)
    talk.say(done(7))
    assert listen(talk.engine, End(wish, 0), 5.0)
    talk.loop.turn()
    assert talk.session.received == 2
    assert wish.status[0] and inner.status[0]


# Early words.


def test_an_early_word_ends_the_wait_and_what_is_told_later_is_no_news(talk, tmp_path):
    tell = talk.hear_from(str(tmp_path))
    wish = talk.wish(7)
    tell(7)
    assert listen(talk.engine, End(wish, 0), 5.0)
    assert (wish.payload(0), talk.session.received) == (b"x", 0)
    assert talk.wishes.untold == {7}
    assert not talk.loop.todo, "nobody had to be woken"
    talk.say(Finished(7, 1, b"\5\0\0\0", b"other"))
    talk.loop.turn()
    assert (wish.payload(0), talk.session.received) == (b"x", 1)
    assert not talk.wishes.untold


def test_who_leads_next_takes_what_is_told_later(talk, tmp_path):
    tell = talk.hear_from(str(tmp_path))
    one, other = talk.wish(7), talk.wish(8)
    tell(7)
    assert listen(talk.engine, End(one, 0), 5.0)
    talk.say(done(7))
    talk.say(done(8))
    tell(8)
    with talk.going_on():
        assert listen(talk.engine, End(other, 0), 5.0)
    talk.loop.turn()
    assert talk.session.received == 2 and not talk.wishes.untold


def test_an_early_word_of_another_task_ends_no_wait(talk, tmp_path):
    tell = talk.hear_from(str(tmp_path))
    wish, other = talk.wish(7), talk.wish(8)
    tell(8), tell(99)
    assert not listen(talk.engine, End(wish, 0), 0.01)
    assert other.status[0] == 1
    tell(7)
    assert listen(talk.engine, End(wish, 0), 5.0)


def test_a_new_link_hears_early_words_as_well(talk, tmp_path):
    tell = talk.hear_from(str(tmp_path))
    for task in (7, 8):
        tell(task)
        assert listen(talk.engine, End(talk.wish(task), 0), 5.0)
        talk.link._transport.closing = True
        talk.reconnect_if_cut()


# The valve that is left shut.


def in_a_row(talk, *tasks):
    """Have results waited for, one after the other, where nobody else waits for any."""
    talk.engine.has_time = lambda: True
    for task in tasks:
        wish = talk.wish(task)
        talk.say(done(task))
        assert listen(talk.engine, End(wish, 0), 5.0)


def test_who_leads_leaves_the_valve_shut_where_nobody_waits_for_more(talk):
    in_a_row(talk, 7, 8)
    talk.say(Notice("hear"))
    talk.loop.turn()
    assert not talk.by_loop, "the next one that leads would take it"
    talk.line.look()
    talk.loop.turn()
    assert talk.by_loop == [Notice("hear")]
    assert talk.session.received == 3


def test_who_leads_next_goes_on_where_the_last_one_ended(talk):
    in_a_row(talk, 7)
    talk.wish(8)
    talk.say(done(8))
    in_a_row(talk, 9)
    assert not talk.loop.todo and not talk.by_loop
    assert all(wish.status[0] for wish in talk.wishes.all())


@pytest.mark.parametrize("last", ["too late", "for the loop"])
def test_who_has_not_what_it_waits_for_leaves_the_valve_open(talk, last):
    in_a_row(talk, 7)
    end = End(talk.wish(8), 0)
    if last == "for the loop":
        talk.say(Notice("hear"))
    assert not listen(talk.engine, end, 0.001)
    talk.say(done(8))
    talk.loop.turn()
    assert end.fired and talk.by_loop[-1] == done(8)


def test_who_waits_beside_it_has_the_valve_opened(talk):
    """Else it would wait until the lull."""
    wish, other = talk.wish(7), End(talk.wish(8), 0)
    waits, poll = threading.Event(), talk.link.inlet._poll
    talk.engine.has_time = lambda: True

    class Waits:
        bell = None
        fired = property(lambda self: other.fired)

        def wait(self, timeout):
            waits.set()
            return other.wait(timeout)

    def meanwhile(timeout):
        talk.link.inlet._poll = poll
        there.start()
        assert waits.wait(5.0)
        talk.say(done(7))
        return poll.poll(timeout)

    there = threading.Thread(
        target=talk.line.listen, args=(Waits(), 5.0, lambda batch: False)
    )
    talk.link.inlet._spin = Sleeps()
    talk.link.inlet._poll = SimpleNamespace(poll=meanwhile)
    assert listen(talk.engine, End(wish, 0), 5.0)
    talk.say(done(8))
    talk.loop.turn()
    there.join(5.0)
    assert not there.is_alive() and talk.by_loop == [done(8)]


def test_who_asks_just_as_it_is_left_shut_has_it_opened(talk):
    """Whoever comes first: one sees what the other did."""
    wish, inlet = talk.wish(7), talk.link.inlet
    looked = []

    def has_time():
        looked.append((dict(inlet._turn), inlet._left_shut))
        return False

    talk.engine.has_time = has_time
    talk.say(done(7))
    assert listen(talk.engine, End(wish, 0), 5.0)
    assert looked == [({}, True)], "who asks later finds it left shut"
    talk.say(Notice("hear"))
    talk.loop.turn()
    assert talk.by_loop == [Notice("hear")]


def test_what_came_for_the_loop_as_it_was_left_shut_is_acted_on(talk, monkeypatch):
    wish, inlet, fire = talk.wish(7), talk.link.inlet, End.fire
    acted = []

    def meanwhile(end):
        inlet.by_loop(lambda: acted.append("too early"))
        fire(end)

    monkeypatch.setattr(End, "fire", meanwhile)
    talk.engine.has_time = lambda: True
    talk.say(done(7))
    assert listen(talk.engine, End(wish, 0), 5.0)
    assert not acted and talk.loop.todo, "the link is to catch up"
    talk.say(Notice("hear"))
    talk.loop.turn()
    assert talk.by_loop == [Notice("hear")]


def test_what_is_owed_to_the_other_side_waits_until_the_loop_reads(talk):
    talk.session.push(b"frame")
    talk.theirs.sendall(encode_ack(1))
    in_a_row(talk, *range(100, 100 + ACK_FRAMES))
    assert talk.session.ack_is_due and talk.session.acked == 0
    assert not talk.loop.todo, "nobody had to be woken"
    talk.line.look()
    talk.loop.turn()
    assert talk.session.acked == 1 and not talk.session.ack_is_due
    assert talk.theirs.recv(100) == encode_ack(ACK_FRAMES)


def test_what_is_owed_is_seen_to_while_others_lead(talk):
    """Or who leads all the time would keep the window shut, and wait for what it keeps back."""
    talk.session.push(b"frame")
    talk.theirs.sendall(encode_ack(1))
    in_a_row(talk, 7)
    poll, inlet = talk.link.inlet._poll, talk.link.inlet
    wish = talk.wish(8)

    def meanwhile(timeout):
        inlet._poll = poll
        talk.line.look()
        talk.loop.turn()
        assert talk.session.acked == 1 and talk.line.is_heard
        talk.say(done(8))
        return poll.poll(timeout)

    inlet._poll = SimpleNamespace(poll=meanwhile)
    assert listen(talk.engine, End(wish, 0), 5.0)


def test_who_opens_does_not_say_so_after_another_left_it_shut(talk):
    """Else nobody would open it any more."""
    in_a_row(talk, 7)
    inlet = talk.link.inlet
    valve = inlet._valve

    def opened(fd, events):
        inlet._valve = valve
        valve.modify(fd, events)
        in_a_row(talk, 8)  # Another thread, before this one goes on.

    inlet._valve = SimpleNamespace(modify=opened, fileno=valve.fileno)
    talk.line.look()
    talk.say(Notice("hear"))
    talk.line.look()
    talk.loop.turn()
    assert talk.by_loop == [Notice("hear")]


def test_an_interrupt_as_it_is_opened_leaves_it_open(talk):
    in_a_row(talk, 7)
    inlet = talk.link.inlet
    valve = inlet._valve

    def interrupted(fd, events):
        inlet._valve = valve
        raise KeyboardInterrupt

    inlet._valve = SimpleNamespace(modify=interrupted, fileno=valve.fileno)
    with pytest.raises(KeyboardInterrupt):
        talk.line.look()
    talk.say(Notice("hear"))
    talk.loop.turn()
    assert talk.by_loop == [Notice("hear")]


def test_who_had_all_without_sleep_looks_again_the_next_time(talk, tmp_path):
    talk.hear_from(str(tmp_path))
    spin = talk.link.inlet._spin
    spin.pause = 63
    in_a_row(talk, 7)
    assert spin.pause == 0
    spin.pause = 63
    assert not listen(talk.engine, End(talk.wish(8), 0), 0.0005)
    assert spin.slept and spin.pause == 63


def test_one_stays_awake_only_where_early_words_are_told(talk, tmp_path):
    in_a_row(talk, 7)
    assert not talk.link.inlet._spin.is_worth_it
    talk.hear_from(str(tmp_path))
    in_a_row(talk, 8)
    assert talk.link.inlet._spin.is_worth_it


def test_one_that_leads_is_not_looked_past(talk):
    in_a_row(talk, 7)
    wish, inlet = talk.wish(8), talk.link.inlet
    poll = inlet._poll

    def meanwhile(timeout):
        inlet._poll = poll
        assert talk.line.is_heard
        talk.line.look()
        talk.say(done(8))
        talk.loop.turn()
        assert not talk.by_loop
        return poll.poll(timeout)

    inlet._spin, inlet._poll = Sleeps(), SimpleNamespace(poll=meanwhile)
    assert listen(talk.engine, End(wish, 0), 5.0)
    assert not talk.line.is_heard


# Interrupts.


def test_who_waits_for_long_looks_up_now_and_then():
    """Or a Ctrl-C that comes just before it blocks would be found at the end only."""
    asked = []

    class Lock:
        def acquire(self, timeout):
            asked.append(timeout)
            return len(asked) == 3

    signal = Signal()
    signal._lock = Lock()
    assert signal.wait(None)
    assert asked == [clock.LOOK_UP_SECONDS] * 3
    assert not Signal().wait(0.0)
    assert not Signal().wait(0.001)


@pytest.mark.parametrize("valve", ["opened", "left shut"])
@pytest.mark.parametrize(
    "what", ["result", "watched", "others", "early", "early and watched", "heard"]
)
def test_an_interrupt_at_any_time_loses_nothing(what, valve, tmp_path):
    """Neither what came meanwhile, nor what comes after it; nor is any of it told twice."""

    def meet():
        talk = Talk()
        wish = talk.wish(7)
        talk.wish(8)
        end, told = End(wish, 0), []
        if "watched" in what:
            countdown = Countdown(lambda: told.append(7))
            countdown.add(wish, [0])
            countdown.armed()
        if "early" in what:
            talk.hear_from(directory, event)(7)
        else:
            if what == "heard":
                talk.session.push(b"frame")
                talk.theirs.sendall(encode_ack(1))
            talk.say(*[Notice("hear")] * (what == "others"), done(7))
        talk.engine.has_time = lambda: valve == "left shut"
        return talk, end, told

    directory, cuts, event = str(tmp_path), 0, 0
    interrupted = True
    while interrupted:
        event += 1
        talk, end, told = meet()
        interrupted = interrupted_at(
            event,
            lambda: listen(talk.engine, end, 0.002),  # noqa: B023
        )
        talk.line.look()
        talk.loop.turn()
        cuts += talk.link._transport.closing
        talk.reconnect_if_cut()
        talk.loop.turn()
        if "early" in what:
            talk.say(done(7))
        talk.say(done(8))
        talk.loop.turn()
        assert [w.status[0] for w in talk.wishes.all()] == [1, 1], event
        assert end.fired and talk.session.received == 2, event
        assert told == [7] * ("watched" in what), event
        assert not talk.wishes.untold, event
        assert talk.by_loop.count(Notice("hear")) == (what == "others"), event
        talk.close()
    assert event > 30
    assert cuts or "early" in what, "some came between taking and counting"


@pytest.mark.parametrize("lacks", ["dup", "eventfd"])
def test_where_files_run_out_the_loop_reads_and_nothing_is_left(monkeypatch, lacks):
    one, other = socket.socketpair()

    def fails(*_):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    gc.collect()
    before = len([*Path("/proc/self/fd").iterdir()])
    with monkeypatch.context() as patch:
        patch.setattr(os, lacks, fails)
        assert inlet_of(None, Transport(one), Loop(), threading.RLock()) is None
    gc.collect()
    assert len([*Path("/proc/self/fd").iterdir()]) == before
    one.close()
    other.close()
