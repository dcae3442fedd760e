"""Which lanes are looked at for a lease: a few of each of the users whose turn is nearest."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from wherry_queue.models import Lane, Link, SignIn, Site, User
from wherry_queue.states import WorkClass
from wherry_queue.store.lanes import ACTIVE
from wherry_queue.store.limits import Defaults, Kind, has_room

_LEAST_LANES = 4
_SPARE = 4
"""A user gets so many times their even part of the lanes: the others may have less to do than that."""

_BLOCKED = 100
"""So many users behind limits are looked at in one lease."""

_LANE: Any = Lane.__table__
_USER: Any = User.__table__
_LINK: Any = Link.__table__
_SOURCE: Any = Site.__table__.alias("source")
_DESTINATION: Any = Site.__table__.alias("destination")
_AT_SOURCE: Any = SignIn.__table__.alias("at_source")
_AT_DESTINATION: Any = SignIn.__table__.alias("at_destination")


@dataclass(slots=True)
class Candidate:
    """A lane, locked, with its user's share and what it is limited by.

    Attributes:
        bytes_per_second: of one task on its link; None: not known.
        source_until_ms, destination_until_ms: ends of the user's sessions there; None: not known.
    """

    id: int
    job_id: int
    user_id: int
    link_id: int
    source_id: int
    destination_id: int
    priority: int
    rank: float
    head: int
    pending: int
    vtime: float
    weight: float
    bytes_per_second: float | None
    source_until_ms: int | None
    destination_until_ms: int | None


def candidates(
    connection: Connection, work_class: WorkClass, want: int, defaults: Defaults, without: Collection[int] = ()
) -> list[Candidate]:
    """Locks and returns lanes out of which `want` tasks can be leased fairly; others' locked ones are passed over.

    Users first, by their virtual time, and only those with a lane that may go; then some lanes of each. Lanes in the
    order of their users alone would give a user with many lanes the whole of a lease.

    Args:
        without: lanes that have been looked at in vain.
    """
    users = _users(connection, work_class, want, defaults, without)
    if not users:
        return []
    each = min(want, max(_LEAST_LANES, -(-_SPARE * want // len(users))))
    if connection.dialect.name == "postgresql":
        some = sa.select(_USER.c.id, _USER.c.vtime, _USER.c.weight).where(_USER.c.id.in_(users)).subquery("some")
        # A locking clause does not reach into a lateral's outer joins: sign-ins are joined outside.
        of_user = (
            _lanes(work_class, defaults, without)
            .where(_LANE.c.user_id == some.c.id)
            .order_by(_LANE.c.rank, _LANE.c.id)
            .limit(each)
            .with_for_update(of=_LANE, skip_locked=True, key_share=True)
            .lateral("of_user")
        )
        rows: Sequence[Any] = connection.execute(
            _with_sign_ins(sa.select(of_user, some.c.vtime, some.c.weight), some.join(of_user, sa.true()), of_user)
        ).all()
    else:
        query = _of_user(_lanes(work_class, defaults, without), each)
        rows = [row for user_id in users for row in connection.execute(query, {"user": user_id})]
    return [Candidate(**row._mapping) for row in rows]


def blocked_users(connection: Connection, work_class: WorkClass, below: float, defaults: Defaults) -> Sequence[int]:
    """Locks and returns users of a virtual time below another who have something to lease, all of it behind limits."""
    may_go = _lanes(work_class, defaults).where(_LANE.c.user_id == _USER.c.id).exists()
    query = (
        sa.select(_USER.c.id)
        .where(ACTIVE[work_class] > 0, _USER.c.vtime < below, sa.or_(~may_go, ~has_room(Kind.USER, _USER, defaults)))
        .order_by(_USER.c.vtime, _USER.c.id)
        .limit(_BLOCKED)
        .with_for_update(key_share=True, skip_locked=True)
    )
    return connection.execute(query).scalars().all()


def _of_user(lanes: sa.Select[Any], each: int) -> sa.Select[Any]:
    """Returns the query for one user's first lanes: built once, since to build it costs more than to run it."""
    of_user = (
        lanes.where(_LANE.c.user_id == sa.bindparam("user"))
        .order_by(_LANE.c.rank, _LANE.c.id)
        .limit(each)
        .subquery("of_user")
    )
    some = of_user.join(_USER, _USER.c.id == of_user.c.user_id)
    return _with_sign_ins(sa.select(of_user, _USER.c.vtime, _USER.c.weight), some, of_user)


def _users(
    connection: Connection, work_class: WorkClass, want: int, defaults: Defaults, without: Collection[int]
) -> list[int]:
    active = ACTIVE[work_class]
    query = (
        sa.select(_USER.c.id)
        .where(active > 0, _lanes(work_class, defaults, without).where(_LANE.c.user_id == _USER.c.id).exists())
        .order_by(_USER.c.vtime, _USER.c.id)
        .limit(want)
    )
    if work_class is WorkClass.BULK:
        query = query.where(has_room(Kind.USER, _USER, defaults))
    return list(connection.execute(query).scalars())


def _lanes(work_class: WorkClass, defaults: Defaults, without: Collection[int] = ()) -> sa.Select[Any]:
    """Returns the query for lanes that may go: not held, with something pending, and with room on their way."""
    query = (
        sa.select(
            _LANE.c.id, _LANE.c.job_id, _LANE.c.user_id, _LANE.c.link_id, _LINK.c.source_id, _LINK.c.destination_id,
            _LANE.c.priority, _LANE.c.rank, _LANE.c.head, _LANE.c.pending, _LINK.c.bytes_per_second,
        )
        .join(_LINK, _LINK.c.id == _LANE.c.link_id)
        .where(_LANE.c.work_class == work_class, _LANE.c.hold == 0, _LANE.c.pending > 0)
    )  # fmt: skip
    if without:
        query = query.where(_LANE.c.id.not_in(without))
    if work_class is not WorkClass.BULK:
        return query
    return (
        query.join(_SOURCE, _SOURCE.c.id == _LINK.c.source_id)
        .join(_DESTINATION, _DESTINATION.c.id == _LINK.c.destination_id)
        .where(
            has_room(Kind.LINK, _LINK, defaults),
            has_room(Kind.SITE_OUT, _SOURCE, defaults),
            has_room(Kind.SITE_IN, _DESTINATION, defaults),
        )
    )


def _with_sign_ins(query: sa.Select[Any], joined: Any, of_user: Any) -> sa.Select[Any]:
    """Joins what is known of the user's sessions at both ends."""
    return query.add_columns(
        _AT_SOURCE.c.until_ms.label("source_until_ms"), _AT_DESTINATION.c.until_ms.label("destination_until_ms")
    ).select_from(
        joined.outerjoin(
            _AT_SOURCE, sa.and_(_AT_SOURCE.c.user_id == of_user.c.user_id, _AT_SOURCE.c.site_id == of_user.c.source_id)
        ).outerjoin(
            _AT_DESTINATION,
            sa.and_(
                _AT_DESTINATION.c.user_id == of_user.c.user_id,
                _AT_DESTINATION.c.site_id == of_user.c.destination_id,
            ),
        )
    )
