"""Rows of sessions and refresh tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from wherry_user.audit import AuditEvent
from wherry_user.models import AccountRow, RefreshTokenRow, SessionRow
from wherry_user.revocations import Revocation, Subject
from wherry_user.sessions import Lifetimes, Rotated, Rotation, Session
from wherry_user.store.base import StorePart, add_event
from wherry_user.store.revocations import add_revocation


class SessionPart(StorePart):
    """Implements `wherry_user.sessions.SessionStore`; the methods are explained there."""

    async def start_session(self, session: Session, refresh_hash: str, event: AuditEvent) -> Session | None:
        """Keeps a new session; returns it with the sign-in before it. None if the account is gone."""

        def work(connection: Connection) -> Session | None:
            of_user = AccountRow.id == session.user_id
            last = sa.select(AccountRow.last_sign_in_ms).where(of_user).with_for_update()
            if (account := connection.execute(last).first()) is None:
                return None
            begun = replace(session, previous_sign_in_ms=account.last_sign_in_ms)
            connection.execute(sa.update(AccountRow).where(of_user).values(last_sign_in_ms=session.created_ms))
            connection.execute(
                sa.insert(SessionRow).values(
                    id=begun.id,
                    user_id=begun.user_id,
                    created_ms=begun.created_ms,
                    expires_ms=begun.expires_ms,
                    access_expires_ms=begun.access_expires_ms,
                    previous_sign_in_ms=begun.previous_sign_in_ms,
                )
            )
            _add_token(connection, refresh_hash, begun.id, begun.created_ms)
            add_event(connection, event)
            return begun

        return await self._database.write(work)

    async def rotate(self, old_hash: str, new_hash: str, lifetimes: Lifetimes, event: AuditEvent) -> Rotated:
        """Uses a refresh token up and puts another in its place."""

        def work(connection: Connection) -> Rotated:
            token = sa.select(RefreshTokenRow.session_id).where(RefreshTokenRow.token_hash == old_hash)
            if (session_id := connection.execute(token).scalar()) is None:
                return Rotated(Rotation.UNKNOWN)
            # The session's lock puts the uses of its tokens, and its end, one after the other.
            row = connection.execute(_session_query(session_id).with_for_update()).first()
            if row is None or row.ended_ms is not None or row.expires_ms <= lifetimes.now_ms:
                return Rotated(Rotation.ENDED)
            session = _session(row)
            used = sa.select(RefreshTokenRow.used_ms).where(RefreshTokenRow.token_hash == old_hash)
            if connection.execute(used).scalar() is not None:
                told = replace(event, outcome=Rotation.REUSED.value, user_id=session.user_id, session_id=session.id)
                return Rotated(Rotation.REUSED, revocation=_end(connection, session, lifetimes, told))
            connection.execute(
                sa.update(RefreshTokenRow)
                .where(RefreshTokenRow.token_hash == old_hash)
                .values(used_ms=lifetimes.now_ms)
            )
            _add_token(connection, new_hash, session.id, lifetimes.now_ms)
            renewed = replace(
                session, expires_ms=lifetimes.session_expires_ms, access_expires_ms=lifetimes.access_expires_ms
            )
            connection.execute(
                sa.update(SessionRow)
                .where(SessionRow.id == session.id)
                .values(expires_ms=renewed.expires_ms, access_expires_ms=renewed.access_expires_ms)
            )
            return Rotated(Rotation.ROTATED, session=renewed)

        return await self._database.write(work)

    async def sessions_of(self, user_id: str, now_ms: int) -> Sequence[Session]:
        """Returns a user's live sessions, newest first."""
        query = sa.select(SessionRow).where(
            SessionRow.user_id == user_id, SessionRow.ended_ms.is_(None), SessionRow.expires_ms > now_ms
        )
        query = query.order_by(SessionRow.created_ms.desc(), SessionRow.id)
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [_session(row) for row in rows]

    async def session(self, session_id: str) -> Session | None:
        """Returns a session, alive or not, while it is kept."""
        row = await self._database.read(lambda connection: connection.execute(_session_query(session_id)).first())
        return None if row is None else _session(row)

    async def end_session(
        self, user_id: str, session_id: str, lifetimes: Lifetimes, event: AuditEvent
    ) -> Revocation | None:
        """Ends a live session of that user, and revokes it; None if there is none."""

        def work(connection: Connection) -> Revocation | None:
            alive = _session_query(session_id).where(
                SessionRow.user_id == user_id,
                SessionRow.ended_ms.is_(None),
                SessionRow.expires_ms > lifetimes.now_ms,
            )
            row = connection.execute(alive.with_for_update()).first()
            return None if row is None else _end(connection, _session(row), lifetimes, event)

        return await self._database.write(work)


def _end(connection: Connection, session: Session, lifetimes: Lifetimes, event: AuditEvent) -> Revocation:
    connection.execute(sa.update(SessionRow).where(SessionRow.id == session.id).values(ended_ms=lifetimes.now_ms))
    add_event(connection, event)
    return add_revocation(
        connection, Subject.SESSION, session.id, lifetimes.now_ms, lifetimes.revoked_until_ms(session)
    )


def _add_token(connection: Connection, token_hash: str, session_id: str, now_ms: int) -> None:
    values = {"token_hash": token_hash, "session_id": session_id, "created_ms": now_ms}
    connection.execute(sa.insert(RefreshTokenRow).values(values))


def _session_query(session_id: str) -> sa.Select[Any]:
    return sa.select(SessionRow).where(SessionRow.id == session_id)


def _session(row: sa.Row[Any]) -> Session:
    return Session(
        id=row.id,
        user_id=row.user_id,
        created_ms=row.created_ms,
        expires_ms=row.expires_ms,
        access_expires_ms=row.access_expires_ms,
        previous_sign_in_ms=row.previous_sign_in_ms,
    )
