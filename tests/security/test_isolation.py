"""One client cannot touch what another one has made, unless it was passed on.

The intruder below knows the secret, and the ids: he speaks the protocol by hand.
"""

from __future__ import annotations

import time

import numpy as np
import pytest

import covey
from covey import Client, errors
from covey.client.current import as_current
from covey.client.extents import extents_of
from covey.ids import ClientId, first_task_id
from covey.payload import Pack
from covey.scheduler.core import invariants
from covey.scheduler.core.machine import Joined, Said, SchedulerCore
from covey.secret import Secret
from covey.wire.base import Extent
from covey.wire.client_link import (
    Cancel,
    DefineFunction,
    Detach,
    Failed,
    Placed,
    Release,
    Retry,
    Submit,
    SubmitGraph,
    Want,
)
from covey.wire.introductions import ClientIntroduction
from covey.wire.keys import Keys


@pytest.fixture(scope="module")
def two():
    with Client(n_workers=2) as one, Client(one.cluster, set_as_default=False) as other:
        yield one, other


def pack_of(payloads):
    pack = Pack.of(payloads)
    return pack.sizes_bytes(), bytes(pack.data)


def inc(x):
    return x + 1


def pair(client):
    """Return the futures of a small and of a large value."""
    small, large = client.submit(inc, 1), client.submit(np.ones, 100_000)
    covey.wait([small, large])
    return small, large


def engine_of(client):
    return client.session.engine


def post(client, message):
    """Say something by hand; return when the scheduler has heard it."""
    engine_of(client).post(message)
    client.scheduler_info()


def extent(future) -> Extent:
    return (future.id, 1)


pytestmark = [pytest.mark.timeout(60)]


def errors_seen(client):
    return client.scheduler_info()["counters"]["protocol_errors"]


def by_hand(client, future, token):
    """Return a future of the same task, with a token of one's own choice."""
    return client.future_of(future.id, "stolen", None, token)


@pytest.mark.parametrize("token", [b"", bytes(16), b"x" * 100])
def test_nobody_comes_to_hold_a_future_that_was_not_passed_on(two, token):
    one, other = two
    for future in pair(one):
        stolen = by_hand(other, future, token)
        with pytest.raises(errors.AuthRefused, match="another client's"):
            stolen.result(20)


def test_the_token_of_another_task_does_not_help(two):
    one, other = two
    small, large = pair(one)
    token = engine_of(one).token_of(small.id)
    with pytest.raises(errors.AuthRefused):
        by_hand(other, large, token).result(20)
    assert by_hand(other, small, token).result(20) == 2


def test_nobody_fetches_a_value_that_was_not_passed_on(two):
    """Past the scheduler, straight from the worker."""
    one, other = two
    _, large = pair(one)
    engine = engine_of(other)
    (seen,) = engine.workers.values()

    async def fetch(tokens):
        extents = extents_of([large.id])
        return await engine.asker.get(seen.addresses, extents, seen.host, tokens)

    for tokens in ((), (bytes(16),)):
        with pytest.raises(errors.ClusterError):
            engine.call(fetch(tokens), 20)
    loot = engine.call(fetch((engine_of(one).token_of(large.id),)), 20)
    assert loot.lent or loot.segments
    loot.discard()
    # The worker is none the worse for it.
    assert large.result(20).sum() == 100_000


def test_nobody_brings_a_value_in_the_name_of_another(two):
    one, other = two
    _, large = pair(one)
    engine = engine_of(other)
    (seen,) = engine.workers.values()

    async def bring():
        payload = [memoryview(b"a lie"), memoryview(b"x" * 100_000)]
        await engine.asker.put(seen.addresses, large.id, payload, seen.host)

    with pytest.raises(errors.ClusterError):
        engine.call(bring(), 20)
    assert large.result(20).sum() == 100_000


def test_nobody_cancels_the_tasks_of_another(two):
    one, other = two
    slow = one.submit(time.sleep, 0.2)
    one.scheduler_info()
    post(other, Cancel((extent(slow),)))
    assert slow.result(20) is None


def test_nobody_lets_go_of_the_futures_of_another(two):
    one, other = two
    small, large = pair(one)
    post(other, Release((extent(small), extent(large))))
    assert one.submit(inc, small).result(20) == 3
    assert large.result(20).sum() == 100_000


def test_nobody_retries_or_detaches_the_tasks_of_another(two):
    one, other = two
    failed = one.submit(divmod, 1, 0)
    with pytest.raises(ZeroDivisionError):
        failed.result(20)
    post(other, Retry((extent(failed),)))
    post(other, Detach((extent(failed),)))
    assert failed.status == "error"


@pytest.mark.parametrize(("owner", "thief"), [(1, 2), (2, 1)])
@pytest.mark.parametrize("how", ["aligned", "whole", "graph"])
def test_nobody_takes_the_value_of_another_as_an_input(how, owner, thief):
    """Told to the scheduler's core, by a client that asks for no future first."""
    core = SchedulerCore(keys=Keys.of_client(Secret.fresh()))
    pack = pack_of([b"arguments"])
    first, second = (first_task_id(ClientId(n)) for n in (owner, thief))
    for number in (1, 2):
        hello = ClientIntroduction(number, f"client {number}", "1", "3.11.7", "host")
        core.step(Joined(number, hello), 0.0)
        core.step(Said(number, [DefineFunction(1, b"digest", "inc", b"code")]), 0.0)
    core.step(Said(owner, [Submit(first, 1, 1, *pack)]), 0.0)
    theft = {
        "aligned": Submit(second, 1, 1, *pack, aligned=(first,)),
        "whole": Submit(second, 1, 1, *pack, whole=((first, 1),)),
        "graph": SubmitGraph(second, (1,), *pack, ((first,),), (0,), ((second, 1),)),
    }[how]
    (answer,) = core.step(Said(thief, [theft]), 0.0)[thief]
    assert isinstance(answer, Failed)
    assert answer.base == second
    # Who was given the future may.
    shared = Want(((first, 1),), (core.state.keys.token(first),))
    own = Submit(second + 1, 1, 1, *pack, aligned=(first,))
    assert not core.step(Said(thief, [shared, own]), 0.0)
    invariants.check(core.state)


def test_nobody_says_where_the_value_of_another_is(two):
    one, _ = two
    _, large = pair(one)
    with Client(one.cluster, set_as_default=False) as intruder:
        before = errors_seen(one)
        (worker,) = engine_of(intruder).workers
        with pytest.raises(errors.Disconnected):
            post(intruder, Placed(large.id, worker, 10))
        assert errors_seen(one) == before + 1
    assert large.result(20).sum() == 100_000


# What is allowed.


def test_a_future_that_is_passed_on_can_be_held(two):
    import cloudpickle

    one, other = two
    for future in pair(one):
        passed = cloudpickle.dumps(future)
        with as_current(other):
            held = cloudpickle.loads(passed)
        assert np.sum(held.result(20)) == np.sum(future.result(20))
        assert other.submit(np.sum, held).result(20) == np.sum(future.result(20))
        # And passed on once more.
        with as_current(other):
            again = cloudpickle.dumps(held)
        with Client(one.cluster, set_as_default=False) as third, as_current(third):
            assert np.sum(cloudpickle.loads(again).result(20)) > 0


def test_who_holds_a_future_may_cancel_it(two):
    import cloudpickle

    one, other = two
    slow = one.submit(time.sleep, 60)
    # The scheduler has heard of it before the other client asks for it.
    one.scheduler_info()
    with as_current(other):
        held = cloudpickle.loads(cloudpickle.dumps(slow))
    held.cancel()
    with pytest.raises(errors.TaskCancelled):
        slow.result(20)


def test_what_is_shared_by_name_is_shared(two):
    one, other = two
    mine = one.submit(np.ones, 100_001, key="a shared name")
    theirs = other.submit(np.ones, 100_001, key="a shared name")
    more = other.submit(np.ones, 100_001, key="a shared name")
    assert theirs.result(20).sum() == 100_001
    del theirs
    assert more.result(20).sum() == 100_001
    assert other.submit(np.sum, more).result(20) == 100_001
    del mine
