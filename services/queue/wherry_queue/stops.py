"""Word to stop for what runs at this replica and shall not: its job was cancelled, paused, banned, or its owner is
signed out somewhere.

That stands in the database, whoever was asked. Word of it on the bulletin brings it to the workers at once; what is not
heard there is found by looking again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from wherry_chassis.errors import DatabaseUnavailable
from wherry_chassis.logging import logger
from wherry_chassis.sql import Database

from wherry_queue.store import stopping
from wherry_queue.workers import WorkerStream

_MEMORY_S = 30.0
"""Longer than it takes to lease a task and hand it out."""


class Stops:
    """Sends word to stop.

    Args:
        database: of the queue.
        workers: those whose streams are open here; they come and go.
        looked: called when jobs that were noted have been looked up: they may go on as well.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        database: Database,
        workers: Collection[WorkerStream],
        looked: Callable[[], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._workers = workers
        self._looked = looked
        self._clock = clock
        self._told: dict[int, tuple[float, str]] = {}
        self._noted: set[int] = set()
        self._news = asyncio.Event()

    def reason_since(self, job_id: int, began_s: float) -> str | None:
        """Returns why a job was to stop at some time since then; None where it was not."""
        told_s, reason = self._told.get(job_id, (float("-inf"), ""))
        return reason if told_s >= began_s else None

    def note(self, job_ids: Sequence[Any]) -> None:
        """Has jobs looked up that were cancelled or held, or go on."""
        self._noted.update(job_ids)
        self._news.set()

    def note_all(self) -> None:
        """Looks at all that is run here: somebody may have said something that was not heard."""
        self.note([held.task.job_id for worker in self._workers for held in worker.held.values()])

    async def run(self) -> None:
        """Looks up for ever what was noted."""
        while True:
            await self._news.wait()
            self._news.clear()
            noted, self._noted = self._noted, set()
            try:
                await self.look_up(noted)
            except DatabaseUnavailable:
                logger().warning("stopping_interrupted")  # maintenance finds them
            self._looked()

    async def look_up(self, job_ids: Collection[int]) -> None:
        """Looks up which of the jobs shall not run, and stops what runs of them here; raises DatabaseUnavailable."""
        if job_ids:
            self._stop(await self._database.read(stopping.reasons_to_stop, list(job_ids)))

    async def look_again(self, replica_id: int) -> None:
        """Stops what runs here and shall not, as the database has it; what has been told so already is not again."""
        reasons = await self._database.read(stopping.to_stop, replica_id)
        for worker in self._workers:
            for held in worker.held.values():
                reason = reasons.get(held.task.job_id, "")
                if reason and worker.stopped.get(held.task.task_id) != (held.task.fence, reason):
                    worker.stop(held.task, reason)
        now_s = self._clock()
        self._told = {job: told for job, told in self._told.items() if now_s - told[0] < _MEMORY_S}

    def _stop(self, reasons: Mapping[int, str]) -> None:
        """Sends word to whoever runs tasks of jobs, by reason, now or in leases that are being given out."""
        now_s = self._clock()
        for job_id, reason in reasons.items():
            self._told[job_id] = (now_s, reason)
        for worker in self._workers:
            for held in worker.held.values():
                if reason := reasons.get(held.task.job_id, ""):
                    worker.stop(held.task, reason)
