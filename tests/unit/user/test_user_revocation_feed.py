"""The feed of what has ended."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncIterator, Sequence

from wherry_chassis.errors import DatabaseUnavailable
from wherry_fakes.user_store import MemoryUserStore
from wherry_testing.waiting import until
from wherry_user.revocations import Batch, Revocation, RevocationFeed, Subject


def ended(store: MemoryUserStore, subject: str) -> Revocation:
    store.cursor += 1
    store.revocations.append(Revocation(store.cursor, Subject.SESSION, subject, 2_000_000_000_000))
    return store.revocations[-1]


def ignored(revocation: Revocation) -> None:
    pass


async def next_of(stream: AsyncIterator[Batch]) -> Batch:
    return await asyncio.wait_for(anext(stream), 5)


@contextlib.asynccontextmanager
async def running(feed: RevocationFeed) -> AsyncIterator[None]:
    task = asyncio.create_task(feed.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_follower_gets_what_lies_behind_its_cursor_and_then_what_comes() -> None:
    store = MemoryUserStore()
    items = [ended(store, f"s{number}") for number in range(3)]
    feed = RevocationFeed(store, ignored, poll_s=0.01)
    stream = feed.watch(1)
    assert await next_of(stream) == Batch(items[1:], 3)
    async with running(feed):
        new = ended(store, "s4")
        assert await next_of(stream) == Batch([new], 4)


async def test_a_follower_with_nothing_to_learn_hears_so_at_once_and_then_regularly() -> None:
    feed = RevocationFeed(MemoryUserStore(), ignored, heartbeat_s=0.01)
    stream = feed.watch(0)
    for _ in range(3):
        batch = await next_of(stream)
        assert (list(batch.revocations), batch.cursor) == ([], 0)


def test_the_heartbeat_and_the_poll_are_as_often_as_promised() -> None:
    defaults = {name: p.default for name, p in inspect.signature(RevocationFeed).parameters.items()}
    assert defaults["heartbeat_s"] <= 10
    assert defaults["poll_s"] <= 1


async def test_what_this_replica_ends_wakes_followers_at_once() -> None:
    store = MemoryUserStore()
    applied: list[Revocation] = []
    feed = RevocationFeed(store, applied.append, poll_s=3600, heartbeat_s=3600)
    stream = feed.watch(0)
    await next_of(stream)
    async with running(feed):
        revocation = ended(store, "s1")
        feed.announce(revocation)
        assert applied == [revocation]
        assert await next_of(stream) == Batch([revocation], 1)


async def test_what_other_replicas_end_is_applied_here_too() -> None:
    store = MemoryUserStore()
    applied: list[Revocation] = []
    feed = RevocationFeed(store, applied.append, poll_s=0.01)
    ended(store, "before the start")
    await feed.catch_up()
    async with running(feed):
        ended(store, "later")
        await until(lambda: len(applied) == 2)
    assert [revocation.subject for revocation in applied] == ["before the start", "later"]


async def test_a_backlog_longer_than_a_batch_comes_in_parts() -> None:
    store = MemoryUserStore()
    for number in range(2500):
        ended(store, f"s{number}")
    stream = RevocationFeed(store, ignored).watch(0)
    batches = [await next_of(stream) for _ in range(3)]
    assert [len(batch.revocations) for batch in batches] == [1000, 1000, 500]
    assert [batch.cursor for batch in batches] == [1000, 2000, 2500]


async def test_a_cursor_of_the_time_before_a_restored_backup_gets_everything() -> None:
    store = MemoryUserStore()
    revocation = ended(store, "s1")
    stream = RevocationFeed(store, ignored).watch(500)
    assert await next_of(stream) == Batch([revocation], 1)


async def test_the_cursor_passes_what_has_been_swept() -> None:
    store = MemoryUserStore()
    ended(store, "s1")
    store.revocations.clear()
    assert await next_of(RevocationFeed(store, ignored).watch(0)) == Batch([], 1)


async def test_closing_ends_the_streams() -> None:
    feed = RevocationFeed(MemoryUserStore(), ignored, heartbeat_s=3600)
    stream = feed.watch(0)
    await next_of(stream)
    waiting = asyncio.create_task(anext(stream, None))
    await asyncio.sleep(0)
    feed.close()
    assert await asyncio.wait_for(waiting, 5) is None


async def test_a_database_that_is_away_for_a_while_ends_nothing() -> None:
    class Flaky(MemoryUserStore):
        failures = 3

        async def newest_cursor(self) -> int:
            if self.failures:
                self.failures -= 1
                raise DatabaseUnavailable
            return await super().newest_cursor()

        async def revocations_after(self, cursor: int, limit: int) -> Sequence[Revocation]:
            return await super().revocations_after(cursor, limit)

    store = Flaky()
    applied: list[Revocation] = []
    ended(store, "s1")
    async with running(RevocationFeed(store, applied.append, poll_s=0.01)):
        await until(lambda: applied)
    assert store.failures == 0
