"""The feed of what has ended, as far as it is more than any feed (`test_feeds`)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from wherry_chassis.feed import Batch
from wherry_fakes.user_store import MemoryUserStore
from wherry_testing.waiting import PATIENCE_S, until
from wherry_user.revocations import Revocation, RevocationFeed, Subject


def ended(store: MemoryUserStore, subject: str) -> Revocation:
    store.cursor += 1
    store.revocations.append(Revocation(store.cursor, Subject.SESSION, subject, 2_000_000_000_000))
    return store.revocations[-1]


async def next_of(stream: AsyncIterator[Batch[Revocation]]) -> Batch[Revocation]:
    async with asyncio.timeout(PATIENCE_S):
        return await anext(stream)


@contextlib.asynccontextmanager
async def running(feed: RevocationFeed) -> AsyncIterator[None]:
    task = asyncio.create_task(feed.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_what_this_replica_ends_is_refused_and_wakes_followers_at_once() -> None:
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
