"""This replica's row and signing keys: what its leases stand on."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from wherry_chassis.errors import DatabaseUnavailable
from wherry_chassis.logging import logger
from wherry_chassis.sql import Database

from wherry_queue.lease_tokens import LeaseTokenSigner
from wherry_queue.store import replicas

_KEY_LIFETIME_S = 86_400.0
_RETRY_S = 0.5


class OwnReplica:
    """The row by which the others know that this replica lives, renewed many times within its time to live.

    Args:
        ttl_s: how long the row, and each lease, stands without renewal.
        version: of this service, for operators.
    """

    def __init__(
        self, database: Database, ttl_s: float, version: str = "", *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._ttl_s = ttl_s
        self._version = version
        self._clock = clock
        self._signer = LeaseTokenSigner()
        self._key_made_s = float("-inf")
        self._renewed_s = float("-inf")
        self._steady_s = float("inf")
        self._id: int | None = None
        self._renewing = asyncio.Lock()

    @property
    def id(self) -> int | None:
        """The row's id, once there is one."""
        return self._id

    @property
    def signer(self) -> LeaseTokenSigner:
        """What signs lease tokens now; its public half is published."""
        return self._signer

    @property
    def steady(self) -> bool:
        """Whether the row has been renewed in time for one time to live.

        Only then may others' rows be judged: after an outage of the database all have expired, and whoever comes back
        first would take the leases of those who come a moment later.
        """
        return self._clock() >= self._steady_s

    def require(self) -> int:
        """Returns the row's id; raises DatabaseUnavailable before there is one."""
        if self._id is None:
            raise DatabaseUnavailable
        return self._id

    async def ready(self) -> None:
        """Waits until there is a row, and its key is published."""
        while self._id is None:
            with contextlib.suppress(DatabaseUnavailable):
                await self.renew()
                return
            await asyncio.sleep(_RETRY_S)

    async def renew(self) -> None:
        """Extends the row, and has another key when it is time; raises DatabaseUnavailable."""
        async with self._renewing:  # two at once, at the start, would make a row each
            await self._renew()

    async def _renew(self) -> None:
        now_s = self._clock()
        if now_s - self._key_made_s > _KEY_LIFETIME_S / 2:
            signer = LeaseTokenSigner()
            lifetime_ms = int(_KEY_LIFETIME_S * 1000)
            await self._database.write(replicas.publish_key, signer.kid, signer.public_key, lifetime_ms)
            self._signer, self._key_made_s = signer, now_s
        before = self._id
        self._id = await self._database.write(
            replicas.renew_replica, before, int(self._ttl_s * 1000), version=self._version
        )
        if before is not None and self._id != before:
            logger().error("replica_row_lost", old=before, new=self._id)
        if now_s - self._renewed_s >= self._ttl_s:
            self._steady_s = now_s + self._ttl_s
        self._renewed_s = now_s

    async def retire(self) -> None:
        """Gives the row up at the end of the process."""
        if self._id is not None:
            with contextlib.suppress(DatabaseUnavailable):
                await self._database.write(replicas.retire_replica, self._id)
