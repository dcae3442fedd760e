"""What must be true of a queue's store after a known history, kept beside it: the model of the stateful tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from wherry_chassis.sql import database_now_ms
from wherry_queue.models import Job, Link, Site, Task, User
from wherry_queue.sign_ins import LEAST_REST_MS, fits
from wherry_queue.states import CHUNKS, FINISHED, UNMOVING, WALKS, Hold, JobState, TaskState, WorkClass, job_state
from wherry_queue.store.leases import LeasedTask
from wherry_queue.store.limits import Defaults, Key, Kind, effective

_TASKS = sa.select(
    Task.id, Task.job_id, Task.kind, Task.state, Task.fence, Task.settled, Task.settled_fence, Task.files_done,
    Task.files_failed, Task.bytes_done, Task.total_bytes, Task.entry_count, Task.thumbprint, Task.replica_id,
    Task.cursor,
)  # fmt: skip
_DELAYED = sa.select(Task.id, Task.job_id, Task.not_before_ms, Task.refused_until_ms).where(
    Task.state == TaskState.DELAYED
)
_READY = (
    sa.select(
        Task.id,
        Task.job_id,
        Task.kind,
        Task.total_bytes,
        Task.bytes_done,
        Task.refused_until_ms,
        Link.__table__.c.bytes_per_second,
    )
    .join(Job, Job.id == Task.job_id)
    .join(Link, Link.id == Job.link_id)
    .where(Task.state == TaskState.READY)
)
_JOBS = sa.select(Job.__table__)
_USERS = sa.select(User.name, User.inflight)
_SITES = sa.select(Site.id, Site.name, Site.inflight_in, Site.inflight_out)
_LINKS = sa.select(Link.source_id, Link.destination_id, Link.inflight)
REOPENED = Hold.CANCELLED | Hold.PAUSED | Hold.SIGN_IN
"""What a retry takes away."""


@dataclass
class ModelJob:
    """A job as its owner's acts have made it.

    Attributes:
        hold: all bits, of the job.
        files: how many it knows of.
        dry_run: whether nothing of it but walks may ever be leased.
        deletes: whether what only its destination has is to be removed.
        skipped: how many entries its walks have left out as they were told to.
    """

    job_id: int
    uid: str
    user: str
    source: str
    destination: str
    work_class: WorkClass
    priority: int
    files: int
    hold: Hold = Hold.NOTHING
    dry_run: bool = False
    deletes: bool = False
    skipped: int = 0


@dataclass
class ModelTask:
    """A task that was leased at least once.

    Attributes:
        fence: of the last lease.
        running: whether that lease stands.
        settled_fence: of the last word that counted.
        thumbprint: whose the lease is.
        done: bits of the entries that words which counted have called done.
        cursor: of a walk: how far it is durable.
        unchanged: of a walk: files that it found to need nothing.
        extraneous: whether it removes what only the destination has.
    """

    job: ModelJob
    fence: int = 0
    running: bool = False
    settled_fence: int | None = None
    thumbprint: str | None = None
    replica: int = 0
    done: int = 0
    cursor: bytes = b""
    unchanged: int = 0
    extraneous: bool = False


@dataclass
class Model:
    """Jobs, tasks, users' sessions and limits, as they must be."""

    defaults: Defaults
    jobs: dict[int, ModelJob] = field(default_factory=dict)
    tasks: dict[int, ModelTask] = field(default_factory=dict)
    sessions: dict[tuple[str, str], int] = field(default_factory=dict)
    caps: dict[tuple[Kind, str], int | None] = field(default_factory=dict)

    def learn(self, user: str, site: str, until_ms: int, open_jobs: set[int]) -> None:
        """Notes what the site service has told of a session."""
        self.sessions[user, site] = until_ms
        for job in self.jobs.values():
            if job.user != user or job.job_id not in open_jobs or site not in (job.source, job.destination):
                continue
            bit = Hold.SOURCE_SIGN_IN if site == job.source else Hold.DESTINATION_SIGN_IN
            job.hold = (job.hold | bit) if not until_ms else job.hold & ~(bit | Hold.TOO_SHORT)

    def check_released(self, connection: Connection, user: str, site: str) -> None:
        """Asserts that nothing is put off any more that needs a session which was just renewed."""
        now_ms = database_now_ms(connection)
        for row in connection.execute(_DELAYED):
            job = self.jobs[row.job_id]
            if job.user == user and site in (job.source, job.destination) and row.refused_until_ms:
                assert row.not_before_ms <= now_ms, f"task {row.id} of job {row.job_id} waits for the end of a session"

    def leased(self, connection: Connection, taken: list[LeasedTask], replica: int, before: set[int]) -> None:
        """Checks what was leased just now against all that forbids it, and notes it.

        Args:
            before: the tasks that were DELAYED before.
        """
        now_ms = database_now_ms(connection)
        for task in taken:
            job = self.jobs[task.job_id]
            known = self.tasks.setdefault(task.task_id, ModelTask(job))
            assert not known.running, f"task {task.task_id} runs, and was leased again"
            assert task.fence > known.fence, f"the fence of task {task.task_id} did not grow"
            assert job.hold & ~Hold.TOO_SHORT == 0, f"leased of job {job.job_id}, held for {job.hold!r}"
            assert task.work_class is job.work_class
            assert not job.dry_run or task.kind in WALKS, f"leased of job {job.job_id}, which is a dry run"
            known.extraneous = task.extraneous
            if task.extraneous:
                assert job.deletes, f"job {job.job_id} removes what nobody asked to have removed"
                self._check_all_copied(connection, job)
            settled = int.from_bytes(task.settled, "little")
            assert known.done & ~settled == 0, f"what is done of task {task.task_id} is given out again"
            assert task.cursor == known.cursor, f"walk {task.task_id} does not go on where it was"
            self._check_sessions(connection, task, job, now_ms)
            known.fence, known.running, known.thumbprint, known.replica = task.fence, True, None, replica
            job.hold &= ~Hold.TOO_SHORT  # what starts was not put off
        self._check_rooms(taken)
        for row in connection.execute(_DELAYED):
            if row.id not in before:
                self.jobs[row.job_id].hold |= Hold.TOO_SHORT

    def _check_sessions(self, connection: Connection, task: LeasedTask, job: ModelJob, now_ms: int) -> None:
        if (until_ms := min(self._ends(job), default=None)) is None:
            return
        assert until_ms > now_ms, f"task {task.task_id} was leased though its user is signed out"
        if until_ms - now_ms < LEAST_REST_MS:
            refused = connection.execute(sa.select(Task.refused_until_ms).where(Task.id == task.task_id)).scalar_one()
            assert refused >= until_ms, f"task {task.task_id} cannot end within its user's session"

    def _check_all_copied(self, connection: Connection, job: ModelJob) -> None:
        row = connection.execute(_JOBS.where(Job.id == job.job_id)).one()
        copied = row.files_total - row.files_failed if job.dry_run else row.files_done
        assert copied == row.files_total == job.files, f"job {job.job_id} removes before all is copied"

    def _ends(self, job: ModelJob) -> list[int]:
        """Returns when the sessions end that a job needs, those of which anything is known."""
        needed = {(job.user, job.source), (job.user, job.destination)}
        return [self.sessions[one] for one in needed if one in self.sessions]

    def limited(self) -> Iterator[tuple[Kind, str, int]]:
        """Returns what is limited now, and to how much."""
        ends = {(kind, name) for job in self.jobs.values() for kind, name in _ends(job)}
        for kind, name in sorted(ends):
            cap = effective(self.caps.get((kind, name)), self.defaults.of(kind))
            if cap is not None:
                yield kind, name, cap

    def running(self) -> Counter[tuple[Kind, str]]:
        """Counts the bulk tasks that run, against everything that could limit them."""
        found: Counter[tuple[Kind, str]] = Counter()
        for task in self.tasks.values():
            if task.running and task.job.work_class is WorkClass.BULK:
                found.update(_ends(task.job))
        return found

    def _check_rooms(self, taken: list[LeasedTask]) -> None:
        fresh: Counter[tuple[Kind, str]] = Counter()
        for task in taken:
            if task.work_class is WorkClass.BULK:
                fresh.update(_ends(self.jobs[task.job_id]))
        running = self.running()
        for kind, name, cap in self.limited():
            count = running[kind, name]
            assert not fresh[kind, name] or count <= cap, f"{count} tasks run of {kind} {name}, limited to {cap}"

    def check_leased_all(self, connection: Connection, work_class: WorkClass) -> None:
        """Asserts that nothing is left that could have been leased, after a lease that gave nothing."""
        now_ms = database_now_ms(connection)
        running, full = self.running(), set()
        for kind, name, cap in self.limited():
            if running[kind, name] >= cap:
                full.add((kind, name))
        for row in connection.execute(_READY):
            job = self.jobs[row.job_id]
            if job.work_class is not work_class or job.hold & ~Hold.TOO_SHORT:
                continue
            limited = work_class is WorkClass.BULK and not full.isdisjoint(_ends(job))
            rest_bytes = 0 if row.kind in UNMOVING else row.total_bytes - row.bytes_done
            until_ms = min(self._ends(job), default=None)
            may = fits(rest_bytes, row.bytes_per_second, until_ms, now_ms, row.refused_until_ms)
            assert limited or not may, f"task {row.id} of job {row.job_id} is ready, nothing holds it, and it stays"

    def check(self, connection: Connection) -> None:
        """Asserts that the database says of jobs and tasks what it must."""
        self._check_limits(connection)
        tasks = connection.execute(_TASKS).all()
        done: Counter[int] = Counter()
        for row in tasks:
            if (known := self.tasks.get(row.id)) is None:
                assert row.fence == 0
                assert not row.files_done
                continue
            self._check_task(row, known)
            if not known.extraneous:
                done[row.job_id] += known.done.bit_count() + known.unchanged
        rows = connection.execute(_JOBS).all()
        assert {row.id for row in rows} == set(self.jobs)
        for row in rows:
            self._check_job(row, self.jobs[row.id], done[row.id])

    def _check_task(self, row: Any, known: ModelTask) -> None:
        what = f"task {row.id}"
        assert row.fence == known.fence, f"{what} has fence {row.fence}, not {known.fence}"
        assert row.settled_fence == known.settled_fence, f"{what} was settled by {row.settled_fence}"
        assert (row.state == TaskState.RUNNING) == known.running, f"{what} is {TaskState(row.state).name}"
        assert row.cursor == known.cursor
        if known.running:
            assert (row.thumbprint, row.replica_id) == (known.thumbprint, known.replica), f"{what} is somebody else's"
        if row.kind not in CHUNKS:
            assert row.files_done == known.unchanged
            return
        settled = int.from_bytes(row.settled or b"", "little")
        assert known.done & ~settled == 0, f"{what} has lost what was done"
        assert row.files_done == known.done.bit_count(), f"{what} counts {row.files_done} files as done"
        if row.state in (TaskState.SUCCEEDED, TaskState.FAILED):
            assert row.files_done + row.files_failed == row.entry_count
        if row.state == TaskState.SUCCEEDED:
            assert row.bytes_done == row.total_bytes

    def _check_job(self, row: Any, job: ModelJob, done: int) -> None:
        what = f"job {row.id}"
        state = job_state(row)
        assert row.hold == job.hold, f"{what} is held for {Hold(row.hold)!r}, not for {job.hold!r}"
        assert bool(row.cancelled) == bool(job.hold & Hold.CANCELLED)
        assert row.priority == job.priority
        assert row.files_total == job.files, f"{what} knows of {row.files_total} files, not of {job.files}"
        assert row.files_done == done, f"{what} has done {row.files_done} files, not {done}"
        assert (state in FINISHED) == (row.tasks_open == 0)
        assert row.entries_skipped == job.skipped
        if job.dry_run:
            return
        if state is JobState.SUCCEEDED:
            assert row.files_done == row.files_total, f"{what} succeeded, and has not done all"
        if state in FINISHED and not row.cancelled:
            assert row.files_done + row.files_failed == row.files_total

    def _check_limits(self, connection: Connection) -> None:
        """What a limit counts is what runs, whenever it was set."""
        counted = self._counted(connection)
        running = self.running()
        for kind, name, _ in self.limited():
            assert counted[kind, name] == running[kind, name], f"{kind} {name} counts {counted[kind, name]}"

    def _counted(self, connection: Connection) -> dict[tuple[Kind, str], int]:
        found: dict[tuple[Kind, str], int] = {}
        for user in connection.execute(_USERS):
            found[Kind.USER, user.name] = user.inflight
        names = {}
        for site in connection.execute(_SITES):
            names[site.id] = site.name
            found[Kind.SITE_IN, site.name], found[Kind.SITE_OUT, site.name] = site.inflight_in, site.inflight_out
        for link in connection.execute(_LINKS):
            found[Kind.LINK, f"{names[link.source_id]} {names[link.destination_id]}"] = link.inflight
        return found


def row_of(connection: Connection, kind: Kind, name: str) -> Key | None:
    """Returns a limit's key in the store; None: nothing has named it yet."""
    if kind is Kind.LINK:
        source, destination = (sa.select(Site.id).where(Site.name == one).scalar_subquery() for one in name.split())
        query = sa.select(Link.id).where(Link.source_id == source, Link.destination_id == destination)
    else:
        table: Any = User if kind is Kind.USER else Site
        query = sa.select(table.id).where(table.name == name)
    found = connection.execute(query).scalar_one_or_none()
    return None if found is None else (kind, found)


def _ends(job: ModelJob) -> list[tuple[Kind, str]]:
    """Returns everything that could limit a job's tasks."""
    return [
        (Kind.USER, job.user),
        (Kind.SITE_OUT, job.source),
        (Kind.SITE_IN, job.destination),
        (Kind.LINK, f"{job.source} {job.destination}"),
    ]
