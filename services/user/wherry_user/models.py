"""The user service's tables. Times are milliseconds since the epoch, ids are UUIDs, hashes are hexadecimal."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

_ID = sa.String(36)
_HASH = sa.String(64)
_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """What the tables have in common; constraints are named, so that later migrations can name them."""

    metadata = sa.MetaData(naming_convention=_NAMES)


class AccountRow(Base):
    """An account."""

    __tablename__ = "account"
    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    email: Mapped[str] = mapped_column(sa.String(254))
    email_key: Mapped[str] = mapped_column(sa.String(254), unique=True)
    """The address with case and composition folded: what makes it the same address."""
    display_name: Mapped[str] = mapped_column(sa.String(254))
    password_hash: Mapped[str] = mapped_column(sa.String(255))
    created_ms: Mapped[int] = mapped_column(sa.BigInteger)
    verified_ms: Mapped[int | None] = mapped_column(sa.BigInteger)
    last_sign_in_ms: Mapped[int | None] = mapped_column(sa.BigInteger)


class VerificationRow(Base):
    """A mailed verification token, hashed, and what it brings into force. Kept while its account is unverified."""

    __tablename__ = "verification"
    token_hash: Mapped[str] = mapped_column(_HASH, primary_key=True)
    user_id: Mapped[str] = mapped_column(sa.ForeignKey("account.id", ondelete="CASCADE"), index=True)
    password_hash: Mapped[str] = mapped_column(sa.String(255))
    display_name: Mapped[str] = mapped_column(sa.String(254))
    created_ms: Mapped[int] = mapped_column(sa.BigInteger)
    expires_ms: Mapped[int] = mapped_column(sa.BigInteger)


class SessionRow(Base):
    """A sign-in."""

    __tablename__ = "session"
    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    user_id: Mapped[str] = mapped_column(sa.ForeignKey("account.id", ondelete="CASCADE"), index=True)
    created_ms: Mapped[int] = mapped_column(sa.BigInteger)
    expires_ms: Mapped[int] = mapped_column(sa.BigInteger)
    access_expires_ms: Mapped[int] = mapped_column(sa.BigInteger)
    previous_sign_in_ms: Mapped[int | None] = mapped_column(sa.BigInteger)
    ended_ms: Mapped[int | None] = mapped_column(sa.BigInteger)


class RefreshTokenRow(Base):
    """A refresh token, hashed. Used ones stay as long as their session, so that their reuse is noticed."""

    __tablename__ = "refresh_token"
    token_hash: Mapped[str] = mapped_column(_HASH, primary_key=True)
    session_id: Mapped[str] = mapped_column(sa.ForeignKey("session.id", ondelete="CASCADE"), index=True)
    created_ms: Mapped[int] = mapped_column(sa.BigInteger)
    used_ms: Mapped[int | None] = mapped_column(sa.BigInteger)


class RevocationRow(Base):
    """Something that is refused, while a token of it could live; of a user, until every follower has confirmed it."""

    __tablename__ = "revocation"
    cursor: Mapped[int] = mapped_column(sa.BigInteger, primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(sa.String(10))
    subject: Mapped[str] = mapped_column(_ID)
    created_ms: Mapped[int] = mapped_column(sa.BigInteger)
    expires_ms: Mapped[int] = mapped_column(sa.BigInteger)


class RevocationCursorRow(Base):
    """The latest cursor: one row, whose lock makes cursors become visible in their order.

    A sequence would not: a later number can be committed before an earlier one, and a follower would pass that by.
    """

    __tablename__ = "revocation_cursor"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    value: Mapped[int] = mapped_column(sa.BigInteger)


class FollowerRow(Base):
    """How far a service has done its part of what is revoked; a row for each, from the beginning."""

    __tablename__ = "revocation_follower"
    role: Mapped[str] = mapped_column(sa.String(20), primary_key=True)
    confirmed: Mapped[int] = mapped_column(sa.BigInteger)


class SigningKeyRow(Base):
    """A key that access tokens are signed with; its private half is wrapped."""

    __tablename__ = "signing_key"
    kid: Mapped[str] = mapped_column(_ID, primary_key=True)
    created_ms: Mapped[int] = mapped_column(sa.BigInteger)
    public: Mapped[bytes] = mapped_column(sa.LargeBinary)
    wrapped: Mapped[bytes] = mapped_column(sa.LargeBinary)


class TallyRow(Base):
    """How often something has happened within a window."""

    __tablename__ = "tally"
    key: Mapped[str] = mapped_column(sa.String(100), primary_key=True)
    window_start_ms: Mapped[int] = mapped_column(sa.BigInteger)
    number: Mapped[int] = mapped_column(sa.Integer)
    # Not `count`: rows are tuples, which have a method of that name.


class AuditRow(Base):
    """One line of the audit log. Rows are only ever added, and pseudonymised where their user has gone."""

    __tablename__ = "audit"
    # SQLite numbers rows by itself only where the type is exactly INTEGER.
    id: Mapped[int] = mapped_column(sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True)
    at_ms: Mapped[int] = mapped_column(sa.BigInteger, index=True)
    action: Mapped[str] = mapped_column(sa.String(30))
    outcome: Mapped[str] = mapped_column(sa.String(50))
    user_id: Mapped[str | None] = mapped_column(_ID, index=True)
    session_id: Mapped[str | None] = mapped_column(_ID)
    address: Mapped[str] = mapped_column(sa.String(100))
    peer: Mapped[str] = mapped_column(sa.String(500))
