"""What has ended, and the feed of it for the other services and replicas.

The feed is also the outbox of deleted users: what concerns one is kept until every follower has confirmed that it has
done its part, for however long that one is away. What concerns a session is kept only while a token of it could live.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from wherry_chassis.feed import Feed

from wherry_user.errors import CursorUnknown


class Subject(enum.Enum):
    """What an event is about."""

    SESSION = "SESSION"
    USER = "USER"


class Follower(enum.Enum):
    """A service that does its part of what is revoked; the value is the role in its certificate."""

    SITE = "site"
    QUEUE = "queue"


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


class RevocationStore(Protocol):
    """Keeps revocations as long as they matter."""

    async def newest_cursor(self) -> int:
        """Returns the cursor of the latest revocation ever; 0 before the first."""
        ...

    async def revocations_after(self, cursor: int, limit: int) -> Sequence[Revocation]:
        """Returns up to `limit` revocations behind a cursor, in order."""
        ...

    async def confirm(self, follower: Follower, cursor: int) -> bool:
        """Notes that a follower is done with all up to a cursor; False if that has not been given to anything yet."""
        ...


class RevocationFeed(Feed[Revocation]):
    """The feed of this replica.

    Args:
        apply: gets each revocation, so that this replica refuses it too.
        poll_s, heartbeat_s: as `Feed` says.
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
        super().__init__(
            "revocations",
            store.newest_cursor,
            store.revocations_after,
            apply=apply,
            poll_s=poll_s,
            heartbeat_s=heartbeat_s,
        )

    def announce(self, revocation: Revocation) -> None:
        """Applies a revocation that this replica has just written, and has it passed on at once."""
        self._apply(revocation)
        self.wake()

    async def confirm(self, follower: Follower, cursor: int) -> None:
        """Notes that a follower has done its part of all that lies up to a cursor.

        Raises:
            CursorUnknown: nothing has had this cursor yet.
        """
        if not await self._store.confirm(follower, cursor):
            raise CursorUnknown
