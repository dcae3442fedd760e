"""Wakes those who wait for something to happen to a job."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator


class Waiter:
    """One who waits. What happened since the last `wait` is remembered, so that nothing is missed between two."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def wake(self) -> None:
        """Ends the wait, or the next one."""
        self._event.set()

    async def wait(self, timeout_s: float) -> bool:
        """Returns when something has happened (True) or the time is over (False)."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


class Hub:
    """Waiters by job id."""

    def __init__(self) -> None:
        self._waiters: dict[int, set[Waiter]] = {}

    @contextlib.contextmanager
    def waiting(self, job_id: int) -> Iterator[Waiter]:
        """Gives a waiter for a job."""
        waiter = Waiter()
        self._waiters.setdefault(job_id, set()).add(waiter)
        try:
            yield waiter
        finally:
            waiters = self._waiters[job_id]
            waiters.discard(waiter)
            if not waiters:
                del self._waiters[job_id]

    def notify(self, job_ids: Iterable[int]) -> None:
        """Wakes all who wait for one of the jobs."""
        for job_id in job_ids:
            for waiter in self._waiters.get(job_id, ()):
                waiter.wake()
