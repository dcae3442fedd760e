"""The feed of what has ended: each event has a cursor, and whoever follows resumes behind the last one seen.

Replicas meet in the database: each looks there twice a second for what the others have ended, and at once when it has
ended something itself.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from wherry_chassis.errors import DatabaseUnavailable
from wherry_chassis.logging import logger

_BATCH = 1000


class Subject(enum.Enum):
    """What an event is about."""

    SESSION = "SESSION"
    USER = "USER"


@dataclass(frozen=True, slots=True)
class Revocation:
    """Something that is refused from now on.

    Attributes:
        cursor: its place in the order, from 1, without a later one ever becoming visible before it.
        subject: a session's id or a user's.
        expires_ms: no access token of the subject lives longer.
    """

    cursor: int
    kind: Subject
    subject: str
    expires_ms: int


@dataclass(frozen=True, slots=True)
class Batch:
    """What a follower gets: revocations in order (none: a sign of life), and the cursor that it has then reached."""

    revocations: Sequence[Revocation]
    cursor: int


class RevocationStore(Protocol):
    """Keeps revocations as long as they matter."""

    async def newest_cursor(self) -> int:
        """Returns the cursor of the latest revocation ever; 0 before the first."""
        ...

    async def revocations_after(self, cursor: int, limit: int) -> Sequence[Revocation]:
        """Returns up to `limit` revocations behind a cursor, in order."""
        ...


class RevocationFeed:
    """The feed of this replica.

    Args:
        apply: gets each revocation, so that this replica refuses it too.
        poll_s: how often the database is looked at.
        heartbeat_s: a follower hears something at least so often.
    """

    def __init__(
        self,
        store: RevocationStore,
        apply: Callable[[Revocation], None],
        *,
        poll_s: float = 0.5,
        heartbeat_s: float = 5.0,
    ) -> None:
        self._store = store
        self._apply = apply
        self._poll_s = poll_s
        self._heartbeat_s = heartbeat_s
        self._cursor = 0
        self._news = asyncio.Event()
        self._changed = asyncio.Event()
        self._closed = False

    async def catch_up(self) -> None:
        """Reads what has ended since, applies it, and wakes the followers."""
        batch = await self._after(self._cursor)
        while batch.revocations:
            for revocation in batch.revocations:
                self._apply(revocation)
            self._cursor = batch.cursor
            self._wake_followers()
            batch = await self._after(self._cursor)
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
                if await self._store.newest_cursor() != self._cursor:
                    await self.catch_up()
            except DatabaseUnavailable:
                logger().warning("revocations_unread", cursor=self._cursor)

    def announce(self, revocation: Revocation) -> None:
        """Applies a revocation that this replica has just written, and has it passed on at once."""
        self._apply(revocation)
        self._news.set()

    async def watch(self, cursor: int) -> AsyncIterator[Batch]:
        """Gives what lies behind a cursor, then what comes, until the feed is closed."""
        first = True
        while not self._closed:
            changed = self._changed
            batch = await self._after(cursor)
            if batch.revocations or first:
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

    async def _after(self, cursor: int) -> Batch:
        # Asked for first: what has a cursor up to this one is visible by now, or has been swept away.
        newest = await self._store.newest_cursor()
        if newest < cursor:
            cursor = 0  # the database has been restored from a backup: what it has now may never have been seen
        found = await self._store.revocations_after(cursor, _BATCH)
        if len(found) == _BATCH:
            return Batch(found, found[-1].cursor)
        return Batch(found, max(cursor, newest, *(revocation.cursor for revocation in found)))

    def _wake_followers(self) -> None:
        waiting, self._changed = self._changed, asyncio.Event()
        waiting.set()
