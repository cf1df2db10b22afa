"""Who sends what a client has to say: the one who says it when all is quiet, or the loop."""

from __future__ import annotations

import os
import socket
import threading
from types import SimpleNamespace

import pytest

from covey.client.core.ledger import Ledger
from covey.client.outbox import Outbox
from covey.net.inlet import inlet_of
from covey.net.link import Link
from covey.net.outlet import Outlet, outlet_of
from covey.net.shared_line import SharedLine
from covey.wire.client_link import FromClient, Release, Submit
from covey.wire.framing import FrameReader
from covey.wire.keys import Role
from covey.wire.session import Session


class Loop:
    """Does later what it is told, when the test says so."""

    def __init__(self):
        self.todo = []
        self.woken = 0

    def call_soon(self, call, *args):
        self.todo.append((call, args))

    def call_soon_threadsafe(self, call, *args):
        self.woken += 1
        self.call_soon(call, *args)

    def add_reader(self, fd, call):
        """Nothing comes: see ``test_inlet``."""

    def turn(self):
        while self.todo:
            call, args = self.todo.pop(0)
            call(*args)


class Transport:
    """A transport that writes at once, or keeps what it is given."""

    def __init__(self, sock):
        self.sock = sock
        self.buffered = b""
        self.full = False
        self.closing = False

    def get_extra_info(self, name):
        return self.sock if name == "socket" else None

    def get_write_buffer_size(self):
        return len(self.buffered)

    def is_closing(self):
        return self.closing

    def write(self, data):
        if self.full:
            self.buffered += data
        else:
            self.sock.sendall(data)

    def pause_reading(self):
        """Nothing comes."""

    def abort(self):
        self.closing = True


class OneLink(Link):
    """A link that stands already."""

    def __init__(self, sock, loop):
        self._loop = loop
        self._transport = Transport(sock)
        self.outlet = self.inlet = None
        self.bytes_sent = 0

    def carry(self, session, on_ack):
        """Nothing comes on it."""


@pytest.fixture
def ends():
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def talk(ends):
    """An outbox with a line over a link, all in one place."""
    ours, theirs = ends
    loop = Loop()
    line = SharedLine(Session(1), Role.SCHEDULER, pytest.fail, loop)
    link = OneLink(ours, loop)
    line.attach(link, 0)
    ledger = Ledger()
    outbox = Outbox(loop, ledger)
    outbox.speak_through(line)
    reader = FrameReader(FromClient)

    def arrived():
        try:
            reader.feed(theirs.recv(1 << 20))
        except BlockingIOError:
            return []
        messages = []
        while (batch := reader.next_batch()) is not None:
            messages += batch
        return messages

    return SimpleNamespace(
        outbox=outbox, line=line, link=link, loop=loop, ledger=ledger, arrived=arrived
    )


def submit(number):
    return Submit(number, 1, 1, b"\1\0\0\0", b"x")


def test_what_is_said_when_all_is_quiet_leaves_at_once_and_wakes_nobody(talk):
    talk.outbox.quiet = True
    talk.outbox.say(submit(1))
    assert talk.arrived() == [submit(1)]
    assert talk.loop.woken == 0
    talk.outbox.note()
    assert talk.ledger._find(1)


def test_of_many_only_the_first_is_sent_by_who_says_it_and_the_rest_together(talk):
    talk.outbox.quiet = True
    for number in range(1, 9):
        talk.outbox.say(submit(number))
    assert talk.loop.woken == 1
    assert talk.arrived() == [submit(1)]
    talk.loop.turn()
    (rest,) = talk.arrived()
    assert (rest.base, rest.n) == (2, 7)
    assert all(talk.ledger._find(number) for number in range(1, 9))


def test_what_nobody_answers_keeps_nobody_from_speaking(talk):
    talk.outbox.quiet = True
    talk.outbox.post(Release(((7, 1),)))
    talk.loop.turn()
    talk.outbox.say(submit(1))
    assert talk.arrived() == [Release(((7, 1),)), submit(1)]
    talk.outbox.quiet = True
    talk.outbox.post(Release(((7, 1),)))
    talk.outbox.post(submit(2))
    talk.loop.turn()
    assert talk.arrived() == [Release(((7, 1),)), submit(2)]
    talk.outbox.say(submit(3))
    assert talk.arrived() == []


def test_nothing_overtakes_what_was_posted_before(talk):
    talk.outbox.post(Release(((7, 1),)))
    talk.outbox.quiet = True
    talk.outbox.say(submit(1))
    assert talk.arrived() == []
    talk.loop.turn()
    assert talk.arrived() == [Release(((7, 1),)), submit(1)]


def test_nothing_overtakes_what_waits_in_the_line_or_in_the_transport(talk):
    talk.line.send(Release(((7, 1),)))
    talk.outbox.quiet = True
    talk.outbox.say(submit(1))
    assert talk.arrived() == []
    talk.loop.turn()
    assert talk.arrived() == [Release(((7, 1),)), submit(1)]

    talk.link._transport.buffered = b"something"
    talk.outbox.quiet = True
    talk.outbox.say(submit(2))
    assert talk.arrived() == []
    assert talk.loop.woken == 2


def test_without_a_link_it_waits_for_the_next_one(talk):
    talk.line.detach()
    talk.outbox.quiet = True
    talk.outbox.say(submit(1))
    talk.loop.turn()
    assert talk.arrived() == []
    talk.line.attach(talk.link, 0)
    assert talk.arrived() == [submit(1)]


def test_what_the_kernel_does_not_take_goes_over_the_next_link(talk, monkeypatch):
    def full(_, data):
        raise BlockingIOError

    talk.outbox.quiet = True
    monkeypatch.setattr(os, "write", full)
    talk.outbox.say(submit(1))
    assert talk.arrived() == []
    talk.loop.turn()
    assert talk.link._transport.closing
    talk.line.detach()
    monkeypatch.undo()
    talk.link._transport.closing = False
    talk.line.attach(talk.link, 0)
    assert talk.arrived() == [submit(1)]


@pytest.mark.parametrize("written", [False, True])
def test_an_interrupt_leaves_a_session_that_goes_on(talk, monkeypatch, written):
    write = os.write

    def interrupted(fd, data):
        if written:
            write(fd, data)
        raise KeyboardInterrupt

    talk.outbox.quiet = True
    monkeypatch.setattr(os, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        talk.outbox.say(submit(1))
    monkeypatch.undo()
    assert len(talk.arrived()) == written
    talk.loop.turn()
    assert talk.link._transport.closing, "nobody knows whether it left"
    talk.line.detach()
    talk.link._transport.closing = False
    talk.line.attach(talk.link, int(written))
    assert len(talk.arrived()) == 1 - written
    # And the lock is free for others.
    other = threading.Thread(target=talk.line.flush)
    other.start()
    other.join(5.0)
    assert not other.is_alive()


def test_an_interrupt_before_anything_was_kept_cuts_nothing(talk, monkeypatch):
    def interrupted(_, frame):
        raise KeyboardInterrupt

    talk.outbox.quiet = True
    monkeypatch.setattr(Session, "push", interrupted)
    with pytest.raises(KeyboardInterrupt):
        talk.outbox.say(submit(1))
    monkeypatch.undo()
    talk.loop.turn()
    assert not talk.link._transport.closing
    talk.outbox.quiet = True
    talk.outbox.say(submit(2))
    assert talk.arrived() == [submit(2)]


def test_an_interrupt_of_one_who_posts_does_not_keep_others_from_waking_the_loop(talk):
    wake = talk.loop.call_soon_threadsafe

    def interrupted(*_):
        talk.loop.call_soon_threadsafe = wake
        raise KeyboardInterrupt

    talk.loop.call_soon_threadsafe = interrupted
    with pytest.raises(KeyboardInterrupt):
        talk.outbox.post(submit(1))
    talk.outbox.post(Release(((7, 1),)))
    assert talk.loop.woken == 1
    talk.loop.turn()
    assert talk.arrived() == [submit(1), Release(((7, 1),))]


def test_a_handler_that_interrupts_one_who_is_saying_something_posts(talk, monkeypatch):
    write = os.write

    def with_handler(fd, data):
        monkeypatch.undo()
        talk.outbox.quiet = True
        talk.outbox.say(submit(2))
        return write(fd, data)

    talk.outbox.quiet = True
    monkeypatch.setattr(os, "write", with_handler)
    talk.outbox.say(submit(1))
    assert talk.arrived() == [submit(1)]
    talk.loop.turn()
    assert talk.arrived() == [submit(2)]


def test_a_part_of_a_frame_is_a_failure(ends, monkeypatch):
    outlet = Outlet(Transport(ends[0]), threading.Lock())
    monkeypatch.setattr(os, "write", lambda _, data: len(data) - 1)
    with pytest.raises(OSError, match="a part of a frame"):
        outlet.write(b"frame")


def test_its_own_descriptor_is_closed_with_it(ends):
    outlet = Outlet(Transport(ends[0]), threading.Lock())
    fd = outlet._fd
    assert os.fstat(fd)
    del outlet
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


def test_what_is_encrypted_is_left_to_the_loop(ends):
    transport = Transport(ends[0])
    transport.get_extra_info = lambda name: ends[0]
    assert outlet_of(transport, threading.RLock()) is None
    assert inlet_of(None, transport, None, threading.RLock()) is None


# Letting go, by who has dropped it.


def test_what_was_asked_for_and_let_go_of_is_not_noted(talk):
    talk.outbox.quiet = True
    for number in (1, 2):
        talk.outbox.say(submit(number))
        talk.outbox.quiet = True
    talk.outbox.part(Release(((1, 1),)))
    assert talk.arrived() == [submit(1), submit(2), Release(((1, 1),))]
    assert talk.loop.woken == 0
    assert talk.outbox._unnoted == [submit(2)]
    talk.outbox.note()
    assert talk.ledger._find(2) and len(talk.ledger) == 1
    talk.outbox.part(Release(((2, 1),)))
    assert talk.outbox._unnoted == [Release(((2, 1),))], "it was noted before"
    talk.outbox.note()
    assert not len(talk.ledger) and not talk.outbox._unnoted


def test_to_let_go_overtakes_nothing_and_does_not_end_the_quiet(talk):
    talk.outbox.quiet = True
    talk.outbox.part(Release(((1, 1),)))
    talk.outbox.say(submit(2))
    assert talk.arrived() == [Release(((1, 1),)), submit(2)]
    talk.outbox.post(submit(3))
    talk.outbox.part(Release(((2, 1),)))
    assert talk.arrived() == []
    talk.loop.turn()
    assert talk.arrived() == [submit(3), Release(((2, 1),))]
    assert len(talk.ledger) == 1


def test_where_there_is_no_line_yet_it_is_let_go_of_later(talk):
    outbox = Outbox(talk.loop, talk.ledger)
    outbox.part(Release(((1, 1),)))
    assert outbox._messages == [Release(((1, 1),))]


def test_what_another_takes_is_noted_for_it_is_needed_in_another_life(talk):
    talk.outbox.quiet = True
    talk.outbox.say(submit(1))
    talk.outbox.quiet = True
    takes = Submit(2, 1, 1, b"\1\0\0\0", b"x", whole=((1, 1),))
    talk.outbox.say(takes)
    talk.outbox.part(Release(((1, 1),)))
    talk.outbox.note()
    assert talk.ledger._find(1) and talk.ledger._find(2)
    talk.outbox.part(Release(((2, 1),)))
    talk.outbox.note()
    assert not len(talk.ledger)


def test_what_is_sent_by_the_loop_has_it_read(talk):
    """There will be an answer, and a thread that led may have left the valve shut."""
    looks = []
    talk.outbox.look = lambda: looks.append(1)
    talk.outbox.post(submit(1))
    talk.loop.turn()
    assert looks == [1]
