"""What becomes of people's sign-ins at sites, told to whoever follows.

A change is written in the transaction that makes it, so that none is lost and none is told that did not happen.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from wherry_chassis.feed import Batch, Feed

KEPT_MS = 30 * 86_400_000
"""How long changes are kept; a follower who comes later asks for the state of things instead."""


class ChangeKind(enum.Enum):
    """What happened to a sign-in."""

    SIGNED_IN = "SIGNED_IN"
    """There was no session, and there is one now."""
    RENEWED = "RENEWED"
    """A new session took a live one's place."""
    EXPIRED = "EXPIRED"
    """The session has reached its end."""
    SIGNED_OUT = "SIGNED_OUT"
    """It ended before: at the user's word, or with the site or the account."""


@dataclass(frozen=True, slots=True)
class SessionChange:
    """A change of a user's sign-in at a site.

    Attributes:
        cursor: its place in the order, from 1, without a later one ever becoming visible before it; 0 until it is kept.
        user: `users/{user}`.
        site_id: as in `sites/{site_id}`.
        expires_ms: when the session ends, milliseconds since the epoch; for one that has ended, when it did.
    """

    cursor: int
    user: str
    site_id: str
    kind: ChangeKind
    expires_ms: int


class ChangeStore(Protocol):
    """Keeps changes."""

    async def newest_change(self) -> int:
        """Returns the cursor of the latest change ever; 0 before the first."""
        ...

    async def changes_after(self, cursor: int, limit: int) -> Sequence[SessionChange]:
        """Returns up to `limit` changes behind a cursor, in order."""
        ...


SessionChanges = Feed[SessionChange]
SessionBatch = Batch[SessionChange]


def session_changes(store: ChangeStore, *, poll_s: float = 0.5, heartbeat_s: float = 5.0) -> SessionChanges:
    """Returns the feed of this replica; see `Feed`."""
    return Feed("site_sessions", store.newest_change, store.changes_after, poll_s=poll_s, heartbeat_s=heartbeat_s)
