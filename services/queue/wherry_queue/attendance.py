"""Writes down which workers have a stream at this replica, and does what operators want of it and of them.

Rows are the truth: an order stands in the row of the replica or the worker that it is about, and is looked for again
and again; a notice only has it looked for at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

from wherry_chassis.errors import DatabaseUnavailable
from wherry_chassis.logging import logger
from wherry_chassis.sql import Database

from wherry_queue.bulletin import Bulletin, Topic
from wherry_queue.dispatching import Dispatcher
from wherry_queue.draining import WorkerNameTaken
from wherry_queue.own_replica import OwnReplica
from wherry_queue.states import WorkClass
from wherry_queue.store.workers import WorkerRow, drain_orders, others_name, write_workers
from wherry_queue.workers import WorkerStream

_LOOK_S = 0.5
"""Who came, went or changed is written down within so long."""
_WRITE_S = 3.0
"""Signs of life and what workers hold are written down so often."""


class Attendance:
    """This replica's workers, as operators see them, and operators' orders to drain, as this replica sees them.

    Args:
        leave: has this replica send everybody elsewhere and take no others; called once, where that is ordered.
        drain_grace_s: so long a worker that is drained may go on with what it runs.
    """

    def __init__(
        self,
        database: Database,
        replica: OwnReplica,
        dispatcher: Dispatcher,
        bulletin: Bulletin,
        leave: Callable[[], None],
        *,
        drain_grace_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._replica = replica
        self._dispatcher = dispatcher
        self._leave = leave
        self._left = False
        self._drain_grace_s = drain_grace_s
        self._clock = clock
        self._news = asyncio.Event()
        self._written: object = None
        self._written_s = float("-inf")
        bulletin.subscribe(Topic.DRAIN, lambda _items: self._news.set())
        bulletin.on_gap(self._news.set)

    async def run(self) -> None:
        """Does it for ever."""
        while True:
            try:
                await self.once()
            except DatabaseUnavailable:
                logger().warning("attendance_interrupted")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._news.wait()

    async def admit(self, name: str, thumbprint: str) -> None:
        """Lets a worker in by name and certificate, unless the name means another one: who drains it would drain both.

        Raises:
            WorkerNameTaken: a stream of one with another certificate is open under it, here or at another replica.
        """
        here = any(one.name == name and one.thumbprint != thumbprint for one in self._dispatcher.workers)
        if here or await self._database.read(others_name, self._replica.id, name, thumbprint):
            raise WorkerNameTaken(worker=name)

    async def once(self) -> None:
        """Does what is due; raises DatabaseUnavailable."""
        asked = self._news.is_set()
        self._news.clear()
        if self._replica.id is None:
            return
        workers = {worker.name: worker for worker in sorted(self._dispatcher.workers, key=lambda one: one.opened_s)}
        seen = (self._replica.id, sorted(map(_seen, workers.values())))
        if not asked and seen == self._written and self._clock() < self._written_s + _WRITE_S:
            return
        rows = [self._row(worker) for worker in workers.values()]
        await self._database.write(write_workers, self._replica.id, rows)
        self._written, self._written_s = seen, self._clock()
        orders = await self._database.read(drain_orders, self._replica.id)
        for name in orders.workers:
            worker = workers.get(name)
            if worker is not None and not worker.draining:
                logger().info("worker_told_to_drain", worker=name)
                worker.drain(self._drain_grace_s)
        if orders.replica and not self._left:
            self._left = True
            logger().info("replica_drained", replica=self._replica.id)
            self._leave()

    def _row(self, worker: WorkerStream) -> WorkerRow:
        now_s = self._clock()
        return WorkerRow(
            name=worker.name,
            version=worker.version,
            open_ms=int((now_s - worker.opened_s) * 1000),
            silent_ms=int((now_s - worker.heard_s) * 1000),
            interactive_places=worker.places[WorkClass.INTERACTIVE],
            bulk_places=worker.places[WorkClass.BULK],
            held=len(worker.held),
            subject=worker.subject,
            thumbprint=worker.thumbprint,
        )


def _seen(worker: WorkerStream) -> tuple[Any, ...]:
    """Returns what is written down at once when it changes."""
    return (worker.name, worker.thumbprint, worker.opened_s, sorted(worker.places.items()))
