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

        def work(connection: Connection) -> None:
            connection.execute(
                sa.insert(SigningKeyRow).values(
                    kid=key.kid, created_ms=key.created_ms, public=key.public, wrapped=key.wrapped
                )
            )

        await self._database.write(work)
