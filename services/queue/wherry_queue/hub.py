"""Wakes those who wait for something to happen to jobs. It is a hint; the database is the truth."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterable, Iterator


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
    """Waiters by job, and by user for jobs that are yet to come."""

    def __init__(self) -> None:
        self._by_job: dict[int, set[Waiter]] = {}
        self._by_user: dict[str, dict[Waiter, set[int]]] = {}
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether whoever watches without an end has to stop: this replica ends."""
        return self._closed

    @contextlib.contextmanager
    def waiting(self, job_id: int) -> Iterator[Waiter]:
        """Gives a waiter for a job."""
        waiter = Waiter()
        self._add(waiter, job_id)
        try:
            yield waiter
        finally:
            self._remove(waiter, job_id)

    @contextlib.contextmanager
    def waiting_for_jobs_of(self, user: str) -> Iterator[Waiter]:
        """Gives a waiter for a user's jobs: those that begin from now on, and those that `follow` names."""
        waiter = Waiter()
        followed: set[int] = set()
        self._by_user.setdefault(user, {})[waiter] = followed
        try:
            yield waiter
        finally:
            for job_id in followed:
                self._remove(waiter, job_id)
            del self._by_user[user][waiter]
            if not self._by_user[user]:
                del self._by_user[user]

    def follow(self, user: str, waiter: Waiter, job_ids: Collection[int]) -> None:
        """Has a waiter for a user's jobs wait for just these from now on, and for new ones."""
        followed = self._by_user[user][waiter]
        wanted = set(job_ids)
        for job_id in followed - wanted:
            self._remove(waiter, job_id)
        for job_id in wanted - followed:
            self._add(waiter, job_id)
        followed.intersection_update(wanted)
        followed.update(wanted)

    def begun(self, user: str, job_id: int) -> None:
        """Says that a job has begun: wakes who waits for the user's, and has them wait for it."""
        for waiter, followed in self._by_user.get(user, {}).items():
            followed.add(job_id)
            self._add(waiter, job_id)
            waiter.wake(job_id)

    def notify(self, job_ids: Iterable[int]) -> None:
        """Wakes all who wait for one of the jobs."""
        for job_id in job_ids:
            for waiter in self._by_job.get(job_id, ()):
                waiter.wake(job_id)

    def close(self) -> None:
        """Wakes all, so that those who watch without an end see that it has come."""
        self._closed = True
        for waiters in (*self._by_job.values(), *self._by_user.values()):
            for waiter in waiters:
                waiter.wake()

    def _add(self, waiter: Waiter, job_id: int) -> None:
        self._by_job.setdefault(job_id, set()).add(waiter)

    def _remove(self, waiter: Waiter, job_id: int) -> None:
        waiters = self._by_job[job_id]
        waiters.discard(waiter)
        if not waiters:
            del self._by_job[job_id]
