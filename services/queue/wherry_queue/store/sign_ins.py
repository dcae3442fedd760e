"""What is known of users' sign-ins at sites, and which of their lanes are parked by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError
from wherry_chassis.sql import database_now_ms

from wherry_queue.models import Follower, Job, Link, SignIn, Site, Task, User
from wherry_queue.sign_ins import ChangeKind, SessionChange, SignInNews
from wherry_queue.states import Hold
from wherry_queue.store.lanes import set_hold
from wherry_queue.store.putting_off import release

_FEED = "sessions"
_BATCH = 200


def cursor(connection: Connection) -> int:
    """Returns how far the site service's changes have been followed; 0: not at all.

    Within a transaction nobody else takes news in after this, until its end.
    """
    found = connection.execute(sa.select(Follower.cursor).where(Follower.feed == _FEED).with_for_update())
    return found.scalar_one_or_none() or 0


def apply(connection: Connection, changes: Sequence[SessionChange], cursor: int) -> SignInNews:
    """Takes changes in, in their order, and the cursor that is then reached, which may be a lower one."""
    reached = sa.update(Follower).where(Follower.feed == _FEED).values(cursor=cursor)
    if not connection.execute(reached).rowcount:
        try:
            with connection.begin_nested():
                connection.execute(sa.insert(Follower).values(feed=_FEED, cursor=cursor))
        except IntegrityError:  # another replica has begun at the same moment
            connection.execute(reached)
    latest: dict[str, dict[str, int]] = {}
    for change in changes:
        lives = change.kind in (ChangeKind.SIGNED_IN, ChangeKind.RENEWED)
        latest.setdefault(change.user, {})[change.site] = change.until_ms if lives else 0
    return _joined([learn(connection, user, sessions) for user, sessions in sorted(latest.items())])


def learn(connection: Connection, user: str, sessions: Mapping[str, int]) -> SignInNews:
    """Takes in when a user's sessions end, by site, in milliseconds since the epoch; 0: there is none.

    Their open jobs are parked that need one of those that are not there, and set going that need what is.
    """
    user_id = connection.execute(sa.select(User.id).where(User.name == user)).scalar_one_or_none()
    if user_id is None:
        return SignInNews()
    known = sa.select(Site.id, Site.name).where(Site.name.in_(sessions)).order_by(Site.id)
    return _joined(
        [_learn(connection, user_id, site.id, sessions[site.name]) for site in connection.execute(known).all()]
    )


def remember(connection: Connection, user_id: int, site_id: int, until_ms: int) -> None:
    """Writes down when a user's session at a site ends."""
    done = connection.execute(
        sa.update(SignIn).where(SignIn.user_id == user_id, SignIn.site_id == site_id).values(until_ms=until_ms)
    )
    if not done.rowcount:
        connection.execute(sa.insert(SignIn).values(user_id=user_id, site_id=site_id, until_ms=until_ms))


def expire(connection: Connection) -> SignInNews:
    """Parks what needs sessions that have ended by the database's clock, a few at a time."""
    ended = connection.execute(
        sa.select(SignIn.user_id, SignIn.site_id)
        .where(SignIn.until_ms > 0, SignIn.until_ms <= database_now_ms(connection))
        .order_by(SignIn.user_id, SignIn.site_id)
        .limit(_BATCH)
        .with_for_update()
    ).all()
    return _joined([_learn(connection, row.user_id, row.site_id, 0) for row in ended])


def doubt(connection: Connection, words: Sequence[tuple[int, str]]) -> tuple[SignInNews, list[tuple[str, str]]]:
    """Parks what needs sessions that workers have found ended; returns the news, and the users and sites to ask about.

    Args:
        words: tasks and the sites at which their users are said not to be signed in.
    """
    news: list[SignInNews] = []
    pairs: set[tuple[str, str]] = set()
    for task_id, site in sorted(set(words)):
        row = connection.execute(
            sa.select(User.id, User.name, Site.id.label("site_id"))
            .select_from(Task)
            .join(Job, Job.id == Task.job_id)
            .join(User, User.id == Job.user_id)
            .join(Link, Link.id == Job.link_id)
            .join(Site, sa.or_(Site.id == Link.source_id, Site.id == Link.destination_id))
            .where(Task.id == task_id, Site.name == site)
        ).first()
        if row is not None and (row.name, site) not in pairs:
            pairs.add((row.name, site))
            news.append(_learn(connection, row.id, row.site_id, 0))
    return _joined(news), sorted(pairs)


def parked(connection: Connection, limit: int) -> list[tuple[str, str]]:
    """Returns up to `limit` pairs of user and site for whose sign-in lanes wait; not always the same of more."""
    pairs: set[tuple[str, str]] = set()
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


def _learn(connection: Connection, user_id: int, site_id: int, until_ms: int) -> SignInNews:
    remember(connection, user_id, site_id, until_ms)
    open_jobs: Any = (
        sa.select(Job.id, Job.hold, Link.source_id)
        .join(Link, Link.id == Job.link_id)
        .where(Job.user_id == user_id, Job.ended_ms.is_(None))
        .where(sa.or_(Link.source_id == site_id, Link.destination_id == site_id))
    )
    jobs = connection.execute(open_jobs).all()
    at_source = [row.id for row in jobs if row.source_id == site_id]
    at_destination = [row.id for row in jobs if row.source_id != site_id]
    if not until_ms:
        closed = set_hold(connection, at_source, add=Hold.SOURCE_SIGN_IN)
        closed += set_hold(connection, at_destination, add=Hold.DESTINATION_SIGN_IN)
        return SignInNews(closed=closed)
    opened = set_hold(connection, at_source, remove=Hold.SOURCE_SIGN_IN)
    opened += set_hold(connection, at_destination, remove=Hold.DESTINATION_SIGN_IN)
    too_short = [row.id for row in jobs if row.hold & Hold.TOO_SHORT]
    released = release(connection, too_short, until_ms, database_now_ms(connection))
    return SignInNews(opened=[*opened, *released])


def _joined(news: Sequence[SignInNews]) -> SignInNews:
    return SignInNews(
        [job_id for one in news for job_id in one.opened], [job_id for one in news for job_id in one.closed]
    )
