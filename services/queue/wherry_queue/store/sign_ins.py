"""What is known of users' sign-ins at sites, and which of their lanes are parked by it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError
from wherry_chassis.sql import database_now_ms

from wherry_queue.models import Base, Follower, Job, Link, SignIn, Site, Task, User
from wherry_queue.sign_ins import ChangeKind, Pair, SessionChange, SignInNews
from wherry_queue.states import Hold
from wherry_queue.store.lanes import change_holds, lock
from wherry_queue.store.putting_off import release

_FEED = "sessions"
_BATCH = 200
_OPEN_JOBS = (
    sa.select(Job.id, Job.hold, Link.source_id)
    .join(Link, Link.id == Job.link_id)
    .where(Job.user_id == sa.bindparam("user"), Job.ended_ms.is_(None))
    .where(sa.or_(Link.source_id == sa.bindparam("site"), Link.destination_id == sa.bindparam("site")))
)


def cursor(connection: Connection) -> int:
    """Returns how far the site service's changes have been followed; 0: not at all.

    Within a transaction nobody else takes news in after this, until its end.
    """
    found = connection.execute(sa.select(Follower.cursor).where(Follower.feed == _FEED).with_for_update())
    return found.scalar_one_or_none() or 0


def apply(connection: Connection, changes: Sequence[SessionChange], cursor: int) -> SignInNews:
    """Takes changes in, in their order, and the cursor that is then reached, which may be a lower one."""
    _put(connection, Follower, {"feed": _FEED}, {"cursor": cursor})
    latest: dict[Pair, int] = {}
    for change in changes:
        lives = change.kind in (ChangeKind.SIGNED_IN, ChangeKind.RENEWED)
        latest[change.user, change.site] = change.until_ms if lives else 0
    return _learn(connection, _by_id(connection, latest))


def learn(connection: Connection, user: str, sessions: Mapping[str, int]) -> SignInNews:
    """Takes in when a user's sessions end, by site, in milliseconds since the epoch; 0: there is none.

    Their open jobs are parked that need one of those that are not there, and set going that need what is.
    """
    return _learn(connection, _by_id(connection, {(user, site): until_ms for site, until_ms in sessions.items()}))


def remember(connection: Connection, user_id: int, site_id: int, until_ms: int) -> None:
    """Writes down when a user's session at a site ends."""
    _put(connection, SignIn, {"user_id": user_id, "site_id": site_id}, {"until_ms": until_ms})


def expire(connection: Connection) -> SignInNews:
    """Parks what needs sessions that have ended by the database's clock, a few at a time."""
    ended = connection.execute(
        sa.select(SignIn.user_id, SignIn.site_id)
        .where(SignIn.until_ms > 0, SignIn.until_ms <= database_now_ms(connection))
        .order_by(SignIn.user_id, SignIn.site_id)
        .limit(_BATCH)
        .with_for_update()
    ).all()
    return _learn(connection, {(row.user_id, row.site_id): 0 for row in ended})


def doubted(connection: Connection, words: Sequence[tuple[int, str]]) -> list[Pair]:
    """Returns whose sessions workers have found ended, and at which sites; nothing is changed by their word alone.

    Args:
        words: tasks and the sites at which their users are said not to be signed in. A site that is neither of the
            task's is left out: it is none that its worker has been at.
    """
    pairs: set[Pair] = set()
    for task_id, site in sorted(set(words)):
        row = connection.execute(
            sa.select(User.name)
            .select_from(Task)
            .join(Job, Job.id == Task.job_id)
            .join(User, User.id == Job.user_id)
            .join(Link, Link.id == Job.link_id)
            .join(Site, sa.or_(Site.id == Link.source_id, Site.id == Link.destination_id))
            .where(Task.id == task_id, Site.name == site)
        ).first()
        if row is not None:
            pairs.add((row.name, site))
    return sorted(pairs)


def parked(connection: Connection, limit: int) -> list[Pair]:
    """Returns up to `limit` pairs of user and site for whose sign-in lanes wait; not always the same of more."""
    pairs: set[Pair] = set()
    for bit, end in ((Hold.SOURCE_SIGN_IN, Link.source_id), (Hold.DESTINATION_SIGN_IN, Link.destination_id)):
        query = (
            sa.select(User.name, Site.name.label("site"))
            .select_from(Job)
            .join(User, User.id == Job.user_id)
            .join(Link, Link.id == Job.link_id)
            .join(Site, Site.id == end)
            .where(Job.ended_ms.is_(None), Job.hold != 0, Job.hold.op("&")(int(bit)) != 0)
            .distinct()
            .subquery()
        )
        some = sa.select(query).order_by(sa.func.random()).limit(limit)
        pairs |= {(row.name, row.site) for row in connection.execute(some)}
    return sorted(pairs)[:limit]


def _learn(connection: Connection, sessions: Mapping[tuple[int, int], int]) -> SignInNews:
    """Takes in when sessions end, by user's and site's id; all lanes that it concerns are changed together."""
    changes: dict[int, tuple[Hold, Hold]] = {}
    for (user_id, site_id), until_ms in sorted(sessions.items()):
        remember(connection, user_id, site_id, until_ms)
        for job in connection.execute(_OPEN_JOBS, {"user": user_id, "site": site_id}):
            bit = Hold.SOURCE_SIGN_IN if job.source_id == site_id else Hold.DESTINATION_SIGN_IN
            add, remove = changes.get(job.id, (Hold.NOTHING, Hold.NOTHING))
            freed = bit | (job.hold & Hold.TOO_SHORT)
            changes[job.id] = (add, remove | freed) if until_ms else (add | bit, remove)
    lock(connection, *changes)
    renewed = [job_id for job_id, (_, remove) in changes.items() if remove]
    too_short = release(connection, renewed, database_now_ms(connection))
    changed = change_holds(connection, changes)
    closed = [job_id for job_id in changed if changes[job_id][0]]
    return SignInNews(sorted(too_short.union(changed).difference(closed)), closed)


def _by_id(connection: Connection, sessions: Mapping[Pair, int]) -> dict[tuple[int, int], int]:
    """Returns the same by ids, of users and sites that work has named."""
    users = _ids(connection, User, {user for user, _ in sessions})
    sites = _ids(connection, Site, {site for _, site in sessions})
    return {
        (users[user], sites[site]): until_ms
        for (user, site), until_ms in sessions.items()
        if user in users and site in sites
    }


def _ids(connection: Connection, table: type[User] | type[Site], names: Collection[str]) -> dict[str, int]:
    rows = connection.execute(sa.select(table.id, table.name).where(table.name.in_(names)))
    return {row.name: row.id for row in rows}


def _put(connection: Connection, table: type[Base], key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Writes a row's values; makes the row, unless somebody else does at the same time."""
    change = sa.update(table).filter_by(**key).values(**values)
    if connection.execute(change).rowcount:
        return
    try:
        with connection.begin_nested():
            connection.execute(sa.insert(table).values(**key, **values))
    except IntegrityError:
        connection.execute(change)  # somebody else was first
