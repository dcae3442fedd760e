"""The first schema: sites, sessions and what becomes of them, fences, audit trail."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit_event",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("action", sa.String(length=40), nullable=False),
        sa.Column("user", sa.String(length=120), nullable=False),
        sa.Column("site", sa.String(length=70), nullable=False),
        sa.Column("address", sa.String(length=200), nullable=False),
        sa.Column("task", sa.String(length=250), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=True),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("worker_thumbprint", sa.String(length=64), nullable=False),
        sa.Column("credential_id", sa.String(length=64), nullable=False),
        sa.Column("expire_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit_event")),
    )
    op.create_index("audit_event_user", "audit_event", ["user", "at_ms"], unique=False)

    op.create_table(
        "lease_fence",
        sa.Column("task", sa.String(length=250), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("seen_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("task", name=op.f("pk_lease_fence")),
    )
    op.create_index("lease_fence_seen", "lease_fence", ["seen_ms"], unique=False)

    op.create_table(
        "session_change",
        sa.Column("cursor", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("user", sa.String(length=120), nullable=False),
        sa.Column("site_id", sa.String(length=63), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("cursor", name=op.f("pk_session_change")),
    )
    op.create_index("session_change_time", "session_change", ["at_ms"], unique=False)

    op.create_table(
        "session_change_cursor",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_session_change_cursor")),
    )
    op.execute(sa.text("insert into session_change_cursor (id, value) values (1, 0)"))

    op.create_table(
        "site",
        sa.Column("id", sa.String(length=63), nullable=False),
        sa.Column("owner", sa.String(length=120), nullable=False),
        sa.Column("title", sa.String(length=200), nullable=False),
        sa.Column("title_key", sa.String(length=4000), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("public", sa.Boolean(), nullable=False),
        sa.Column("auth_kind", sa.String(length=20), nullable=False),
        sa.Column("auth_address", sa.String(length=300), nullable=False),
        sa.Column("default_path", sa.Text(), nullable=False),
        sa.Column("data_channel", sa.String(length=20), nullable=False),
        sa.Column("create_ms", sa.BigInteger(), nullable=False),
        sa.Column("update_ms", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_site")),
    )
    op.create_index("site_owner", "site", ["owner"], unique=False)
    op.create_index(
        "site_title_of_public",
        "site",
        ["title_key"],
        unique=True,
        sqlite_where=sa.text("public"),
        postgresql_where=sa.text("public"),
    )

    op.create_table(
        "authority",
        sa.Column("site_id", sa.String(length=63), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("subject", sa.String(length=1000), nullable=False),
        sa.Column("key_fingerprint", sa.String(length=64), nullable=False),
        sa.Column("pem", sa.Text(), nullable=False),
        sa.Column("namespaces", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["site_id"], ["site.id"], name=op.f("fk_authority_site_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("site_id", "position", name=op.f("pk_authority")),
    )
    op.create_index("authority_subject", "authority", ["subject"], unique=False)

    op.create_table(
        "endpoint",
        sa.Column("site_id", sa.String(length=63), nullable=False),
        sa.Column("id", sa.String(length=63), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("scheme", sa.String(length=16), nullable=False),
        sa.Column("host", sa.String(length=253), nullable=False),
        sa.Column("host_key", sa.String(length=253), nullable=False),
        sa.Column("port", sa.Integer(), nullable=False),
        sa.Column("root_path", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["site_id"], ["site.id"], name=op.f("fk_endpoint_site_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("site_id", "id", name=op.f("pk_endpoint")),
        sa.UniqueConstraint(
            "site_id", "scheme", "host_key", "port", name=op.f("uq_endpoint_site_id_scheme_host_key_port")
        ),
    )
    op.create_table(
        "site_session",
        sa.Column("user", sa.String(length=120), nullable=False),
        sa.Column("site_id", sa.String(length=63), nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("username", sa.String(length=256), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("create_ms", sa.BigInteger(), nullable=False),
        sa.Column("expire_ms", sa.BigInteger(), nullable=False),
        sa.Column("lifetime_shortened", sa.Boolean(), nullable=False),
        sa.Column("key_id", sa.String(length=16), nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary(), nullable=False),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["site_id"], ["site.id"], name=op.f("fk_site_session_site_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user", "site_id", name=op.f("pk_site_session")),
        sa.UniqueConstraint("id", name=op.f("uq_site_session_id")),
    )
    op.create_index("site_session_expire", "site_session", ["expire_ms"], unique=False)
    op.create_index("site_session_key", "site_session", ["key_id"], unique=False)
    _only_added_to_and_pseudonymised("audit_event", _KEPT_OF_AUDIT)


_KEPT_OF_AUDIT = (
    *("seq", "at_ms", "action", "site", "task", "fence"),
    *("worker", "worker_thumbprint", "credential_id", "expire_ms"),
)


def _only_added_to_and_pseudonymised(table: str, kept: Sequence[str]) -> None:
    """Makes the database itself refuse changes to a table's rows.

    One is let through: of a user who has deleted their account, a pseudonym may take the place, once, and the network
    address may go. All `kept` columns have to stay.
    """
    dialect = op.get_bind().dialect.name
    same = "is" if dialect == "sqlite" else "is not distinct from"
    pseudonymised = " and ".join(
        [
            "substr(old.\"user\", 1, 14) <> 'users/deleted-'",
            "substr(new.\"user\", 1, 14) = 'users/deleted-'",
            "new.address = ''",
            *(f"new.{column} {same} old.{column}" for column in kept),
        ]
    )
    if dialect == "sqlite":
        refusal = f"begin select raise(abort, '{table} is only added to'); end"
        op.execute(f"create trigger {table}_no_update before update on {table} when not ({pseudonymised}) {refusal}")
        op.execute(f"create trigger {table}_no_delete before delete on {table} {refusal}")
    elif dialect == "postgresql":
        op.execute(
            f"create function {table}_is_only_added_to() returns trigger language plpgsql as "
            f"$$ begin raise exception '{table} is only added to'; end $$"
        )
        refusal = f"execute function {table}_is_only_added_to()"
        op.execute(
            f"create trigger {table}_no_update before update on {table} "
            f"for each row when (not ({pseudonymised})) {refusal}"
        )
        op.execute(
            f"create trigger {table}_no_delete before delete or truncate on {table} for each statement {refusal}"
        )
