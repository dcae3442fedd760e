"""Limits on how much bulk work runs at once: of a link, of a site in and out, of a user.

A limit's row counts the running tasks that were leased while it stood, and each task remembers against which limits it
is counted (`states.Counted`): exactly these get a place back when it ends, whatever has become of the limit meanwhile.
What has no limit is not counted: everybody would wait for its row, for nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from wherry_queue.models import Lane, Link, Site, Task, User
from wherry_queue.states import Counted, TaskState, WorkClass

_USER: Any = User.__table__
_SITE: Any = Site.__table__
_LINK: Any = Link.__table__
_TASK: Any = Task.__table__


class Kind(StrEnum):
    """What a limit is about."""

    USER = "user"
    SITE_OUT = "site_out"
    SITE_IN = "site_in"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class _Column:
    """Where a limit stands."""

    table: Any
    cap: Any
    inflight: Any
    bit: Counted


_COLUMNS = {
    Kind.USER: _Column(_USER, _USER.c.cap, _USER.c.inflight, Counted.USER),
    Kind.SITE_OUT: _Column(_SITE, _SITE.c.cap_out, _SITE.c.inflight_out, Counted.SITE_OUT),
    Kind.SITE_IN: _Column(_SITE, _SITE.c.cap_in, _SITE.c.inflight_in, Counted.SITE_IN),
    Kind.LINK: _Column(_LINK, _LINK.c.cap, _LINK.c.inflight, Counted.LINK),
}

Key = tuple[Kind, int]
"""A limit: what it is about, and its row's id."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds where an operator has set nothing; None: no limit."""

    user: int | None = None
    site_out: int | None = None
    site_in: int | None = None
    link: int | None = None

    def of(self, kind: Kind) -> int | None:
        """Returns the default of a kind of limit."""
        values: dict[Kind, int | None] = {
            Kind.USER: self.user, Kind.SITE_OUT: self.site_out, Kind.SITE_IN: self.site_in, Kind.LINK: self.link
        }  # fmt: skip
        return values[kind]


NO_LIMITS = Defaults()


def effective(cap: int | None, default: int | None) -> int | None:
    """Returns the limit that holds, None for none, of what stands in a row."""
    limit = default if cap is None else cap
    return None if limit is None or limit < 0 else limit


def has_room(kind: Kind, table: Any, defaults: Defaults) -> sa.ColumnElement[bool]:
    """Returns the condition that a limit lets something more start, on a table or an alias of it."""
    column = _COLUMNS[kind]
    cap, inflight = table.c[column.cap.name], table.c[column.inflight.name]
    default = defaults.of(kind)
    if default is None:
        return sa.or_(cap.is_(None), cap < 0, inflight < cap)
    return sa.or_(cap < 0, inflight < sa.func.coalesce(cap, default))


def rooms(
    connection: Connection, keys: Iterable[Key], defaults: Defaults, users: Collection[int]
) -> dict[Hashable, int]:
    """Locks the rows of those of the limits that limit, and returns how many more tasks each lets start.

    Args:
        users: who will be charged. Where there are limits, they are locked first: users come before sites and links.
    """
    limited = _limited(connection, set(keys), defaults)
    if not limited:
        return {}
    lock_users(connection, users)
    for table in (_SITE, _LINK):
        ids = {row_id for kind, row_id in limited if _COLUMNS[kind].table is table}
        _lock(connection, table, ids)
    found: dict[Hashable, int] = {}
    for kind, column in _COLUMNS.items():
        ids = {row_id for of_kind, row_id in limited if of_kind is kind}
        query = sa.select(column.table.c.id, column.cap, column.inflight).where(column.table.c.id.in_(ids))
        for row_id, cap, inflight in connection.execute(query) if ids else ():
            limit = effective(cap, defaults.of(kind))
            if limit is not None:
                found[kind, row_id] = limit - inflight
    return found


def _limited(connection: Connection, keys: Collection[Key], defaults: Defaults) -> set[Key]:
    """Returns those of the limits that limit, without locking anything: mostly there are none."""
    found: set[Key] = set()
    for kind, column in _COLUMNS.items():
        ids = {row_id for of_kind, row_id in keys if of_kind is kind}
        if not ids:
            continue
        limits = column.cap >= 0 if defaults.of(kind) is None else sa.or_(column.cap.is_(None), column.cap >= 0)
        query = sa.select(column.table.c.id).where(column.table.c.id.in_(ids), limits)
        found.update((kind, row_id) for row_id in connection.execute(query).scalars())
    return found


def lock_users(connection: Connection, users: Collection[int]) -> None:
    """Locks users' rows in their order, before whatever changes several of them more than once."""
    _lock(connection, _USER, users)


def _lock(connection: Connection, table: Any, ids: Collection[int]) -> None:
    if ids:
        query = sa.select(table.c.id).where(table.c.id.in_(ids)).order_by(table.c.id)
        connection.execute(query.with_for_update(key_share=True)).all()


def bits(keys: Iterable[Key]) -> Counted:
    """Returns what a task remembers that counts against the limits."""
    counted = Counted(0)
    for kind, _ in keys:
        counted |= _COLUMNS[kind].bit
    return counted


def take(connection: Connection, taken: Mapping[Key, int]) -> None:
    """Counts tasks that start against limits; `rooms` has locked them."""
    _add(connection, taken, 1)


def give_back(connection: Connection, tasks: Iterable[Any]) -> None:
    """Gives the places of tasks back that no longer run.

    Args:
        tasks: rows with `counted`, `user_id`, `source_id`, `destination_id` and `link_id`.
    """
    freed: Counter[Key] = Counter()
    for task in tasks:
        if not task.counted:
            continue
        ends = {
            Kind.USER: task.user_id, Kind.SITE_OUT: task.source_id, Kind.SITE_IN: task.destination_id,
            Kind.LINK: task.link_id,
        }  # fmt: skip
        for kind, column in _COLUMNS.items():
            if task.counted & column.bit:
                freed[kind, ends[kind]] += 1
    _add(connection, freed, -1)


def _add(connection: Connection, changes: Mapping[Key, int], sign: int) -> None:
    """Changes what is counted, table by table, each by ascending id; a site's two limits stand in one row."""
    for table in (_USER, _SITE, _LINK):
        by_row: dict[int, dict[str, Any]] = {}
        for (kind, row_id), count in changes.items():
            column = _COLUMNS[kind]
            if column.table is table and count:
                by_row.setdefault(row_id, {})[column.inflight.name] = column.inflight + sign * count
        for row_id, values in sorted(by_row.items(), key=lambda one: one[0]):
            connection.execute(sa.update(table).where(table.c.id == row_id).values(values))


@dataclass(frozen=True, slots=True)
class LimitRow:
    """A limit as it stands.

    Attributes:
        cap: as in its row: None: the deployment's default; below 0: no limit.
        in_use: running tasks that are counted against it.
    """

    kind: Kind
    row_id: int
    cap: int | None
    in_use: int


def set_cap(connection: Connection, kind: Kind, row_id: int, cap: int | None, defaults: Defaults) -> LimitRow:
    """Sets a limit. What runs already and was not counted against it is from now on, so that it holds at once."""
    column = _COLUMNS[kind]
    running: Sequence[int] = ()
    if effective(cap, defaults.of(kind)) is not None:
        running = _uncounted(connection, kind, row_id)
        if running:
            connection.execute(
                sa.update(_TASK).where(_TASK.c.id.in_(running)).values(counted=_TASK.c.counted.op("|")(int(column.bit)))
            )
    row = connection.execute(
        sa.update(column.table)
        .where(column.table.c.id == row_id)
        .values({column.cap.name: cap, column.inflight.name: column.inflight + len(running)})
        .returning(column.cap, column.inflight)
    ).one()
    return LimitRow(kind, row_id, row[0], row[1])


def count_missed(connection: Connection, defaults: Defaults) -> None:
    """Counts what a lease that was under way while a limit was set has started without counting it."""
    for row in set_ones(connection):
        if effective(row.cap, defaults.of(row.kind)) is not None and _uncounted(connection, row.kind, row.row_id):
            set_cap(connection, row.kind, row.row_id, row.cap, defaults)


def _uncounted(connection: Connection, kind: Kind, row_id: int) -> Sequence[int]:
    """Locks and returns the bulk tasks that run and would count against a limit, but are not counted."""
    ends = {
        Kind.USER: Lane.user_id, Kind.SITE_OUT: Link.source_id, Kind.SITE_IN: Link.destination_id, Kind.LINK: Link.id
    }  # fmt: skip
    bit = int(_COLUMNS[kind].bit)
    return (
        connection.execute(
            sa.select(Task.id)
            .join(Lane, Lane.id == Task.lane_id)
            .join(Link, Link.id == Lane.link_id)
            .where(Task.state == TaskState.RUNNING, Lane.work_class == WorkClass.BULK, ends[kind] == row_id)
            .where(Task.counted.op("&")(bit) == 0)
            .order_by(Task.id)
            .with_for_update(of=Task)
        )
        .scalars()
        .all()
    )


def set_ones(connection: Connection) -> list[LimitRow]:
    """Returns the limits that operators have set."""
    found = []
    for kind, column in _COLUMNS.items():
        query = sa.select(column.table.c.id, column.cap, column.inflight).where(column.cap.is_not(None))
        found += [
            LimitRow(kind, row[0], row[1], row[2]) for row in connection.execute(query.order_by(column.table.c.id))
        ]
    return found
