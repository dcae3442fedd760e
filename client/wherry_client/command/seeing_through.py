"""What commands do with the job that they have asked for."""

from __future__ import annotations

from wherry.queue.v1 import job_service_pb2

from wherry_client.client import Client
from wherry_client.command import console, waiting, wording
from wherry_client.command.progress import Reporter, SilentReporter, reporter_for


def see_through(
    client: Client, job: job_service_pb2.Job, *, no_wait: bool, as_json: bool, timeout_s: int | None
) -> None:
    """Waits for a job and says what became of it; or, without waiting, writes its id."""
    if no_wait:
        show_accepted(job, as_json=as_json)
        return
    ended = waiting.wait(client, job, reporter_for(as_json=as_json), timeout_s)
    waiting.finish(client, ended, as_json=as_json)


def show_accepted(job: job_service_pb2.Job, *, as_json: bool) -> None:
    """Writes the id of a job that nobody waits for."""
    if as_json:
        console.show_json({"job": console.as_json(job)})
    else:
        console.say(wording.job_id(job))


def see_through_quietly(client: Client, job: job_service_pb2.Job, *, as_json: bool) -> None:
    """Waits for a job whose success needs no words."""
    silent: Reporter = SilentReporter()
    ended = waiting.wait(client, job, silent)
    waiting.finish(client, ended, as_json=as_json, quiet=True)


def timeout_of(text: str | None) -> int | None:
    """Returns the seconds of a `--timeout`; raises UsageError."""
    return None if text is None else wording.parse_duration(text)
