"""The handshake: who knows the secret gets in, and nobody else gets anything."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covey.errors import (
    AuthRefused,
    ProtocolError,
    RemoteProtocolError,
    VersionRefused,
)
from covey.secret import Secret
from covey.wire import handshake
from covey.wire.handshake import CallerHandshake, ListenerHandshake, fingerprint_of
from covey.wire.keys import Keys, Role

CLIENT_SECRET = Secret(b"a secret of this cluster")
KEYS = Keys.of_client(CLIENT_SECRET)
OTHER_KEYS = Keys.of_client(Secret(b"a secret of another one"))
CERTIFICATE = b"a certificate"
HELLO_BYTES = 64
PROOF_BYTES = 32

fast = settings(derandomize=True, deadline=None, max_examples=80)


def sides(*, caller=KEYS, listener=KEYS, certificate=b"", role=Role.CLIENT, number=0):
    """Return both sides; with a certificate, under TLS."""
    door = Role.KEEPER if role is Role.ASKER else Role.SCHEDULER
    mark = fingerprint_of(certificate)
    return (
        CallerHandshake(role, caller, "1.2", number=number, fingerprint=mark),
        ListenerHandshake(door, listener, "1.3", fingerprint=mark),
    )


def shake(caller, listener, certificate=b""):
    to_listener = caller.start(certificate)
    while to_listener and not (caller.done or listener.refused):
        to_listener = caller.receive(listener.receive(to_listener))


def test_both_sides_learn_who_the_other_is():
    caller, listener = sides()
    shake(caller, listener)
    assert caller.done
    assert listener.done
    assert (caller.other_role, caller.other_version) == (Role.SCHEDULER, "1.3")
    assert (listener.other_role, listener.other_version) == (Role.CLIENT, "1.2")


@fast
@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.binary(max_size=20))
def test_any_cut_of_the_stream_will_do(cuts, behind):
    caller, listener = sides()
    wires = {caller: bytearray(), listener: bytearray(caller.start())}
    others = {caller: listener, listener: caller}
    turn = 0
    while not caller.done:
        for side, wire in wires.items():
            size = cuts[turn % len(cuts)]
            turn += 1
            piece = bytes(wire[:size])
            del wire[:size]
            wires[others[side]] += side.receive(piece)
    assert listener.done
    listener.receive(b"")
    caller._buffer += behind
    assert caller.leftover() == behind
    assert listener.leftover() == b""


def test_a_caller_without_the_secret_is_turned_away():
    caller, listener = sides(caller=OTHER_KEYS)
    answer = listener.receive(caller.start())
    with pytest.raises(AuthRefused, match="does not know the secret"):
        caller.receive(answer)
    # One who goes on nevertheless gets a no, and that is the end.
    assert listener.receive(bytes(PROOF_BYTES)) == b"\x00"
    assert listener.refused
    assert not listener.done


def test_a_caller_whose_proof_was_refused_says_what_to_do():
    caller, listener = sides()
    caller.receive(listener.receive(caller.start()))
    with pytest.raises(AuthRefused, match="connection file"):
        caller.receive(b"\x00")
    assert not caller.done


def test_a_listener_without_the_secret_gets_no_proof():
    caller, listener = sides(listener=OTHER_KEYS)
    answer = listener.receive(caller.start())
    with pytest.raises(AuthRefused):
        caller.receive(answer)


def test_another_certificate_is_refused_before_a_word_is_said():
    caller, _ = sides(certificate=CERTIFICATE)
    with pytest.raises(AuthRefused, match="another certificate"):
        caller.start(b"the certificate of somebody else")


def test_a_certificate_that_is_not_shown_is_refused():
    """Somebody answers in clear where TLS was promised, or the other way round."""
    caller, _ = sides(certificate=CERTIFICATE)
    with pytest.raises(AuthRefused, match="none"):
        caller.start()
    caller, _ = sides()
    with pytest.raises(AuthRefused):
        caller.start(CERTIFICATE)


def test_nobody_can_stand_between():
    """Even a caller that trusts any certificate notices: it is part of the proof."""
    caller, _ = sides(certificate=b"of the one in the middle")
    _, listener = sides(certificate=CERTIFICATE)
    with pytest.raises(AuthRefused, match="does not know the secret"):
        shake(caller, listener, b"of the one in the middle")


def test_under_one_certificate_both_come_together():
    caller, listener = sides(certificate=CERTIFICATE)
    shake(caller, listener, CERTIFICATE)
    assert caller.done
    assert listener.done


# Roles.


def test_a_workers_secret_makes_no_client():
    worker = Keys.of_worker(KEYS.worker)
    with pytest.raises(AuthRefused, match="does not make a client"):
        CallerHandshake(Role.CLIENT, worker, "1.2")
    # One who claims the role all the same cannot prove it.
    caller, listener = sides(caller=Keys(worker.worker, worker.worker))
    answer = listener.receive(caller.start())
    with pytest.raises(AuthRefused):
        caller.receive(answer)
    assert listener.receive(bytes(PROOF_BYTES)) == b"\x00"
    assert not listener.done


def test_a_workers_secret_makes_a_worker():
    worker = Keys.of_worker(KEYS.worker)
    caller, listener = sides(caller=worker, role=Role.WORKER)
    shake(caller, listener)
    assert listener.done
    assert listener.other_role is Role.WORKER


def test_an_asker_proves_for_whom_it_asks():
    caller, listener = sides(caller=KEYS, role=Role.ASKER, number=77)
    shake(caller, listener)
    assert (listener.other_role, listener.other_number) == (Role.ASKER, 77)
    hello = bytearray(caller.start())
    struct.pack_into("<I", hello, 12, 78)
    caller, listener = sides(caller=KEYS, role=Role.ASKER, number=77)
    with pytest.raises(AuthRefused):
        caller.receive(listener.receive(bytes(hello)))


@pytest.mark.parametrize(
    ("role", "door"),
    [
        (Role.CLIENT, Role.KEEPER),
        (Role.WORKER, Role.KEEPER),
        (Role.KEEPER, Role.KEEPER),
        (Role.SCHEDULER, Role.KEEPER),
        (Role.SCHEDULER, Role.SCHEDULER),
    ],
)
def test_each_door_admits_its_own_guests_only(role, door):
    listener = ListenerHandshake(door, KEYS, "1.3")
    with pytest.raises(RemoteProtocolError, match="came to the door"):
        listener.receive(CallerHandshake(role, KEYS, "1.2").start())
    assert not listener.done


def test_a_worker_cannot_pass_for_the_scheduler_of_a_client():
    """It does not know what a client's scheduler must know."""
    caller, _ = sides()
    worker = Keys.of_worker(KEYS.worker)
    impostor = ListenerHandshake(
        Role.SCHEDULER, Keys(worker.worker, worker.worker), "1.3"
    )
    with pytest.raises(AuthRefused):
        caller.receive(impostor.receive(caller.start()))


# Tricks.


def test_a_mirror_does_not_know_the_secret():
    """Whoever sends back what it was sent proves nothing."""
    caller, _ = sides()
    hello = caller.start()
    with pytest.raises(AuthRefused):
        caller.receive(hello + bytes(PROOF_BYTES))
    # The listener's own proof, sent back to it, is not that of a caller.
    caller, listener = sides()
    answer = listener.receive(caller.start())
    assert listener.receive(answer[HELLO_BYTES:]) == b"\x00"
    assert listener.refused


def test_a_listener_that_calls_back_gets_no_proof_to_mirror():
    """Two sessions, each proving itself with what the other said."""
    victim, _ = sides()
    _, oracle = sides()
    answer = oracle.receive(victim.start())
    # The oracle's proof is about its own nonce: it fits only its own hello.
    forged = CallerHandshake(Role.SCHEDULER, OTHER_KEYS, "1.3").start()
    with pytest.raises(AuthRefused):
        victim.receive(forged + answer[HELLO_BYTES:])


def test_a_proof_cannot_be_replayed():
    caller, listener = sides()
    hello = caller.start()
    proof = caller.receive(listener.receive(hello))
    _, again = sides()
    again.receive(hello)
    assert again.receive(proof) == b"\x00"
    assert again.refused


def test_an_old_answer_cannot_be_replayed():
    caller, listener = sides()
    answer = listener.receive(caller.start())
    fresh, _ = sides()
    with pytest.raises(AuthRefused):
        fresh.receive(answer)


@pytest.mark.parametrize("place", [10, 16, 20, 50])
def test_what_the_hello_says_cannot_be_changed_on_the_way(place):
    """Role, nonce and version are part of what is proved."""
    caller, listener = sides()
    hello = bytearray(caller.start())
    hello[place] ^= 1
    try:
        answer = listener.receive(bytes(hello))
        if listener.refused:
            return
        with pytest.raises(AuthRefused):
            caller.receive(answer)
    except RemoteProtocolError:
        return
    assert not caller.done


def test_another_protocol_is_refused_and_both_are_named(monkeypatch):
    caller, listener = sides()
    monkeypatch.setattr(handshake, "PROTOCOL_VERSION", 99)
    newer = CallerHandshake(Role.CLIENT, KEYS, "9.0")
    monkeypatch.undo()
    answer = listener.receive(newer.start())
    assert listener.refused
    monkeypatch.setattr(handshake, "PROTOCOL_VERSION", 99)
    with pytest.raises(VersionRefused, match=r"covey 9\.0 .*covey 1\.3") as caught:
        newer.receive(answer)
    assert "install the same version" in str(caught.value)
    del caller


@pytest.mark.parametrize(
    "noise",
    [
        b"GET / HTTP/1.1\r\nHost: scheduler:8786\r\nAccept: */*\r\nUser-Agent: x\r\n",
        b"\x16\x03\x01" + bytes(100),
        bytes(HELLO_BYTES),
    ],
)
def test_other_protocols_are_told_apart(noise):
    _, listener = sides()
    with pytest.raises(RemoteProtocolError, match="right port"):
        listener.receive(noise)
    caller, _ = sides()
    with pytest.raises(RemoteProtocolError):
        caller.receive(noise)


def test_an_unknown_role_is_refused():
    caller, listener = sides()
    hello = bytearray(caller.start())
    struct.pack_into("B", hello, 10, 99)
    with pytest.raises(RemoteProtocolError, match="no role 99"):
        listener.receive(bytes(hello))


@fast
@given(
    st.integers(0, 3),
    st.lists(st.tuples(st.integers(0, 500), st.integers(1, 255)), min_size=1),
)
def test_mutated_bytes_let_nobody_in(at, mutations):
    """Flip anything, in any of the four messages: refused, and by our errors only."""
    caller, listener = sides()
    changed = False

    def send(number, data):
        nonlocal changed
        if number != at or not data:
            return data
        mutated = bytearray(data)
        for place, change in mutations:
            mutated[place % len(data)] ^= change
        changed = mutated != data
        return bytes(mutated)

    try:
        answer = listener.receive(send(0, caller.start()))
        proof = caller.receive(send(1, answer))
        verdict = listener.receive(send(2, proof))
        caller.receive(send(3, verdict))
    except (ProtocolError, VersionRefused, AuthRefused):
        pass
    assert not (changed and caller.done and listener.done)


def test_nothing_grows_while_a_stranger_talks():
    _, listener = sides()
    with pytest.raises(RemoteProtocolError):
        listener.receive(b"x" * HELLO_BYTES)
    caller, listener = sides()
    listener.receive(caller.start())
    listener.receive(bytes(PROOF_BYTES))
    assert listener.refused
    assert len(listener.leftover()) == 0


def test_whoever_does_not_wait_is_cut_off():
    caller, listener = sides()
    with pytest.raises(RemoteProtocolError, match="did not wait"):
        listener.receive(caller.start() + bytes(PROOF_BYTES + 1))


def test_secrets_of_any_length_are_hashed_not_cut():
    long = b"s" * 200
    caller, listener = sides(
        caller=Keys.of_client(Secret(long)),
        listener=Keys.of_client(Secret(long + b"t")),
    )
    with pytest.raises(AuthRefused):
        shake(caller, listener)
