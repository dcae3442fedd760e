"""Rows of revocations, and how far each follower has confirmed them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from wherry_user.models import FollowerRow, RevocationCursorRow, RevocationRow
from wherry_user.revocations import Follower, Revocation, Subject
from wherry_user.store.base import StorePart


class RevocationPart(StorePart):
    """Implements `wherry_user.revocations.RevocationStore`; the methods are explained there."""

    async def newest_cursor(self) -> int:
        """Returns the cursor of the latest revocation ever; 0 before the first."""
        return await self._database.read(_newest)

    async def revocations_after(self, cursor: int, limit: int) -> Sequence[Revocation]:
        """Returns up to `limit` revocations behind a cursor, in order."""
        query = sa.select(RevocationRow).where(RevocationRow.cursor > cursor)
        query = query.order_by(RevocationRow.cursor).limit(limit)
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [_revocation(row) for row in rows]

    async def confirm(self, follower: Follower, cursor: int) -> bool:
        """Notes that a follower is done with all up to a cursor; False if that has not been given to anything yet."""

        def work(connection: Connection) -> bool:
            if _newest(connection) < cursor:
                return False
            connection.execute(
                sa.update(FollowerRow)
                .where(FollowerRow.role == follower.value, FollowerRow.confirmed < cursor)
                .values(confirmed=cursor)
            )
            return True

        return await self._database.write(work)


def add_revocation(connection: Connection, kind: Subject, subject: str, now_ms: int, expires_ms: int) -> Revocation:
    """Writes a revocation. The last thing of a transaction: from here on other revocations wait for it."""
    connection.execute(sa.update(RevocationCursorRow).values(value=RevocationCursorRow.value + 1))
    revocation = Revocation(_newest(connection), kind, subject, expires_ms)
    connection.execute(
        sa.insert(RevocationRow).values(
            cursor=revocation.cursor,
            kind=revocation.kind.value,
            subject=revocation.subject,
            created_ms=now_ms,
            expires_ms=revocation.expires_ms,
        )
    )
    return revocation


def _newest(connection: Connection) -> int:
    return int(connection.execute(sa.select(RevocationCursorRow.value)).scalar_one())


def _revocation(row: sa.Row[Any]) -> Revocation:
    return Revocation(row.cursor, Subject(row.kind), row.subject, row.expires_ms)
