"""Keys made ahead of time."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from wherry_site.key_pool import KeyPool, generate_key

S6 = pytest.mark.row("S6")


@contextlib.asynccontextmanager
async def filling(pool: KeyPool) -> AsyncIterator[None]:
    task = asyncio.create_task(pool.fill())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # a condition of the pool's own, with a deadline
            await asyncio.sleep(0.001)


def numbered() -> Callable[[], Any]:
    made = iter(range(1000))
    return lambda: next(made)


@S6
async def test_the_pool_is_filled_and_filled_again() -> None:
    pool = KeyPool(3, numbered())
    async with filling(pool):
        await until(lambda: len(pool) == 3)
        taken = [await pool.take() for _ in range(3)]
        await until(lambda: len(pool) == 3)
        taken += [await pool.take() for _ in range(3)]
    assert len(set(taken)) == 6, "each key is handed out once"


@S6
async def test_an_empty_pool_makes_a_key_on_the_spot() -> None:
    pool = KeyPool(3, numbered())
    taken: list[Any] = [await pool.take(), await pool.take()]
    assert taken == [0, 1]


@S6
async def test_keys_are_made_beside_the_event_loop() -> None:
    threads = set()

    def note() -> Any:
        threads.add(threading.get_ident())
        return object()

    pool = KeyPool(1, note)
    async with filling(pool):
        await until(lambda: len(pool) == 1)
    assert threading.get_ident() not in threads


@S6
def test_a_key_has_2048_bits() -> None:
    assert generate_key().key_size == 2048
