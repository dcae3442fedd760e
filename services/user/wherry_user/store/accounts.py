"""Rows of accounts and of their verifications."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from wherry_user.accounts import Account, Verification, email_key
from wherry_user.audit import AuditEvent
from wherry_user.models import AccountRow, VerificationRow
from wherry_user.store.base import StorePart, add_event


class AccountPart(StorePart):
    """Implements `wherry_user.accounts.AccountStore`; the methods are explained there."""

    async def register(self, account: Account, verification: Verification, event: AuditEvent) -> Account:
        """Keeps a registration; returns the account that has the address now."""

        def work(connection: Connection) -> Account:
            key = email_key(account.email)
            try:
                with connection.begin_nested():
                    connection.execute(sa.insert(AccountRow).values(email_key=key, **_values(account)))
                holder = account
            except IntegrityError:
                row = connection.execute(_by_email(key).with_for_update()).first()
                if row is None:  # withdrawn at this very moment
                    return work(connection)
                holder = _account(row)
            if holder.verified_ms is None:
                _add(connection, holder.id, verification)
                _adopt(connection, holder.id, verification)
            add_event(connection, replace(event, user_id=holder.id))
            return holder

        return await self._database.write(work)

    async def withdraw(self, verification_hash: str) -> None:
        """Takes a verification back whose mail did not go out."""

        def work(connection: Connection) -> None:
            query = sa.select(VerificationRow.user_id).where(VerificationRow.token_hash == verification_hash)
            if (user_id := connection.execute(query).scalar()) is None:
                return
            connection.execute(sa.delete(VerificationRow).where(VerificationRow.token_hash == verification_hash))
            others = sa.select(VerificationRow).where(VerificationRow.user_id == user_id)
            others = others.order_by(VerificationRow.created_ms.desc(), VerificationRow.token_hash)
            if (row := connection.execute(others).first()) is not None:
                _adopt(connection, user_id, _verification(row))
            else:
                connection.execute(
                    sa.delete(AccountRow).where(AccountRow.id == user_id, AccountRow.verified_ms.is_(None))
                )

        await self._database.write(work)

    async def resend(self, key: str, new_hash: str, now_ms: int, expires_ms: int, event: AuditEvent) -> Account | None:
        """Gives an unverified account a further verification and returns it; None for any other address."""

        def work(connection: Connection) -> Account | None:
            row = connection.execute(_by_email(key).where(AccountRow.verified_ms.is_(None)).with_for_update()).first()
            if row is None:
                return None
            account = _account(row)
            _add(
                connection,
                account.id,
                Verification(new_hash, account.password_hash, account.display_name, now_ms, expires_ms),
            )
            add_event(connection, replace(event, user_id=account.id))
            return account

        return await self._database.write(work)

    async def verify(self, verification_hash: str, now_ms: int, event: AuditEvent) -> bool:
        """Confirms the address that a live verification belongs to, once."""

        def work(connection: Connection) -> bool:
            # The delete decides who uses the token: of two at the same moment one finds the row gone.
            found = connection.execute(
                sa.delete(VerificationRow)
                .where(VerificationRow.token_hash == verification_hash, VerificationRow.expires_ms > now_ms)
                .returning(*VerificationRow.__table__.c)
            ).first()
            if found is None:
                return False
            _adopt(connection, found.user_id, _verification(found))
            connection.execute(sa.update(AccountRow).where(AccountRow.id == found.user_id).values(verified_ms=now_ms))
            connection.execute(sa.delete(VerificationRow).where(VerificationRow.user_id == found.user_id))
            add_event(connection, replace(event, user_id=found.user_id))
            return True

        return await self._database.write(work)

    async def account(self, user_id: str) -> Account | None:
        """Returns an account."""
        return await self._one(sa.select(AccountRow).where(AccountRow.id == user_id))

    async def account_by_email(self, key: str) -> Account | None:
        """Returns the account that has an address, given as `email_key`."""
        if "\0" in key:
            return None  # PostgreSQL has no such text, and refuses to look for it
        return await self._one(_by_email(key))

    async def replace_password_hash(self, user_id: str, old: str, new: str) -> None:
        """Sets an account's password hash, if it is still the old one."""
        change = sa.update(AccountRow).where(AccountRow.id == user_id, AccountRow.password_hash == old)
        await self._database.write(lambda connection: connection.execute(change.values(password_hash=new)).rowcount)

    async def _one(self, query: sa.Select[Any]) -> Account | None:
        row = await self._database.read(lambda connection: connection.execute(query).first())
        return None if row is None else _account(row)


def _by_email(key: str) -> sa.Select[Any]:
    return sa.select(AccountRow).where(AccountRow.email_key == key)


def _add(connection: Connection, user_id: str, verification: Verification) -> None:
    connection.execute(
        sa.insert(VerificationRow).values(
            token_hash=verification.token_hash,
            user_id=user_id,
            password_hash=verification.password_hash,
            display_name=verification.display_name,
            created_ms=verification.created_ms,
            expires_ms=verification.expires_ms,
        )
    )


def _adopt(connection: Connection, user_id: str, verification: Verification) -> None:
    """Gives an unverified account what came with a registration."""
    connection.execute(
        sa.update(AccountRow)
        .where(AccountRow.id == user_id, AccountRow.verified_ms.is_(None))
        .values(password_hash=verification.password_hash, display_name=verification.display_name)
    )


def _values(account: Account) -> dict[str, Any]:
    return {
        "id": account.id,
        "email": account.email,
        "display_name": account.display_name,
        "password_hash": account.password_hash,
        "created_ms": account.created_ms,
        "verified_ms": account.verified_ms,
        "last_sign_in_ms": account.last_sign_in_ms,
    }


def _account(row: sa.Row[Any]) -> Account:
    return Account(
        id=row.id,
        email=row.email,
        display_name=row.display_name,
        password_hash=row.password_hash,
        created_ms=row.created_ms,
        verified_ms=row.verified_ms,
        last_sign_in_ms=row.last_sign_in_ms,
    )


def _verification(row: sa.Row[Any]) -> Verification:
    return Verification(row.token_hash, row.password_hash, row.display_name, row.created_ms, row.expires_ms)
