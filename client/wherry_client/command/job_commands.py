"""jobs, job show, files, watch, cancel, pause, resume, retry."""

from __future__ import annotations

import itertools
from enum import Enum
from typing import Annotated

import typer
from wherry.queue.v1 import job_service_pb2

from wherry_client.command import console, waiting, wording
from wherry_client.command.options import Json, Timeout
from wherry_client.command.progress import JsonReporter, figures_of, headline_of, reporter_for
from wherry_client.command.settings import client_of
from wherry_client.errors import UsageError
from wherry_client.exits import EPILOG
from wherry_client.jobs import ENDED
from wherry_client.names import show_name, show_text

JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]
_KINDS = {
    job_service_pb2.TASK_KIND_WALK_COPY: "list and make",
    job_service_pb2.TASK_KIND_WALK_REMOVE: "list",
    job_service_pb2.TASK_KIND_COPY_FILES: "copy files",
    job_service_pb2.TASK_KIND_REMOVE_FILES: "remove files",
    job_service_pb2.TASK_KIND_REMOVE_DIRECTORY: "remove directory",
    job_service_pb2.TASK_KIND_MAKE_DIRECTORY: "make directory",
    job_service_pb2.TASK_KIND_RENAME: "rename",
    job_service_pb2.TASK_KIND_LIST: "list",
    job_service_pb2.TASK_KIND_WALK_CHANGE_MODE: "list",
    job_service_pb2.TASK_KIND_CHANGE_MODE_OF_FILES: "chmod files",
    job_service_pb2.TASK_KIND_CHANGE_MODE_OF_DIRECTORY: "chmod directory",
    job_service_pb2.TASK_KIND_WALK_CHECKSUM: "list",
    job_service_pb2.TASK_KIND_CHECKSUM_FILES: "sum files",
}
_TASK_STATES = {
    job_service_pb2.TASK_STATE_READY: "ready",
    job_service_pb2.TASK_STATE_RUNNING: "running",
    job_service_pb2.TASK_STATE_BLOCKED: "after the others",
    job_service_pb2.TASK_STATE_DELAYED: "to be tried again",
    job_service_pb2.TASK_STATE_SUCCEEDED: "done",
    job_service_pb2.TASK_STATE_FAILED: "failed",
    job_service_pb2.TASK_STATE_CANCELLED: "cancelled",
    job_service_pb2.TASK_STATE_PLANNED: "planned",
}


class FileState(Enum):
    """How a file of a job stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    PLANNED = "planned"


_FILE_STATES = {
    FileState.WAITING: job_service_pb2.FILE_STATE_WAITING,
    FileState.RUNNING: job_service_pb2.FILE_STATE_RUNNING,
    FileState.DONE: job_service_pb2.FILE_STATE_DONE,
    FileState.FAILED: job_service_pb2.FILE_STATE_FAILED,
    FileState.CANCELLED: job_service_pb2.FILE_STATE_CANCELLED,
    FileState.SKIPPED: job_service_pb2.FILE_STATE_SKIPPED,
    FileState.PLANNED: job_service_pb2.FILE_STATE_PLANNED,
}

commands = typer.Typer(no_args_is_help=True, help="Look at a job, watch it, cancel it.")


def jobs(
    context: typer.Context,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="So many, the newest.")] = 20,
    as_json: Json = False,
) -> None:
    """List your jobs, newest first."""
    with client_of(context) as client:
        found = list(itertools.islice(client.jobs.all(), limit))
    if as_json:
        console.show_json({"jobs": [console.as_json(job) for job in found]})
        return
    console.show_table(
        ("job", "state", "progress", "asked for", "what"),
        [
            (
                wording.job_id(job),
                wording.state(job),
                figures_of(job),
                wording.moment(job.create_time),
                wording.operation(job),
            )
            for job in found
        ],
    )


@commands.command()
def show(
    context: typer.Context,
    job: JobId,
    tasks: Annotated[bool, typer.Option("--tasks", help="List its tasks too.")] = False,
    failures: Annotated[bool, typer.Option("--failures", help="List all that failed, not the first 20 only.")] = False,
    as_json: Json = False,
) -> None:
    """Show a job."""
    name = _name_of(job)
    with client_of(context) as client:
        found = client.jobs.get(name)
        listed = list(client.jobs.tasks(name)) if tasks else []
        if as_json:
            content: dict[str, object] = {"job": console.as_json(found)}
            content["failures"] = [console.as_json(failure) for failure in client.jobs.failures(name)]
            if tasks:
                content["tasks"] = [console.as_json(task) for task in listed]
            console.show_json(content)
            return
        console.show_fields(
            [
                ("job", wording.job_id(found)),
                ("what", wording.operation(found)),
                ("state", headline_of(found)),
                ("progress", figures_of(found)),
                ("unchanged", _number(found.progress.files_unchanged)),
                ("skipped", _number(found.progress.entries_skipped)),
                ("extraneous", _extraneous(found)),
                ("data channel", wording.data_channels(found)),
                ("priority", str(found.priority) if found.HasField("priority") else ""),
                ("attempts", str(found.attempts) if found.HasField("attempts") else ""),
                ("asked for", wording.moment(found.create_time)),
                ("started", wording.moment(found.start_time)),
                ("ended", wording.moment(found.end_time)),
            ]
        )
        if found.state in ENDED:
            console.say(waiting.summary(found))
        if listed:
            console.show_table(
                ("task", "does", "state", "entries", "attempts", "source", "destination"), [_row(t) for t in listed]
            )
        waiting.show_failures(client, found, None if failures else waiting.SHOWN_FAILURES)


@commands.command()
def files(
    context: typer.Context,
    job: JobId,
    state: Annotated[
        list[FileState] | None, typer.Option("--state", help="Only those that stand so. May be given again.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List a job's files with how each stands and its checksum. With --json: a line for each."""
    name = _name_of(job)
    with client_of(context) as client:
        for file in client.jobs.files(name, [_FILE_STATES[one] for one in state or ()]):
            if as_json:
                console.show_json_line({"file": console.as_json(file)})
            else:
                console.say("\t".join(_columns(file)))


@commands.command(epilog=EPILOG)
def watch(context: typer.Context, job: JobId, timeout: Timeout = None, as_json: Json = False) -> None:
    """Watch a job until it ends; the exit status is the job's. With --json: a line at each change."""
    timeout_s = None if timeout is None else wording.parse_duration(timeout)
    with client_of(context) as client:
        watched = job_service_pb2.Job(name=_name_of(job))
        if as_json:
            ended = waiting.wait(client, watched, JsonReporter(), timeout_s)
            waiting.end_with(ended)
            return
        ended = waiting.wait(client, watched, reporter_for(as_json=False), timeout_s)
        waiting.finish(client, ended, as_json=False)


@commands.command()
def cancel(context: typer.Context, job: JobId, as_json: Json = False) -> None:
    """Cancel a job; what it has done stays done."""
    with client_of(context) as client:
        _show_state(client.jobs.cancel(_name_of(job)), as_json=as_json)


@commands.command()
def pause(context: typer.Context, job: JobId, as_json: Json = False) -> None:
    """Pause a job; the files that are moving are finished."""
    with client_of(context) as client:
        _show_state(client.jobs.pause(_name_of(job)), as_json=as_json)


@commands.command()
def resume(context: typer.Context, job: JobId, as_json: Json = False) -> None:
    """Let a paused job go on where it was."""
    with client_of(context) as client:
        _show_state(client.jobs.resume(_name_of(job)), as_json=as_json)


@commands.command()
def retry(context: typer.Context, job: JobId, as_json: Json = False) -> None:
    """Do again what failed or was not done of a job that has ended, and only that."""
    with client_of(context) as client:
        _show_state(client.jobs.retry(_name_of(job)), as_json=as_json)


def _show_state(job: job_service_pb2.Job, *, as_json: bool) -> None:
    if as_json:
        console.show_json({"job": console.as_json(job)})
    else:
        console.say(f"Job {wording.job_id(job)}: {wording.state(job)}.")


def _name_of(job: str) -> str:
    bare = job.removeprefix("jobs/")
    if not bare or not all(char.isascii() and (char.isalnum() or char == "-") for char in bare):
        raise UsageError(f'"{show_text(job)}" is no job id.', advice="See which there are: wherry jobs")
    return f"jobs/{bare}"


def _columns(file: job_service_pb2.JobFile) -> tuple[str, ...]:
    words = {number: one.value for one, number in _FILE_STATES.items()}
    checksum = f"{file.checksum.algorithm}:{file.checksum.value}" if file.HasField("checksum") else "-"
    told = show_text(file.failure.message) if file.HasField("failure") else ""
    path = show_name(file.raw_path or file.path.encode())
    return words.get(file.state, "?"), str(file.size_bytes), show_text(checksum), path, *([told] if told else [])


def _number(count: int) -> str:
    return f"{count:,}" if count else ""


def _extraneous(job: job_service_pb2.Job) -> str:
    """Returns how much only the destination has or had, and how much of it is gone."""
    total, gone = job.progress.extraneous_total, job.progress.extraneous_removed
    return f"{gone:,} of {total:,} removed" if total else ""


def _row(task: job_service_pb2.Task) -> tuple[str, ...]:
    return (
        show_text(task.name.rpartition("/")[2]),
        _KINDS.get(task.kind, "?"),
        _TASK_STATES.get(task.state, "?"),
        f"{task.entry_count:,}" if task.entry_count else "",
        str(task.attempt_count),
        show_text(task.source_path),
        show_text(task.destination_path),
    )
