"""ls, cp, rm, mkdir, mv."""

from __future__ import annotations

import stat
from enum import Enum
from typing import Annotated

import typer
from wherry.queue.v1 import job_service_pb2
from wherry.type.v1 import entry_pb2

from wherry_client import copying, paths
from wherry_client.client import Client
from wherry_client.command import console, waiting, wording
from wherry_client.command.options import Json, NoWait, Priority, Timeout
from wherry_client.command.progress import Reporter, SilentReporter, reporter_for
from wherry_client.command.settings import client_of
from wherry_client.errors import UsageError
from wherry_client.names import show_name, show_text

_KINDS = {
    entry_pb2.ENTRY_KIND_FILE: "-",
    entry_pb2.ENTRY_KIND_DIRECTORY: "d",
    entry_pb2.ENTRY_KIND_SYMLINK: "l",
}


class Overwrite(Enum):
    """What to do where the destination has a file already."""

    NEVER = "never"
    ALWAYS = "always"


_POLICIES = {
    Overwrite.NEVER: job_service_pb2.OVERWRITE_POLICY_NEVER,
    Overwrite.ALWAYS: job_service_pb2.OVERWRITE_POLICY_ALWAYS,
}


def ls(
    context: typer.Context,
    places: Annotated[
        list[str], typer.Argument(metavar="SITE:PATH", help="What to list; SITE: is its default directory.")
    ],
    long: Annotated[bool, typer.Option("-l", "--long", help="With permissions, size in bytes, and time.")] = False,
    as_json: Json = False,
) -> None:
    """List directories at sites. Directories end in a slash."""
    parsed = [paths.parse(place) for place in places]
    with client_of(context) as client:
        if as_json:
            console.show_json({"listings": [_listing_as_json(client, place) for place in parsed]})
            return
        for number, place in enumerate(parsed):
            if len(parsed) > 1:
                console.say(f"{'' if number == 0 else chr(10)}{place}:")
            for entry in client.files.entries(place):
                _show_entry(entry, long=long)


def cp(
    context: typer.Context,
    places: Annotated[list[str], typer.Argument(metavar="SITE:PATH", help="What to copy; the last one is where to.")],
    recursive: Annotated[bool, typer.Option("-r", "-R", "--recursive", help="Directories with all they hold.")] = False,
    overwrite: Annotated[
        Overwrite,
        typer.Option("--overwrite", help="Where a file is there already: never fails if it differs."),
    ] = Overwrite.NEVER,
    priority: Priority = None,
    no_wait: NoWait = False,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Copy files and directories from site to site.

    As cp does: a destination that is a directory receives each source under its own name, otherwise it is the name
    that the one source gets. Missing parent directories are made.
    """
    timeout_s = _timeout_of(timeout)
    if len(places) < 2:
        raise UsageError("cp needs a source and a destination.")
    *sources, destination = [paths.parse(place) for place in places]
    with client_of(context) as client:
        items = copying.plan_copy(sources, destination, client.files.kind_of, recursive=recursive)
        job = client.jobs.copy(items, recursive=recursive, overwrite=_POLICIES[overwrite], priority=priority)
        _see_through(client, job, no_wait=no_wait, as_json=as_json, timeout_s=timeout_s)


def rm(
    context: typer.Context,
    places: Annotated[list[str], typer.Argument(metavar="SITE:PATH", help="What to remove.")],
    recursive: Annotated[bool, typer.Option("-r", "-R", "--recursive", help="Directories with all they hold.")] = False,
    priority: Priority = None,
    no_wait: NoWait = False,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Remove files and directories at a site."""
    timeout_s = _timeout_of(timeout)
    targets = [paths.parse(place) for place in places]
    if len({target.site for target in targets}) > 1:
        raise UsageError("All that one rm removes must be at the same site.")
    if len(targets) > copying.MAX_ITEMS:
        raise UsageError(f"One rm takes {copying.MAX_ITEMS} places at most; remove their directory with -r.")
    for target in targets:
        if target.is_start:
            raise UsageError(f"{target} is where the site begins for you; name what is in it.")
    with client_of(context) as client:
        job = client.jobs.remove(targets, recursive=recursive, priority=priority)
        _see_through(client, job, no_wait=no_wait, as_json=as_json, timeout_s=timeout_s)


def mkdir(
    context: typer.Context,
    places: Annotated[list[str], typer.Argument(metavar="SITE:PATH", help="The directories to make.")],
    parents: Annotated[
        bool, typer.Option("-p", "--parents", help="Make missing parents; an existing directory is no failure.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make directories at sites."""
    targets = [paths.parse(place) for place in places]
    for target in targets:
        if target.is_start:
            raise UsageError(f"{target} is there already.")
    with client_of(context) as client:
        for target in targets:
            job = client.jobs.make_directory(target, parents=parents)
            _see_through_quietly(client, job, as_json=as_json)


def mv(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SITE:SOURCE", help="What to move or rename.")],
    destination: Annotated[str, typer.Argument(metavar="SITE:DESTINATION", help="Where to, at the same site.")],
    as_json: Json = False,
) -> None:
    """Move or rename within a site; never replaces what is there.

    As mv does: a destination that is a directory receives the source under its own name.
    """
    old, new = paths.parse(source), paths.parse(destination)
    with client_of(context) as client:
        exact = copying.plan_rename(old, new, client.files.kind_of)
        _see_through_quietly(client, client.jobs.rename(old, exact), as_json=as_json)


def _see_through(
    client: Client, job: job_service_pb2.Job, *, no_wait: bool, as_json: bool, timeout_s: int | None
) -> None:
    if no_wait:
        if as_json:
            console.show_json({"job": console.as_json(job)})
        else:
            console.say(wording.job_id(job))
        return
    ended = waiting.wait(client, job, reporter_for(as_json=as_json), timeout_s)
    waiting.finish(client, ended, as_json=as_json)


def _see_through_quietly(client: Client, job: job_service_pb2.Job, *, as_json: bool) -> None:
    silent: Reporter = SilentReporter()
    ended = waiting.wait(client, job, silent)
    waiting.finish(client, ended, as_json=as_json, quiet=True)


def _timeout_of(text: str | None) -> int | None:
    return None if text is None else wording.parse_duration(text)


def _show_entry(entry: entry_pb2.Entry, *, long: bool) -> None:
    name = show_name(paths.raw_name(entry))
    if entry.kind == entry_pb2.ENTRY_KIND_DIRECTORY:
        name += "/"
    if entry.kind == entry_pb2.ENTRY_KIND_UNLISTABLE:
        console.note(f"{name}: {show_text(entry.failure.message)}")
    if not long:
        console.say(name)
        return
    # A door that does not tell the mode says 0.
    permissions = stat.filemode(entry.mode)[1:] if entry.mode else "?????????"
    kind = _KINDS.get(entry.kind, "?")
    console.say(f"{kind}{permissions} {entry.size_bytes:>15} {wording.moment(entry.modify_time):>16} {name}")


def _listing_as_json(client: Client, place: paths.RemotePath) -> dict[str, object]:
    path, entries = "", list[dict[str, object]]()
    for batch in client.files.list_batches(place):
        path = batch.path or path
        entries.extend(console.as_json(entry) for entry in batch.entries)
    return {"site": f"sites/{place.site}", "path": path, "entries": entries}
