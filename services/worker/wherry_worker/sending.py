"""Batches of what walks and listings find, on their way to the queue."""

from __future__ import annotations

import asyncio
from types import TracebackType

from wherry_worker.ports import Reports
from wherry_worker.work import Found, LeaseRef

#: So many batches may wait while others are on their way.
_MOST_WAITING = 4


class BatchSender:
    """Sends batches a few at a time, in their order, while more are gathered. A context: what is on its way ends too.

    Its methods raise what the reports raise, also for what was handed in before.
    """

    def __init__(self, reports: Reports, ref: LeaseRef) -> None:
        self._reports = reports
        self._ref = ref
        self._waiting: list[Found] = []
        self._sending: asyncio.Task[None] | None = None

    async def __aenter__(self) -> BatchSender:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)

    async def add(self, batch: Found) -> None:
        """Takes a batch; sends it at once where none is on its way, else with those that come meanwhile."""
        self._waiting.append(batch)
        if self._sending is None or self._sending.done() or len(self._waiting) >= _MOST_WAITING:
            await self._send()

    async def flush(self) -> None:
        """Sends what waits; returns when all is durable."""
        await self._send()
        await self._sent()

    async def _send(self) -> None:
        await self._sent()
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._sending = asyncio.create_task(self._reports.report(self._ref, waiting), name="report")

    async def _sent(self) -> None:
        sending, self._sending = self._sending, None
        if sending is not None:
            await sending  # who is cancelled here cancels it with that
