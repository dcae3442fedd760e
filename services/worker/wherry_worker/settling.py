"""Keeps results until the queue has acknowledged them."""

from __future__ import annotations

import asyncio
import itertools
import random

from wherry_chassis.logging import logger

from wherry_worker.ports import Queue, QueueUnavailable, SettlementRefused
from wherry_worker.work import LeaseRef, Settlement

#: The contract's bound is 1,000 and 4 MiB a message; a settlement with results is up to 400 KiB.
_BATCH_WEIGHT = 1 << 20
_BATCH_COUNT = 1000
FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 5.0


class Settler:
    """Sends settlements in batches, again and again, to whichever replica answers."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._waiting: dict[LeaseRef, Settlement] = {}
        self._most = _BATCH_COUNT
        self._something = asyncio.Event()
        self._nothing = asyncio.Event()
        self._nothing.set()

    @property
    def held(self) -> list[LeaseRef]:
        """Leases whose result is not acknowledged yet."""
        return list(self._waiting)

    def add(self, settlement: Settlement) -> None:
        """Takes a result; it will be settled."""
        self._waiting[settlement.ref] = settlement
        self._nothing.clear()
        self._something.set()

    async def settled(self) -> None:
        """Returns once nothing waits."""
        await self._nothing.wait()

    async def run(self) -> None:
        """Settles until cancelled."""
        wait_s = FIRST_WAIT_S
        while True:
            await self._something.wait()
            batch = self._batch()
            try:
                acknowledged = await self._queue.settle(batch)
                wait_s = FIRST_WAIT_S
            except SettlementRefused as error:
                acknowledged = self._sift(batch, error)
            except QueueUnavailable:
                logger().warning("settlement_delayed", waiting=len(self._waiting))
                acknowledged = set()
                await asyncio.sleep(wait_s * (0.5 + random.random()))  # noqa: S311  # jitter, no secret
                wait_s = min(wait_s * 2, LONGEST_WAIT_S)
            for ref in acknowledged:
                self._waiting.pop(ref, None)
            if not self._waiting:
                self._most = _BATCH_COUNT
                self._something.clear()
                self._nothing.set()

    def _sift(self, batch: list[Settlement], error: SettlementRefused) -> set[LeaseRef]:
        """Finds the one at fault by sending one at a time, and lets it go: its lease lapses and the task runs again."""
        self._most = 1
        if len(batch) > 1:
            return set()
        logger().error("settlement_refused", task=batch[0].ref.task, detail=str(error))
        return {batch[0].ref}

    def _batch(self) -> list[Settlement]:
        weight = 0
        batch: list[Settlement] = []
        for settlement in itertools.islice(self._waiting.values(), self._most):
            weight += 200 + len(settlement.log) + 80 * len(settlement.results) + 600 * len(settlement.failures)
            if batch and weight > _BATCH_WEIGHT:
                break
            batch.append(settlement)
        return batch
