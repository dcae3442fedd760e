"""The streams of JobService: one job until it has ended, or all of a user's for as long as somebody watches.

What a stream begins with it reads alone; what follows comes from the replica's feed, which reads for all together.
"""

from __future__ import annotations

import time
from asyncio import sleep
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any

from wherry.queue.v1 import job_service_pb2 as pb
from wherry.queue.v1 import job_service_pb2_grpc
from wherry_chassis.identity import current_caller
from wherry_chassis.sql import Database

from wherry_queue.hub import Waiter
from wherry_queue.jobs import JobNotFound
from wherry_queue.servicer import messages
from wherry_queue.states import FINISHED
from wherry_queue.store import reading, watching
from wherry_queue.store.reading import JobView
from wherry_queue.watch_feed import SHORTEST_S, WatchFeed
from wherry_queue.watch_list import Watcher

_EARLY = 0.1
"""A quiet job is read again for its sign of life; that is asked for such a part of the time before it is due."""
_MESSAGE_BYTES = 1 << 20
_VIEWS = 100
_ENDED = frozenset(getattr(pb, f"JOB_STATE_{state.name}") for state in FINISHED)
_OPERATIONS = frozenset(field.name for field in pb.Job.DESCRIPTOR.oneofs_by_name["operation"].fields)


class JobShowing:
    """How jobs are shown in watches."""

    def message(self, view: JobView) -> pb.Job:
        """Returns a job's message."""
        return messages.job_message(view)

    def content(self, message: pb.Job) -> int:
        """Returns the same number for messages that say the same of how the job is: elapsed time alone is no news."""
        # What was asked for never changes, and may be long.
        asked = {field.name: value for field, value in message.ListFields() if field.name not in _OPERATIONS}
        said = pb.Job(**asked)
        if said.HasField("progress"):
            for moment in ("elapsed", "average_bytes_per_second", "measure_time"):
                said.progress.ClearField(moment)  # what was measured is news, not when
        return hash(said.SerializeToString(deterministic=True))

    def size_bytes(self, message: pb.Job) -> int:
        """Returns a message's size."""
        return message.ByteSize()


class WatchServicer(job_service_pb2_grpc.JobServiceServicer):
    """The watching part of JobService."""

    def __init__(self, database: Database, feed: WatchFeed[pb.Job], *, heartbeat_s: float) -> None:
        self._database = database
        self._feed = feed
        self._heartbeat_s = heartbeat_s

    async def WatchJob(self, request: pb.WatchJobRequest, context: Any) -> AsyncIterator[pb.WatchJobResponse]:
        """Streams a job until it has ended."""
        user, uid = current_caller().user_name, messages.job_uid_of(request.name)
        job_id = await self._database.read(reading.job_id_of, user, uid)
        with self._feed.watching_job(job_id, user) as watcher:
            self._feed.go_on(watcher)
            job = messages.job_message(await self._database.read(reading.view_job, user, uid, self._feed.here()))
            self._feed.begins_with(watcher, job_id, job)
            self._feed.caught_up(watcher)
            yield pb.WatchJobResponse(job=job, last=job.state in _ENDED)
            said, ended, sent_s = _SHOWING.content(job), job.state in _ENDED, time.monotonic()
            del job  # it may be large, and there may be thousands of watchers
            while not ended:
                due_s = sent_s + self._heartbeat_s * (1 - _EARLY)
                told = await self._pause(watcher, due_s - time.monotonic())
                self._feed.go_on(watcher)
                for _, news in self._feed.shown(watcher, told):
                    if news is None:
                        raise JobNotFound(job=uid)
                    content, ended = _SHOWING.content(news), news.state in _ENDED
                    if content != said or ended or time.monotonic() >= due_s:
                        yield pb.WatchJobResponse(job=news, last=ended)
                        said, sent_s = content, time.monotonic()
                if not told:
                    self._feed.ask(watcher, [job_id], within_s=self._heartbeat_s * _EARLY)

    async def WatchJobs(self, request: pb.WatchJobsRequest, context: Any) -> AsyncIterator[pb.WatchJobsResponse]:
        """Streams all of a user's jobs."""
        user, count = current_caller().user_name, messages.page_size(request.page_size)
        with self._feed.watching_jobs_of(user) as watcher:
            self._feed.go_on(watcher)
            ids = await self._feed.begin(user, await self._database.read(watching.horizon, user, count))
            async for message in self._first(watcher, user, sorted(ids, reverse=True)):
                yield message
            del ids
            self._feed.caught_up(watcher)
            sent_s = time.monotonic()
            while True:
                told = await self._pause(watcher, sent_s + self._heartbeat_s - time.monotonic())
                self._feed.go_on(watcher)
                for message in self._news(watcher, told):
                    yield message
                    sent_s = time.monotonic()
                if time.monotonic() >= sent_s + self._heartbeat_s:
                    yield pb.WatchJobsResponse(caught_up=True)
                    sent_s = time.monotonic()

    async def _first(self, watcher: Watcher, user: str, ids: Sequence[int]) -> AsyncIterator[pb.WatchJobsResponse]:
        """Gives what a watch begins with, in messages of at most about a mebibyte; the last one says that it is."""
        message, size_bytes = pb.WatchJobsResponse(), 0
        for start in range(0, len(ids), _VIEWS):
            views = await self._database.read(watching.jobs, user, ids[start : start + _VIEWS], self._feed.here())
            for view in views:
                job = _SHOWING.message(view)
                self._feed.begins_with(watcher, view.row.id, job)
                if message.jobs and size_bytes + job.ByteSize() > _MESSAGE_BYTES:
                    yield message
                    message, size_bytes = pb.WatchJobsResponse(), 0
                message.jobs.append(job)
                size_bytes += job.ByteSize()
        message.caught_up = True
        yield message

    def _news(self, watcher: Watcher, told: Iterable[int]) -> Iterator[pb.WatchJobsResponse]:
        """Gives what has changed, in messages of at most about a mebibyte."""
        message, size_bytes = pb.WatchJobsResponse(caught_up=True), 0
        for _, job in self._feed.shown(watcher, told):
            if job is None:
                continue  # its time to be kept is over
            if message.jobs and size_bytes + job.ByteSize() > _MESSAGE_BYTES:
                yield message
                message, size_bytes = pb.WatchJobsResponse(caught_up=True), 0
            message.jobs.append(job)
            size_bytes += job.ByteSize()
        if message.jobs:
            yield message

    async def _pause(self, waiter: Waiter, longest_s: float) -> frozenset[int]:
        """Waits for news, and never for less than it takes not to say too much; gives the jobs that have some."""
        await sleep(SHORTEST_S)
        return await waiter.wait(max(longest_s - SHORTEST_S, 0))


_SHOWING = JobShowing()
