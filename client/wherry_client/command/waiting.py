"""Waits for a job, and says at its end what became of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import typer
from wherry.queue.v1 import job_service_pb2

from wherry_client.client import Client
from wherry_client.command import console, wording
from wherry_client.command.interrupting import interruptible
from wherry_client.command.progress import Reporter
from wherry_client.errors import SignInNeededError, UnavailableError, WherryError
from wherry_client.exits import ExitStatus
from wherry_client.names import show_name, show_text

#: How many failures are listed after a job; `job show --failures` lists all.
SHOWN_FAILURES = 20

_STATUSES = {
    job_service_pb2.JOB_STATE_SUCCEEDED: ExitStatus.DONE,
    job_service_pb2.JOB_STATE_PARTIALLY_FAILED: ExitStatus.PARTLY_FAILED,
    job_service_pb2.JOB_STATE_FAILED: ExitStatus.FAILED,
    job_service_pb2.JOB_STATE_CANCELLED: ExitStatus.FAILED,
}
_VERBS = {"copy": "Copied", "remove": "Removed", "make_directory": "Made", "rename": "Moved", "checksum": "Summed"}
_VERBS["change_mode"] = "Changed the permissions of"


def wait(
    client: Client, job: job_service_pb2.Job, reporter: Reporter, timeout_s: float | None = None
) -> job_service_pb2.Job:
    """Returns the job when it has ended.

    Ctrl-C ends the waiting, not the job. Where nobody sits at a terminal, a job that waits for a sign-in ends the
    waiting too, with SignInNeededError; at a terminal the bar says so, and goes on when the user has signed in.
    """
    identity = wording.job_id(job)
    try:
        with interruptible(), reporter:
            watch = client.jobs.watch(
                job.name, timeout_s=timeout_s, on_interruption=lambda _error: reporter.interrupted()
            )
            for current in watch:
                job = current
                reporter.update(job)
                if job.state == job_service_pb2.JOB_STATE_WAITING_FOR_SIGN_IN and not console.is_terminal():
                    raise _sign_in_error(job)
    except KeyboardInterrupt:
        console.note(f"Job {identity} goes on. Watch it: wherry job watch {identity}")
        console.note(f"Stop it: wherry job cancel {identity}")
        raise typer.Exit(ExitStatus.INTERRUPTED) from None
    except UnavailableError as error:
        raise UnavailableError(
            error.message, reason=error.reason, advice=f"Job {identity} goes on. Watch it: wherry job watch {identity}"
        ) from error
    return job


def finish(
    client: Client,
    job: job_service_pb2.Job,
    *,
    as_json: bool,
    quiet: bool = False,
    write: Callable[[str], None] = console.say,
) -> None:
    """Writes a job's summary and failures, and ends the command with its status unless all was done.

    `quiet` leaves out the summary of a job that was done, as commands do whose success needs no words. `write` writes a
    line for people: `console.note` where the command's result is something else.
    """
    done = job.state == job_service_pb2.JOB_STATE_SUCCEEDED
    if as_json:
        failures = client.jobs.failures(job.name) if _has_failures(job) else ()
        console.show_json({"job": console.as_json(job), "failures": [console.as_json(failure) for failure in failures]})
    else:
        if not quiet or not done:
            write(summary(job))
        if not done:
            show_failures(client, job, SHOWN_FAILURES, write)
    end_with(job)


def end_with(job: job_service_pb2.Job) -> None:
    """Ends the command with the status of a job that has ended, unless all of it was done."""
    status = _STATUSES.get(job.state, ExitStatus.FAILED)
    if status is not ExitStatus.DONE:
        raise typer.Exit(status)


def summary(job: job_service_pb2.Job) -> str:
    """Returns what became of a job that has ended, in one line."""
    progress = job.progress
    kind = job.WhichOneof("operation") or ""
    if job.copy.options.dry_run:
        return _plan(job)
    done = []
    if progress.files_done or kind == "copy":
        of_all = "" if progress.files_done == progress.files_total else f" of {progress.files_total:,}"
        done.append(f"{progress.files_done:,}{of_all} {'file' if not of_all and progress.files_done == 1 else 'files'}")
    if progress.directories_done:
        done.append(wording.count(progress.directories_done, "directory", "directories"))
    text = f"{_VERBS.get(kind, 'Did')} {' and '.join(done) or wording.operation(job)}"
    if kind == "copy":
        text += f", {wording.size(progress.bytes_done)}"
    if progress.files_unchanged:
        text += f", {progress.files_unchanged:,} of them unchanged"
    if progress.extraneous_total:
        text += f", removed {progress.extraneous_removed:,} of {progress.extraneous_total:,} extraneous"
    elapsed_s = progress.elapsed.ToNanoseconds() / 1e9
    if elapsed_s:
        text += f" in {wording.duration(elapsed_s)}"
        # What needed no copying is among the bytes, and would look like a rate that nobody has measured.
        if kind == "copy" and progress.bytes_done and not progress.files_unchanged:
            text += f" ({wording.rate(progress.average_bytes_per_second or progress.bytes_done / elapsed_s)})"
    return _with_ending(job, text)


def _plan(job: job_service_pb2.Job) -> str:
    """Returns what a dry run has found, in one line."""
    progress = job.progress
    files = progress.files_total - progress.files_failed - progress.files_done
    size_bytes = progress.bytes_total - progress.bytes_failed - progress.bytes_done
    text = f"Dry run: would copy {wording.count(files, 'file')}, {wording.size(size_bytes)}"
    if progress.files_unchanged:
        text += f", {progress.files_unchanged:,} are unchanged"
    if progress.extraneous_total:
        text += f", would remove {progress.extraneous_total:,} extraneous"
    return _with_ending(job, text)


def _with_ending(job: job_service_pb2.Job, text: str) -> str:
    """Returns what was done with what became of the rest."""
    failed, skipped = job.progress.files_failed + job.progress.directories_failed, job.progress.entries_skipped
    if skipped:
        text += f"; {skipped:,} skipped"
    if job.state == job_service_pb2.JOB_STATE_SUCCEEDED:
        return f"{text}."
    ending = wording.state(job)[0].upper() + wording.state(job)[1:]
    return f"{ending}. {text}{f'; {failed:,} failed' if failed else ''}."


def show_failures(
    client: Client, job: job_service_pb2.Job, limit: int | None, write: Callable[[str], None] = console.say
) -> None:
    """Writes what failed and why, with each advice once; `limit` None writes all."""
    failures: Sequence[job_service_pb2.EntryFailure] = ()
    try:
        if _has_failures(job):
            failures = list(itertools.islice(client.jobs.failures(job.name), None if limit is None else limit + 1))
    except UnavailableError as error:  # the job's own outcome still decides the exit status
        console.show_error(error)
    if not failures and job.HasField("failure"):
        failures = [job_service_pb2.EntryFailure(failure=job.failure)]
    advised: set[str] = set()
    for entry in failures[:limit]:
        path = show_name(entry.raw_path or entry.path.encode())
        text = f"{show_text(entry.failure.message)} [{show_text(entry.failure.reason)}]"
        write(f"  {path}: {text}" if path else f"  {text}")
        advice = entry.failure.help
        if advice and advice not in advised:
            advised.add(advice)
            write(f"    {show_text(advice)}")
    if limit is not None and len(failures) > limit:
        write(f"  and more: wherry job show {wording.job_id(job)} --failures")


def _has_failures(job: job_service_pb2.Job) -> bool:
    return job.HasField("failure") or bool(job.progress.files_failed or job.progress.directories_failed)


def _sign_in_error(job: job_service_pb2.Job) -> WherryError:
    site = show_text(job.waiting_reason.site.removeprefix("sites/"))
    identity = wording.job_id(job)
    return SignInNeededError(
        f"Job {identity} waits until you are signed in at {site or 'its sites'}.",
        reason=job.waiting_reason.reason,
        advice=f"Sign in: wherry site login {site or 'SITE'}. The job then goes on: wherry job watch {identity}",
        site=site,
    )
