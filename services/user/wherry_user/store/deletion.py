"""Deletes an account with everything that hangs on it."""

from __future__ import annotations

from dataclasses import replace

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from wherry_user.audit import AuditEvent
from wherry_user.models import AccountRow, AuditRow, SessionRow
from wherry_user.revocations import Revocation, Subject
from wherry_user.store.base import StorePart, add_event
from wherry_user.store.revocations import add_revocation


class DeletionPart(StorePart):
    """Implements `wherry_user.deletion.DeletionStore`; explained there."""

    async def delete_account(
        self, user_id: str, pseudonym: str, margin_ms: int, event: AuditEvent
    ) -> Revocation | None:
        """Deletes an account with its sessions and tokens, and revokes the user."""

        def work(connection: Connection) -> Revocation | None:
            # Who signs in waits here, and finds no account then; who is in the middle of it has a session below.
            locked = sa.select(AccountRow.id).where(AccountRow.id == user_id).with_for_update()
            if connection.execute(locked).first() is None:
                return None
            # Who refreshes at this moment has the session's lock: the token that they get counts too.
            of_user = sa.select(SessionRow.access_expires_ms).where(SessionRow.user_id == user_id)
            lives = connection.execute(of_user.order_by(SessionRow.id).with_for_update()).scalars()
            expires_ms = max([event.at_ms, *lives]) + margin_ms
            # Sessions, refresh tokens and verifications go with it, by their foreign keys.
            connection.execute(sa.delete(AccountRow).where(AccountRow.id == user_id))
            connection.execute(
                sa.update(AuditRow)
                .where(AuditRow.user_id == user_id)
                .values(user_id=pseudonym, session_id=None, address="")
            )
            origin = replace(event.origin, address="")
            add_event(connection, replace(event, user_id=pseudonym, session_id=None, origin=origin))
            return add_revocation(connection, Subject.USER, user_id, event.at_ms, expires_ms)

        return await self._database.write(work)
