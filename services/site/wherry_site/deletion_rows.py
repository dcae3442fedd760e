"""Rows that go, or change, with somebody's account."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from wherry_site.audit import Action, AuditEvent
from wherry_site.audit_rows import pseudonymise, record
from wherry_site.change_rows import end_sessions
from wherry_site.deletion import Gone
from wherry_site.models import SessionChangeRow, SessionRow, SiteRow
from wherry_site.names import site_name


def forget_user(connection: Connection, user: str, pseudonym: str, now_ms: int) -> Gone:
    """Deletes a user's sessions and sites; see `wherry_site.deletion.DeletionStore`."""
    own = sa.select(SiteRow.id).where(SiteRow.owner == user)
    # Locked first: nobody signs in there between their sessions' end and the sites' own.
    sites = connection.execute(own.order_by(SiteRow.id).with_for_update()).scalars().all()
    going = sa.or_(SessionRow.user == user, SessionRow.site_id.in_(own))
    in_order = sa.select(SessionRow.id).where(going).order_by(SessionRow.user, SessionRow.site_id)
    sessions = connection.execute(in_order.with_for_update()).scalars().all()
    if pseudonymise(connection, user, pseudonym) or sites or sessions:
        deleted = [AuditEvent(now_ms, Action.SITE_DELETED, pseudonym, site_name(site)) for site in sites]
        record(connection, *deleted, AuditEvent(now_ms, Action.ACCOUNT_DELETED, pseudonym, ""))
    # What was told of their sessions has been heard, or does not matter any more.
    connection.execute(sa.delete(SessionChangeRow).where(SessionChangeRow.user == user))
    end_sessions(connection, going, at_ms=now_ms)
    connection.execute(sa.delete(SiteRow).where(SiteRow.owner == user))
    return Gone(len(sites), sessions)
