"""Rows of signing keys."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from wherry_user.models import SigningKeyRow
from wherry_user.signing import StoredKey
from wherry_user.store.base import StorePart


class SigningKeyPart(StorePart):
    """Implements `wherry_user.signing.SigningKeyStore`."""

    async def signing_keys(self) -> Sequence[StoredKey]:
        """Returns all, newest first."""
        query = sa.select(SigningKeyRow).order_by(SigningKeyRow.created_ms.desc(), SigningKeyRow.kid)
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return [StoredKey(row.kid, row.created_ms, row.public, row.wrapped) for row in rows]

    async def add_signing_key(self, key: StoredKey) -> None:
        """Adds one."""
        await self._database.write(lambda connection: _insert(connection, key))

    async def add_first_signing_key(self, key: StoredKey) -> None:
        """Adds one if there is none at all; of many who try at once, one succeeds."""

        def work(connection: Connection) -> None:
            # SQLite has one writer; here the others wait, and then see what the first of them has written.
            if connection.dialect.name == "postgresql":
                connection.execute(sa.text(f"lock table {SigningKeyRow.__tablename__} in share row exclusive mode"))
            if connection.execute(sa.select(SigningKeyRow.kid).limit(1)).first() is None:
                _insert(connection, key)

        await self._database.write(work)


def _insert(connection: Connection, key: StoredKey) -> None:
    values = {"kid": key.kid, "created_ms": key.created_ms, "public": key.public, "wrapped": key.wrapped}
    connection.execute(sa.insert(SigningKeyRow).values(values))
