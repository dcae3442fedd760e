"""A queue service in memory: files of sites that can be listed, and jobs that go as a script says."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import grpc
from wherry.queue.v1 import file_service_pb2, file_service_pb2_grpc, job_service_pb2_grpc
from wherry.queue.v1 import job_service_pb2 as messages
from wherry.type.v1 import entry_pb2
from wherry_fakes.answering import refuse
from wherry_fakes.storage_sites import Sites


@dataclass(frozen=True)
class Break:
    """The stream breaks here: with this code, or (None) ends without a last message."""

    code: grpc.StatusCode | None = grpc.StatusCode.UNAVAILABLE


@dataclass(frozen=True)
class Hold:
    """The stream stays open here and says nothing until the test sets the event."""

    event: threading.Event


#: A job as it becomes, or what happens to the stream.
Step = messages.Job | Break | Hold


def progress_of(state: messages.JobState.ValueType, *, done: int = 0, total: int = 2) -> messages.Job:
    """Returns a step: so many files of 1 MB done of so many."""
    return messages.Job(
        state=state,
        progress=messages.JobProgress(
            files_done=done, files_total=total, bytes_done=done * 10**6, bytes_total=total * 10**6
        ),
    )


def succeeded(files: int = 2) -> messages.Job:
    """Returns the last step of a job that was done."""
    step = progress_of(messages.JOB_STATE_SUCCEEDED, done=files, total=files)
    step.progress.elapsed.seconds = 4
    return step


@dataclass
class Queue:
    """The fake's state.

    `trees` holds, for each site, the default path and each directory's entries by absolute path. `script` is what the
    next jobs go through; `lost_answers` is how many answers of CreateJob get lost after the job was accepted.
    """

    sites: Sites
    trees: dict[str, tuple[bytes, dict[bytes, list[entry_pb2.Entry]]]] = field(default_factory=dict)
    script: Sequence[Step] = field(default_factory=lambda: [progress_of(messages.JOB_STATE_RUNNING), succeeded()])
    failures: list[messages.EntryFailure] = field(default_factory=list)
    files: list[messages.JobFile] = field(default_factory=list)
    tasks: list[messages.Task] = field(default_factory=list)
    jobs: dict[str, messages.Job] = field(default_factory=dict)
    lost_answers: int = 0
    create_calls: int = 0
    watch_calls: int = 0
    knows_depth: bool = True
    listings_cancelled: threading.Event = field(default_factory=threading.Event)
    _by_request: dict[str, str] = field(default_factory=dict)
    _scripts: dict[str, list[Step]] = field(default_factory=dict)

    def put(self, site: str, directory: bytes, *entries: entry_pb2.Entry, default: bytes = b"/home/alice") -> None:
        """Makes a directory with entries."""
        self.trees.setdefault(f"sites/{site}", (default, {}))[1][directory] = list(entries)

    def last_job(self) -> messages.Job:
        """Returns the job that was accepted last."""
        return self.jobs[f"jobs/{len(self.jobs)}"]


def file_entry(name: str, size_bytes: int = 1, raw_name: bytes = b"") -> entry_pb2.Entry:
    """Returns a file."""
    return entry_pb2.Entry(
        name=name, kind=entry_pb2.ENTRY_KIND_FILE, size_bytes=size_bytes, mode=0o644, raw_name=raw_name
    )


def directory_entry(name: str) -> entry_pb2.Entry:
    """Returns a directory."""
    return entry_pb2.Entry(name=name, kind=entry_pb2.ENTRY_KIND_DIRECTORY, mode=0o755)


class FakeFileService(file_service_pb2_grpc.FileServiceServicer):
    """Listings."""

    def __init__(self, state: Queue) -> None:
        self._state = state

    def ListDirectory(
        self, request: file_service_pb2.ListDirectoryRequest, context: grpc.ServicerContext
    ) -> Iterator[file_service_pb2.ListDirectoryResponse]:
        caller = self._state.sites.people.caller(context)
        site = request.location.site
        if site not in self._state.sites.sites:
            refuse(context, grpc.StatusCode.NOT_FOUND, "SITE_NOT_FOUND", f"There is no {site}.")
        if (caller.user, site) not in self._state.sites.sessions:
            refuse(context, grpc.StatusCode.FAILED_PRECONDITION, "SITE_SIGN_IN_REQUIRED", site=site)
        default, directories = self._state.trees.get(site, (b"/", {b"/": []}))
        raw = request.location.raw_path or request.location.path.encode()
        path = raw if raw.startswith(b"/") else (default.rstrip(b"/") + b"/" + raw).rstrip(b"/")
        context.add_callback(self._state.listings_cancelled.set)
        shown = path.decode("utf-8", "backslashreplace")
        directory = entry_pb2.ENTRY_KIND_DIRECTORY
        if path in directories:
            depth = max(request.depth, 1) if self._state.knows_depth else 0
            for entry in _tree(directories, path, max(depth, 1)):
                yield file_service_pb2.ListDirectoryResponse(entries=[entry], path=shown, kind=directory, depth=depth)
            yield file_service_pb2.ListDirectoryResponse(last=True, path=shown, kind=directory, depth=depth)
            return
        parent, _, name = path.rpartition(b"/")
        for entry in directories.get(parent or b"/", []):
            if (entry.raw_name or entry.name.encode()) == name:
                yield file_service_pb2.ListDirectoryResponse(entries=[entry], path=shown, last=True, kind=entry.kind)
                return
        missing = entry_pb2.Failure(
            reason="SOURCE_NOT_FOUND", message="There is no such file or directory.", party=entry_pb2.PARTY_USER
        )
        yield file_service_pb2.ListDirectoryResponse(last=True, failure=missing)


def _tree(
    directories: dict[bytes, list[entry_pb2.Entry]], path: bytes, depth: int, below: bytes = b""
) -> Iterator[entry_pb2.Entry]:
    """Yields the entries of a directory, then those of its directories; one that nobody has put there is closed."""
    if path not in directories:
        failure = entry_pb2.Failure(reason="SOURCE_PERMISSION_DENIED", message="Permission denied.")
        yield _moved(entry_pb2.Entry(kind=entry_pb2.ENTRY_KIND_DIRECTORY, failure=failure), below.rstrip(b"/"))
        return
    for entry in directories[path]:
        yield _moved(entry, below + _raw(entry))
    for entry in directories[path]:
        if depth > 1 and entry.kind == entry_pb2.ENTRY_KIND_DIRECTORY:
            name = _raw(entry)
            yield from _tree(directories, path.rstrip(b"/") + b"/" + name, depth - 1, below + name + b"/")


def _raw(entry: entry_pb2.Entry) -> bytes:
    return entry.raw_name or entry.name.encode()


def _moved(entry: entry_pb2.Entry, path: bytes) -> entry_pb2.Entry:
    moved = entry_pb2.Entry()
    moved.CopyFrom(entry)
    shown = path.decode("utf-8", "replace")
    moved.name, moved.raw_name = shown, b"" if shown.encode() == path else path
    return moved


_CANCELLED = (messages.JOB_STATE_CANCELLED, messages.JOB_STATE_CANCELLING)


class FakeJobService(job_service_pb2_grpc.JobServiceServicer):
    """Jobs."""

    def __init__(self, state: Queue) -> None:
        self._state = state

    def CreateJob(self, request: messages.CreateJobRequest, context: grpc.ServicerContext) -> messages.Job:
        caller = self._state.sites.people.caller(context)
        self._state.create_calls += 1
        request_id = request.request_id or str(self._state.create_calls)  # without one nothing is recognised again
        if request_id not in self._state._by_request:
            name = f"jobs/{len(self._state.jobs) + 1}"
            job = messages.Job()
            job.CopyFrom(request.job)
            job.name, job.owner, job.state = name, caller.user, messages.JOB_STATE_QUEUED
            self._state.jobs[name] = job
            self._state._scripts[name] = list(self._state.script)
            self._state._by_request[request_id] = name
        if self._state.lost_answers > 0:
            self._state.lost_answers -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "connection reset")
        return self._state.jobs[self._state._by_request[request_id]]

    def GetJob(self, request: messages.GetJobRequest, context: grpc.ServicerContext) -> messages.Job:
        return self._job(request.name, context)

    def ListJobs(self, request: messages.ListJobsRequest, context: grpc.ServicerContext) -> messages.ListJobsResponse:
        self._state.sites.people.caller(context)
        newest = list(reversed(self._state.jobs.values()))
        first = int(request.page_token or "0")
        following = str(first + 2) if first + 2 < len(newest) else ""
        return messages.ListJobsResponse(jobs=newest[first : first + 2], next_page_token=following)

    def CancelJob(self, request: messages.CancelJobRequest, context: grpc.ServicerContext) -> messages.Job:
        job = self._job(request.name, context)
        job.state = messages.JOB_STATE_CANCELLED
        return job

    def PauseJob(self, request: messages.PauseJobRequest, context: grpc.ServicerContext) -> messages.Job:
        return self._moved(request.name, context, messages.JOB_STATE_PAUSED)

    def ResumeJob(self, request: messages.ResumeJobRequest, context: grpc.ServicerContext) -> messages.Job:
        return self._moved(request.name, context, messages.JOB_STATE_RUNNING)

    def RetryJob(self, request: messages.RetryJobRequest, context: grpc.ServicerContext) -> messages.Job:
        job = self._job(request.name, context)
        if job.state not in (messages.JOB_STATE_FAILED, messages.JOB_STATE_PARTIALLY_FAILED, *_CANCELLED):
            refuse(context, grpc.StatusCode.FAILED_PRECONDITION, "NOTHING_TO_RETRY")
        job.state = messages.JOB_STATE_QUEUED
        return job

    def _moved(self, name: str, context: grpc.ServicerContext, state: messages.JobState.ValueType) -> messages.Job:
        job = self._job(name, context)
        if job.state in (messages.JOB_STATE_SUCCEEDED, *_CANCELLED):
            refuse(context, grpc.StatusCode.FAILED_PRECONDITION, "JOB_ENDED")
        job.state = state
        return job

    def UpdateJob(self, request: messages.UpdateJobRequest, context: grpc.ServicerContext) -> messages.Job:
        refuse(context, grpc.StatusCode.UNIMPLEMENTED, "METHOD_NOT_FOUND")

    def BatchCreateJobs(
        self, request: messages.BatchCreateJobsRequest, context: grpc.ServicerContext
    ) -> messages.BatchCreateJobsResponse:
        refuse(context, grpc.StatusCode.UNIMPLEMENTED, "METHOD_NOT_FOUND")

    def CreateJobFromPairs(
        self, request_iterator: Iterator[messages.CreateJobFromPairsRequest], context: grpc.ServicerContext
    ) -> messages.Job:
        refuse(context, grpc.StatusCode.UNIMPLEMENTED, "METHOD_NOT_FOUND")

    def GetAttempt(self, request: messages.GetAttemptRequest, context: grpc.ServicerContext) -> messages.Attempt:
        refuse(context, grpc.StatusCode.NOT_FOUND, "TASK_NOT_FOUND")

    def ListJobFiles(
        self, request: messages.ListJobFilesRequest, context: grpc.ServicerContext
    ) -> messages.ListJobFilesResponse:
        self._job(request.parent, context)
        wanted = [file for file in self._state.files if not request.states or file.state in request.states]
        first = int(request.page_token or "0")
        following = str(first + 2) if first + 2 < len(wanted) else ""
        return messages.ListJobFilesResponse(files=wanted[first : first + 2], next_page_token=following)

    def WatchJob(
        self, request: messages.WatchJobRequest, context: grpc.ServicerContext
    ) -> Iterator[messages.WatchJobResponse]:
        job = self._job(request.name, context)
        self._state.watch_calls += 1
        steps = self._state._scripts[request.name]
        while steps:
            step = steps.pop(0)
            if isinstance(step, Hold):
                while context.is_active() and not step.event.wait(0.05):
                    pass
                if step.event.is_set():
                    continue
                steps.insert(0, step)
                return
            if isinstance(step, Break):
                if step.code is not None:
                    context.abort(step.code, "the stream broke")
                return
            job.MergeFrom(step)
            yield messages.WatchJobResponse(job=job, last=not steps)
        yield messages.WatchJobResponse(job=job, last=True)

    def WatchJobs(
        self, request: messages.WatchJobsRequest, context: grpc.ServicerContext
    ) -> Iterator[messages.WatchJobsResponse]:
        refuse(context, grpc.StatusCode.UNIMPLEMENTED, "METHOD_NOT_FOUND")

    def ListTasks(
        self, request: messages.ListTasksRequest, context: grpc.ServicerContext
    ) -> messages.ListTasksResponse:
        self._job(request.parent, context)
        if self._state.tasks:
            wanted = [task for task in self._state.tasks if not request.states or task.state in request.states]
            return messages.ListTasksResponse(tasks=wanted)
        task = messages.Task(
            name=f"{request.parent}/tasks/1",
            kind=messages.TASK_KIND_WALK_COPY,
            state=messages.TASK_STATE_SUCCEEDED,
            source_path="/home/alice/data",
            attempt_count=1,
        )
        return messages.ListTasksResponse(tasks=[task])

    def GetTask(self, request: messages.GetTaskRequest, context: grpc.ServicerContext) -> messages.Task:
        refuse(context, grpc.StatusCode.NOT_FOUND, "TASK_NOT_FOUND")

    def ListAttempts(
        self, request: messages.ListAttemptsRequest, context: grpc.ServicerContext
    ) -> messages.ListAttemptsResponse:
        refuse(context, grpc.StatusCode.NOT_FOUND, "TASK_NOT_FOUND")

    def ListFailures(
        self, request: messages.ListFailuresRequest, context: grpc.ServicerContext
    ) -> messages.ListFailuresResponse:
        self._job(request.parent, context)
        first = int(request.page_token or "0")
        following = str(first + 10) if first + 10 < len(self._state.failures) else ""
        return messages.ListFailuresResponse(
            failures=self._state.failures[first : first + 10], next_page_token=following
        )

    def _job(self, name: str, context: grpc.ServicerContext) -> messages.Job:
        caller = self._state.sites.people.caller(context)
        job = self._state.jobs.get(name)
        if job is None or job.owner != caller.user:
            refuse(context, grpc.StatusCode.NOT_FOUND, "JOB_NOT_FOUND", f"There is no {name}.")
        return job
