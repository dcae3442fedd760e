"""The audit log: what operators have done, each line written in the transaction that does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from wherry_chassis.sql import database_now_ms

from wherry_queue.models import AuditEntry


def record(connection: Connection, actor: str, act: str, subject: str, details: str = "") -> None:
    """Writes down that somebody does something.

    Args:
        actor: the subject of the operator's certificate.
        act: the method, as `SetLimit`.
        subject: what it is done to.
        details: the rest of it, in words.
    """
    values = {"actor": actor, "act": act, "subject": subject, "details": details}
    connection.execute(sa.insert(AuditEntry).values(at_ms=database_now_ms(connection), **values))


def entries(connection: Connection, before_id: int | None, limit: int) -> Sequence[Any]:
    """Returns up to `limit` entries' rows, newest first, older than `before_id`."""
    query = sa.select(AuditEntry.__table__).order_by(AuditEntry.id.desc()).limit(limit)
    if before_id is not None:
        query = query.where(AuditEntry.id < before_id)
    return connection.execute(query).all()
