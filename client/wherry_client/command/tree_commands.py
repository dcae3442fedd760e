"""chmod, sum."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Annotated

import typer
from wherry.queue.v1 import job_service_pb2 as messages

from wherry_client import copying, paths
from wherry_client.command import console, waiting
from wherry_client.command.copy_options import Algorithm
from wherry_client.command.options import Attempts, Json, NoWait, Priority, Timeout
from wherry_client.command.progress import BarReporter, Reporter, SilentReporter
from wherry_client.command.seeing_through import see_through, show_accepted, timeout_of
from wherry_client.command.settings import client_of
from wherry_client.errors import UsageError
from wherry_client.names import show_text
from wherry_client.paths import RemotePath

_MODE = re.compile(r"[0-7]{1,4}")
Recursive = Annotated[bool, typer.Option("-r", "-R", "--recursive", help="Directories with all they hold.")]


def chmod(
    context: typer.Context,
    mode: Annotated[str, typer.Argument(metavar="MODE", help="Permission bits in octal, as 640.")],
    places: Annotated[list[str], typer.Argument(metavar="SITE:PATH", help="What to change.")],
    recursive: Recursive = False,
    directories: Annotated[
        str | None,
        typer.Option("--directories", metavar="MODE", help="Those of directories, as 750; else the same."),
    ] = None,
    priority: Priority = None,
    attempts: Attempts = None,
    no_wait: NoWait = False,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Change permissions of files and directories at a site."""
    timeout_s = timeout_of(timeout)
    bits, of_directories = _bits(mode), None if directories is None else _bits(directories)
    targets = _targets("chmod", places)
    with client_of(context) as client:
        job = client.jobs.change_mode(
            targets, bits, of_directories, recursive=recursive, priority=priority, attempts=attempts
        )
        see_through(client, job, no_wait=no_wait, as_json=as_json, timeout_s=timeout_s)


def sum_(
    context: typer.Context,
    places: Annotated[list[str], typer.Argument(metavar="SITE:PATH", help="Of what.")],
    recursive: Recursive = False,
    algorithm: Annotated[Algorithm, typer.Option("--algorithm", help="Which checksum.")] = Algorithm.ADLER32,
    priority: Priority = None,
    attempts: Attempts = None,
    no_wait: NoWait = False,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Write checksums of files, as their site computes them: one a line, with the file's place."""
    timeout_s = timeout_of(timeout)
    targets = _targets("sum", places)
    with client_of(context) as client:
        job = client.jobs.checksum(targets, algorithm.value, recursive=recursive, priority=priority, attempts=attempts)
        if no_wait:
            show_accepted(job, as_json=as_json)
            return
        # Nothing but checksums goes into a pipe.
        reporter: Reporter = BarReporter() if console.is_terminal() and not as_json else SilentReporter()
        ended = waiting.wait(client, job, reporter, timeout_s)
        files = client.jobs.files(ended.name, [messages.FILE_STATE_DONE])
        if as_json:
            failures = [console.as_json(failure) for failure in client.jobs.failures(ended.name)]
            content = {"files": [console.as_json(file) for file in files], "failures": failures}
            console.show_json({"job": console.as_json(ended), **content})
            waiting.end_with(ended)
            return
        _show_sums(files, targets[0].site)
        waiting.finish(client, ended, as_json=False, quiet=True, write=console.note)


def _show_sums(files: Iterable[messages.JobFile], site: str) -> None:
    for file in files:
        place = RemotePath(site, file.raw_path or file.path.encode())
        console.say(f"{show_text(file.checksum.value)}  {place}")


def _targets(command: str, places: Sequence[str]) -> list[RemotePath]:
    targets = [paths.parse(place) for place in places]
    if len({target.site for target in targets}) > 1:
        raise UsageError(f"All places of one {command} must be at the same site.")
    if len(targets) > copying.MAX_ITEMS:
        raise UsageError(f"One {command} takes {copying.MAX_ITEMS} places at most; name their directory, with -r.")
    return targets


def _bits(text: str) -> int:
    if not _MODE.fullmatch(text):
        raise UsageError(f'"{show_text(text)}" is no mode: write octal digits, as 640 or 2750.')
    return int(text, 8)
