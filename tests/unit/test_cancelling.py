"""What was cancelled is said again until the scheduler has answered."""

from __future__ import annotations

import asyncio

import pytest

from covey.client.cancelling import Cancels
from covey.errors import Closed, Disconnected
from covey.wire.client_link import Cancel


def test_it_is_open_until_the_answer_has_come():
    async def main():
        answer = asyncio.get_running_loop().create_future()
        cancels = Cancels(lambda _: answer)
        first, second = Cancel(((1, 1),), "why"), Cancel(((1, 1),), "why")
        waits = [asyncio.create_task(cancels.settle(each)) for each in (first, second)]
        await asyncio.sleep(0)
        assert cancels.open() == [first, second]
        answer.set_result([])
        await asyncio.gather(*waits)
        assert cancels.open() == []

    asyncio.run(main())


@pytest.mark.parametrize("error", [Closed("over"), Disconnected("gone")])
def test_at_the_end_of_the_client_there_is_nothing_to_wait_for(error):
    async def main():
        answer = asyncio.get_running_loop().create_future()
        cancels = Cancels(lambda _: answer)
        answer.set_exception(error)
        await cancels.settle(Cancel(((1, 1),)))
        assert cancels.open() == []

    asyncio.run(main())
