"""Bans in the database: no work is taken that they are about, and what there is of it is held.

A ban's row comes first, then its jobs are held a few hundred at a time, so that no transaction is long. In between, and
where a job was made beside the ban, the sweep compares what stands in the jobs with what the bans say, and repairs it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError
from wherry_chassis.sql import database_now_ms

from wherry_queue.banning import BanNotFound, BanRecord, SiteSuspended, UserSuspended
from wherry_queue.models import Ban, Job, Link, Site, User
from wherry_queue.states import Hold
from wherry_queue.store import audit
from wherry_queue.store.lanes import change_holds

_OPEN = Job.ended_ms.is_(None)
_HELD = Job.hold != sa.literal_column("0")
"""As in the index of the jobs that are held: a parameter would keep the index from being used."""


def check(connection: Connection, user: str, sites: Collection[str]) -> None:
    """Returns if nothing bans a user (`users/{user}`) or one of the sites (`sites/{site}`).

    Raises:
        UserSuspended, SiteSuspended: with what the operator has to say.
    """
    found = reasons(connection, {user, *sites})
    if user in found:
        raise UserSuspended(explanation=found[user])
    for site in sites:
        if site in found:
            raise SiteSuspended(site=site, explanation=found[site])


def reasons(connection: Connection, subjects: Collection[str]) -> dict[str, str]:
    """Returns, for those of the users and sites that are banned, what the people concerned are told."""
    query = sa.select(Ban.subject, Ban.reason).where(Ban.subject.in_(subjects))
    return {row.subject: row.reason for row in connection.execute(query)}


def create(connection: Connection, actor: str, subject: str, reason: str) -> BanRecord:
    """Bans a user or a site, or changes the reason; `settle` has to hold the jobs, after the commit."""
    changed = sa.update(Ban).where(Ban.subject == subject).values(reason=reason).returning(Ban.__table__)
    row = connection.execute(changed).one_or_none()
    if row is None:
        values = {"subject": subject, "reason": reason, "created_ms": database_now_ms(connection)}
        try:
            with connection.begin_nested():
                row = connection.execute(sa.insert(Ban).values(values).returning(Ban.__table__)).one()
        except IntegrityError:
            row = connection.execute(changed).one()  # somebody else was first
    audit.record(connection, actor, "CreateBan", subject, reason)
    return _record(row)


def delete(connection: Connection, actor: str, ban_id: int) -> BanRecord:
    """Lifts a ban; `settle` has to let the jobs go on, after the commit. Raises BanNotFound."""
    row = connection.execute(sa.delete(Ban).where(Ban.id == ban_id).returning(Ban.__table__)).one_or_none()
    if row is None:
        raise BanNotFound(ban=str(ban_id))
    audit.record(connection, actor, "DeleteBan", row.subject, f"was banned for: {row.reason}")
    return _record(row)


def bans(connection: Connection) -> list[BanRecord]:
    """Returns all bans, newest first."""
    return [_record(row) for row in connection.execute(sa.select(Ban.__table__).order_by(Ban.id.desc()))]


def settle(connection: Connection, limit: int) -> list[int]:
    """Brings open jobs' holds and the bans together, of up to `limit` jobs for each of the reasons.

    Returns the jobs that changed; as long as there are some, there may be more. Those that are held now have running
    tasks to be stopped, of the others there may be something to lease.
    """
    changes: dict[int, tuple[Hold, Hold]] = {}
    for bit, to_hold, to_let_go in _WRONG:
        for job_id in connection.execute(to_hold.limit(limit)).scalars():
            add, remove = changes.get(job_id, (Hold.NOTHING, Hold.NOTHING))
            changes[job_id] = (add | bit, remove)
        for job_id in connection.execute(to_let_go.limit(limit)).scalars():
            add, remove = changes.get(job_id, (Hold.NOTHING, Hold.NOTHING))
            changes[job_id] = (add, remove | bit)
    return change_holds(connection, changes)


def _wrong(bit: Hold, jobs: sa.Select[Any], name: Any) -> tuple[Hold, sa.Select[Any], sa.Select[Any]]:
    """Returns, for a bit of a hold, the query for the jobs that lack it, and the one for those that have it in vain.

    Args:
        jobs: the jobs that the bit can be about, joined with the user or site that has `name`.
    """
    has_it = Job.hold.op("&")(int(bit)) != 0
    banned = sa.select(Ban.id).where(Ban.subject == name).exists()
    jobs = jobs.where(_OPEN).order_by(Job.id)
    return bit, jobs.join(Ban, Ban.subject == name).where(~has_it), jobs.where(_HELD, has_it, ~banned)


_OF_USERS = sa.select(Job.id).join(User, User.id == Job.user_id)
_AT_SOURCE = sa.select(Job.id).join(Link, Link.id == Job.link_id).join(Site, Site.id == Link.source_id)
# At one site there is one reason only, as with sign-ins.
_AT_DESTINATION = (
    sa.select(Job.id)
    .join(Link, Link.id == Job.link_id)
    .join(Site, Site.id == Link.destination_id)
    .where(Link.destination_id != Link.source_id)
)
_WRONG = (
    _wrong(Hold.USER_BANNED, _OF_USERS, User.name),
    _wrong(Hold.SOURCE_BANNED, _AT_SOURCE, Site.name),
    _wrong(Hold.DESTINATION_BANNED, _AT_DESTINATION, Site.name),
)


def _record(row: Any) -> BanRecord:
    return BanRecord(row.id, row.subject, row.reason, row.created_ms)
