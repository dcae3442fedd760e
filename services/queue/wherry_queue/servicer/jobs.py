"""JobService."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from wherry.queue.v1 import job_service_pb2 as pb
from wherry_chassis.errors import DomainError, FieldProblem, InvalidFields
from wherry_chassis.identity import current_caller
from wherry_chassis.sql import Database

from wherry_queue.bulletin import Bulletin, Topic
from wherry_queue.dispatching import Dispatcher
from wherry_queue.job_files import FileState
from wherry_queue.jobs import JobNotFound
from wherry_queue.pairs import PairBounds
from wherry_queue.servicer import messages
from wherry_queue.servicer.chunk_payloads import packer
from wherry_queue.servicer.creation import OPERATIONS, new_job, new_jobs, sessions_of, sites_of
from wherry_queue.servicer.file_messages import file_page_message
from wherry_queue.servicer.pages import fitting
from wherry_queue.servicer.pairs import copy_of_pairs
from wherry_queue.servicer.watching import WatchServicer
from wherry_queue.site_directory import SiteDirectory
from wherry_queue.states import JobState, TaskState
from wherry_queue.store import control, job_files, job_tasks, reading, retrying, sign_ins, submission
from wherry_queue.store.reading import JobFilter
from wherry_queue.watch_feed import WatchFeed

_JOB_NAME = re.compile(r"jobs/[A-Za-z0-9-]+")
_FILES = 100


class JobServicer(WatchServicer):
    """Users' jobs."""

    def __init__(
        self,
        database: Database,
        dispatcher: Dispatcher,
        feed: WatchFeed[pb.Job],
        bulletin: Bulletin,
        directory: SiteDirectory,
        pair_bounds: PairBounds,
        *,
        heartbeat_s: float,
    ) -> None:
        super().__init__(database, feed, heartbeat_s=heartbeat_s)
        self._dispatcher = dispatcher
        self._bulletin = bulletin
        self._directory = directory
        self._pair_bounds = pair_bounds

    async def CreateJob(self, request: pb.CreateJobRequest, context: Any) -> pb.Job:
        """Accepts a job."""
        user = current_caller().user_name
        try:
            new = await new_job(request, user, self._directory)
        except DomainError:
            if (earlier := await self._earlier(user, [request])) is None:
                raise
            return await self._view(user, earlier[0][1])
        job_id, uid = await self._database.write(submission.submit, new)
        self._begun(user, [job_id])
        return await self._view(user, uid)

    async def BatchCreateJobs(self, request: pb.BatchCreateJobsRequest, context: Any) -> pb.BatchCreateJobsResponse:
        """Accepts jobs, all or none."""
        user = current_caller().user_name
        try:
            new = await new_jobs(request.requests, user, self._directory)
        except DomainError:
            if (earlier := await self._earlier(user, request.requests)) is None:
                raise
            made = earlier
        else:
            made = await self._database.write(submission.submit_all, new)
            self._begun(user, [job_id for job_id, _ in made])
        ids = [job_id for job_id, _ in made]
        views = await self._database.read(reading.view_jobs, user, sorted(set(ids)), self._feed.here(), brief=True)
        by_id = {view.row.id: messages.job_message(view) for view in views}
        for job_id, uid in made:
            if job_id not in by_id:
                raise JobNotFound(job=uid)  # the same request made it before, and it was cleared away just now
        return pb.BatchCreateJobsResponse(jobs=[by_id[job_id] for job_id in ids])

    async def CreateJobFromPairs(
        self, request_iterator: AsyncIterator[pb.CreateJobFromPairsRequest], context: Any
    ) -> pb.Job:
        """Accepts a copy of very many files."""
        user = current_caller().user_name
        job_id, uid = await copy_of_pairs(request_iterator, user, self._database, self._directory, self._pair_bounds)
        if job_id is not None:
            self._begun(user, [job_id])
        return await self._view(user, uid)

    async def GetJob(self, request: pb.GetJobRequest, context: Any) -> pb.Job:
        """Returns a job."""
        return await self._view(current_caller().user_name, messages.job_uid_of(request.name))

    async def UpdateJob(self, request: pb.UpdateJobRequest, context: Any) -> pb.Job:
        """Changes a job's priority."""
        if not _JOB_NAME.fullmatch(request.job.name):
            raise InvalidFields(FieldProblem("job.name", "is not the name of a job, `jobs/{job}`"))
        for path in request.update_mask.paths:
            if path not in ("priority", "*"):
                raise InvalidFields(FieldProblem("update_mask", f"{path} cannot be changed; only priority can"))
        if not request.job.HasField("priority"):
            raise InvalidFields(FieldProblem("job.priority", "is missing: it is what can be changed"))
        if not 0 <= request.job.priority <= 9:
            raise InvalidFields(FieldProblem("job.priority", "is 0 (last) to 9 (first)"))
        return await self._change(request.job.name, control.set_priority, request.job.priority)

    async def CancelJob(self, request: pb.CancelJobRequest, context: Any) -> pb.Job:
        """Cancels a job."""
        return await self._change(request.name, control.cancel)

    async def PauseJob(self, request: pb.PauseJobRequest, context: Any) -> pb.Job:
        """Stops a job until it is resumed."""
        return await self._change(request.name, control.pause)

    async def ResumeJob(self, request: pb.ResumeJobRequest, context: Any) -> pb.Job:
        """Lets a paused job go on."""
        return await self._change(request.name, control.resume)

    async def RetryJob(self, request: pb.RetryJobRequest, context: Any) -> pb.Job:
        """Does again what failed of a job, or was not done."""
        user, uid = current_caller().user_name, messages.job_uid_of(request.name)
        names = await self._database.read(reading.sites_of, user, uid)
        sites = await sites_of(names, user, self._directory)
        # First, so that what is known of the sessions is as new as this answer: what has ended would hold the job.
        self._dispatcher.signed(await self._database.write(sign_ins.learn, user, sessions_of(sites, names)))
        job_id = await self._database.write(retrying.retry, user, uid, packer())
        self._dispatcher.held([job_id])
        self._begun(user, [job_id])
        return await self._view(user, uid)

    async def ListJobs(self, request: pb.ListJobsRequest, context: Any) -> pb.ListJobsResponse:
        """Lists jobs."""
        limit, before_id = messages.page_size(request.page_size), messages.page_key(request.page_token)
        page = await self._database.read(
            reading.list_jobs, current_caller().user_name, before_id, limit, _filter(request), self._feed.here()
        )
        jobs = fitting(messages.job_message(view) for view in page.views)
        before_id = page.before_id if len(jobs) == len(page.views) else page.views[len(jobs) - 1].row.id
        return pb.ListJobsResponse(jobs=jobs, next_page_token=messages.page_token(before_id))

    async def ListTasks(self, request: pb.ListTasksRequest, context: Any) -> pb.ListTasksResponse:
        """Lists a job's tasks."""
        uid, limit = messages.job_uid_of(request.parent), messages.page_size(request.page_size)
        after_id = messages.page_key(request.page_token) or 0
        states = {TaskState(state) for state in request.states}
        page = await self._database.read(job_tasks.list_tasks, current_caller().user_name, uid, after_id, limit, states)
        tasks = fitting(messages.task_message(uid, row) for row in page.rows)
        return pb.ListTasksResponse(tasks=tasks, next_page_token=messages.page_token(page.after(len(tasks))))

    async def GetTask(self, request: pb.GetTaskRequest, context: Any) -> pb.Task:
        """Returns a task."""
        uid, task_id = messages.job_uid_of(request.name), messages.id_at(request.name, 3)
        row = await self._database.read(job_tasks.get_task, current_caller().user_name, uid, task_id)
        return messages.task_message(uid, row)

    async def ListAttempts(self, request: pb.ListAttemptsRequest, context: Any) -> pb.ListAttemptsResponse:
        """Lists a task's attempts."""
        uid, task_id = messages.job_uid_of(request.parent), messages.id_at(request.parent, 3)
        found = await self._database.read(job_tasks.list_attempts, current_caller().user_name, uid, task_id)
        attempts = [messages.attempt_message(request.parent, number, row) for number, row in found]
        return pb.ListAttemptsResponse(attempts=attempts)

    async def GetAttempt(self, request: pb.GetAttemptRequest, context: Any) -> pb.Attempt:
        """Returns an attempt."""
        uid, task_id = messages.job_uid_of(request.name), messages.id_at(request.name, 3)
        number, row = await self._database.read(
            job_tasks.get_attempt, current_caller().user_name, uid, task_id, messages.id_at(request.name, 5)
        )
        return messages.attempt_message(f"jobs/{uid}/tasks/{task_id}", number, row)

    async def ListJobFiles(self, request: pb.ListJobFilesRequest, context: Any) -> pb.ListJobFilesResponse:
        """Lists a job's files."""
        uid, limit = messages.job_uid_of(request.parent), messages.page_size(request.page_size, _FILES)
        after = messages.file_cursor(request.page_token)
        states = {FileState(state) for state in request.states}
        page = await self._database.read(job_files.list_files, current_caller().user_name, uid, after, limit, states)
        return file_page_message(uid, page)

    async def ListFailures(self, request: pb.ListFailuresRequest, context: Any) -> pb.ListFailuresResponse:
        """Lists a job's failures."""
        uid, limit = messages.job_uid_of(request.parent), messages.page_size(request.page_size)
        after_id = messages.page_key(request.page_token) or 0
        page = await self._database.read(job_tasks.list_failures, current_caller().user_name, uid, after_id, limit)
        failures = fitting(messages.entry_failure_message(row) for row in page.rows)
        token = messages.page_token(page.after(len(failures)))
        return pb.ListFailuresResponse(failures=failures, next_page_token=token)

    async def _earlier(self, user: str, requests: Sequence[pb.CreateJobRequest]) -> list[tuple[int, str]] | None:
        """Returns the jobs that requests have made before, which would be refused now; None unless all of them have.

        What was accepted while its sites were not known is there, whatever is known of them since.
        """
        ids = [request.request_id for request in requests]
        return await self._database.read(submission.earlier, user, ids) if all(ids) else None

    async def _view(self, user: str, uid: str) -> pb.Job:
        return messages.job_message(await self._database.read(reading.view_job, user, uid, self._feed.here()))

    async def _change(self, name: str, change: Callable[..., int], *args: Any) -> pb.Job:
        """Changes one of the caller's jobs, and has the dispatchers look whether what runs of it may go on."""
        user, uid = current_caller().user_name, messages.job_uid_of(name)
        job_id = await self._database.write(change, user, uid, *args)
        self._dispatcher.held([job_id])
        return await self._view(user, uid)

    def _begun(self, user: str, job_ids: Sequence[int]) -> None:
        """Tells those who wait for jobs that there are some: dispatchers, and the user's watches."""
        self._dispatcher.ready()
        self._bulletin.say(Topic.BEGUN, [(user, job_id) for job_id in job_ids])


def _filter(request: pb.ListJobsRequest) -> JobFilter:
    for index, operation in enumerate(request.operations):
        if operation not in OPERATIONS:
            problem = f"is none of {', '.join(OPERATIONS)}"
            raise InvalidFields(FieldProblem(f"operations[{index}]", problem))
    return JobFilter(
        states={JobState(state) for state in request.states},
        operations=set(request.operations),
        site=request.site,
        from_ms=request.create_time_from.ToMilliseconds() if request.HasField("create_time_from") else None,
        until_ms=request.create_time_until.ToMilliseconds() if request.HasField("create_time_until") else None,
    )
