"""The schema of the first release"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(length=500), nullable=False),
        sa.Column("act", sa.String(length=50), nullable=False),
        sa.Column("subject", sa.String(length=500), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("audit_time", "audit", ["at_ms"], unique=False)
    op.create_table(
        "ban",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("subject", sa.String(length=200), nullable=False),
        sa.Column("reason", sa.String(length=500), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("subject"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "follower",
        sa.Column("feed", sa.String(length=32), nullable=False),
        sa.Column("cursor", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("feed"),
    )
    op.create_table(
        "queue_user",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("vtime", sa.Double(), nullable=False),
        sa.Column("weight", sa.Double(), nullable=False),
        sa.Column("active_interactive", sa.Integer(), nullable=False),
        sa.Column("active_bulk", sa.Integer(), nullable=False),
        sa.Column("cap", sa.Integer(), nullable=True),
        sa.Column("inflight", sa.Integer(), nullable=False),
        sa.Column("leaving", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
        postgresql_with={"fillfactor": 50},
    )
    op.create_index(
        "user_active_bulk",
        "queue_user",
        ["vtime", "id"],
        unique=False,
        postgresql_where=sa.text("active_bulk > 0"),
        sqlite_where=sa.text("active_bulk > 0"),
    )
    op.create_index(
        "user_active_interactive",
        "queue_user",
        ["vtime", "id"],
        unique=False,
        postgresql_where=sa.text("active_interactive > 0"),
        sqlite_where=sa.text("active_interactive > 0"),
    )
    op.create_index(
        "user_leaving",
        "queue_user",
        ["id"],
        unique=False,
        postgresql_where=sa.text("leaving"),
        sqlite_where=sa.text("leaving"),
    )
    op.create_table(
        "replica",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.String(length=100), nullable=False),
        sa.Column("started_ms", sa.BigInteger(), nullable=False),
        sa.Column("draining", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "signing_key",
        sa.Column("kid", sa.String(length=64), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kid"),
    )
    op.create_table(
        "site",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("cap_in", sa.Integer(), nullable=True),
        sa.Column("inflight_in", sa.Integer(), nullable=False),
        sa.Column("cap_out", sa.Integer(), nullable=True),
        sa.Column("inflight_out", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name"),
    )
    op.create_table(
        "worker",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("subject", sa.String(length=500), nullable=False),
        sa.Column("thumbprint", sa.String(length=64), nullable=False),
        sa.Column("replica_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("version", sa.String(length=100), nullable=False),
        sa.Column("connected_ms", sa.BigInteger(), nullable=False),
        sa.Column("heard_ms", sa.BigInteger(), nullable=False),
        sa.Column("interactive_places", sa.Integer(), nullable=False),
        sa.Column("bulk_places", sa.Integer(), nullable=False),
        sa.Column("held", sa.Integer(), nullable=False),
        sa.Column("draining", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_worker_name"), "worker", ["name"], unique=False)
    op.create_index(op.f("ix_worker_replica_id"), "worker", ["replica_id"], unique=False)
    op.create_table(
        "link",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("source_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("destination_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("cap", sa.Integer(), nullable=True),
        sa.Column("inflight", sa.Integer(), nullable=False),
        sa.Column("bytes_per_second", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(
            ["destination_id"],
            ["site.id"],
        ),
        sa.ForeignKeyConstraint(
            ["source_id"],
            ["site.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("source_id", "destination_id"),
    )
    op.create_table(
        "sign_in",
        sa.Column("user_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("site_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("until_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["site_id"],
            ["site.id"],
        ),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["queue_user.id"],
        ),
        sa.PrimaryKeyConstraint("user_id", "site_id"),
    )
    op.create_index("sign_in_end", "sign_in", ["until_ms"], unique=False)
    op.create_table(
        "staged_copy",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("added_ms", sa.BigInteger(), nullable=False),
        sa.Column("user_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("kept_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["queue_user.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_staged_copy_added_ms"), "staged_copy", ["added_ms"], unique=False)
    op.create_index(op.f("ix_staged_copy_user_id"), "staged_copy", ["user_id"], unique=False)
    op.create_table(
        "job",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("uid", sa.String(length=32), nullable=False),
        sa.Column("user_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("link_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=True),
        sa.Column("operation", sa.String(length=16), nullable=False),
        sa.Column("specification", sa.LargeBinary(), nullable=False),
        sa.Column("work_class", sa.SmallInteger(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("attempts", sa.SmallInteger(), nullable=True),
        sa.Column("recursive", sa.Boolean(), nullable=False),
        sa.Column("overwrite", sa.SmallInteger(), nullable=False),
        sa.Column("options", sa.LargeBinary(), nullable=False),
        sa.Column("dry_run", sa.Boolean(), nullable=False),
        sa.Column("delete_extraneous", sa.Boolean(), nullable=False),
        sa.Column("directories_only", sa.Boolean(), nullable=False),
        sa.Column("cancelled", sa.Boolean(), nullable=False),
        sa.Column("hold", sa.SmallInteger(), nullable=False),
        sa.Column("item_count", sa.BigInteger(), nullable=False),
        sa.Column("summary", sa.LargeBinary(), nullable=True),
        sa.Column("phase", sa.Integer(), nullable=False),
        sa.Column("phase_open", sa.Integer(), nullable=False),
        sa.Column("tasks_open", sa.Integer(), nullable=False),
        sa.Column("tasks_running", sa.Integer(), nullable=False),
        sa.Column("tasks_failed", sa.Integer(), nullable=False),
        sa.Column("tasks_cancelled", sa.Integer(), nullable=False),
        sa.Column("walks_open", sa.Integer(), nullable=False),
        sa.Column("files_total", sa.BigInteger(), nullable=False),
        sa.Column("files_done", sa.BigInteger(), nullable=False),
        sa.Column("files_failed", sa.BigInteger(), nullable=False),
        sa.Column("bytes_total", sa.BigInteger(), nullable=False),
        sa.Column("bytes_done", sa.BigInteger(), nullable=False),
        sa.Column("bytes_failed", sa.BigInteger(), nullable=False),
        sa.Column("directories_total", sa.BigInteger(), nullable=False),
        sa.Column("directories_done", sa.BigInteger(), nullable=False),
        sa.Column("directories_failed", sa.BigInteger(), nullable=False),
        sa.Column("files_unchanged", sa.BigInteger(), nullable=False),
        sa.Column("bytes_unchanged", sa.BigInteger(), nullable=False),
        sa.Column("entries_skipped", sa.BigInteger(), nullable=False),
        sa.Column("extraneous_total", sa.BigInteger(), nullable=False),
        sa.Column("extraneous_removed", sa.BigInteger(), nullable=False),
        sa.Column("data_channels", sa.SmallInteger(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("started_ms", sa.BigInteger(), nullable=True),
        sa.Column("ended_ms", sa.BigInteger(), nullable=True),
        sa.Column("expired", sa.Boolean(), nullable=False),
        sa.Column("failure", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["link_id"],
            ["link.id"],
        ),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["queue_user.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("uid"),
        sa.UniqueConstraint("user_id", "request_id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "job_cancelling",
        "job",
        ["id"],
        unique=False,
        postgresql_where=sa.text("cancelled and ended_ms is null"),
        sqlite_where=sa.text("cancelled and ended_ms is null"),
    )
    op.create_index(
        "job_clean_up",
        "job",
        ["created_ms"],
        unique=False,
        postgresql_where=sa.text("work_class = 3"),
        sqlite_where=sa.text("work_class = 3"),
    )
    op.create_index(
        "job_ended",
        "job",
        ["work_class", "ended_ms"],
        unique=False,
        postgresql_where=sa.text("ended_ms is not null"),
        sqlite_where=sa.text("ended_ms is not null"),
    )
    op.create_index(
        "job_held",
        "job",
        ["user_id"],
        unique=False,
        postgresql_where=sa.text("ended_ms is null and hold <> 0"),
        sqlite_where=sa.text("ended_ms is null and hold <> 0"),
    )
    op.create_index("job_of_user", "job", ["user_id", "work_class", "id"], unique=False)
    op.create_index(
        "job_open",
        "job",
        ["user_id", "work_class", "id"],
        unique=False,
        postgresql_where=sa.text("ended_ms is null"),
        sqlite_where=sa.text("ended_ms is null"),
    )
    op.create_index(
        "job_open_of_link",
        "job",
        ["link_id"],
        unique=False,
        postgresql_where=sa.text("ended_ms is null"),
        sqlite_where=sa.text("ended_ms is null"),
    )
    op.create_index(
        "job_stalled",
        "job",
        ["phase_open"],
        unique=False,
        postgresql_where=sa.text("phase_open = 0 and tasks_open > 0"),
        sqlite_where=sa.text("phase_open = 0 and tasks_open > 0"),
    )
    op.create_table(
        "staged_chunk",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("copy_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("entry_count", sa.Integer(), nullable=False),
        sa.Column("total_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["copy_id"],
            ["staged_copy.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_staged_chunk_copy_id"), "staged_chunk", ["copy_id"], unique=False)
    op.create_table(
        "job_progress",
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("replica_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("bytes_moving", sa.BigInteger(), nullable=False),
        sa.Column("files_moving", sa.Integer(), nullable=False),
        sa.Column("bytes_per_second", sa.Double(), nullable=False),
        sa.Column("bytes_per_second_least", sa.Double(), nullable=False),
        sa.Column("bytes_per_second_most", sa.Double(), nullable=False),
        sa.Column("files_per_second_least", sa.Double(), nullable=False),
        sa.Column("files_per_second_most", sa.Double(), nullable=False),
        sa.Column("measured_ms", sa.BigInteger(), nullable=False),
        sa.Column("worker_measured_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["job.id"],
        ),
        sa.PrimaryKeyConstraint("job_id", "replica_id"),
    )
    op.create_table(
        "lane",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("user_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("link_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("work_class", sa.SmallInteger(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("rank", sa.Double(), nullable=False),
        sa.Column("hold", sa.SmallInteger(), nullable=False),
        sa.Column("pending", sa.Integer(), nullable=False),
        sa.Column("head", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["job.id"],
        ),
        sa.ForeignKeyConstraint(
            ["link_id"],
            ["link.id"],
        ),
        sa.ForeignKeyConstraint(
            ["user_id"],
            ["queue_user.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        postgresql_with={"fillfactor": 50},
    )
    op.create_index(op.f("ix_lane_job_id"), "lane", ["job_id"], unique=False)
    op.create_index(
        "lane_waiting",
        "lane",
        ["user_id", "work_class", "rank", "id"],
        unique=False,
        postgresql_where=sa.text("pending > 0 and hold = 0"),
        sqlite_where=sa.text("pending > 0 and hold = 0"),
    )
    op.create_table(
        "listing_chunk",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["job.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_listing_chunk_job_id"), "listing_chunk", ["job_id"], unique=False)
    op.create_table(
        "task",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("lane_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("state", sa.SmallInteger(), nullable=False),
        sa.Column("phase", sa.Integer(), nullable=False),
        sa.Column("depth", sa.Integer(), nullable=False),
        sa.Column("root", sa.Boolean(), nullable=False),
        sa.Column("root_length", sa.Integer(), nullable=False),
        sa.Column("extraneous", sa.Boolean(), nullable=False),
        sa.Column("source_path", sa.LargeBinary(), nullable=False),
        sa.Column("destination_path", sa.LargeBinary(), nullable=True),
        sa.Column("payload", sa.LargeBinary(), nullable=True),
        sa.Column("below", sa.Boolean(), nullable=False),
        sa.Column("entry_count", sa.Integer(), nullable=False),
        sa.Column("total_bytes", sa.BigInteger(), nullable=False),
        sa.Column("settled", sa.LargeBinary(), nullable=True),
        sa.Column("files_done", sa.Integer(), nullable=False),
        sa.Column("bytes_done", sa.BigInteger(), nullable=False),
        sa.Column("files_unchanged", sa.Integer(), nullable=False),
        sa.Column("bytes_unchanged", sa.BigInteger(), nullable=False),
        sa.Column("files_failed", sa.Integer(), nullable=False),
        sa.Column("bytes_failed", sa.BigInteger(), nullable=False),
        sa.Column("cursor", sa.LargeBinary(), nullable=False),
        sa.Column("batches", sa.Integer(), nullable=False),
        sa.Column("removal_reported", sa.Boolean(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("settled_fence", sa.BigInteger(), nullable=True),
        sa.Column("attempt_count", sa.Integer(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("lapses", sa.Integer(), nullable=False),
        sa.Column("replica_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("thumbprint", sa.String(length=64), nullable=True),
        sa.Column("counted", sa.SmallInteger(), nullable=False),
        sa.Column("left_behind", sa.Boolean(), nullable=False),
        sa.Column("cleans", sa.String(length=64), nullable=True),
        sa.Column("cleans_fence", sa.BigInteger(), nullable=True),
        sa.Column("refused_until_ms", sa.BigInteger(), nullable=False),
        sa.Column("not_before_ms", sa.BigInteger(), nullable=True),
        sa.Column("failure", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["job.id"],
        ),
        sa.ForeignKeyConstraint(
            ["lane_id"],
            ["lane.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        postgresql_with={"fillfactor": 50},
        sqlite_autoincrement=True,
    )
    op.create_index(
        "task_delayed",
        "task",
        ["not_before_ms"],
        unique=False,
        postgresql_where=sa.text("state = 4"),
        sqlite_where=sa.text("state = 4"),
    )
    op.create_index(
        "task_delayed_of_job",
        "task",
        ["job_id", "not_before_ms"],
        unique=False,
        postgresql_where=sa.text("state = 4"),
        sqlite_where=sa.text("state = 4"),
    )
    op.create_index(
        "task_left_behind",
        "task",
        ["job_id", "id"],
        unique=False,
        postgresql_where=sa.text("left_behind and state >= 5"),
        sqlite_where=sa.text("left_behind and state >= 5"),
    )
    op.create_index("task_of_job", "task", ["job_id", "id"], unique=False)
    op.create_index(
        "task_ready",
        "task",
        ["lane_id", "id"],
        unique=False,
        postgresql_where=sa.text("state = 1"),
        sqlite_where=sa.text("state = 1"),
    )
    op.create_index(
        "task_running",
        "task",
        ["replica_id"],
        unique=False,
        postgresql_where=sa.text("state = 2"),
        sqlite_where=sa.text("state = 2"),
    )
    op.create_table(
        "attempt",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("task_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("worker", sa.String(length=200), nullable=True),
        sa.Column("outcome", sa.SmallInteger(), nullable=False),
        sa.Column("failure", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("results", sa.LargeBinary(), nullable=True),
        sa.Column("log", sa.Text(), nullable=False),
        sa.Column("ended_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["task_id"],
            ["task.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("task_id", "fence"),
    )
    op.create_table(
        "failure",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("job_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("task_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("entry_index", sa.Integer(), nullable=False),
        sa.Column("path", sa.LargeBinary(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("failure", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("skipped", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["job_id"],
            ["job.id"],
        ),
        sa.ForeignKeyConstraint(
            ["task_id"],
            ["task.id"],
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("failure_by_task", "failure", ["job_id", "skipped", "task_id"], unique=False)
    op.create_index("failure_of_job", "failure", ["job_id", "skipped", "id"], unique=False)
    op.create_index(op.f("ix_failure_task_id"), "failure", ["task_id"], unique=False)
