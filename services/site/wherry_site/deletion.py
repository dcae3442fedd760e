"""What goes with somebody's account: their sign-ins, their sites, and their name in the audit trail."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from wherry_chassis.logging import logger
from wherry_chassis.pseudonyms import random_pseudonym

from wherry_site.issued import IssuedProxies


@dataclass(frozen=True, slots=True)
class Gone:
    """What was deleted with an account.

    Attributes:
        sites: how many.
        session_ids: of the user, and of everybody at their sites.
    """

    sites: int
    session_ids: Sequence[str]


class DeletionStore(Protocol):
    """Deletes what belongs to a user."""

    async def forget_user(self, user: str, pseudonym: str, now_ms: int) -> Gone:
        """Deletes a user's sessions and sites, these with endpoints and everybody's sessions at them, in one step.

        In the audit trail the pseudonym stands in the user's place then, and none of their network addresses. Once more
        it deletes what has come since, and changes nothing if nothing has.
        """
        ...


class UserDeletion:
    """Does the site service's part when accounts are deleted.

    Args:
        store: keeps what is to go.
        issued: proxies in workers' hands; those of deleted sessions are given to nobody any more.
        now_ms: the time, milliseconds since the epoch.
    """

    def __init__(self, store: DeletionStore, issued: IssuedProxies, *, now_ms: Callable[[], int]) -> None:
        self._store = store
        self._issued = issued
        self._now_ms = now_ms

    async def forget(self, users: Sequence[str]) -> None:
        """Deletes what belongs to users (`users/{user}`) whose accounts are deleted; safe to repeat."""
        for user in users:
            gone = await self._store.forget_user(user, f"users/{random_pseudonym()}", self._now_ms())
            for session_id in gone.session_ids:
                self._issued.forget(session_id)
            if gone.sites or gone.session_ids:
                logger().info("user_forgotten", sites=gone.sites, site_sessions=len(gone.session_ids))
