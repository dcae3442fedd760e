"""JobService."""

from __future__ import annotations

from typing import Any

from wherry.queue.v1 import job_service_pb2 as pb
from wherry_chassis.identity import current_caller
from wherry_chassis.sql import Database

from wherry_queue.dispatching import Dispatcher
from wherry_queue.hub import Hub
from wherry_queue.servicer import messages
from wherry_queue.servicer.creation import new_job
from wherry_queue.servicer.watching import WatchServicer
from wherry_queue.site_directory import SiteDirectory
from wherry_queue.store import control, reading, submission


class JobServicer(WatchServicer):
    """Users' jobs."""

    def __init__(
        self, database: Database, dispatcher: Dispatcher, hub: Hub, directory: SiteDirectory, *, heartbeat_s: float
    ) -> None:
        super().__init__(database, dispatcher, hub, heartbeat_s=heartbeat_s)
        self._directory = directory

    async def CreateJob(self, request: pb.CreateJobRequest, context: Any) -> pb.Job:
        """Accepts a job."""
        user = current_caller().user_name
        new = await new_job(request, user, self._directory)
        job_id, uid = await self._database.write(submission.submit, new)
        self._dispatcher.wake()
        self._hub.begun(user, job_id)
        return self._message(await self._database.read(reading.view_job, user, uid))

    async def GetJob(self, request: pb.GetJobRequest, context: Any) -> pb.Job:
        """Returns a job."""
        user = current_caller().user_name
        return self._message(await self._database.read(reading.view_job, user, messages.job_uid_of(request.name)))

    async def ListJobs(self, request: pb.ListJobsRequest, context: Any) -> pb.ListJobsResponse:
        """Lists jobs."""
        limit = messages.page_size(request.page_size)
        before = messages.page_key(request.page_token)
        views = await self._database.read(reading.list_jobs, current_caller().user_name, before, limit)
        more = str(views[-1].row.id) if len(views) == limit else ""
        return pb.ListJobsResponse(jobs=[self._message(view) for view in views], next_page_token=more)

    async def CancelJob(self, request: pb.CancelJobRequest, context: Any) -> pb.Job:
        """Cancels a job."""
        user, uid = current_caller().user_name, messages.job_uid_of(request.name)
        job_id = await self._database.write(control.cancel, user, uid)
        self._dispatcher.stop_job(job_id)
        self._hub.notify([job_id])
        return self._message(await self._database.read(reading.view_job, user, uid))

    async def ListTasks(self, request: pb.ListTasksRequest, context: Any) -> pb.ListTasksResponse:
        """Lists a job's tasks."""
        uid, limit = messages.job_uid_of(request.parent), messages.page_size(request.page_size)
        after = messages.page_key(request.page_token) or 0
        rows = await self._database.read(reading.list_tasks, current_caller().user_name, uid, after, limit)
        more = str(rows[-1].id) if len(rows) == limit else ""
        return pb.ListTasksResponse(tasks=[messages.task_message(uid, row) for row in rows], next_page_token=more)

    async def GetTask(self, request: pb.GetTaskRequest, context: Any) -> pb.Task:
        """Returns a task."""
        uid, task_id = messages.job_uid_of(request.name), messages.task_id_of(request.name)
        row = await self._database.read(reading.get_task, current_caller().user_name, uid, task_id)
        return messages.task_message(uid, row)

    async def ListAttempts(self, request: pb.ListAttemptsRequest, context: Any) -> pb.ListAttemptsResponse:
        """Lists a task's attempts."""
        uid, task_id = messages.job_uid_of(request.parent), messages.task_id_of(request.parent)
        rows = await self._database.read(reading.list_attempts, current_caller().user_name, uid, task_id)
        attempts = [messages.attempt_message(request.parent, n, row) for n, row in enumerate(rows, start=1)]
        return pb.ListAttemptsResponse(attempts=attempts)

    async def ListFailures(self, request: pb.ListFailuresRequest, context: Any) -> pb.ListFailuresResponse:
        """Lists a job's failures."""
        uid, limit = messages.job_uid_of(request.parent), messages.page_size(request.page_size)
        after = messages.page_key(request.page_token) or 0
        rows = await self._database.read(reading.list_failures, current_caller().user_name, uid, after, limit)
        more = str(rows[-1].id) if len(rows) == limit else ""
        failures = [messages.entry_failure_message(row) for row in rows]
        return pb.ListFailuresResponse(failures=failures, next_page_token=more)
