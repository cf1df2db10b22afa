"""Numbers of functions: good while they are taken, and few when they are not."""

from __future__ import annotations

import threading

from covey.client import numbers as client_numbers
from covey.client.functions import Pickled
from covey.client.numbers import IDLE_MAX, Numbers
from covey.wire.client_link import DefineFunction, ForgetFunction


def pickled(index):
    return Pickled("f", b"%d" % index, b"bytes")


def test_what_is_used_again_keeps_its_number():
    posted = []
    numbers = Numbers(posted.append)
    first = numbers.take(pickled(1), "")
    numbers.done([first])
    assert numbers.take(pickled(1), "") == first
    assert len(posted) == 1


def test_new_functions_push_out_those_used_longest_ago():
    posted = []
    numbers = Numbers(posted.append)
    kept = numbers.take(pickled(0), "")
    for index in range(1, 3 * IDLE_MAX):
        often = numbers.take(pickled(1), "")
        numbers.done([often, numbers.take(pickled(index), "")])
    defined = {m.fn for m in posted if isinstance(m, DefineFunction)}
    forgotten = [m.fn for m in posted if isinstance(m, ForgetFunction)]
    assert len(defined) - len(forgotten) == IDLE_MAX + 1
    assert forgotten == sorted(forgotten)
    assert not {kept, often} & set(forgotten)
    # It comes under a new number, which has never been anything else.
    gone = numbers.take(pickled(2), "")
    assert gone not in defined
    assert posted[-1].fn == gone


def test_large_functions_push_out_others_sooner(monkeypatch):
    monkeypatch.setattr(client_numbers, "IDLE_BYTES_MAX", 1000)
    posted = []
    numbers = Numbers(posted.append)

    def known():
        defined = {m.fn for m in posted if isinstance(m, DefineFunction)}
        return defined - {m.fn for m in posted if isinstance(m, ForgetFunction)}

    for index in range(100):
        large = Pickled("f", b"%d" % index, bytes(50))
        numbers.done([numbers.take(large, "")])
    assert known() == set(range(81, 101))
    # What is in use counts for nothing, and the last few stay.
    held = numbers.take(Pickled("f", b"held", bytes(10_000)), "")
    assert len(known()) == 21
    numbers.done([held])
    assert known() == {*range(94, 101), held}


def test_no_message_names_a_function_that_was_forgotten():
    posted = []
    numbers = Numbers(posted.append)

    def submit(seed):
        for step in range(3 * IDLE_MAX):
            number = numbers.take(pickled(seed * 7919 + step), "")
            posted.append(number)
            numbers.done([number])

    threads = [threading.Thread(target=submit, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    known = set()
    for message in posted:
        if isinstance(message, DefineFunction):
            known.add(message.fn)
        elif isinstance(message, ForgetFunction):
            known.remove(message.fn)
        else:
            assert message in known
    assert len(known) == IDLE_MAX
