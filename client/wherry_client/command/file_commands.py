"""ls, rm, mkdir, mv."""

from __future__ import annotations

import stat
from typing import Annotated

import typer
from wherry.type.v1 import entry_pb2

from wherry_client import copying, paths
from wherry_client.client import Client
from wherry_client.command import console, wording
from wherry_client.command.options import Attempts, Json, NoWait, Priority, Timeout
from wherry_client.command.seeing_through import see_through, see_through_quietly, timeout_of
from wherry_client.command.settings import client_of
from wherry_client.command.tree_listing import MOST_LEVELS, show_tree, tree_as_json
from wherry_client.errors import UsageError
from wherry_client.exits import ExitStatus
from wherry_client.names import show_name, show_text

_KINDS = {
    entry_pb2.ENTRY_KIND_FILE: "-",
    entry_pb2.ENTRY_KIND_DIRECTORY: "d",
    entry_pb2.ENTRY_KIND_SYMLINK: "l",
}


def ls(
    context: typer.Context,
    places: Annotated[
        list[str], typer.Argument(metavar="SITE:PATH", help="What to list; SITE: is its default directory.")
    ],
    long: Annotated[bool, typer.Option("-l", "--long", help="With permissions, size in bytes, and time.")] = False,
    recursive: Annotated[
        bool, typer.Option("-R", "-r", "--recursive", help=f"Directories below too, {MOST_LEVELS} levels at most.")
    ] = False,
    depth: Annotated[
        int | None,
        typer.Option("--depth", min=1, max=MOST_LEVELS, metavar=f"1-{MOST_LEVELS}", help="So many levels."),
    ] = None,
    as_json: Json = False,
) -> None:
    """List directories at sites. Directories end in a slash.

    With -R or --depth each directory has a heading; links are not followed. A directory that may not be read is named,
    and the exit status is 3.
    """
    parsed = [paths.parse(place) for place in places]
    levels = depth or (MOST_LEVELS if recursive else 1)
    whole = True
    with client_of(context) as client:
        if as_json:
            listings = []
            for place in parsed:
                path, entries, complete = tree_as_json(client.files.list_batches(place, levels))
                listings.append({"site": f"sites/{place.site}", "path": path, "entries": entries})
                whole = whole and complete
            console.show_json({"listings": listings})
        else:
            for number, place in enumerate(parsed):
                whole = _list(client, place, levels, number=number, of=len(parsed), long=long) and whole
    if not whole:
        raise typer.Exit(ExitStatus.PARTLY_FAILED)


def rm(
    context: typer.Context,
    places: Annotated[list[str], typer.Argument(metavar="SITE:PATH", help="What to remove.")],
    recursive: Annotated[bool, typer.Option("-r", "-R", "--recursive", help="Directories with all they hold.")] = False,
    priority: Priority = None,
    attempts: Attempts = None,
    no_wait: NoWait = False,
    timeout: Timeout = None,
    as_json: Json = False,
) -> None:
    """Remove files and directories at a site."""
    timeout_s = timeout_of(timeout)
    targets = [paths.parse(place) for place in places]
    if len({target.site for target in targets}) > 1:
        raise UsageError("All that one rm removes must be at the same site.")
    if len(targets) > copying.MAX_ITEMS:
        raise UsageError(f"One rm takes {copying.MAX_ITEMS} places at most; remove their directory with -r.")
    for target in targets:
        if target.is_start:
            raise UsageError(f"{target} is where the site begins for you; name what is in it.")
    with client_of(context) as client:
        job = client.jobs.remove(targets, recursive=recursive, priority=priority, attempts=attempts)
        see_through(client, job, no_wait=no_wait, as_json=as_json, timeout_s=timeout_s)


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
            see_through_quietly(client, job, as_json=as_json)


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
        see_through_quietly(client, client.jobs.rename(old, exact), as_json=as_json)


def _list(client: Client, place: paths.RemotePath, levels: int, *, number: int, of: int, long: bool) -> bool:
    """Writes the listing of one of some places; returns whether all of it could be listed."""
    if number:
        console.say("")
    if levels > 1:
        batches = client.files.list_batches(place, levels)
        return show_tree(place, batches, levels, lambda entry, name: _show_entry(entry, name, long=long))
    if of > 1:
        console.say(f"{place}:")
    for entry in client.files.entries(place):
        _show_entry(entry, paths.raw_name(entry), long=long)
    return True


def _show_entry(entry: entry_pb2.Entry, raw: bytes, *, long: bool) -> None:
    name = show_name(raw)
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
