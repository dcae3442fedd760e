"""Gathers why jobs of one user wait: a bounded number of statements for all of them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from wherry_queue.models import Ban, Lane, Link, Replica, SignIn, Site, Task, User, Worker
from wherry_queue.states import FINISHED, Hold, JobState, TaskState, job_state
from wherry_queue.store.limits import NO_LIMITS, Defaults, Kind, effective
from wherry_queue.store.line import line_of
from wherry_queue.waiting import Crowd, Facts, Limit, LimitKind, Reason, reason_of


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a replica knows beside the database.

    Attributes:
        defaults: the limits where an operator has set none.
        has_workers: whether a worker is connected to it; the others' are in the database, some seconds later.
    """

    defaults: Defaults = NO_LIMITS
    has_workers: bool = False


NOTHING_KNOWN = Circumstances()

_SOURCE: Any = Site.__table__.alias("source")
_DESTINATION: Any = Site.__table__.alias("destination")
_AT_SOURCE: Any = SignIn.__table__.alias("at_source")
_AT_DESTINATION: Any = SignIn.__table__.alias("at_destination")
_LANES = (
    sa.select(
        Lane.job_id, Lane.user_id, Lane.pending,
        _SOURCE.c.name.label("source"), _SOURCE.c.cap_out, _SOURCE.c.inflight_out,
        _DESTINATION.c.name.label("destination"), _DESTINATION.c.cap_in, _DESTINATION.c.inflight_in,
        Link.cap.label("link_cap"), Link.inflight.label("link_inflight"),
        User.name.label("user"), User.cap.label("user_cap"), User.inflight.label("user_inflight"), User.weight,
        _AT_SOURCE.c.until_ms.label("source_until_ms"), _AT_DESTINATION.c.until_ms.label("destination_until_ms"),
    )
    .join(User, User.id == Lane.user_id)
    .join(Link, Link.id == Lane.link_id)
    .join(_SOURCE, _SOURCE.c.id == Link.source_id)
    .join(_DESTINATION, _DESTINATION.c.id == Link.destination_id)
    .outerjoin(_AT_SOURCE, sa.and_(_AT_SOURCE.c.user_id == Lane.user_id, _AT_SOURCE.c.site_id == Link.source_id))
    .outerjoin(
        _AT_DESTINATION,
        sa.and_(_AT_DESTINATION.c.user_id == Lane.user_id, _AT_DESTINATION.c.site_id == Link.destination_id),
    )
    .where(Lane.job_id.in_(sa.bindparam("ids", expanding=True)))
)  # fmt: skip
_RETRIES = (
    sa.select(Task.job_id, sa.func.min(Task.not_before_ms).label("due_ms"))
    .where(Task.job_id.in_(sa.bindparam("ids", expanding=True)), Task.state == TaskState.DELAYED)
    .group_by(Task.job_id)
)
_CROWD = sa.select(sa.func.count(), sa.func.sum(User.weight)).where(User.active_bulk > 0)
_LINE = line_of(sa.bindparam("user")).subquery("line")
_PLACES_OF = sa.select(_LINE.c.job_id, _LINE.c.place).where(_LINE.c.job_id.in_(sa.bindparam("ids", expanding=True)))


def reasons(connection: Connection, jobs: Sequence[Any], here: Circumstances, now_ms: int) -> dict[int, Reason]:
    """Returns why those of a user's jobs wait that do, by id.

    Args:
        jobs: `models.Job`'s columns, at most some thousands, all of one user.
    """
    states = {job.id: job_state(job) for job in jobs}
    open_jobs = [job for job in jobs if states[job.id] not in FINISHED and not (job.tasks_running and not job.hold)]
    ids = [job.id for job in open_jobs if states[job.id] is not JobState.CANCELLING]
    if not ids:
        return {}
    lanes = {row.job_id: row for row in connection.execute(_LANES, {"ids": ids})}
    retries = {row.job_id: row.due_ms for row in connection.execute(_RETRIES, {"ids": ids})}
    bans = _bans(connection, open_jobs, lanes)
    in_line = [job_id for job_id, lane in lanes.items() if lane.pending]
    places, crowd = _line(connection, lanes, in_line)
    has_workers = here.has_workers or _any_worker(connection, now_ms)
    found: dict[int, Reason] = {}
    for job in open_jobs:
        if (lane := lanes.get(job.id)) is None:
            continue
        facts = Facts(
            state=states[job.id],
            hold=Hold(job.hold),
            source=lane.source,
            destination=lane.destination,
            running=job.tasks_running,
            source_until_ms=lane.source_until_ms,
            destination_until_ms=lane.destination_until_ms,
            ban=_ban_of(Hold(job.hold), lane, bans),
            pending=lane.pending,
            retry_ms=retries.get(job.id),
            limits=_limits(lane, here.defaults),
            has_workers=has_workers,
            position=places.get(job.id, 0),
            weight=lane.weight,
            crowd=crowd,
        )
        if (reason := reason_of(facts)) is not None:
            found[job.id] = reason
    return found


def _limits(lane: Any, defaults: Defaults) -> list[Limit]:
    """Returns the limits that hold for a lane, the narrowest first."""
    all_of_them = (
        (LimitKind.LINK, f"{lane.source} {lane.destination}", Kind.LINK, lane.link_cap, lane.link_inflight),
        (LimitKind.SITE, f"{lane.source} out", Kind.SITE_OUT, lane.cap_out, lane.inflight_out),
        (LimitKind.SITE, f"{lane.destination} in", Kind.SITE_IN, lane.cap_in, lane.inflight_in),
        (LimitKind.USER, "users/me", Kind.USER, lane.user_cap, lane.user_inflight),
    )
    return [
        Limit(kind, subject, limit, in_use)
        for kind, subject, of, cap, in_use in all_of_them
        if (limit := effective(cap, defaults.of(of))) is not None
    ]


def _bans(connection: Connection, jobs: Sequence[Any], lanes: Mapping[int, Any]) -> dict[str, str]:
    """Returns the reasons of the bans that may hold any of the jobs, by subject."""
    subjects: set[str] = set()
    for job in jobs:
        if job.hold & Hold.BANNED and (lane := lanes.get(job.id)) is not None:
            subjects |= {lane.user, lane.source, lane.destination}
    if not subjects:
        return {}
    rows = connection.execute(sa.select(Ban.subject, Ban.reason).where(Ban.subject.in_(sorted(subjects))))
    return {row.subject: row.reason for row in rows}


def _ban_of(hold: Hold, lane: Any, bans: Mapping[str, str]) -> tuple[str, str] | None:
    """Returns an operator's words, and the site where it is one's."""
    for bit, subject, site in (
        (Hold.USER_BANNED, lane.user, ""),
        (Hold.SOURCE_BANNED, lane.source, lane.source),
        (Hold.DESTINATION_BANNED, lane.destination, lane.destination),
    ):
        if hold & bit:
            return bans.get(subject, ""), site
    return None


def _line(connection: Connection, lanes: Mapping[int, Any], in_line: Sequence[int]) -> tuple[dict[int, int], Crowd]:
    """Returns the places of jobs among their owner's, and who else waits."""
    if not in_line:
        return {}, Crowd()
    user_id = lanes[in_line[0]].user_id
    places = {row.job_id: row.place for row in connection.execute(_PLACES_OF, {"user": user_id, "ids": in_line})}
    users, weights = connection.execute(_CROWD).one()
    return places, Crowd(users, weights or 0.0)


def _any_worker(connection: Connection, now_ms: int) -> bool:
    """Tells whether a worker is connected to any replica that lives."""
    query = (
        sa.select(Worker.id)
        .join(Replica, Replica.id == Worker.replica_id)
        .where(Replica.until_ms > now_ms, Worker.bulk_places > 0, ~Worker.draining)
        .limit(1)
    )
    return connection.execute(query).one_or_none() is not None
