"""cp, sync."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer
from wherry.queue.v1 import job_service_pb2 as messages
from wherry.site.v1.site_service_pb2 import SiteSession

from wherry_client import copying, paths
from wherry_client.client import Client
from wherry_client.command import console, waiting, wording
from wherry_client.command.copy_options import (
    ChannelOption,
    Checksum,
    CompareOption,
    DryRun,
    Encrypt,
    Exclude,
    FollowLinks,
    IfDifferent,
    IfNewer,
    Include,
    KeepBoth,
    NoTimes,
    NoVerify,
    Overwrite,
    OverwriteOption,
    Protocols,
    Wishes,
)
from wherry_client.command.options import Attempts, Json, NoWait, Priority, Timeout
from wherry_client.command.progress import reporter_for
from wherry_client.command.seeing_through import see_through, timeout_of
from wherry_client.command.settings import client_of
from wherry_client.errors import UsageError
from wherry_client.paths import RemotePath

#: How many files a dry run names; JSON has them all.
SHOWN_FILES = 1000


def cp(
    context: typer.Context,
    places: Annotated[list[str], typer.Argument(metavar="SITE:PATH", help="What to copy; the last one is where to.")],
    recursive: Annotated[bool, typer.Option("-r", "-R", "--recursive", help="Directories with all they hold.")] = False,
    overwrite: OverwriteOption = None,
    if_newer: IfNewer = False,
    if_different: IfDifferent = False,
    keep_both: KeepBoth = False,
    compare: CompareOption = None,
    no_verify: NoVerify = False,
    checksum: Checksum = None,
    follow_links: FollowLinks = False,
    no_times: NoTimes = False,
    include: Include = None,
    exclude: Exclude = None,
    encrypt: Encrypt = False,
    data_channel: ChannelOption = None,
    protocol: Protocols = None,
    dry_run: DryRun = False,
    priority: Priority = None,
    attempts: Attempts = None,
    no_wait: NoWait = False,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Copy files and directories from site to site.

    As cp does: a destination that is a directory receives each source under its own name, otherwise it is the name
    that the one source gets. Missing parent directories are made.
    """
    timeout_s = timeout_of(timeout)
    shorthands = {
        Overwrite.IF_NEWER: if_newer,
        Overwrite.IF_DIFFERENT: if_different,
        Overwrite.KEEP_BOTH: keep_both,
    }
    wishes = Wishes(
        overwrite, shorthands, compare, no_verify, checksum, follow_links, no_times, include, exclude, encrypt,
        data_channel, dry_run=dry_run, protocols=protocol,
    )  # fmt: skip
    policy, options = wishes.policy(), wishes.options()
    if (include or exclude) and not recursive:
        raise UsageError("--include and --exclude say what of directories is copied, and need -r.")
    if len(places) < 2:
        raise UsageError("cp needs a source and a destination.")
    *sources, destination = [paths.parse(place) for place in places]
    with client_of(context) as client:
        items = copying.plan_copy(sources, destination, client.files.kind_of, recursive=recursive)
        job = client.jobs.copy(
            items, recursive=recursive, overwrite=policy, options=options, priority=priority, attempts=attempts
        )
        _see_copy_through(client, job, no_wait=no_wait, as_json=as_json, timeout_s=timeout_s)


def sync(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SITE:SOURCE", help="A directory.")],
    destination: Annotated[str, typer.Argument(metavar="SITE:DESTINATION", help="The one that shall hold the same.")],
    delete: Annotated[
        bool,
        typer.Option("--delete", help="Remove what only the destination has, once all is copied and nothing failed."),
    ] = False,
    compare: CompareOption = None,
    no_verify: NoVerify = False,
    checksum: Checksum = None,
    follow_links: FollowLinks = False,
    no_times: NoTimes = False,
    include: Include = None,
    exclude: Exclude = None,
    encrypt: Encrypt = False,
    data_channel: ChannelOption = None,
    protocol: Protocols = None,
    dry_run: DryRun = False,
    priority: Priority = None,
    attempts: Attempts = None,
    no_wait: NoWait = False,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Make a directory hold what another one does: copy what differs.

    DESTINATION is the directory itself, not the one that receives SOURCE. With --dry-run first you see what would be
    copied and removed.
    """
    timeout_s = timeout_of(timeout)
    wishes = Wishes(
        Overwrite.IF_DIFFERENT, {}, compare, no_verify, checksum, follow_links, no_times, include, exclude, encrypt,
        data_channel, delete, dry_run, protocol,
    )  # fmt: skip
    policy, options = wishes.policy(), wishes.options()
    items = copying.plan_sync(paths.parse(source), paths.parse(destination), deletes=delete)
    with client_of(context) as client:
        job = client.jobs.copy(
            items, recursive=True, overwrite=policy, options=options, priority=priority, attempts=attempts
        )
        _see_copy_through(client, job, no_wait=no_wait, as_json=as_json, timeout_s=timeout_s)


def _see_copy_through(
    client: Client, job: messages.Job, *, no_wait: bool, as_json: bool, timeout_s: int | None
) -> None:
    if no_wait or not job.copy.options.dry_run:
        see_through(client, job, no_wait=no_wait, as_json=as_json, timeout_s=timeout_s)
        return
    ended = waiting.wait(client, job, reporter_for(as_json=as_json), timeout_s)
    planned = client.jobs.files(ended.name, [messages.FILE_STATE_PLANNED])
    emptied = _planned_directories(client, ended)
    if as_json:
        failures = [console.as_json(failure) for failure in client.jobs.failures(ended.name)]
        files = [console.as_json(file) for file in planned]
        directories = [console.as_json(task) for task in emptied]
        sessions = [console.as_json(session) for session in _sessions(client, ended)]
        content = {"failures": failures, "files": files, "directories": directories, "siteSessions": sessions}
        console.show_json({"job": console.as_json(ended), **content})
        waiting.end_with(ended)
        return
    _show_plan(ended, list(itertools.islice(planned, SHOWN_FILES + 1)), emptied)
    for session in _sessions(client, ended):
        left_s = max(session.expire_time.ToSeconds() - time.time(), 0)
        console.say(f"sign-in at {session.site.removeprefix('sites/')}: for another {wording.duration(left_s)}")
    waiting.finish(client, ended, as_json=False)


def _sessions(client: Client, job: messages.Job) -> list[SiteSession]:
    """Returns the sign-ins at the sites of a job: a copy waits for another one where the time does not do."""
    sites = {place.site for item in job.copy.items for place in (item.source, item.destination)}
    return [session for session in client.site_sessions.all() if session.site in sites]


def _planned_directories(client: Client, job: messages.Job) -> Iterator[messages.Task]:
    """Yields the removals of directories that only the destination has: these are no files."""
    if job.progress.extraneous_total:
        for task in client.jobs.tasks(job.name, [messages.TASK_STATE_PLANNED]):
            if task.kind == messages.TASK_KIND_REMOVE_DIRECTORY:
                yield task


def _show_plan(job: messages.Job, files: Sequence[messages.JobFile], emptied: Iterator[messages.Task]) -> None:
    """Writes what a dry run would do, a line for each file and each directory that would go."""
    items = job.copy.items
    source, destination = (items[0].source.site, items[0].destination.site) if items else ("", "")
    for file in files[:SHOWN_FILES]:
        there = _place(destination, file.raw_path, file.path)
        if file.extraneous:
            console.say(f"remove {there}")
        else:
            goal = _place(destination, file.raw_destination_path, file.destination_path)
            console.say(f"copy {_place(source, file.raw_path, file.path)} → {goal} ({wording.size(file.size_bytes)})")
    room = max(SHOWN_FILES - len(files), 0)
    directories = list(itertools.islice(emptied, room + 1))
    for task in directories[:room]:
        console.say(f"remove {_place(destination, b'', task.source_path)}/")
    if len(files) > SHOWN_FILES or len(directories) > room:
        console.say("and more: with --json all are told")


def _place(site: str, raw: bytes, path: str) -> str:
    return str(RemotePath(site.removeprefix("sites/"), raw or path.encode()))
