"""Batches of what walks and listings find, on their way to the queue."""

from __future__ import annotations

from collections.abc import Sequence

from wherry_worker.ports import Reports
from wherry_worker.work import Found, LeaseRef

#: Batches sent in one go before the queue's word is waited for; so many are kept for sending again.
_BATCHES_IN_FLIGHT = 4


class BatchSender:
    """Sends batches a few at a time."""

    def __init__(self, reports: Reports, ref: LeaseRef) -> None:
        self._reports = reports
        self._ref = ref
        self._waiting: list[Found] = []

    async def add(self, batch: Found) -> None:
        """Takes a batch, and sends those that wait where they are enough."""
        self._waiting.append(batch)
        if len(self._waiting) >= _BATCHES_IN_FLIGHT:
            await self.flush()

    async def flush(self) -> None:
        """Sends what waits; returns when it is durable."""
        waiting: Sequence[Found] = self._waiting
        self._waiting = []
        if waiting:
            await self._reports.report(self._ref, waiting)
