"""The site service's data in SQL."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from wherry_chassis.errors import FieldProblem, InvalidFields
from wherry_chassis.sql import Database

from wherry_site.audit import AuditEvent
from wherry_site.audit_rows import record
from wherry_site.change_rows import (
    append_changes,
    changes_after,
    end_expired,
    end_sessions,
    forget_changes,
    newest_change,
)
from wherry_site.deletion import Gone
from wherry_site.deletion_rows import forget_user
from wherry_site.errors import EtagMismatch, LeaseSuperseded, SiteExists, TitleTaken
from wherry_site.leases import LeaseClaims
from wherry_site.models import AuthorityRow, EndpointRow, FenceRow, SessionRow, SiteRow
from wherry_site.names import site_id
from wherry_site.rows import session_row, site_row, to_sealed_session, to_session, to_site
from wherry_site.session_changes import SessionChange
from wherry_site.sessions import SealedSession, SiteSession, sign_in_changes
from wherry_site.sites import Site, title_key
from wherry_site.vault import Sealed

T = TypeVar("T")
_TRIES = 3
_EXPIRED_AT_ONCE = 500


class Store:
    """Sites, sessions, fences and the audit trail: one for all the ports, as they meet in transactions.

    Args:
        changed: called when something has become of sessions, after the commit.
    """

    def __init__(self, database: Database, changed: Callable[[], None] = lambda: None) -> None:
        self._database = database
        self._changed = changed

    # -- sites

    async def site(self, identifier: str) -> Site | None:
        """Returns a site."""

        def work(connection: Connection) -> Site | None:
            with _orm(connection) as session:
                row = session.get(SiteRow, identifier)
                return None if row is None else to_site(row)

        return await self._database.read(work)

    async def visible_sites(self, user: str, *, after: str = "", limit: int) -> Sequence[Site]:
        """Returns the public sites and the user's own behind `after`, by id."""

        def work(connection: Connection) -> Sequence[Site]:
            query = sa.select(SiteRow).where(_visible(user), SiteRow.id > after).order_by(SiteRow.id).limit(limit)
            with _orm(connection) as session:
                return [to_site(row) for row in session.scalars(query)]

        return await self._database.read(work)

    async def add_site(self, site: Site, event: AuditEvent) -> None:
        """Adds a site; see the port."""

        def work(connection: Connection) -> None:
            with _orm(connection) as session:
                if session.get(SiteRow, site.id) is not None:
                    raise SiteExists("site_id", site=site.name)
                _check_rivals(session, site)
                session.add(site_row(site))
            record(connection, event)

        await self._write_among_rivals(work)

    async def replace_site(self, site: Site, event: AuditEvent) -> None:
        """Changes a site; see the port."""

        def work(connection: Connection) -> None:
            with _orm(connection) as session:
                before = session.scalars(sa.select(SiteRow).where(SiteRow.id == site.id).with_for_update()).first()
                if before is None or before.revision != site.revision - 1 or before.create_ms != site.create_ms:
                    raise EtagMismatch(site=site.name)
                _check_rivals(session, site)
                old, new = to_site(before).draft, site.draft
                for children in (AuthorityRow, EndpointRow):
                    session.execute(sa.delete(children).where(children.site_id == site.id))
                session.expire_all()
                session.merge(site_row(site))
            record(connection, event)
            if (old.auth_address, list(old.authorities)) != (new.auth_address, list(new.authorities)):
                # What was got from another server, or is believed by other CAs, is no sign-in at this site.
                end_sessions(connection, SessionRow.site_id == site.id, at_ms=event.at_ms)

        await self._write_among_rivals(work)
        self._changed()

    async def remove_site(self, site: Site, event: AuditEvent) -> None:
        """Deletes a site; see the port."""

        def work(connection: Connection) -> None:
            this = sa.and_(
                SiteRow.id == site.id, SiteRow.revision == site.revision, SiteRow.create_ms == site.create_ms
            )
            # Locked first: nobody signs in there between its sessions' end and its own.
            if connection.execute(sa.select(SiteRow.id).where(this).with_for_update()).first() is None:
                raise EtagMismatch(site=site.name)
            record(connection, event)
            end_sessions(connection, SessionRow.site_id == site.id, at_ms=event.at_ms)
            connection.execute(sa.delete(SiteRow).where(SiteRow.id == site.id))

        await self._database.write(work)
        self._changed()

    # -- sessions

    async def put_session(self, sealed: SealedSession, event: AuditEvent) -> bool:
        """Keeps a session in place of the one before; see the port."""

        new = sealed.session

        def work(connection: Connection) -> bool:
            with _orm(connection) as session:
                # Locks the site, so that it is not deleted or moved elsewhere meanwhile.
                site = sa.select(SiteRow.id).where(SiteRow.id == new.site_id).with_for_update()
                if session.execute(site).first() is None:
                    return False
                replaced = sa.delete(SessionRow).where(_session_of(new.user, new.site_id))
                before_ms = session.execute(replaced.returning(SessionRow.expire_ms)).scalar()
                session.add(session_row(sealed))
            record(connection, event)
            append_changes(connection, sign_in_changes(new, before_ms, event.at_ms), at_ms=event.at_ms)
            return True

        kept = await self._database.write(work)
        self._changed()
        return kept

    async def sessions(self, user: str, now_ms: int) -> Sequence[SiteSession]:
        """Returns the live sessions of a user, by site."""

        def work(connection: Connection) -> Sequence[SiteSession]:
            with _orm(connection) as session:
                return [to_session(row) for row in session.scalars(_live(user, now_ms))]

        return await self._database.read(work)

    async def remove_session(self, user: str, identifier: str, event: AuditEvent) -> SiteSession | None:
        """Deletes a session; see the port."""

        def work(connection: Connection) -> SiteSession | None:
            with _orm(connection) as session:
                query = sa.select(SessionRow).where(_session_of(user, identifier)).with_for_update()
                row = session.scalars(query).first()
                if row is None:
                    return None
                removed = to_session(row)
            record(connection, event)
            end_sessions(connection, _session_of(user, identifier), at_ms=event.at_ms)
            return removed

        removed = await self._database.write(work)
        self._changed()
        return removed

    async def remove_expired(self, now_ms: int) -> int:
        """Deletes sessions that have ended; see the port."""
        expired = sa.select(SessionRow.id).where(SessionRow.expire_ms <= now_ms).limit(1)
        # Asked every second: a look that finds nothing writes nothing.
        if await self._database.read(lambda connection: connection.execute(expired).first()) is None:
            return 0
        ended = await self._database.write(end_expired, now_ms, _EXPIRED_AT_ONCE)
        self._changed()
        return ended

    # -- what becomes of sessions

    async def newest_change(self) -> int:
        """Returns the cursor of the latest change ever."""
        return await self._database.read(newest_change)

    async def changes_after(self, cursor: int, limit: int) -> Sequence[SessionChange]:
        """Returns changes behind a cursor, in order."""
        return await self._database.read(changes_after, cursor, limit)

    async def forget_changes(self, before_ms: int) -> int:
        """Drops changes from before a time."""
        return await self._database.write(forget_changes, before_ms)

    async def sealed_with(self, key_ids: Sequence[str], limit: int) -> Sequence[SealedSession]:
        """Returns sessions whose data key one of these keys wraps."""
        if not key_ids:
            return []

        def work(connection: Connection) -> Sequence[SealedSession]:
            query = sa.select(SessionRow).where(SessionRow.key_id.in_(key_ids)).order_by(SessionRow.id).limit(limit)
            with _orm(connection) as session:
                return [to_sealed_session(row) for row in session.scalars(query)]

        return await self._database.read(work)

    async def reseal(self, session_id: str, before: Sealed, after: Sealed) -> None:
        """Puts `after` in the place of `before`."""

        def work(connection: Connection) -> None:
            connection.execute(
                sa.update(SessionRow)
                .where(SessionRow.id == session_id, SessionRow.wrapped_key == before.wrapped_key)
                .values(key_id=after.key_id, wrapped_key=after.wrapped_key, ciphertext=after.ciphertext)
            )

        await self._database.write(work)

    # -- for the queue and for workers

    async def resolve(
        self, user: str, site_ids: Sequence[str], now_ms: int
    ) -> tuple[Mapping[str, Site], Mapping[str, SealedSession]]:
        """Returns sites that the user sees and the user's live sessions; see the port."""

        def work(connection: Connection) -> tuple[Mapping[str, Site], Mapping[str, SealedSession]]:
            with _orm(connection) as session:
                sessions = session.scalars(_live(user, now_ms).where(SessionRow.site_id.in_(site_ids)))
                return _sites(session, user, site_ids), {row.site_id: to_sealed_session(row) for row in sessions}

        return await self._database.read(work)

    async def open_lease(
        self, claims: LeaseClaims, now_ms: int
    ) -> tuple[Mapping[str, Site], Mapping[str, SealedSession]]:
        """Remembers the fence and returns what the lease opens; see the port."""
        site_ids = [site_id(name) for name in claims.sites]

        def work(connection: Connection) -> tuple[Mapping[str, Site], Mapping[str, SealedSession]]:
            with _orm(connection) as session:
                seen = session.scalars(_fence(claims.task)).first()
                if seen is None:
                    session.add(FenceRow(task=claims.task, fence=claims.fence, seen_ms=now_ms))
                elif seen.fence > claims.fence:
                    raise LeaseSuperseded(task=claims.task)
                else:
                    seen.fence, seen.seen_ms = claims.fence, now_ms
                session.flush()
                sealed = session.scalars(_live(claims.user, now_ms).where(SessionRow.site_id.in_(site_ids)))
                return (
                    _sites(session, claims.user, site_ids),
                    {row.site_id: to_sealed_session(row) for row in sealed},
                )

        return await self._write_among_rivals(work)

    async def record_issue(self, claims: LeaseClaims, events: Sequence[AuditEvent]) -> None:
        """Adds to the trail while the lease is the newest; see the port."""

        def work(connection: Connection) -> None:
            with _orm(connection) as session:
                seen = session.scalars(_fence(claims.task)).first()
                if seen is not None and seen.fence > claims.fence:
                    raise LeaseSuperseded(task=claims.task)
            record(connection, *events)

        await self._database.write(work)

    async def forget_fences(self, before_ms: int) -> int:
        """Drops fences not seen since."""
        return await self._delete(sa.delete(FenceRow).where(FenceRow.seen_ms < before_ms))

    # -- those whose accounts are deleted

    async def forget_user(self, user: str, pseudonym: str, now_ms: int) -> Gone:
        """Deletes what belongs to a user; see the port."""
        gone = await self._database.write(forget_user, user, pseudonym, now_ms)
        self._changed()
        return gone

    # -- audit

    async def record(self, event: AuditEvent) -> None:
        """Adds to the audit trail."""
        await self._database.write(lambda connection: record(connection, event))

    async def _delete(self, statement: sa.Delete) -> int:
        return await self._database.write(lambda connection: connection.execute(statement).rowcount)

    async def _write_among_rivals(self, work: Callable[[Connection], T]) -> T:
        """Runs work that looks before it inserts, again where a rival inserted in between: then it sees the rival."""
        for _ in range(_TRIES - 1):
            try:
                return await self._database.write(work)
            except IntegrityError:
                continue
        return await self._database.write(work)


@contextlib.contextmanager
def _orm(connection: Connection) -> Iterator[Session]:
    """Gives an ORM session within the connection's transaction, which others may share: in a savepoint of its own."""
    with Session(connection, join_transaction_mode="create_savepoint") as session:
        yield session
        session.commit()


def _visible(user: str) -> sa.ColumnElement[bool]:
    return sa.or_(SiteRow.public, SiteRow.owner == user)


def _sites(session: Session, user: str, site_ids: Sequence[str]) -> dict[str, Site]:
    query = sa.select(SiteRow).where(_visible(user), SiteRow.id.in_(site_ids))
    return {row.id: to_site(row) for row in session.scalars(query)}


def _session_of(user: str, identifier: str) -> sa.ColumnElement[bool]:
    return sa.and_(SessionRow.user == user, SessionRow.site_id == identifier)


def _live(user: str, now_ms: int) -> sa.Select[SessionRow]:
    """Selects a user's live sessions at sites that the user sees."""
    return (
        sa.select(SessionRow)
        .join(SiteRow, SiteRow.id == SessionRow.site_id)
        .where(SessionRow.user == user, SessionRow.expire_ms > now_ms, _visible(user))
        .order_by(SessionRow.site_id)
    )


def _fence(task: str) -> sa.Select[FenceRow]:
    return sa.select(FenceRow).where(FenceRow.task == task).with_for_update()


def _check_rivals(session: Session, site: Site) -> None:
    """Raises if another site's title or CA stands in the way."""
    titles: list[Any] = [SiteRow.title_key == title_key(site.draft.title), SiteRow.id != site.id]
    # Private sites of others do not exist for the owner, so they cannot be in the way.
    titles.append(_visible(site.owner))
    if session.execute(sa.select(SiteRow.id).where(*titles)).first() is not None:
        raise TitleTaken("site.title")
    for index, authority in enumerate(site.draft.authorities):
        rival = sa.select(AuthorityRow.site_id).where(
            AuthorityRow.subject == authority.subject,
            AuthorityRow.key_fingerprint != authority.key_fingerprint,
            AuthorityRow.site_id != site.id,
        )
        if session.execute(rival).first() is not None:
            field = f"site.certificate_authorities[{index}].certificate_pem"
            raise InvalidFields(FieldProblem(field, "another site's CA has this subject, with another key"))
