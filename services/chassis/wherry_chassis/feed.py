"""A feed that a service gives others: each item has a cursor, and whoever follows resumes behind the last one seen.

Replicas meet in the database: each looks there twice a second for what the others have added, and at once when it has
added something itself. Whoever adds items takes their cursors from one counter row, as the last thing that it does in
its transaction: the row's lock makes cursors become visible in their order. (A sequence would not: a later number can
be committed before an earlier one, and a follower would pass that by.)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from wherry_chassis.errors import DatabaseUnavailable
from wherry_chassis.logging import logger

_BATCH = 1000


class Placed(Protocol):
    """Something that has a place in a feed."""

    @property
    def cursor(self) -> int:
        """Its place, from 1, without a later one ever becoming visible before it."""
        ...


Item = TypeVar("Item", bound=Placed)


@dataclass(frozen=True, slots=True)
class Batch(Generic[Item]):
    """What a follower gets: items in order (none: a sign of life), and the cursor that it has then reached."""

    items: Sequence[Item]
    cursor: int


class Feed(Generic[Item]):
    """The feed of this replica.

    Args:
        name: what the log calls it.
        newest: returns the cursor of the latest item ever, swept away or not; 0 before the first.
        after: returns up to so many (second argument) items behind a cursor (first), in order.
        apply: gets each item that appears, whichever replica has added it.
        poll_s: how often the database is looked at.
        heartbeat_s: a follower hears something at least so often.
    """

    def __init__(
        self,
        name: str,
        newest: Callable[[], Awaitable[int]],
        after: Callable[[int, int], Awaitable[Sequence[Item]]],
        *,
        apply: Callable[[Item], None] = lambda _: None,
        poll_s: float = 0.5,
        heartbeat_s: float = 5.0,
    ) -> None:
        self._name = name
        self._newest = newest
        self._after = after
        self._apply = apply
        self._poll_s = poll_s
        self._heartbeat_s = heartbeat_s
        self._cursor = 0
        self._news = asyncio.Event()
        self._changed = asyncio.Event()
        self._closed = False

    async def catch_up(self) -> None:
        """Reads what has been added since, applies it, and wakes the followers."""
        batch = await self._read(self._cursor)
        while batch.items:
            for item in batch.items:
                self._apply(item)
            self._cursor = batch.cursor
            self._wake_followers()
            batch = await self._read(self._cursor)
        self._cursor = batch.cursor

    async def run(self) -> None:
        """Follows the database for ever."""
        while True:
            try:
                async with asyncio.timeout(self._poll_s):
                    await self._news.wait()
            except TimeoutError:
                pass
            self._news.clear()
            try:
                if await self._newest() != self._cursor:
                    await self.catch_up()
            except DatabaseUnavailable:
                logger().warning("feed_unread", feed=self._name, cursor=self._cursor)

    def wake(self) -> None:
        """Says that this replica has added something, which is then passed on at once."""
        self._news.set()

    async def watch(self, cursor: int) -> AsyncIterator[Batch[Item]]:
        """Gives what lies behind a cursor, then what comes, until the feed is closed."""
        first = True
        while not self._closed:
            changed = self._changed
            batch = await self._read(cursor)
            if batch.items or first:
                first, cursor = False, batch.cursor
                yield batch
                continue
            cursor = batch.cursor
            try:
                async with asyncio.timeout(self._heartbeat_s):
                    await changed.wait()
            except TimeoutError:
                yield Batch((), cursor)

    def close(self) -> None:
        """Ends all followers' streams."""
        self._closed = True
        self._wake_followers()

    async def _read(self, cursor: int) -> Batch[Item]:
        # Asked for first: what has a cursor up to this one is visible by now, or has been swept away.
        newest = await self._newest()
        if newest < cursor:
            cursor = 0  # the database has been restored from a backup: what it has now may never have been seen
        found = await self._after(cursor, _BATCH)
        if len(found) == _BATCH:
            return Batch(found, found[-1].cursor)
        return Batch(found, max(cursor, newest, *(item.cursor for item in found)))

    def _wake_followers(self) -> None:
        waiting, self._changed = self._changed, asyncio.Event()
        waiting.set()
