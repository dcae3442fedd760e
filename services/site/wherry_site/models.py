"""The site service's tables."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

_Ms = sa.BigInteger
"""Milliseconds since the epoch."""
_SITE_ID = sa.String(63)
_USER = sa.String(120)


class Base(DeclarativeBase):
    """All tables of the service."""

    # Constraints with names of their own can be changed by later migrations, on every database.
    metadata = sa.MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        }
    )


class SiteRow(Base):
    """A registered site."""

    __tablename__ = "site"
    __table_args__ = (
        sa.Index("site_title_of_public", "title_key", unique=True, sqlite_where=sa.text("public"),
                 postgresql_where=sa.text("public")),
        sa.Index("site_owner", "owner"),
    )  # fmt: skip

    id: Mapped[str] = mapped_column(_SITE_ID, primary_key=True)
    owner: Mapped[str] = mapped_column(_USER)
    title: Mapped[str] = mapped_column(sa.String(200))
    title_key: Mapped[str] = mapped_column(sa.String(4000))
    description: Mapped[str] = mapped_column(sa.Text)
    public: Mapped[bool]
    auth_kind: Mapped[str] = mapped_column(sa.String(20))
    auth_address: Mapped[str] = mapped_column(sa.String(300))
    default_path: Mapped[str] = mapped_column(sa.Text)
    data_channel: Mapped[str] = mapped_column(sa.String(20))
    create_ms: Mapped[int] = mapped_column(_Ms)
    update_ms: Mapped[int] = mapped_column(_Ms)
    revision: Mapped[int] = mapped_column(sa.BigInteger)

    authorities: Mapped[list[AuthorityRow]] = relationship(
        order_by="AuthorityRow.position", cascade="all, delete-orphan", passive_deletes=True, lazy="selectin"
    )
    endpoints: Mapped[list[EndpointRow]] = relationship(
        order_by="EndpointRow.position", cascade="all, delete-orphan", passive_deletes=True, lazy="selectin"
    )


class AuthorityRow(Base):
    """A CA of a site. `namespaces` is a JSON list."""

    __tablename__ = "authority"
    __table_args__ = (sa.Index("authority_subject", "subject"),)

    site_id: Mapped[str] = mapped_column(sa.ForeignKey("site.id", ondelete="CASCADE"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    subject: Mapped[str] = mapped_column(sa.String(1000))
    key_fingerprint: Mapped[str] = mapped_column(sa.String(64))
    pem: Mapped[str] = mapped_column(sa.Text)
    namespaces: Mapped[list[str]] = mapped_column(sa.JSON)


class EndpointRow(Base):
    """A door of a site. `host_key` is the host as it is compared."""

    __tablename__ = "endpoint"
    __table_args__ = (sa.UniqueConstraint("site_id", "scheme", "host_key", "port"),)

    site_id: Mapped[str] = mapped_column(sa.ForeignKey("site.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[str] = mapped_column(sa.String(63), primary_key=True)
    position: Mapped[int]
    scheme: Mapped[str] = mapped_column(sa.String(16))
    host: Mapped[str] = mapped_column(sa.String(253))
    host_key: Mapped[str] = mapped_column(sa.String(253))
    port: Mapped[int]
    root_path: Mapped[str] = mapped_column(sa.Text)


class SessionRow(Base):
    """A person's sign-in at a site; what the vault sealed is in the last three columns. One for each user and site."""

    __tablename__ = "site_session"
    __table_args__ = (sa.Index("site_session_expire", "expire_ms"), sa.Index("site_session_key", "key_id"))

    user: Mapped[str] = mapped_column(_USER, primary_key=True)
    site_id: Mapped[str] = mapped_column(sa.ForeignKey("site.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[str] = mapped_column(sa.String(32), unique=True)
    username: Mapped[str] = mapped_column(sa.String(256))
    subject: Mapped[str] = mapped_column(sa.Text)
    create_ms: Mapped[int] = mapped_column(_Ms)
    expire_ms: Mapped[int] = mapped_column(_Ms)
    lifetime_shortened: Mapped[bool]
    key_id: Mapped[str] = mapped_column(sa.String(16))
    wrapped_key: Mapped[bytes]
    ciphertext: Mapped[bytes]


class SessionChangeRow(Base):
    """Something that happened to a session, for those who follow."""

    __tablename__ = "session_change"
    __table_args__ = (sa.Index("session_change_time", "at_ms"),)

    cursor: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    user: Mapped[str] = mapped_column(_USER)
    site_id: Mapped[str] = mapped_column(_SITE_ID)
    kind: Mapped[str] = mapped_column(sa.String(20))
    expires_ms: Mapped[int] = mapped_column(_Ms)
    at_ms: Mapped[int] = mapped_column(_Ms)


class SessionChangeCursorRow(Base):
    """The latest cursor: one row, whose lock makes cursors become visible in their order; see `wherry_chassis.feed`."""

    __tablename__ = "session_change_cursor"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[int] = mapped_column(sa.BigInteger)


class FenceRow(Base):
    """The highest fence that was seen for a task."""

    __tablename__ = "lease_fence"
    __table_args__ = (sa.Index("lease_fence_seen", "seen_ms"),)

    task: Mapped[str] = mapped_column(sa.String(250), primary_key=True)
    fence: Mapped[int] = mapped_column(sa.BigInteger)
    seen_ms: Mapped[int] = mapped_column(_Ms)


class AuditRow(Base):
    """Who did what to what, from where; rows are only added, and pseudonymised (a trigger sees to it)."""

    __tablename__ = "audit_event"
    __table_args__ = (sa.Index("audit_event_user", "user", "at_ms"),)

    seq: Mapped[int] = mapped_column(
        sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True
    )
    at_ms: Mapped[int] = mapped_column(_Ms)
    action: Mapped[str] = mapped_column(sa.String(40))
    user: Mapped[str] = mapped_column(_USER)
    site: Mapped[str] = mapped_column(sa.String(70))
    address: Mapped[str] = mapped_column(sa.String(200), default="")
    task: Mapped[str] = mapped_column(sa.String(250), default="")
    fence: Mapped[int | None] = mapped_column(sa.BigInteger)
    worker: Mapped[str] = mapped_column(sa.Text, default="")
    worker_thumbprint: Mapped[str] = mapped_column(sa.String(64), default="")
    credential_id: Mapped[str] = mapped_column(sa.String(64), default="")
    expire_ms: Mapped[int | None] = mapped_column(_Ms)
