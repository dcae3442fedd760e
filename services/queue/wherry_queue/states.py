"""The states and kinds of jobs and tasks, and how a job's state follows from its counters.

The numbers are those of the contract and of the database.
"""

from __future__ import annotations

import enum
from typing import Protocol


class WorkClass(enum.IntEnum):
    """How urgent a task is."""

    INTERACTIVE = 1
    BULK = 2


CLEAN_UP = 3
"""What a job has in the place of a work class that removes what copies left behind. It is leased as bulk work, and is
no job to anybody: its user does not see it, nor is it in what is told of jobs."""


def leased_as(work_class: int) -> WorkClass:
    """Returns the class of a job's lanes and tasks."""
    return WorkClass.BULK if work_class == CLEAN_UP else WorkClass(work_class)


class TaskKind(enum.IntEnum):
    """What a task does."""

    WALK_COPY = 1
    WALK_REMOVE = 2
    COPY_FILES = 3
    REMOVE_FILES = 4
    REMOVE_DIRECTORY = 5
    MAKE_DIRECTORY = 6
    RENAME = 7
    LIST = 8
    WALK_CHANGE_MODE = 9
    CHANGE_MODE_OF_FILES = 10
    CHANGE_MODE_OF_DIRECTORY = 11
    WALK_CHECKSUM = 12
    CHECKSUM_FILES = 13
    REMOVE_TEMPORARIES = 14


WALKS = frozenset({TaskKind.WALK_COPY, TaskKind.WALK_REMOVE, TaskKind.WALK_CHANGE_MODE, TaskKind.WALK_CHECKSUM})
CHUNKS = frozenset({TaskKind.COPY_FILES, TaskKind.REMOVE_FILES, TaskKind.CHANGE_MODE_OF_FILES, TaskKind.CHECKSUM_FILES})
UNMOVING = frozenset({TaskKind.REMOVE_FILES, TaskKind.CHANGE_MODE_OF_FILES})
"""Chunks whose files may be as large as they like: nothing of them is moved or read."""
DIRECTORY_WORK = frozenset({TaskKind.REMOVE_DIRECTORY, TaskKind.MAKE_DIRECTORY, TaskKind.CHANGE_MODE_OF_DIRECTORY})


class TaskState(enum.IntEnum):
    """Where a task stands."""

    READY = 1
    RUNNING = 2
    BLOCKED = 3
    DELAYED = 4
    SUCCEEDED = 5
    FAILED = 6
    CANCELLED = 7
    PLANNED = 8
    """Of a dry run: it would be done, and never is."""


def first_state(kind: TaskKind, phase: int, *, open_phase: int, dry_run: bool) -> TaskState:
    """Returns in which state a task begins, or goes on when its phase is opened."""
    if phase > open_phase:
        return TaskState.BLOCKED
    return TaskState.PLANNED if dry_run and kind not in WALKS else TaskState.READY


ENDED = frozenset({TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED, TaskState.PLANNED})


class Hold(enum.IntFlag):
    """Why nothing of a lane may be leased; it may again when all of these have gone."""

    NOTHING = 0
    PAUSED = 1
    """Its owner has said so."""
    CANCELLED = 2
    """It never may again, unless it is retried."""
    SOURCE_SIGN_IN = 4
    """Its owner is not signed in at the source, or not for long enough."""
    DESTINATION_SIGN_IN = 8
    """The same of the destination, where that is another site."""
    USER_BANNED = 16
    SOURCE_BANNED = 32
    DESTINATION_BANNED = 64
    TOO_SHORT = 128
    """Of a job only, never of a lane: tasks of it wait for a longer session, since they would not end within this."""
    SITES_UNKNOWN = 256
    """It was accepted while nobody could be asked about its sites; nothing of it has ever run."""

    SIGN_IN = SOURCE_SIGN_IN | DESTINATION_SIGN_IN
    BANNED = USER_BANNED | SOURCE_BANNED | DESTINATION_BANNED


def stop_reason(hold: Hold, *, cancelled: bool) -> str:
    """Returns with which word running tasks of a job are stopped; empty: they are not."""
    if cancelled:
        return "JOB_CANCELLED"
    if hold & Hold.BANNED:
        return "SUSPENDED"
    if hold & Hold.SIGN_IN:
        return "SIGN_IN_REQUIRED"
    return "JOB_PAUSED" if hold & Hold.PAUSED else ""


class Counted(enum.IntFlag):
    """The limits against which a running task is counted."""

    LINK = 1
    SITE_OUT = 2
    SITE_IN = 4
    USER = 8


class JobState(enum.IntEnum):
    """Where a job stands; derived, never stored."""

    QUEUED = 1
    EXPANDING = 2
    RUNNING = 3
    PAUSED = 4
    WAITING_FOR_SIGN_IN = 5
    CANCELLING = 6
    CANCELLED = 7
    SUCCEEDED = 8
    PARTIALLY_FAILED = 9
    FAILED = 10


FINISHED = frozenset({JobState.CANCELLED, JobState.SUCCEEDED, JobState.PARTIALLY_FAILED, JobState.FAILED})


class Outcome(enum.IntEnum):
    """How an attempt ended, in a worker's words."""

    COMPLETED = 1
    FAILED = 2
    CANCELLED = 3
    RETURNED = 4


class JobCounters(Protocol):
    """What a job's state follows from; `models.Job` has it."""

    @property
    def cancelled(self) -> bool: ...  # noqa: D102  # named as in the schema
    @property
    def hold(self) -> int: ...  # noqa: D102
    @property
    def started_ms(self) -> int | None: ...  # noqa: D102
    @property
    def tasks_open(self) -> int: ...  # noqa: D102
    @property
    def tasks_running(self) -> int: ...  # noqa: D102
    @property
    def tasks_failed(self) -> int: ...  # noqa: D102
    @property
    def tasks_cancelled(self) -> int: ...  # noqa: D102
    @property
    def walks_open(self) -> int: ...  # noqa: D102
    @property
    def files_total(self) -> int: ...  # noqa: D102
    @property
    def files_done(self) -> int: ...  # noqa: D102
    @property
    def files_failed(self) -> int: ...  # noqa: D102
    @property
    def directories_total(self) -> int: ...  # noqa: D102
    @property
    def directories_done(self) -> int: ...  # noqa: D102
    @property
    def directories_failed(self) -> int: ...  # noqa: D102
    @property
    def dry_run(self) -> bool: ...  # noqa: D102


def job_state(job: JobCounters) -> JobState:
    """Returns the state that a job's counters mean; a job with an open task never reads as finished."""
    if job.tasks_open > 0:
        if job.cancelled:
            return JobState.CANCELLING
        if job.hold & Hold.PAUSED:
            return JobState.PAUSED
        if job.hold & (Hold.SIGN_IN | Hold.TOO_SHORT) and job.tasks_running == 0:
            return JobState.WAITING_FOR_SIGN_IN
        if job.started_ms is None:
            return JobState.QUEUED
        return JobState.EXPANDING if job.walks_open else JobState.RUNNING
    if job.cancelled and job.tasks_cancelled:
        return JobState.CANCELLED
    if not job.tasks_failed:
        return JobState.SUCCEEDED
    if job.dry_run:
        # As the job itself would end, as far as that is known: what is planned counts as done.
        files, directories = job.files_total - job.files_failed, job.directories_total - job.directories_failed
    else:
        files, directories = job.files_done, job.directories_done
    some_done = files if job.files_total else directories
    return JobState.PARTIALLY_FAILED if some_done > 0 else JobState.FAILED
