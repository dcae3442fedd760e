"""Wakes those who wait for something to happen to a job. It is a hint; the database is the truth."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Iterator


class Waiter:
    """One who waits. What happened since the last `wait` is remembered, so that nothing is missed between two."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._happened: set[int] = set()

    def wake(self, job_id: int | None = None) -> None:
        """Ends the wait, or the next one; says to which job something has happened, if to one."""
        if job_id is not None:
            self._happened.add(job_id)
        self._event.set()

    async def wait(self, timeout_s: float) -> frozenset[int]:
        """Returns when something has happened, or the time is over; gives the jobs to which something has."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        self._event.clear()
        happened, self._happened = frozenset(self._happened), set()
        return happened


class Hub:
    """Waiters by job. `notify` is what the bulletin's topic of jobs calls."""

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
                waiter.wake(job_id)
