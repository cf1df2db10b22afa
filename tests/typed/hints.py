"""What a type checker knows of programs that use covey.  Checked, never run."""

from __future__ import annotations

from typing import assert_type

from covey import AsyncClient, Client, Future, as_completed


def length(text: str, *, twice: bool = False) -> int:
    """Count."""
    return len(text) * (2 if twice else 1)


async def slowly(text: str) -> float:
    """Count, some day."""
    return float(len(text))


def of_a_client(client: Client) -> None:
    """The type of a result is that of the function."""
    future = client.submit(length, "a", twice=True)
    _ = assert_type(future, Future[int])
    assert_type(future.result(), int)
    assert_type(client.submit(length, client.submit(str, 1)).result(5), int)
    assert_type(client.submit(slowly, "a").result(), float)
    for each in client.map(length, ["a", "b"]):
        _ = assert_type(each, Future[int])
    for done in as_completed([future]):
        _ = assert_type(done, Future[int])
    for pair in as_completed([future], with_results=True):
        assert_type(pair, tuple[Future[int], int])
    assert_type(client.gather([future, future]), list[int])
    assert_type(client.gather(client.map(length, ["a", "b"])), list[int])
    assert_type(client.gather(future), int)


async def of_an_async_client(client: AsyncClient) -> None:
    """Awaiting a future gives what its function returns."""
    future = client.submit(length, "a")
    assert_type(await future, int)
    assert_type(await client.gather([future]), list[int])
