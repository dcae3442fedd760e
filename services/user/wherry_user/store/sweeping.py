"""Deletes what has expired."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from wherry_user.models import AccountRow, FollowerRow, RevocationRow, SessionRow, TallyRow, VerificationRow
from wherry_user.revocations import Subject
from wherry_user.store.base import StorePart
from wherry_user.sweeping import UNCONFIRMED_KEPT_MS
from wherry_user.throttle import LONGEST_WINDOW_MS


class SweepPart(StorePart):
    """Implements `wherry_user.sweeping.SweepStore`."""

    async def sweep(self, now_ms: int) -> Mapping[str, int]:
        """Deletes what has expired; returns how many of each sort."""
        over = sa.or_(SessionRow.ended_ms.is_not(None), SessionRow.expires_ms <= now_ms)
        # An expired verification stays while its account may still ask for another: its password goes with it.
        still_mailed = sa.exists().where(VerificationRow.user_id == AccountRow.id, VerificationRow.expires_ms > now_ms)
        stale = sa.and_(
            AccountRow.verified_ms.is_(None),
            AccountRow.created_ms <= now_ms - UNCONFIRMED_KEPT_MS,
            ~still_mailed,
        )
        # A deleted user is kept for the follower that is furthest behind, however long it has been away.
        confirmed = sa.select(sa.func.min(FollowerRow.confirmed)).scalar_subquery()
        deletions = {
            "sessions": sa.delete(SessionRow).where(over, SessionRow.access_expires_ms <= now_ms),
            "revocations": sa.delete(RevocationRow).where(
                RevocationRow.expires_ms <= now_ms,
                sa.or_(RevocationRow.kind == Subject.SESSION.value, RevocationRow.cursor <= confirmed),
            ),
            "tallies": sa.delete(TallyRow).where(TallyRow.window_start_ms <= now_ms - LONGEST_WINDOW_MS),
            "accounts": sa.delete(AccountRow).where(stale),
        }

        def work(connection: Connection) -> Mapping[str, int]:
            return {kind: connection.execute(deletion).rowcount for kind, deletion in deletions.items()}

        return await self._database.write(work)
