"""Deletes what has expired: tokens, sessions, revocations, tallies, and accounts that were never confirmed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from wherry_chassis.errors import DatabaseUnavailable
from wherry_chassis.logging import logger

from wherry_user.clock import Clock

_PERIOD_S = 60.0
UNCONFIRMED_KEPT_MS = 30 * 86_400_000
"""How long an account stays whose address nobody has confirmed; until then one can have the mail sent again."""


class SweepStore(Protocol):
    """Deletes what has expired."""

    async def sweep(self, now_ms: int) -> Mapping[str, int]:
        """Deletes; returns how many of each sort."""
        ...


class Sweeper:
    """Sweeps every minute."""

    def __init__(self, store: SweepStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def run(self) -> None:
        """Sweeps, for ever."""
        while True:
            try:
                swept = await self._store.sweep(self._clock())
                if any(swept.values()):
                    logger().info("swept", **{kind: count for kind, count in swept.items() if count})
            except DatabaseUnavailable:
                logger().warning("sweep_failed")
            await asyncio.sleep(_PERIOD_S)
