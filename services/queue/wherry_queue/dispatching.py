"""Brings tasks to workers: one dispatcher for each replica, since rival leasers only stand in each other's way.

Leases live in the database; here is only what this replica has given out and to whom. A worker whose stream is lost
keeps its leases until their deadlines: it may be on its way to another stream. The database has one row for the
replica, not one for each lease: while it stands, so do the replica's leases.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.engine import Connection
from wherry_chassis.errors import DatabaseUnavailable
from wherry_chassis.logging import logger
from wherry_chassis.sql import Database, database_now_ms

from wherry_queue.bulletin import Bulletin, Topic
from wherry_queue.own_replica import OwnReplica
from wherry_queue.progress import NOTHING_MOVED, Moved, ProgressBoard
from wherry_queue.sign_ins import Pair, SignInNews
from wherry_queue.states import WorkClass
from wherry_queue.stops import Stops
from wherry_queue.store import lanes, leases, phases
from wherry_queue.store.leases import LeasedTask
from wherry_queue.store.limits import NO_LIMITS, Defaults
from wherry_queue.workers import GivenLease, Held, Ref, WorkerStream

_BATCH = 500
_POLL_S = 1.0
"""NOTIFY and wake-ups are only hints; a slow look is the truth."""


@dataclass(frozen=True, slots=True)
class LeaseTerms:
    """How long things hold."""

    ttl_s: float
    heartbeat_s: float
    limits: Defaults = NO_LIMITS


class Dispatcher:
    """Leases tasks to the workers whose streams are open here, renews, stops and takes back.

    Attributes:
        draining: whether this replica ends, and takes no worker any more.
        stops: sends word to stop to those workers.
    """

    def __init__(
        self,
        database: Database,
        replica: OwnReplica,
        bulletin: Bulletin,
        progress: ProgressBoard,
        terms: LeaseTerms,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._replica = replica
        self._bulletin = bulletin
        self._progress = progress
        self.terms = terms
        self._clock = clock
        self._workers: set[WorkerStream] = set()
        self._lost: dict[int, Held] = {}
        self._unsent: list[Ref] = []
        self._in_doubt = False
        self._stray: dict[Ref, float] = {}
        self._news = asyncio.Event()
        self.draining = False
        self.stops = Stops(database, self._workers, self.wake, clock=clock)
        bulletin.subscribe(Topic.READY, lambda _items: self.wake())
        bulletin.subscribe(Topic.HELD, self.stops.note)
        bulletin.on_gap(self.stops.note_all)
        bulletin.on_gap(self.wake)

    # --- what servicers tell it -------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Says that there may be something to lease, or room for it."""
        self._news.set()

    @property
    def replica_id(self) -> int | None:
        """The id of this replica's row, once it has one."""
        return self._replica.id

    @property
    def workers(self) -> Collection[WorkerStream]:
        """The workers whose streams are open here."""
        return self._workers

    @property
    def has_workers(self) -> bool:
        """Whether any worker would take bulk work, now or when it has ended something."""
        return any(not worker.draining and any(worker.places.values()) for worker in self._workers)

    async def open(self, worker: WorkerStream, held: Sequence[Ref]) -> list[Ref]:
        """Adds a worker; returns those of `held` that are no longer its own."""
        await self._replica.ready()
        adopted: list[LeasedTask] = []
        if held:
            replica_id = self._replica.require()
            adopted = await self._adopt(replica_id, held, worker.thumbprint)
        deadline_s = self._clock() + self.terms.ttl_s
        for task in adopted:
            self._lost.pop(task.task_id, None)
            for other in self._workers:
                other.held.pop(task.task_id, None)
            worker.held[task.task_id] = Held(task, deadline_s)
        self.heard(worker)
        self._workers.add(worker)
        if self.draining:  # that began while the leases that it brings were looked up
            worker.end()
        self._renew(worker, list(worker.held.values()), deadline_s)
        await self.stops.look_up([task.job_id for task in adopted])
        logger().info("worker_joined", worker=worker.name, adopted=len(adopted), brought=len(held))
        self.wake()
        kept = {(task.task_id, task.fence) for task in adopted}
        return [ref for ref in held if ref not in kept]

    def heard(self, worker: WorkerStream) -> None:
        """Notes a sign of life: a worker's leases are renewed from its last one on, and lapse without."""
        worker.heard_s = self._clock()

    def close(self, worker: WorkerStream) -> None:
        """Notes that a worker's stream has ended; the leases that it was sent wait for it until their deadlines."""
        self._workers.discard(worker)
        for task_id, fence in worker.take_back():
            if worker.held.pop(task_id, None) is not None:
                self._unsent.append((task_id, fence))
                self.wake()
        for held in worker.held.values():
            self._lost[held.task.task_id] = held
        if worker.held:
            logger().warning("worker_left_with_leases", worker=worker.name, leases=len(worker.held))
        worker.held.clear()

    def holder(self, ref: Ref) -> Held | None:
        """Returns a lease that is known here; None where it is not, or no longer."""
        for worker in self._workers:
            held = worker.held.get(ref[0])
            if held is not None and held.ref == ref:
                return held
        held = self._lost.get(ref[0])
        return held if held is not None and held.ref == ref else None

    def worker_of(self, ref: Ref) -> str | None:
        """Returns the name of the worker whose stream here has a lease; None where none has."""
        for worker in self._workers:
            held = worker.held.get(ref[0])
            if held is not None and held.ref == ref:
                return worker.name
        return None

    def landing(self, ref: Ref, done: Moved, thumbprint: str) -> tuple[int, Moved]:
        """Notes that the result of a lease is about to be written; returns (job, what no longer moves).

        Args:
            done: what of the attempt is there for good.
            thumbprint: of the certificate of the worker that says so; of another's lease nothing is noted.
        """
        mine = [worker.held.get(ref[0]) for worker in self._workers if worker.thumbprint == thumbprint]
        held = next((lease for lease in mine if lease is not None and lease.ref == ref), None)
        if held is None:
            return 0, NOTHING_MOVED
        # What only the destination has is removed after all copying, and is not what the job is said to move.
        done = NOTHING_MOVED if held.task.extraneous else done
        return held.task.job_id, self._progress.ended(held.task.job_id, ref[0], done)

    def settled(self, ref: Ref) -> None:
        """Notes that a lease has ended, and with it those before it of the same task."""
        for worker in self._workers:
            held = worker.held.get(ref[0])
            if held is not None and held.ref[1] <= ref[1]:
                del worker.held[ref[0]]
        held = self._lost.get(ref[0])
        if held is not None and held.ref[1] <= ref[1]:
            del self._lost[ref[0]]
        self.wake()

    def ready(self) -> None:
        """Says to all replicas that there is something to lease; this one may have no worker with room for it."""
        self._bulletin.say(Topic.READY)

    def changed(self, job_ids: Iterable[int]) -> None:
        """Says to all replicas that something has happened to jobs: who watches them looks."""
        self._bulletin.say(Topic.JOBS, list(job_ids))

    def held(self, job_ids: Iterable[int]) -> None:
        """Says to all replicas that jobs were cancelled or held, or go on: they look what of them has to stop."""
        ids = list(job_ids)
        if ids:
            self._bulletin.say(Topic.HELD, ids)
            self.changed(ids)

    def signed(self, news: SignInNews) -> None:
        """Takes news of sign-ins, after they were written: what was parked has to stop, what was opened may go."""
        self.held(news.closed)
        if news.opened:
            self.changed(news.opened)
            self.ready()

    def end_sessions(self, ended: Collection[Pair]) -> None:
        """Tells the workers whose streams are open here of sessions that have ended."""
        for worker in self._workers:
            worker.end_sessions(ended)

    def drain(self) -> None:
        """Asks all workers to go on elsewhere, and takes no others: this replica ends."""
        self.draining = True
        for worker in self._workers:
            worker.end()

    # --- its own work -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Dispatches for ever."""
        while True:
            try:
                due_s = await self._round()
            except DatabaseUnavailable:
                # The lease may have been committed though its answer was lost: see `settle_doubt`.
                self._in_doubt = True
                logger().warning("dispatch_interrupted")
                due_s = 1.0
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(due_s):
                    await self._news.wait()

    async def _round(self) -> float:
        """Releases what is due and leases what there is room for; returns when to look again, in seconds."""
        await self._replica.ready()
        self._news.clear()
        if unsent := list(self._unsent):
            self.changed(await self._database.write(leases.requeue, self._replica.require(), unsent, given=False))
            del self._unsent[: len(unsent)]
        await self._database.write(_release_due)
        for work_class in (WorkClass.INTERACTIVE, WorkClass.BULK):
            while want := min(sum(worker.room(work_class) for worker in self._workers), _BATCH):
                replica_id, began_s = self._replica.require(), self._clock()
                taken = await self._database.write(leases.lease, replica_id, work_class, want, self.terms.limits)
                given = await self._hand_out(taken, began_s)
                if not given:
                    break  # what nobody here can do would be taken again at once
                # Fewer than wanted is no sign that there are no more: lanes that share a limit stood in others' places.
                if len(taken) < want and work_class is not WorkClass.BULK:
                    break
        next_ms = await self._database.read(_due_in_ms)
        return _POLL_S if next_ms is None else max(min(next_ms / 1000, _POLL_S), 0.005)

    async def _hand_out(self, taken: Sequence[LeasedTask], began_s: float) -> int:
        """Gives leases to workers, and back what none of them takes; returns how many were given."""
        deadline_s = self._clock() + self.terms.ttl_s
        unwanted: list[LeasedTask] = []
        chosen: dict[WorkerStream, list[LeasedTask]] = {}
        for task in taken:
            worker = self._choose(task, chosen)
            if worker is None:
                unwanted.append(task)
            else:
                chosen.setdefault(worker, []).append(task)
        for worker, tasks in chosen.items():
            await self._database.write(leases.assign, worker.thumbprint, [(t.task_id, t.fence) for t in tasks])
            if worker not in self._workers:
                unwanted += tasks  # it left meanwhile
                continue
            for task in tasks:
                worker.give(self._sign(worker, task, self.terms.ttl_s), deadline_s)
                if (reason := self.stops.reason_since(task.job_id, began_s)) is not None:
                    worker.stop(task, reason)
        if unwanted:
            replica_id = self._replica.require()
            refs = [(task.task_id, task.fence) for task in unwanted]
            await self._database.write(leases.requeue, replica_id, refs, given=False)
        self.changed({task.job_id for task in taken})
        return len(taken) - len(unwanted)

    def _choose(self, task: LeasedTask, chosen: Mapping[WorkerStream, Sequence[LeasedTask]]) -> WorkerStream | None:
        """Returns the worker with the most room, what is chosen for it already counted; ties by chance."""

        def room(worker: WorkerStream) -> int:
            return worker.room(task.work_class) - len(chosen.get(worker, ()))

        able = [worker for worker in self._workers if worker.takes(task.kind) and room(worker) > 0]
        return max(able, key=lambda worker: (room(worker), random.random()), default=None)  # noqa: S311

    async def _adopt(self, replica_id: int, held: Sequence[Ref], thumbprint: str) -> list[LeasedTask]:
        try:
            return await self._database.write(leases.adopt, replica_id, held, thumbprint)
        except BaseException:
            # It may have been committed all the same; the comparison with the database finds out.
            self._in_doubt = True
            raise

    def _sign(self, worker: WorkerStream, task: LeasedTask, left_s: float) -> GivenLease:
        sites = [task.source_site]
        if task.destination_site != task.source_site:
            sites.append(task.destination_site)
        paths = [task.source_path] + ([task.destination_path] if task.destination_path is not None else [])
        token = self._replica.signer.sign(
            task=task.name,
            fence=task.fence,
            user=task.user,
            sites=sites,
            paths=[path.decode("utf-8", "backslashreplace") for path in paths],
            operation=task.kind.name,
            thumbprint=worker.thumbprint,
            now_s=time.time(),
            ttl_s=left_s,
        )
        return GivenLease(task, token, left_s)

    def _renew(self, worker: WorkerStream, due: Sequence[Held], deadline_s: float) -> None:
        if due:
            left_s = deadline_s - self._clock()
            worker.renew([self._sign(worker, held.task, left_s) for held in due], deadline_s)

    async def keep_leases(self) -> None:
        """Renews what workers hold that give signs of life, and takes back what has lapsed; to be called often."""
        now_s = self._clock()
        renew_below_s = now_s + self.terms.ttl_s - self.terms.heartbeat_s
        for worker in list(self._workers):
            deadline_s = worker.heard_s + self.terms.ttl_s
            if deadline_s <= now_s:
                # Its connection stands, but it hangs, or its machine does.
                logger().warning("worker_silent", worker=worker.name)
                worker.end()
                self.close(worker)
                continue
            held = worker.held.values()
            self._renew(worker, [h for h in held if h.deadline_s < min(deadline_s, renew_below_s)], deadline_s)
        await self.stops.look_again(self._replica.require())
        if self._in_doubt:
            await self.settle_doubt()
        await self._take_back([held for held in self._lost.values() if held.deadline_s <= now_s])

    async def _take_back(self, lapsed: Sequence[Held]) -> None:
        if not lapsed:
            return
        replica_id = self._replica.require()
        # First out of what waits for its worker: one that comes back meanwhile is told that it has lost them.
        for held in lapsed:
            self._lost.pop(held.task.task_id, None)
            self._progress.ended(held.task.job_id, held.task.task_id)
        try:
            jobs = await self._database.write(leases.requeue, replica_id, [held.ref for held in lapsed])
        except DatabaseUnavailable:
            self._lost |= {held.task.task_id: held for held in lapsed}
            raise
        logger().warning("leases_lapsed", count=len(lapsed))
        await self.open_phases(jobs)
        self.changed(jobs)
        self.wake()

    async def settle_doubt(self) -> None:
        """Brings what is known here and what the database says of this replica's leases together.

        What has ended there is forgotten here. What has run there for a while and is not known here was given to
        nobody, or its giving was not written down, and is taken back; a moment of it may be a lease on its way.
        """
        replica_id = self._replica.require()
        known = [held.ref for worker in self._workers for held in worker.held.values()]
        known += [held.ref for held in self._lost.values()]
        running = set(await self._database.read(leases.running_on, replica_id))
        for ref in known:
            if ref not in running and (held := self.holder(ref)) is not None:
                self._progress.ended(held.task.job_id, ref[0])
                self.settled(ref)
        now_s = self._clock()
        unknown = {ref for ref in running if self.holder(ref) is None}
        self._stray = {ref: self._stray.get(ref, now_s) for ref in unknown}
        stray = [ref for ref, since_s in self._stray.items() if now_s - since_s >= self.terms.ttl_s / 2]
        if stray:
            jobs = await self._database.write(leases.requeue, replica_id, stray, given=False)
            logger().warning("leases_of_nobody", count=len(stray))
            self.changed(jobs)
            self.wake()
        self._in_doubt = bool(unknown)

    async def open_phases(self, job_ids: Iterable[int]) -> None:
        """Opens the next phase of jobs whose current one has ended. Its own transaction: it locks lanes."""
        due = await self._database.read(phases.phases_due, list(job_ids))  # to lock a lane hides it from the leaser
        for job_id in due:
            if await self._database.write(phases.open_next_phase, job_id):
                self.ready()


def _release_due(connection: Connection) -> int:
    return lanes.release_delayed(connection, database_now_ms(connection))


def _due_in_ms(connection: Connection) -> int | None:
    due_ms = lanes.next_release_ms(connection)
    return None if due_ms is None else max(due_ms - database_now_ms(connection), 0)
