"""Rows of session changes, written in the transactions of what they tell of."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from wherry_site.models import SessionChangeCursorRow, SessionChangeRow, SessionRow
from wherry_site.session_changes import ChangeKind, SessionChange

_IDS = 500
"""So many rows are named in one statement; databases have limits."""


def append_change(
    connection: Connection, *, user: str, site_id: str, kind: ChangeKind, expires_ms: int, at_ms: int
) -> None:
    """Adds a change to the feed; see `append_changes`."""
    append_changes(connection, [SessionChange(0, user, site_id, kind, expires_ms)], at_ms=at_ms)


def append_changes(connection: Connection, changes: Sequence[SessionChange], *, at_ms: int) -> None:
    """Adds changes to the feed, whose cursors it gives, in their order; those in `changes` do not count.

    The last thing that a transaction does: from here on all others that have a change wait for its end.
    """
    if not changes:
        return
    connection.execute(sa.update(SessionChangeCursorRow).values(value=SessionChangeCursorRow.value + len(changes)))
    first = newest_change(connection) - len(changes) + 1
    rows = [
        {
            "cursor": cursor,
            "user": change.user,
            "site_id": change.site_id,
            "kind": change.kind.value,
            "expires_ms": change.expires_ms,
            "at_ms": at_ms,
        }
        for cursor, change in enumerate(changes, first)
    ]
    connection.execute(sa.insert(SessionChangeRow), rows)


def end_sessions(connection: Connection, *which: sa.ColumnElement[bool], at_ms: int) -> int:
    """Deletes sessions with what the vault sealed of them, and tells of each; the last thing that a transaction does.

    Those that have reached their ends by then are told as expired, the others as signed out.

    Args:
        which: conditions on `SessionRow`.
        at_ms: the time.

    Returns:
        How many there were. Of two transactions that end the same session one finds it, and tells.
    """
    return _end(connection, _in_order().where(*which), at_ms)


def end_expired(connection: Connection, now_ms: int, limit: int) -> int:
    """Ends up to `limit` sessions that have reached their ends; those that somebody is changing just now stay."""
    expired = _in_order().where(SessionRow.expire_ms <= now_ms).limit(limit)
    return _end(connection, expired.with_for_update(skip_locked=True), now_ms)


def newest_change(connection: Connection) -> int:
    """Returns the cursor of the latest change ever; 0 before the first."""
    return connection.execute(sa.select(SessionChangeCursorRow.value)).scalar_one()


def changes_after(connection: Connection, cursor: int, limit: int) -> Sequence[SessionChange]:
    """Returns up to `limit` changes behind a cursor, in order."""
    query = sa.select(SessionChangeRow).where(SessionChangeRow.cursor > cursor)
    rows = connection.execute(query.order_by(SessionChangeRow.cursor).limit(limit)).all()
    return [SessionChange(row.cursor, row.user, row.site_id, ChangeKind(row.kind), row.expires_ms) for row in rows]


def forget_changes(connection: Connection, before_ms: int) -> int:
    """Deletes changes from before a time; returns how many. Their cursors are not given again."""
    return connection.execute(sa.delete(SessionChangeRow).where(SessionChangeRow.at_ms < before_ms)).rowcount


def _in_order() -> sa.Select[str, str, str, int]:
    """Selects and locks sessions in one order everywhere, so that no two transactions wait for each other."""
    columns = sa.select(SessionRow.user, SessionRow.site_id, SessionRow.id, SessionRow.expire_ms)
    return columns.order_by(SessionRow.user, SessionRow.site_id).with_for_update()


def _end(connection: Connection, query: sa.Select[str, str, str, int], at_ms: int) -> int:
    ended = connection.execute(query).all()
    for begin in range(0, len(ended), _IDS):
        ids = [row.id for row in ended[begin : begin + _IDS]]
        connection.execute(sa.delete(SessionRow).where(SessionRow.id.in_(ids)))
    changes = [
        SessionChange(0, row.user, row.site_id, ChangeKind.EXPIRED, row.expire_ms)
        if row.expire_ms <= at_ms
        else SessionChange(0, row.user, row.site_id, ChangeKind.SIGNED_OUT, at_ms)
        for row in ended
    ]
    append_changes(connection, changes, at_ms=at_ms)
    return len(ended)
