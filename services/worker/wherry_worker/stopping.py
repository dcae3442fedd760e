"""Why an attempt is stopped, and how it is settled then. Pure."""

from __future__ import annotations

from dataclasses import replace

from wherry_worker.engine.messages import Problem
from wherry_worker.work import Outcome, Settlement

#: The queue no longer counts the lease as ours: nothing to clean up, nothing to settle.
LEASE_LOST = "LEASE_LOST"
#: The files that are moving are finished and no other is started; all other reasons stop at once.
JOB_PAUSED = "JOB_PAUSED"
#: The user is no longer signed in at a site of the task's, or not allowed to go on: what is held of theirs is let go.
SIGN_IN_REQUIRED = "SIGN_IN_REQUIRED"
SUSPENDED = "SUSPENDED"
#: The worker itself gives up what has not ended in the time that it was left.
DRAINED = "DRAINED"
SESSION_ENDS = frozenset({SIGN_IN_REQUIRED, SUSPENDED})

_RETURNED = {
    SIGN_IN_REQUIRED: Problem(
        "SIGN_IN_REQUIRED", "The sign-in at a site has ended.", "user", retryable=True, help="Sign in there again."
    ),
    SUSPENDED: Problem("SUSPENDED", "An operator has suspended this work.", "operator", retryable=True),
    DRAINED: Problem("WORKER_DRAINED", "The worker was taken out of service.", "operator", retryable=True),
}


def comes_again(reason: str | None) -> bool:
    """Tells whether another attempt is to go on where one that is stopped for a reason, or for none, has ended."""
    return reason is None or reason in _RETURNED


def as_stopped(settlement: Settlement, reason: str) -> Settlement:
    """Returns how an attempt is settled that was stopped for a reason: what it has done stays done.

    One that had come to its end all the same is settled as it ended.
    """
    if settlement.outcome is Outcome.COMPLETED:
        return settlement
    if reason in _RETURNED:
        return replace(settlement, outcome=Outcome.RETURNED, problem=_RETURNED[reason])
    return replace(settlement, outcome=Outcome.CANCELLED, problem=None)


def never_started(settlement: Settlement) -> Settlement:
    """Returns the settlement of a lease that came when the worker was already being drained."""
    return as_stopped(settlement, DRAINED)
