"""The queue's schema.

What is leased is a task: a directory to walk, a single operation, or a chunk of up to 1,000 files whose entries travel
as one packed payload. A lane is one job's runnable work on one link, so that cancel, pause and priority are one-row
updates; above it a row for each user carries the virtual time of the fair share. Counters are kept in the transactions
that change what they count; nothing is ever counted with COUNT(*).

Times are milliseconds since the epoch by the database's clock (`_ms`). Paths are bytes, as users have them.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""SQLite gives row ids only to columns of type INTEGER. It gives those of the newest rows again when these are deleted,
unless it is told not to (`sqlite_autoincrement`), as of what others remember by its id: a worker its task, an operator
a ban."""

Json = sa.JSON(none_as_null=True)


class Base(DeclarativeBase):
    """The queue's tables."""


class User(Base):
    """A user who has or had work here, with their place in the fair share."""

    __tablename__ = "queue_user"
    __table_args__ = (
        sa.Index("user_active_interactive", "vtime", "id",
                 postgresql_where=sa.text("active_interactive > 0"), sqlite_where=sa.text("active_interactive > 0")),
        sa.Index("user_active_bulk", "vtime", "id",
                 postgresql_where=sa.text("active_bulk > 0"), sqlite_where=sa.text("active_bulk > 0")),
        sa.Index("user_leaving", "id", postgresql_where=sa.text("leaving"), sqlite_where=sa.text("leaving")),
        {"postgresql_with": {"fillfactor": 50}},
    )  # fmt: skip
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(200), unique=True)
    vtime: Mapped[float] = mapped_column(sa.Double, default=0.0)
    """Work done so far divided by weight, never behind the least of the active users'."""
    weight: Mapped[float] = mapped_column(sa.Double, default=1.0)
    active_interactive: Mapped[int] = mapped_column(default=0)
    """Interactive lanes that are not held and have something pending."""
    active_bulk: Mapped[int] = mapped_column(default=0)
    """The same of bulk lanes."""
    cap: Mapped[int | None]
    """How many bulk tasks may run at once; null: as in the buildout; below 0: no limit."""
    inflight: Mapped[int] = mapped_column(default=0)
    """Bulk tasks that run and are counted; see `Task.counted`."""
    leaving: Mapped[bool] = mapped_column(default=False)
    """Whether the account was deleted, and something here still says what it did; see `store.deletion`."""


class Site(Base):
    """A site that work has named, with its limits; they and what is counted against them are as a user's."""

    __tablename__ = "site"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(100), unique=True)
    cap_in: Mapped[int | None]
    inflight_in: Mapped[int] = mapped_column(default=0)
    cap_out: Mapped[int | None]
    inflight_out: Mapped[int] = mapped_column(default=0)


class Link(Base):
    """An ordered pair of sites; work at one site only has a link from it to itself."""

    __tablename__ = "link"
    __table_args__ = (sa.UniqueConstraint("source_id", "destination_id"),)
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    source_id: Mapped[int] = mapped_column(sa.ForeignKey("site.id"))
    destination_id: Mapped[int] = mapped_column(sa.ForeignKey("site.id"))
    cap: Mapped[int | None]
    """As a user's."""
    inflight: Mapped[int] = mapped_column(default=0)
    bytes_per_second: Mapped[float | None] = mapped_column(sa.Double)
    """What one task on this link has lately moved; null: nothing is known."""


class SignIn(Base):
    """What is known of a user's session at a site. The site service is the truth; this is what it last said."""

    __tablename__ = "sign_in"
    __table_args__ = (sa.Index("sign_in_end", "until_ms"),)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("queue_user.id"), primary_key=True)
    site_id: Mapped[int] = mapped_column(sa.ForeignKey("site.id"), primary_key=True)
    until_ms: Mapped[int] = mapped_column(sa.BigInteger)
    """When the session ends or ended; 0: there is none."""


class Follower(Base):
    """How far this service has followed a feed of another; all replicas together."""

    __tablename__ = "follower"
    feed: Mapped[str] = mapped_column(sa.String(32), primary_key=True)
    cursor: Mapped[int] = mapped_column(sa.BigInteger)


class Job(Base):
    """What a user asked for."""

    __tablename__ = "job"
    __table_args__ = (
        sa.UniqueConstraint("user_id", "request_id"),
        sa.Index("job_of_user", "user_id", "work_class", "id"),
        sa.Index("job_open", "user_id", "work_class", "id",
                 postgresql_where=sa.text("ended_ms is null"), sqlite_where=sa.text("ended_ms is null")),
        sa.Index("job_open_of_link", "link_id",
                 postgresql_where=sa.text("ended_ms is null"), sqlite_where=sa.text("ended_ms is null")),
        sa.Index("job_held", "user_id", postgresql_where=sa.text("ended_ms is null and hold <> 0"),
                 sqlite_where=sa.text("ended_ms is null and hold <> 0")),
        sa.Index("job_cancelling", "id", postgresql_where=sa.text("cancelled and ended_ms is null"),
                 sqlite_where=sa.text("cancelled and ended_ms is null")),
        sa.Index("job_ended", "work_class", "ended_ms",
                 postgresql_where=sa.text("ended_ms is not null"), sqlite_where=sa.text("ended_ms is not null")),
        sa.Index("job_stalled", "phase_open", postgresql_where=sa.text("phase_open = 0 and tasks_open > 0"),
                 sqlite_where=sa.text("phase_open = 0 and tasks_open > 0")),
        sa.Index("job_clean_up", "created_ms",
                 postgresql_where=sa.text("work_class = 3"), sqlite_where=sa.text("work_class = 3")),
        {"sqlite_autoincrement": True},
    )  # fmt: skip
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    uid: Mapped[str] = mapped_column(sa.String(32), unique=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("queue_user.id"))
    link_id: Mapped[int] = mapped_column(sa.ForeignKey("link.id"))
    request_id: Mapped[str | None] = mapped_column(sa.String(64))
    operation: Mapped[str] = mapped_column(sa.String(16))
    specification: Mapped[bytes] = mapped_column(sa.LargeBinary)
    """What was asked for, as the contract's message; only the servicer opens it."""
    work_class: Mapped[int] = mapped_column(sa.SmallInteger)
    """As `states.WorkClass`, or `states.CLEAN_UP`."""
    priority: Mapped[int] = mapped_column(sa.SmallInteger)
    attempts: Mapped[int | None] = mapped_column(sa.SmallInteger)
    """How often each of its tasks is tried; null: as often as the deployment has it."""
    recursive: Mapped[bool]
    overwrite: Mapped[int] = mapped_column(sa.SmallInteger, default=1)
    options: Mapped[bytes] = mapped_column(sa.LargeBinary, default=b"")
    """How its tasks are done, as the contract's message (a copy's options, or the operation without its targets); only
    the servicer opens it, for workers."""
    dry_run: Mapped[bool] = mapped_column(default=False)
    """Whether only its walks run: all else of it is planned, and ends so."""
    delete_extraneous: Mapped[bool] = mapped_column(default=False)
    """Whether what only the destination has is removed; without it nothing there is, whatever a walk reports."""
    directories_only: Mapped[bool] = mapped_column(default=False)
    """Whether files are left as they are, whatever a walk reports: nobody has said what is to become of them."""
    cancelled: Mapped[bool] = mapped_column(default=False)
    hold: Mapped[int] = mapped_column(sa.SmallInteger, default=0)
    """Why its lanes are held, as `Lane.hold`."""
    item_count: Mapped[int] = mapped_column(sa.BigInteger, default=1)
    """Items or targets of its specification, which may show only some."""
    summary: Mapped[bytes | None] = mapped_column(sa.LargeBinary)
    """The specification with the first few of its items; null: it has no more than those. What lists show."""
    phase: Mapped[int] = mapped_column(default=0)
    phase_open: Mapped[int] = mapped_column(default=0)
    """Tasks, of the phases opened so far, that have not ended; 0 with `tasks_open` > 0: open the next."""
    tasks_open: Mapped[int] = mapped_column(default=0)
    tasks_running: Mapped[int] = mapped_column(default=0)
    tasks_failed: Mapped[int] = mapped_column(default=0)
    tasks_cancelled: Mapped[int] = mapped_column(default=0)
    walks_open: Mapped[int] = mapped_column(default=0)
    """Walks among `phase_open`; those of later phases are not counted: what they list is nothing to wait for now."""
    files_total: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    files_done: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    files_failed: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    bytes_total: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    bytes_done: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    bytes_failed: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    directories_total: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    directories_done: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    directories_failed: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    files_unchanged: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    bytes_unchanged: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    """Of `files_done`, those that needed nothing."""
    entries_skipped: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    """Left out as the options say; their rows are among the failures."""
    extraneous_total: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    """Files and directories that only the destination of a copy has, and that are removed; in no other total."""
    extraneous_removed: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    data_channels: Mapped[int] = mapped_column(sa.SmallInteger, default=0)
    """How bytes have gone so far: bit n is set for the contract's number n."""
    created_ms: Mapped[int] = mapped_column(sa.BigInteger)
    started_ms: Mapped[int | None] = mapped_column(sa.BigInteger)
    ended_ms: Mapped[int | None] = mapped_column(sa.BigInteger)
    expired: Mapped[bool] = mapped_column(default=False)
    """Whether the time that it is kept for is over, and parts of it have been deleted: it is not opened again."""
    failure: Mapped[dict[str, object] | None] = mapped_column(Json)
    """The first failure."""


class Lane(Base):
    """One job's runnable work on one link."""

    __tablename__ = "lane"
    __table_args__ = (
        sa.Index("lane_waiting", "user_id", "work_class", "rank", "id",
                 postgresql_where=sa.text("pending > 0 and hold = 0"),
                 sqlite_where=sa.text("pending > 0 and hold = 0")),
        {"postgresql_with": {"fillfactor": 50}},
    )  # fmt: skip
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    job_id: Mapped[int] = mapped_column(sa.ForeignKey("job.id"), index=True)
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("queue_user.id"))
    link_id: Mapped[int] = mapped_column(sa.ForeignKey("link.id"))
    work_class: Mapped[int] = mapped_column(sa.SmallInteger)
    priority: Mapped[int] = mapped_column(sa.SmallInteger)
    rank: Mapped[float] = mapped_column(sa.Double)
    """The order among its user's lanes, least first; see `fairness.rank`."""
    hold: Mapped[int] = mapped_column(sa.SmallInteger, default=0)
    """Why nothing of it may be leased, as `states.Hold`; 0: it may."""
    pending: Mapped[int] = mapped_column(default=0)
    """Tasks of this lane that are READY."""
    head: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    """No READY task has a lower id: keeps leasing flat while dead rows lie about."""


class Task(Base):
    """The unit that is leased. `(id, fence)` with state RUNNING is the only authority."""

    __tablename__ = "task"
    __table_args__ = (
        sa.Index("task_ready", "lane_id", "id",
                 postgresql_where=sa.text("state = 1"), sqlite_where=sa.text("state = 1")),
        sa.Index("task_running", "replica_id",
                 postgresql_where=sa.text("state = 2"), sqlite_where=sa.text("state = 2")),
        sa.Index("task_delayed", "not_before_ms",
                 postgresql_where=sa.text("state = 4"), sqlite_where=sa.text("state = 4")),
        sa.Index("task_delayed_of_job", "job_id", "not_before_ms",
                 postgresql_where=sa.text("state = 4"), sqlite_where=sa.text("state = 4")),
        sa.Index("task_of_job", "job_id", "id"),
        # States from 5 on are those of tasks that have ended.
        sa.Index("task_left_behind", "job_id", "id", postgresql_where=sa.text("left_behind and state >= 5"),
                 sqlite_where=sa.text("left_behind and state >= 5")),
        {"postgresql_with": {"fillfactor": 50}, "sqlite_autoincrement": True},
    )  # fmt: skip
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    job_id: Mapped[int] = mapped_column(sa.ForeignKey("job.id"))
    lane_id: Mapped[int] = mapped_column(sa.ForeignKey("lane.id"))
    kind: Mapped[int] = mapped_column(sa.SmallInteger)
    state: Mapped[int] = mapped_column(sa.SmallInteger)
    phase: Mapped[int] = mapped_column(default=0)
    depth: Mapped[int] = mapped_column(default=0)
    root: Mapped[bool] = mapped_column(default=False)
    root_length: Mapped[int] = mapped_column(default=0)
    """Of a walk: the length of the source path of the root that it is below; 0: it is one itself."""
    extraneous: Mapped[bool] = mapped_column(default=False)
    """Whether it removes what only the destination of a copy has; `source_path` is there then."""
    source_path: Mapped[bytes] = mapped_column(sa.LargeBinary)
    destination_path: Mapped[bytes | None] = mapped_column(sa.LargeBinary)
    payload: Mapped[bytes | None] = mapped_column(sa.LargeBinary)
    """A chunk's entries, packed; only the servicer opens it, when a reader asks for a job's files."""
    below: Mapped[bool] = mapped_column(default=False)
    """Whether a chunk's entries may lie below its directories, so that its worker makes their parents."""
    entry_count: Mapped[int] = mapped_column(default=0)
    total_bytes: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    settled: Mapped[bytes | None] = mapped_column(sa.LargeBinary)
    """Bitmap of the entries that need no further attempt: done, or failed for good."""
    files_done: Mapped[int] = mapped_column(default=0)
    """Of a walk: files that it found to need nothing; it has no others."""
    bytes_done: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    files_unchanged: Mapped[int] = mapped_column(default=0)
    bytes_unchanged: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    """Of `files_done`, those that needed nothing."""
    files_failed: Mapped[int] = mapped_column(default=0)
    bytes_failed: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    cursor: Mapped[bytes] = mapped_column(sa.LargeBinary, default=b"")
    """The last name of a walk that is durable, in byte order."""
    batches: Mapped[int] = mapped_column(default=0)
    removal_reported: Mapped[bool] = mapped_column(default=False)
    fence: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    settled_fence: Mapped[int | None] = mapped_column(sa.BigInteger)
    """The fence of the last settlement that counted: the same again is answered alike."""
    attempt_count: Mapped[int] = mapped_column(default=0)
    tries: Mapped[int] = mapped_column(default=0)
    """Attempts that failed and counted."""
    lapses: Mapped[int] = mapped_column(default=0)
    replica_id: Mapped[int | None] = mapped_column(Id)
    thumbprint: Mapped[str | None] = mapped_column(sa.String(64))
    """SHA-256 of the certificate of the worker that has the lease: nobody else's word about it counts."""
    counted: Mapped[int] = mapped_column(sa.SmallInteger, default=0)
    """Against which limits it is counted while it runs, as `states.Counted`: exactly these get their place back."""
    left_behind: Mapped[bool] = mapped_column(default=False)
    """Whether temporary files of this task may lie at its destination. Its next attempt removes them, or goes on with
    them; for where none comes see `store.cleaning`."""
    cleans: Mapped[str | None] = mapped_column(sa.String(64))
    """Of a REMOVE_TEMPORARIES task: the task whose temporary files these are, `jobs/{job}/tasks/{task}`, and the last
    fence of that task that left some. Its job may be gone by then."""
    cleans_fence: Mapped[int | None] = mapped_column(sa.BigInteger)
    refused_until_ms: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    """The end of the session that was too short for it: it is not refused for the same one twice."""
    not_before_ms: Mapped[int | None] = mapped_column(sa.BigInteger)
    failure: Mapped[dict[str, object] | None] = mapped_column(Json)


class Attempt(Base):
    """One run of a task that was settled."""

    __tablename__ = "attempt"
    __table_args__ = (sa.UniqueConstraint("task_id", "fence"),)
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    task_id: Mapped[int] = mapped_column(sa.ForeignKey("task.id"))
    fence: Mapped[int] = mapped_column(sa.BigInteger)
    worker: Mapped[str | None] = mapped_column(sa.String(200))
    outcome: Mapped[int] = mapped_column(sa.SmallInteger)
    failure: Mapped[dict[str, object] | None] = mapped_column(Json)
    results: Mapped[bytes | None] = mapped_column(sa.LargeBinary)
    """A chunk's results of this attempt, packed."""
    log: Mapped[str] = mapped_column(sa.Text, default="")
    ended_ms: Mapped[int] = mapped_column(sa.BigInteger)


class EntryFailure(Base):
    """An entry that failed for good, or was left out."""

    __tablename__ = "failure"
    __table_args__ = (
        # What was skipped stands apart: there may be a million of them, and a few failures among these.
        sa.Index("failure_of_job", "job_id", "skipped", "id"),
        sa.Index("failure_by_task", "job_id", "skipped", "task_id"),
    )
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    job_id: Mapped[int] = mapped_column(sa.ForeignKey("job.id"))
    task_id: Mapped[int] = mapped_column(sa.ForeignKey("task.id"), index=True)
    entry_index: Mapped[int]
    path: Mapped[bytes] = mapped_column(sa.LargeBinary)
    size_bytes: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    failure: Mapped[dict[str, object]] = mapped_column(Json)
    skipped: Mapped[bool] = mapped_column(default=False)
    """Whether it was left out as the job's options say: that is no failure."""


class StagedCopy(Base):
    """A copy of many files whose stream has not come to its end yet; nobody sees it, and nothing of it is work."""

    __tablename__ = "staged_copy"
    __table_args__ = ({"sqlite_autoincrement": True},)
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    added_ms: Mapped[int] = mapped_column(sa.BigInteger, index=True)
    """When something was last added to it."""
    user_id: Mapped[int] = mapped_column(sa.ForeignKey("queue_user.id"), index=True)
    kept_bytes: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    """Of its chunks' payloads."""


class StagedChunk(Base):
    """Files of such a copy, packed as a task has them."""

    __tablename__ = "staged_chunk"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    copy_id: Mapped[int] = mapped_column(sa.ForeignKey("staged_copy.id"), index=True)
    payload: Mapped[bytes] = mapped_column(sa.LargeBinary)
    entry_count: Mapped[int]
    total_bytes: Mapped[int] = mapped_column(sa.BigInteger)


class ListingChunk(Base):
    """Entries that a listing found, kept for minutes."""

    __tablename__ = "listing_chunk"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    job_id: Mapped[int] = mapped_column(sa.ForeignKey("job.id"), index=True)
    payload: Mapped[bytes] = mapped_column(sa.LargeBinary)


class JobProgress(Base):
    """How far the running tasks of a job are, folded once a second."""

    __tablename__ = "job_progress"
    job_id: Mapped[int] = mapped_column(sa.ForeignKey("job.id"), primary_key=True)
    replica_id: Mapped[int] = mapped_column(Id, primary_key=True)
    bytes_moving: Mapped[int] = mapped_column(sa.BigInteger)
    files_moving: Mapped[int] = mapped_column(default=0)
    bytes_per_second: Mapped[float] = mapped_column(sa.Double)
    bytes_per_second_least: Mapped[float] = mapped_column(sa.Double, default=0.0)
    """What its rates over the last minutes come to lie above nine times out of ten; 0: nothing can be said."""
    bytes_per_second_most: Mapped[float] = mapped_column(sa.Double, default=0.0)
    files_per_second_least: Mapped[float] = mapped_column(sa.Double, default=0.0)
    files_per_second_most: Mapped[float] = mapped_column(sa.Double, default=0.0)
    measured_ms: Mapped[int] = mapped_column(sa.BigInteger)
    """When this row was written."""
    worker_measured_ms: Mapped[int | None] = mapped_column(sa.BigInteger)
    """When a worker last measured, by its clock."""


class Replica(Base):
    """A process of this service; its leases stand while its row has not expired."""

    __tablename__ = "replica"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    until_ms: Mapped[int] = mapped_column(sa.BigInteger)
    version: Mapped[str] = mapped_column(sa.String(100), default="")
    started_ms: Mapped[int] = mapped_column(sa.BigInteger, default=0)
    draining: Mapped[bool] = mapped_column(default=False)


class Worker(Base):
    """A worker with an open stream, as its replica wrote it down some seconds ago. Operators read it; leases do not."""

    __tablename__ = "worker"
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(sa.String(200), index=True)
    subject: Mapped[str] = mapped_column(sa.String(500), default="")
    thumbprint: Mapped[str] = mapped_column(sa.String(64), default="")
    """Its certificate's, as `Task.thumbprint`: a name is only what a worker says of itself."""
    replica_id: Mapped[int] = mapped_column(Id, index=True)
    version: Mapped[str] = mapped_column(sa.String(100), default="")
    connected_ms: Mapped[int] = mapped_column(sa.BigInteger)
    heard_ms: Mapped[int] = mapped_column(sa.BigInteger)
    interactive_places: Mapped[int] = mapped_column(default=0)
    bulk_places: Mapped[int] = mapped_column(default=0)
    held: Mapped[int] = mapped_column(default=0)
    draining: Mapped[bool] = mapped_column(default=False)


class Ban(Base):
    """A user or a site of which no work is done."""

    __tablename__ = "ban"
    __table_args__ = ({"sqlite_autoincrement": True},)
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    subject: Mapped[str] = mapped_column(sa.String(200), unique=True)
    reason: Mapped[str] = mapped_column(sa.String(500))
    created_ms: Mapped[int] = mapped_column(sa.BigInteger)


class AuditEntry(Base):
    """Something that an operator has done."""

    __tablename__ = "audit"
    __table_args__ = (sa.Index("audit_time", "at_ms"),)
    id: Mapped[int] = mapped_column(Id, primary_key=True)
    at_ms: Mapped[int] = mapped_column(sa.BigInteger)
    actor: Mapped[str] = mapped_column(sa.String(500))
    act: Mapped[str] = mapped_column(sa.String(50))
    subject: Mapped[str] = mapped_column(sa.String(500))
    details: Mapped[str] = mapped_column(sa.Text, default="")


class SigningKey(Base):
    """The public half of a replica's lease-token key, published before its first use."""

    __tablename__ = "signing_key"
    kid: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    public_key: Mapped[bytes] = mapped_column(sa.LargeBinary)
    expires_ms: Mapped[int] = mapped_column(sa.BigInteger)
