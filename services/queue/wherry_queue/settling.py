"""What a worker's word about a task means for the task and its job: a pure decision."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from wherry_queue import bitmap
from wherry_queue.states import CHUNKS, DIRECTORY_WORK, WALKS, Outcome, TaskKind, TaskState

MAX_LAPSES = 10
"""A task whose workers keep dying is given up: it may be what kills them."""
SIGN_IN_REASON = "SITE_SESSION_EXPIRED"
SIGN_IN_LOOK_S = 5.0
"""How long a task rests whose worker found a session ended: by then the site service has been asked, and holds the lane
where it is true. Where it is not, the task rests longer each time, up to `SIGN_IN_LOOK_MOST_S`."""
SIGN_IN_LOOK_MOST_S = 20.0
STOPPED_REST_S = 1.0
"""How long a task rests that its worker stopped without being asked to."""
NEVER_RETRIED = frozenset({TaskKind.LIST})
"""Nobody waits for a listing any more once its worker has failed; the caller asks again."""
ALWAYS_RETRIED = frozenset({TaskKind.REMOVE_TEMPORARIES})
"""Nobody would ask for it again: it is given up with its job, when that has become too old."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something did not work; the fields are those of the contract's message."""

    reason: str
    message: str
    party: int = 0
    retryable: bool = False
    help: str = ""

    def as_json(self) -> dict[str, object]:
        """Returns it as it is stored."""
        return {
            "reason": self.reason,
            "message": self.message,
            "party": self.party,
            "retryable": self.retryable,
            "help": self.help,
        }


@dataclass(frozen=True, slots=True)
class FailedEntry:
    """An entry of a chunk that failed in an attempt, or one of a walk that cannot be worked on."""

    index: int
    path: bytes
    size_bytes: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class Settlement:
    """A worker's word about a lease.

    Attributes:
        done: bitmap of the entries done, earlier attempts' included.
        files_done, bytes_done: of this attempt.
        files_unchanged, bytes_unchanged: of `files_done`, those that needed nothing.
        data_channel: how bytes went, as the contract numbers it; 0: none did.
        left_behind: whether temporary files of the task may lie at its destination still.
        retry_after_s: for RETURNED.
        worker: whose word it is, by name.
        thumbprint: of that worker's certificate.
        sign_in_site: for RETURNED because a session has ended: at which site.
    """

    task_id: int
    fence: int
    outcome: Outcome
    failure: Failure | None = None
    done: bytes = b""
    files_done: int = 0
    bytes_done: int = 0
    failures: Sequence[FailedEntry] = ()
    files_unchanged: int = 0
    bytes_unchanged: int = 0
    data_channel: int = 0
    results: bytes = b""
    retry_after_s: float = 0.0
    log: str = ""
    worker: str = ""
    thumbprint: str | None = None
    sign_in_site: str = ""
    left_behind: bool = False

    @property
    def signed_out(self) -> bool:
        """Whether the attempt ended because its user's session at a site has."""
        return self.outcome is Outcome.RETURNED and self.failure is not None and self.failure.reason == SIGN_IN_REASON


class TaskFacts(Protocol):
    """What the decision looks at; `models.Task` has it."""

    @property
    def id(self) -> int: ...  # noqa: D102  # named as in the schema
    @property
    def kind(self) -> int: ...  # noqa: D102
    @property
    def fence(self) -> int: ...  # noqa: D102
    @property
    def tries(self) -> int: ...  # noqa: D102
    @property
    def entry_count(self) -> int: ...  # noqa: D102
    @property
    def total_bytes(self) -> int: ...  # noqa: D102
    @property
    def settled(self) -> bytes | None: ...  # noqa: D102
    @property
    def files_done(self) -> int: ...  # noqa: D102
    @property
    def bytes_done(self) -> int: ...  # noqa: D102
    @property
    def files_failed(self) -> int: ...  # noqa: D102
    @property
    def bytes_failed(self) -> int: ...  # noqa: D102
    @property
    def source_path(self) -> bytes: ...  # noqa: D102
    @property
    def left_behind(self) -> bool: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and after how long a failed task is tried again."""

    attempts: int
    back_off_s: float

    def of_job(self, attempts: int | None) -> RetryPolicy:
        """Returns the policy for a job that asks for so many attempts; None: it does not ask."""
        return self if attempts is None else replace(self, attempts=attempts)

    def delay_s(self, tries: int) -> float:
        """Returns the wait before the next attempt: doubling, at most 15 minutes, with jitter of a quarter."""
        base: float = min(self.back_off_s * 2 ** min(tries - 1, 30), 900.0)
        return base * random.uniform(0.75, 1.25)  # noqa: S311  # spreads rivals, no secret


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of a task, and what to add to its job's counters.

    Attributes:
        delay_s: for DELAYED: when it may run again.
        tries: attempts that failed and counted, from now on.
    """

    state: TaskState
    delay_s: float = 0.0
    tries: int = 0
    settled: bytes = b""
    files_done: int = 0
    bytes_done: int = 0
    files_unchanged: int = 0
    bytes_unchanged: int = 0
    files_failed: int = 0
    bytes_failed: int = 0
    directories_done: int = 0
    directories_failed: int = 0
    failures: Sequence[FailedEntry] = ()
    failure: Failure | None = None
    task_failed: bool = field(default=False)


def decide(task: TaskFacts, settlement: Settlement, *, job_cancelled: bool, policy: RetryPolicy) -> Decision:
    """Returns what a settlement that counts means.

    Entries that are done, or failed for good, are never worked on again; the others are retried together, until the
    attempts are used up.
    """
    chunk = task.kind in CHUNKS
    kept = _keep_done(task, settlement) if chunk else Decision(TaskState.SUCCEEDED, tries=task.tries)
    match settlement.outcome:
        case Outcome.COMPLETED if chunk:
            return _completed_chunk(task, settlement, kept, job_cancelled=job_cancelled, policy=policy)
        case Outcome.COMPLETED:
            done = 1 if task.kind in DIRECTORY_WORK else 0
            return replace(kept, state=TaskState.SUCCEEDED, directories_done=done)
        case Outcome.FAILED:
            failure = settlement.failure or Failure("UNKNOWN", "the worker did not say why")
            return _failed(task, failure, kept, job_cancelled=job_cancelled, policy=policy)
        case Outcome.CANCELLED | Outcome.RETURNED:
            if job_cancelled:
                return replace(kept, state=TaskState.CANCELLED, tries=task.tries)
            if task.kind in NEVER_RETRIED:
                failure = settlement.failure or Failure("LISTING_STOPPED", "the listing was stopped")
                return replace(kept, state=TaskState.FAILED, failure=failure, task_failed=True)
            stopped = settlement.outcome is Outcome.CANCELLED
            rest_s = _look_s(task) if settlement.signed_out else STOPPED_REST_S if stopped else 0.0
            return replace(
                kept,
                state=TaskState.DELAYED,
                delay_s=max(settlement.retry_after_s, rest_s),
                tries=task.tries,
                failure=settlement.failure,
            )


def _look_s(task: TaskFacts) -> float:
    """Returns the rest of a task whose worker found a session ended: doubling with each lease that counted for nothing,
    with jitter of a quarter."""
    vain = max(task.fence - task.tries - 1, 0)
    base = min(SIGN_IN_LOOK_S * 2.0 ** min(vain, 10), SIGN_IN_LOOK_MOST_S)
    return base * random.uniform(0.75, 1.25)  # noqa: S311  # spreads rivals, no secret


def lapse(task: TaskFacts, lapses: int) -> Decision | None:
    """Returns what becomes of a task whose lease has lapsed for the `lapses`th time; None: it is ready again."""
    if task.kind in NEVER_RETRIED:
        failure = Failure("WORKER_LOST", "the worker that listed was lost", party=4, retryable=True, help="Try again.")
    elif lapses >= MAX_LAPSES:
        failure = Failure(
            "WORKER_LOST", f"{lapses} workers were lost while they ran this", party=4, help="Tell your operator."
        )
    else:
        return None
    kept = Decision(TaskState.FAILED, tries=task.tries, settled=task.settled or b"")
    return _give_up(task, failure, kept)


def leaves_behind(task: TaskFacts, settlement: Settlement, decision: Decision) -> bool:
    """Tells whether temporary files of a task may lie at its destination after a settlement.

    Only an attempt that got through its files says by that that earlier ones have left nothing: another may have ended
    before it looked for what they had left.
    """
    through = settlement.outcome is Outcome.COMPLETED and decision.state in (TaskState.SUCCEEDED, TaskState.FAILED)
    return task.kind == TaskKind.COPY_FILES and (settlement.left_behind or (task.left_behind and not through))


def _keep_done(task: TaskFacts, settlement: Settlement) -> Decision:
    """Counts what is done, whatever the outcome: an entry counts once, by its bit."""
    done = bitmap.clipped(settlement.done, task.entry_count)
    before, after = bitmap.count(task.settled), bitmap.count(bitmap.union(task.settled, done))
    files = min(settlement.files_done, after - before)
    bytes_left = task.total_bytes - task.bytes_done - task.bytes_failed
    return Decision(
        TaskState.SUCCEEDED,
        tries=task.tries,
        settled=bitmap.union(task.settled, done),
        files_done=files,
        bytes_done=(landed := min(settlement.bytes_done, bytes_left) if files else 0),
        files_unchanged=min(settlement.files_unchanged, files),
        bytes_unchanged=min(settlement.bytes_unchanged, landed),
    )


def _completed_chunk(
    task: TaskFacts, settlement: Settlement, kept: Decision, *, job_cancelled: bool, policy: RetryPolicy
) -> Decision:
    fresh = [
        e for e in settlement.failures if 0 <= e.index < task.entry_count and not bitmap.contains(kept.settled, e.index)
    ]
    last_try = task.tries + 1 >= policy.attempts
    final = [entry for entry in fresh if last_try or not entry.failure.retryable]
    settled = bitmap.union(kept.settled, None, (entry.index for entry in final))
    kept = replace(
        kept,
        settled=settled,
        failures=final,
        files_failed=len(final),
        bytes_failed=sum(entry.size_bytes for entry in final),
        failure=final[0].failure if final else (fresh[0].failure if fresh else None),
    )
    if bitmap.count(settled) >= task.entry_count:
        failed = bool(final) or task.files_failed > 0
        return replace(kept, state=TaskState.FAILED if failed else TaskState.SUCCEEDED, task_failed=failed)
    if job_cancelled:
        return replace(kept, state=TaskState.CANCELLED)
    if len(fresh) > len(final):
        tries = task.tries + 1
        return replace(kept, state=TaskState.DELAYED, tries=tries, delay_s=policy.delay_s(tries))
    return replace(kept, state=TaskState.DELAYED)  # stopped before the end: the rest goes on at once


def _failed(task: TaskFacts, failure: Failure, kept: Decision, *, job_cancelled: bool, policy: RetryPolicy) -> Decision:
    if job_cancelled:
        return replace(kept, state=TaskState.CANCELLED, failure=failure)
    tries = task.tries + 1
    more = tries < policy.attempts or task.kind in ALWAYS_RETRIED
    if failure.retryable and more and task.kind not in NEVER_RETRIED:
        return replace(kept, state=TaskState.DELAYED, tries=tries, delay_s=policy.delay_s(tries), failure=failure)
    return _give_up(task, failure, replace(kept, tries=tries))


def _give_up(task: TaskFacts, failure: Failure, kept: Decision) -> Decision:
    """Fails a task for good; of a chunk, all that is not done."""
    left = task.entry_count - bitmap.count(kept.settled) if task.kind in CHUNKS else 0
    bytes_left = task.total_bytes - task.bytes_done - kept.bytes_done - task.bytes_failed if left else 0
    entry = FailedEntry(-1, task.source_path, max(bytes_left, 0), failure)
    return replace(
        kept,
        state=TaskState.FAILED,
        failure=failure,
        failures=() if task.kind == TaskKind.LIST else (entry,),
        files_failed=left,
        bytes_failed=max(bytes_left, 0),
        directories_failed=1 if task.kind in WALKS | DIRECTORY_WORK else 0,
        task_failed=True,
    )
