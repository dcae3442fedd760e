"""Jobs: asked for, looked at, watched to their end, cancelled."""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Iterable, Iterator

from wherry.queue.v1 import job_service_pb2 as messages

from wherry_client.calls import Caller
from wherry_client.connection import Connection
from wherry_client.errors import UnavailableError
from wherry_client.paths import RemotePath

#: A watch that hears nothing for so long, however often it tries, gives up.
GIVE_UP_AFTER_S = 120.0
# A stream is left after so long and opened again: the service may have gone silent on a connection that lives.
_STREAM_AGE_S = 90.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 5.0

ENDED = frozenset(
    {
        messages.JOB_STATE_CANCELLED,
        messages.JOB_STATE_SUCCEEDED,
        messages.JOB_STATE_PARTIALLY_FAILED,
        messages.JOB_STATE_FAILED,
    }
)


class Jobs:
    """One's own jobs, named `jobs/{job}`. Every method raises WherryError.

    Where a job takes `attempts`, each of its tasks is tried so often (1 to 20); None leaves it to the deployment.
    """

    def __init__(self, connection: Connection, caller: Caller) -> None:
        self._jobs = connection.jobs
        self._caller = caller

    def copy(
        self,
        items: Iterable[tuple[RemotePath, RemotePath]],
        *,
        recursive: bool = False,
        overwrite: messages.OverwritePolicy.ValueType = messages.OVERWRITE_POLICY_NEVER,
        options: messages.CopyOptions | None = None,
        priority: int | None = None,
        attempts: int | None = None,
    ) -> messages.Job:
        """Asks for a copy; `items` are sources with the exact paths that they shall have."""
        pairs = [
            messages.CopyItem(source=source.location(), destination=destination.location())
            for source, destination in items
        ]
        operation = messages.CopyOperation(items=pairs, recursive=recursive, overwrite=overwrite, options=options)
        return self.create(messages.Job(copy=operation, priority=priority, attempts=attempts))

    def remove(
        self,
        targets: Iterable[RemotePath],
        *,
        recursive: bool = False,
        priority: int | None = None,
        attempts: int | None = None,
    ) -> messages.Job:
        """Asks for a removal."""
        locations = [target.location() for target in targets]
        operation = messages.RemoveOperation(targets=locations, recursive=recursive)
        return self.create(messages.Job(remove=operation, priority=priority, attempts=attempts))

    def make_directory(self, target: RemotePath, *, parents: bool = False) -> messages.Job:
        """Asks for a directory."""
        operation = messages.MakeDirectoryOperation(target=target.location(), parents=parents)
        return self.create(messages.Job(make_directory=operation))

    def rename(self, source: RemotePath, destination: RemotePath) -> messages.Job:
        """Asks for a rename; `destination` is the exact new path."""
        operation = messages.RenameOperation(source=source.location(), destination=destination.location())
        return self.create(messages.Job(rename=operation))

    def change_mode(
        self,
        targets: Iterable[RemotePath],
        mode: int | None,
        directory_mode: int | None = None,
        *,
        recursive: bool = False,
        priority: int | None = None,
        attempts: int | None = None,
    ) -> messages.Job:
        """Asks for other permission bits, of files and of directories; None for the latter means the same."""
        operation = messages.ChangeModeOperation(
            targets=[target.location() for target in targets],
            mode=mode,
            directory_mode=directory_mode,
            recursive=recursive,
        )
        return self.create(messages.Job(change_mode=operation, priority=priority, attempts=attempts))

    def checksum(
        self,
        targets: Iterable[RemotePath],
        algorithm: str = "",
        *,
        recursive: bool = False,
        priority: int | None = None,
        attempts: int | None = None,
    ) -> messages.Job:
        """Asks for checksums, which `files` then gives."""
        locations = [target.location() for target in targets]
        operation = messages.ChecksumOperation(targets=locations, algorithm=algorithm, recursive=recursive)
        return self.create(messages.Job(checksum=operation, priority=priority, attempts=attempts))

    def create(self, job: messages.Job, request_id: str = "") -> messages.Job:
        """Asks for a job. The request is repeated under one id where its answer is lost, and so makes one job."""
        request = messages.CreateJobRequest(request_id=request_id or str(uuid.uuid4()), job=job)
        return self._caller.ask(self._jobs.CreateJob, request)

    def get(self, name: str) -> messages.Job:
        """Returns a job."""
        return self._caller.ask(self._jobs.GetJob, messages.GetJobRequest(name=name))

    def all(self) -> Iterator[messages.Job]:
        """Yields one's jobs, newest first, page by page as far as they are asked for."""
        token = ""
        while True:
            request = messages.ListJobsRequest(page_size=100, page_token=token)
            answer = self._caller.ask(self._jobs.ListJobs, request)
            yield from answer.jobs
            token = answer.next_page_token
            if not token:
                return

    def cancel(self, name: str) -> messages.Job:
        """Cancels a job; one that has ended stays as it is."""
        return self._caller.ask(self._jobs.CancelJob, messages.CancelJobRequest(name=name))

    def pause(self, name: str) -> messages.Job:
        """Stops a job until it is resumed; the files that are moving are finished."""
        return self._caller.ask(self._jobs.PauseJob, messages.PauseJobRequest(name=name))

    def resume(self, name: str) -> messages.Job:
        """Lets a paused job go on where it was."""
        return self._caller.ask(self._jobs.ResumeJob, messages.ResumeJobRequest(name=name))

    def retry(self, name: str) -> messages.Job:
        """Does again what failed or was not done of a job that has ended."""
        return self._caller.ask(self._jobs.RetryJob, messages.RetryJobRequest(name=name))

    def tasks(self, name: str, states: Iterable[messages.TaskState.ValueType] = ()) -> Iterator[messages.Task]:
        """Yields a job's tasks, those in one of the states or all, in the order they were made."""
        token = ""
        while True:
            request = messages.ListTasksRequest(parent=name, page_size=500, page_token=token, states=states)
            answer = self._caller.ask(self._jobs.ListTasks, request)
            yield from answer.tasks
            token = answer.next_page_token
            if not token:
                return

    def files(self, name: str, states: Iterable[messages.FileState.ValueType] = ()) -> Iterator[messages.JobFile]:
        """Yields a job's files, those in one of the states or all, in the order in which they were found."""
        token = ""
        while True:
            request = messages.ListJobFilesRequest(parent=name, page_size=500, page_token=token, states=states)
            answer = self._caller.ask(self._jobs.ListJobFiles, request)
            yield from answer.files
            token = answer.next_page_token
            if not token:
                return

    def failures(self, name: str) -> Iterator[messages.EntryFailure]:
        """Yields the entries of a job that failed for good, in the order they did."""
        token = ""
        while True:
            request = messages.ListFailuresRequest(parent=name, page_size=100, page_token=token)
            answer = self._caller.ask(self._jobs.ListFailures, request)
            yield from answer.failures
            token = answer.next_page_token
            if not token:
                return

    def watch(
        self,
        name: str,
        *,
        timeout_s: float | None = None,
        on_interruption: Callable[[UnavailableError], None] | None = None,
    ) -> Iterator[messages.Job]:
        """Yields the job at once, on each change, and at its end, through any number of broken streams.

        `on_interruption` is told each time that a stream breaks. Raises UnavailableError when `timeout_s` is over, or
        when nothing was heard for two minutes; the job goes on.
        """
        started = heard = time.monotonic()
        pause_s = _FIRST_PAUSE_S
        while True:
            opened = time.monotonic()
            age_s = _STREAM_AGE_S if timeout_s is None else min(_STREAM_AGE_S, started + timeout_s - opened)
            if age_s <= 0:
                raise UnavailableError(f"The time is up; job {name.removeprefix('jobs/')} goes on.")
            lost = UnavailableError(f"The watch of job {name.removeprefix('jobs/')} broke off.")
            try:
                request = messages.WatchJobRequest(name=name)
                for response in self._caller.stream(self._jobs.WatchJob, request, age_s):
                    heard, pause_s = time.monotonic(), _FIRST_PAUSE_S
                    yield response.job
                    if response.last:
                        return
            except UnavailableError as error:
                lost = error
            now = time.monotonic()
            if now - heard > GIVE_UP_AFTER_S:
                raise lost
            if now - opened >= age_s:
                continue
            if on_interruption is not None:
                on_interruption(lost)
            rest_s = float("inf") if timeout_s is None else max(0.0, started + timeout_s - now)
            time.sleep(min(rest_s, pause_s * random.uniform(0.5, 1.0)))  # noqa: S311 - spreads callers, hides nothing
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
