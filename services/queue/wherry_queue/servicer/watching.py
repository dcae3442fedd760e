"""The streams of JobService: one job until it has ended, or all of a user's for as long as somebody watches.

What this replica does to a job wakes its watchers; what others do is seen by looking.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Iterable
from typing import Any

from wherry.queue.v1 import job_service_pb2 as pb
from wherry.queue.v1 import job_service_pb2_grpc
from wherry_chassis.errors import DomainError, Kind
from wherry_chassis.identity import current_caller
from wherry_chassis.sql import Database

from wherry_queue.dispatching import Dispatcher
from wherry_queue.hub import Hub, Waiter
from wherry_queue.servicer import messages
from wherry_queue.states import FINISHED, job_state
from wherry_queue.store import reading, watching
from wherry_queue.store.watching import Signs

_SHORTEST_S = 0.25
"""Between two messages of a watch, however much happens."""
_POLL_S = 1.5
_SHARE = 20
"""A look at all of a user's jobs takes at most the twentieth part of a watch's time, however many they are."""
_LONGEST_POLL_S = 30.0
_MESSAGE_BYTES = 1 << 20
_VIEWS = 100


class ReplicaEnding(DomainError):
    """This replica of the service ends; open the stream again, and another one answers."""

    kind = Kind.UNAVAILABLE
    reason = "REPLICA_ENDING"


class WatchServicer(job_service_pb2_grpc.JobServiceServicer):
    """The watching part of JobService."""

    def __init__(self, database: Database, dispatcher: Dispatcher, hub: Hub, *, heartbeat_s: float) -> None:
        self._database = database
        self._dispatcher = dispatcher
        self._hub = hub
        self._heartbeat_s = heartbeat_s

    async def WatchJob(self, request: pb.WatchJobRequest, context: Any) -> AsyncIterator[pb.WatchJobResponse]:
        """Streams a job until it has ended."""
        user, uid = current_caller().user_name, messages.job_uid_of(request.name)
        job_id = await self._database.read(reading.job_id_of, user, uid)
        sent: pb.Job | None = None
        sent_s = 0.0
        with self._hub.waiting(job_id) as waiter:
            while True:
                self._go_on()
                view = await self._database.read(reading.view_job, user, uid)
                job = self._message(view)
                last = job_state(view.row) in FINISHED
                if last or _differs(job, sent) or time.monotonic() >= sent_s + self._heartbeat_s:
                    yield pb.WatchJobResponse(job=job, last=last)
                    sent, sent_s = job, time.monotonic()
                if last:
                    return
                await self._pause(waiter, min(_POLL_S, sent_s + self._heartbeat_s - time.monotonic()))

    async def WatchJobs(self, request: pb.WatchJobsRequest, context: Any) -> AsyncIterator[pb.WatchJobsResponse]:
        """Streams all of a user's jobs."""
        user = current_caller().user_name
        watch = _Watch(self._database, user, await self._horizon(user, messages.page_size(request.page_size)))
        with self._hub.waiting_for_jobs_of(user) as waiter:
            happened: frozenset[int] = frozenset()
            sent_s = float("-inf")
            caught_up = False
            while True:
                self._go_on()
                # Followed before they are looked at: what happens to them meanwhile wakes this watch.
                self._hub.follow(user, waiter, {*watch.open, *happened})
                changed = await watch.look(happened, has_workers=self._dispatcher.has_workers)
                self._hub.follow(user, waiter, watch.open)
                async for message in self._jobs(user, changed, caught_up=caught_up):
                    yield message
                    sent_s, caught_up = time.monotonic(), caught_up or message.caught_up
                if time.monotonic() >= sent_s + self._heartbeat_s or not caught_up:
                    caught_up = True
                    yield pb.WatchJobsResponse(caught_up=True)
                    sent_s = time.monotonic()
                due_s = min(watch.due_s, sent_s + self._heartbeat_s)
                happened = await self._pause(waiter, due_s - time.monotonic())

    async def _horizon(self, user: str, count: int) -> int:
        return await self._database.read(watching.horizon, user, count)

    async def _jobs(self, user: str, ids: Iterable[int], *, caught_up: bool) -> AsyncIterator[pb.WatchJobsResponse]:
        """Gives jobs, newest first, in messages of at most about a mebibyte."""
        ordered = sorted(ids, reverse=True)
        message, size_bytes = pb.WatchJobsResponse(caught_up=caught_up), 0
        for start in range(0, len(ordered), _VIEWS):
            for view in await self._database.read(watching.jobs, user, ordered[start : start + _VIEWS]):
                job = self._message(view)
                if message.jobs and size_bytes + job.ByteSize() > _MESSAGE_BYTES:
                    yield message
                    message, size_bytes = pb.WatchJobsResponse(caught_up=caught_up), 0
                message.jobs.append(job)
                size_bytes += job.ByteSize()
        if message.jobs:
            message.caught_up = True
            yield message

    async def _pause(self, waiter: Waiter, longest_s: float) -> frozenset[int]:
        """Waits for news, and never for less than it takes not to say too much; gives the jobs that have some."""
        await asyncio.sleep(_SHORTEST_S)
        return await waiter.wait(max(longest_s - _SHORTEST_S, 0))

    def _go_on(self) -> None:
        if self._hub.closed:
            raise ReplicaEnding

    def _message(self, view: reading.JobView) -> pb.Job:
        return messages.job_message(view, has_workers=self._dispatcher.has_workers)


class _Watch:
    """What a watcher knows of a user's jobs.

    Attributes:
        due_s: when all of them are to be looked at again, by the monotonic clock.
    """

    def __init__(self, database: Database, user: str, since_id: int) -> None:
        self.due_s = float("-inf")
        self._database = database
        self._user = user
        self._since_id = since_id
        self._known: dict[int, Signs] = {}
        self._had_workers = False

    @property
    def open(self) -> Collection[int]:
        """The jobs that had not ended when last looked at."""
        return [job_id for job_id, signs in self._known.items() if signs.open]

    async def look(self, happened: Collection[int], *, has_workers: bool) -> set[int]:
        """Looks at all of the jobs if that is due, else at those to which something has happened.

        Returns those that are new or have changed since the last look.
        """
        if time.monotonic() < self.due_s:
            found = await self._database.read(watching.look_at, self._user, happened) if happened else {}
            changed = self._news(found)
            self._known |= found
            return changed
        began_s = time.monotonic()
        look = await self._database.read(watching.look, self._user, self._since_id)
        now_s = time.monotonic()
        self.due_s = now_s + min(max(_POLL_S, _SHARE * (now_s - began_s)), _LONGEST_POLL_S)
        changed = self._news(look.signs)
        changed |= {job_id for job_id in self.open if job_id not in look.signs}  # they have ended, and lie far back
        if has_workers != self._had_workers:
            changed |= {job_id for job_id, signs in look.signs.items() if signs.waiting}
        self._known, self._since_id, self._had_workers = look.signs, look.since_id, has_workers
        return changed

    def _news(self, found: dict[int, Signs]) -> set[int]:
        return {job_id for job_id, signs in found.items() if self._known.get(job_id) != signs}


def _differs(job: pb.Job, sent: pb.Job | None) -> bool:
    """Tells whether there is news; elapsed time alone is none."""
    if sent is None:
        return True
    compared = []
    for message in (job, sent):
        copy = pb.Job()
        copy.CopyFrom(message)
        copy.progress.ClearField("elapsed")
        copy.progress.ClearField("average_bytes_per_second")
        compared.append(copy)
    return compared[0] != compared[1]
