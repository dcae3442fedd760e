"""Rows of the audit trail, written in the transactions of what they tell of."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from wherry_site.audit import AuditEvent
from wherry_site.models import AuditRow


def record(connection: Connection, *events: AuditEvent) -> None:
    """Adds to the trail."""
    rows = [
        {
            "at_ms": event.at_ms,
            "action": event.action.value,
            "user": event.user,
            "site": event.site,
            "address": event.address[:200],
            "task": event.task,
            "fence": event.fence,
            "worker": event.worker,
            "worker_thumbprint": event.worker_thumbprint,
            "credential_id": event.credential_id,
            "expire_ms": event.expire_ms,
        }
        for event in events
    ]
    if rows:
        connection.execute(sa.insert(AuditRow), rows)


def pseudonymise(connection: Connection, user: str, pseudonym: str) -> bool:
    """Puts a pseudonym (`users/deleted-…`) in a user's place, and takes their network addresses out.

    It is the only change of the trail that its trigger lets through. False if the user is not in it.
    """
    lines = sa.update(AuditRow).where(AuditRow.user == user).values(user=pseudonym, address="")
    return connection.execute(lines).rowcount > 0
