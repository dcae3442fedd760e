"""The feed that one service gives others."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from wherry_chassis.errors import DatabaseUnavailable
from wherry_chassis.feed import Batch, Feed
from wherry_testing.waiting import PATIENCE_S, until


@dataclass(frozen=True)
class Item:
    cursor: int


class Items:
    """A table of items."""

    def __init__(self, number: int = 0) -> None:
        self.newest_cursor = 0
        self.kept: list[Item] = []
        self.away = 0
        for _ in range(number):
            self.add()

    def add(self) -> Item:
        self.newest_cursor += 1
        self.kept.append(Item(self.newest_cursor))
        return self.kept[-1]

    async def newest(self) -> int:
        if self.away:
            self.away -= 1
            raise DatabaseUnavailable
        return self.newest_cursor

    async def after(self, cursor: int, limit: int) -> Sequence[Item]:
        return [item for item in self.kept if item.cursor > cursor][:limit]

    def feed(self, **settings: Any) -> Feed[Item]:
        return Feed("items", self.newest, self.after, **settings)


async def next_of(stream: AsyncIterator[Batch[Item]]) -> Batch[Item]:
    async with asyncio.timeout(PATIENCE_S):
        return await anext(stream)


@contextlib.asynccontextmanager
async def running(feed: Feed[Item]) -> AsyncIterator[None]:
    task = asyncio.create_task(feed.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_follower_gets_what_lies_behind_its_cursor_and_then_what_comes() -> None:
    items = Items(3)
    feed = items.feed(poll_s=0.01)
    stream = feed.watch(1)
    assert await next_of(stream) == Batch([Item(2), Item(3)], 3)
    async with running(feed):
        assert await next_of_after(stream, items) == Batch([Item(4)], 4)


async def next_of_after(stream: AsyncIterator[Batch[Item]], items: Items) -> Batch[Item]:
    items.add()
    return await next_of(stream)


async def test_a_follower_with_nothing_to_learn_hears_so_at_once_and_then_regularly() -> None:
    stream = Items().feed(heartbeat_s=0.01).watch(0)
    for _ in range(3):
        batch = await next_of(stream)
        assert (list(batch.items), batch.cursor) == ([], 0)


def test_the_heartbeat_and_the_poll_are_as_often_as_promised() -> None:
    defaults = {name: p.default for name, p in inspect.signature(Feed).parameters.items()}
    assert defaults["heartbeat_s"] <= 10
    assert defaults["poll_s"] <= 1


async def test_what_this_replica_adds_reaches_followers_at_once() -> None:
    items = Items()
    feed = items.feed(poll_s=3600, heartbeat_s=3600)
    stream = feed.watch(0)
    await next_of(stream)
    async with running(feed):
        items.add()
        feed.wake()
        assert await next_of(stream) == Batch([Item(1)], 1)


async def test_each_item_is_applied_whoever_has_added_it() -> None:
    items, applied = Items(1), list[Item]()
    feed = items.feed(apply=applied.append, poll_s=0.01)
    await feed.catch_up()
    async with running(feed):
        items.add()
        await until(lambda: len(applied) == 2)
    assert applied == [Item(1), Item(2)]


async def test_a_backlog_longer_than_a_batch_comes_in_parts() -> None:
    stream = Items(2500).feed().watch(0)
    batches = [await next_of(stream) for _ in range(3)]
    assert [len(batch.items) for batch in batches] == [1000, 1000, 500]
    assert [batch.cursor for batch in batches] == [1000, 2000, 2500]


async def test_a_cursor_of_the_time_before_a_restored_backup_gets_everything() -> None:
    assert await next_of(Items(1).feed().watch(500)) == Batch([Item(1)], 1)


async def test_the_cursor_passes_what_has_been_swept() -> None:
    items = Items(1)
    items.kept.clear()
    assert await next_of(items.feed().watch(0)) == Batch([], 1)


async def test_closing_ends_the_streams() -> None:
    feed = Items().feed(heartbeat_s=3600)
    stream = feed.watch(0)
    await next_of(stream)
    waiting = asyncio.create_task(anext(stream, None))
    await asyncio.sleep(0)
    feed.close()
    async with asyncio.timeout(PATIENCE_S):
        assert await waiting is None


async def test_a_database_that_is_away_for_a_while_ends_nothing() -> None:
    items, applied = Items(1), list[Item]()
    items.away = 3
    async with running(items.feed(apply=applied.append, poll_s=0.01)):
        await until(lambda: applied)
    assert items.away == 0
