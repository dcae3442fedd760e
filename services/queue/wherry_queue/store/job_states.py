"""The states of jobs as conditions on their counters: the same as `states.job_state` says, for lists to filter by."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from wherry_queue.models import Job
from wherry_queue.states import FINISHED, Hold, JobState


def _held(hold: Hold) -> sa.ColumnElement[bool]:
    return Job.hold.op("&")(int(hold)) != 0


_LIVE = sa.and_(Job.tasks_open > 0, ~Job.cancelled)
_WAITS = sa.and_(_held(Hold.SIGN_IN | Hold.TOO_SHORT), Job.tasks_running == 0)
_GOING = sa.and_(_LIVE, ~_held(Hold.PAUSED), ~_WAITS)
_OVER = Job.tasks_open <= 0
_LEFT = sa.and_(Job.cancelled, Job.tasks_cancelled != 0)
_SOME_DONE = sa.case(
    (sa.and_(Job.dry_run, Job.files_total != 0), Job.files_total > Job.files_failed),
    (Job.dry_run, Job.directories_total > Job.directories_failed),
    (Job.files_total != 0, Job.files_done > 0),
    else_=Job.directories_done > 0,
)
_CONDITIONS = {
    JobState.QUEUED: sa.and_(_GOING, Job.started_ms.is_(None)),
    JobState.EXPANDING: sa.and_(_GOING, Job.started_ms.is_not(None), Job.walks_open != 0),
    JobState.RUNNING: sa.and_(_GOING, Job.started_ms.is_not(None), Job.walks_open == 0),
    JobState.PAUSED: sa.and_(_LIVE, _held(Hold.PAUSED)),
    JobState.WAITING_FOR_SIGN_IN: sa.and_(_LIVE, ~_held(Hold.PAUSED), _WAITS),
    JobState.CANCELLING: sa.and_(Job.tasks_open > 0, Job.cancelled),
    JobState.CANCELLED: sa.and_(_OVER, _LEFT),
    JobState.SUCCEEDED: sa.and_(_OVER, ~_LEFT, Job.tasks_failed == 0),
    JobState.PARTIALLY_FAILED: sa.and_(_OVER, ~_LEFT, Job.tasks_failed != 0, _SOME_DONE),
    JobState.FAILED: sa.and_(_OVER, ~_LEFT, Job.tasks_failed != 0, ~_SOME_DONE),
}


def in_states(states: Collection[JobState]) -> sa.ColumnElement[bool]:
    """Returns the condition that a job is in one of the states."""
    return sa.or_(sa.false(), *(_CONDITIONS[state] for state in sorted(states)))


def all_open(states: Collection[JobState]) -> bool:
    """Tells whether only jobs that have not ended can be in these states: there is an index of those."""
    return bool(states) and FINISHED.isdisjoint(states)
