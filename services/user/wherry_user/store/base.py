"""What every part of the store has: the database, the audit log, and the tallies of the throttle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError
from wherry_chassis.sql import Database

from wherry_user.audit import AuditEvent
from wherry_user.models import AuditRow, TallyRow
from wherry_user.throttle import Limit, Tally, counted


class StorePart:
    """A part of the store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, event: AuditEvent) -> None:
        """Adds an event to the audit log."""
        await self._database.write(lambda connection: add_event(connection, event))

    async def count(self, limits: Mapping[str, Limit], now_ms: int) -> int:
        """Counts one more for each key, or for none if one is over its limit; returns how long to wait, in ms."""

        def work(connection: Connection) -> int:
            tallies: dict[str, Tally] = {}
            longest_ms = 0
            # In one order everywhere, so that two calls with the same keys cannot wait for each other.
            for key in sorted(limits):
                tallies[key], wait_ms = counted(_locked_tally(connection, key, now_ms), limits[key], now_ms)
                longest_ms = max(longest_ms, wait_ms)
            if longest_ms == 0:
                for key, tally in tallies.items():
                    values = {"window_start_ms": tally.window_start_ms, "number": tally.count}
                    connection.execute(sa.update(TallyRow).where(TallyRow.key == key).values(values))
            return longest_ms

        return await self._database.write(work)

    async def release(self, reset: Sequence[str], less: Sequence[str]) -> None:
        """Forgets the tallies of the keys in `reset`, and takes one off those in `less`."""

        def work(connection: Connection) -> None:
            for key in sorted({*reset, *less}):
                if key in reset:
                    connection.execute(sa.delete(TallyRow).where(TallyRow.key == key))
                else:
                    one_less = sa.update(TallyRow).where(TallyRow.key == key, TallyRow.number > 0)
                    connection.execute(one_less.values(number=TallyRow.number - 1))

        await self._database.write(work)


def add_event(connection: Connection, event: AuditEvent) -> None:
    """Adds a line to the audit log, in the transaction of what it tells of."""
    connection.execute(
        sa.insert(AuditRow).values(
            at_ms=event.at_ms,
            action=event.action.value,
            outcome=event.outcome,
            user_id=event.user_id,
            session_id=event.session_id,
            address=event.origin.address[:100],
            peer=event.origin.peer[:500],
        )
    )


def _locked_tally(connection: Connection, key: str, now_ms: int) -> Tally:
    """Returns a tally whose row nobody else can count on meanwhile; makes the row if there is none."""
    query = sa.select(TallyRow.window_start_ms, TallyRow.number).where(TallyRow.key == key).with_for_update()
    if (row := connection.execute(query).first()) is None:
        try:
            with connection.begin_nested():
                connection.execute(sa.insert(TallyRow).values(key=key, window_start_ms=now_ms, number=0))
        except IntegrityError:
            pass  # made by another replica at this moment; its row is locked below
        row = connection.execute(query).one()
    return Tally(row.window_start_ms, row.number)
