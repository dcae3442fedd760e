"""JobService."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from wherry.queue.v1 import job_service_pb2 as pb
from wherry.queue.v1 import job_service_pb2_grpc
from wherry_chassis.identity import current_caller
from wherry_chassis.sql import Database

from wherry_queue.dispatching import Dispatcher
from wherry_queue.hub import Hub
from wherry_queue.servicer import messages
from wherry_queue.servicer.creation import new_job
from wherry_queue.site_directory import SiteDirectory
from wherry_queue.states import FINISHED, job_state
from wherry_queue.store import control, reading, submission

_SHORTEST_S = 0.25
"""Between two messages of a watch, however much happens."""
_POLL_S = 2.0
"""What other replicas do to a job is seen by looking."""
_HEARTBEAT_S = 25.0


class JobServicer(job_service_pb2_grpc.JobServiceServicer):
    """Users' jobs."""

    def __init__(self, database: Database, dispatcher: Dispatcher, hub: Hub, directory: SiteDirectory) -> None:
        self._database = database
        self._dispatcher = dispatcher
        self._hub = hub
        self._directory = directory

    async def CreateJob(self, request: pb.CreateJobRequest, context: Any) -> pb.Job:
        """Accepts a job."""
        user = current_caller().user_name
        new = await new_job(request, user, self._directory)
        _, uid = await self._database.write(submission.submit, new)
        self._dispatcher.wake()
        return self._message(await self._database.read(reading.view_job, user, uid))

    async def GetJob(self, request: pb.GetJobRequest, context: Any) -> pb.Job:
        """Returns a job."""
        user = current_caller().user_name
        return self._message(await self._database.read(reading.view_job, user, _uid(request.name)))

    async def ListJobs(self, request: pb.ListJobsRequest, context: Any) -> pb.ListJobsResponse:
        """Lists jobs."""
        limit = messages.page_size(request.page_size)
        before = messages.page_key(request.page_token)
        views = await self._database.read(reading.list_jobs, current_caller().user_name, before, limit)
        more = str(views[-1].row.id) if len(views) == limit else ""
        return pb.ListJobsResponse(jobs=[self._message(view) for view in views], next_page_token=more)

    async def CancelJob(self, request: pb.CancelJobRequest, context: Any) -> pb.Job:
        """Cancels a job."""
        user, uid = current_caller().user_name, _uid(request.name)
        job_id = await self._database.write(control.cancel, user, uid)
        self._dispatcher.stop_job(job_id)
        self._hub.notify([job_id])
        return self._message(await self._database.read(reading.view_job, user, uid))

    async def WatchJob(self, request: pb.WatchJobRequest, context: Any) -> AsyncIterator[pb.WatchJobResponse]:
        """Streams a job until it has ended."""
        user, uid = current_caller().user_name, _uid(request.name)
        job_id = await self._database.read(reading.job_id_of, user, uid)
        sent: pb.Job | None = None
        sent_s = 0.0
        with self._hub.waiting(job_id) as waiter:
            while True:
                view = await self._database.read(reading.view_job, user, uid)
                job = self._message(view)
                last = job_state(view.row) in FINISHED
                if last or _differs(job, sent) or time.monotonic() - sent_s > _HEARTBEAT_S:
                    yield pb.WatchJobResponse(job=job, last=last)
                    sent, sent_s = job, time.monotonic()
                if last:
                    return
                await asyncio.sleep(_SHORTEST_S)
                await waiter.wait(_POLL_S)

    async def ListTasks(self, request: pb.ListTasksRequest, context: Any) -> pb.ListTasksResponse:
        """Lists a job's tasks."""
        uid, limit = _uid(request.parent), messages.page_size(request.page_size)
        after = messages.page_key(request.page_token) or 0
        rows = await self._database.read(reading.list_tasks, current_caller().user_name, uid, after, limit)
        more = str(rows[-1].id) if len(rows) == limit else ""
        return pb.ListTasksResponse(tasks=[messages.task_message(uid, row) for row in rows], next_page_token=more)

    async def GetTask(self, request: pb.GetTaskRequest, context: Any) -> pb.Task:
        """Returns a task."""
        uid, task_id = _uid(request.name), messages.task_id_of(request.name)
        row = await self._database.read(reading.get_task, current_caller().user_name, uid, task_id)
        return messages.task_message(uid, row)

    async def ListAttempts(self, request: pb.ListAttemptsRequest, context: Any) -> pb.ListAttemptsResponse:
        """Lists a task's attempts."""
        uid, task_id = _uid(request.parent), messages.task_id_of(request.parent)
        rows = await self._database.read(reading.list_attempts, current_caller().user_name, uid, task_id)
        attempts = [messages.attempt_message(request.parent, n, row) for n, row in enumerate(rows, start=1)]
        return pb.ListAttemptsResponse(attempts=attempts)

    async def ListFailures(self, request: pb.ListFailuresRequest, context: Any) -> pb.ListFailuresResponse:
        """Lists a job's failures."""
        uid, limit = _uid(request.parent), messages.page_size(request.page_size)
        after = messages.page_key(request.page_token) or 0
        rows = await self._database.read(reading.list_failures, current_caller().user_name, uid, after, limit)
        more = str(rows[-1].id) if len(rows) == limit else ""
        failures = [messages.entry_failure_message(row) for row in rows]
        return pb.ListFailuresResponse(failures=failures, next_page_token=more)

    def _message(self, view: reading.JobView) -> pb.Job:
        return messages.job_message(view, has_workers=self._dispatcher.has_workers)


def _uid(name: str) -> str:
    """Returns the job's uid in the name of a job or of something of it (its pattern was validated)."""
    return name.split("/")[1]


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
