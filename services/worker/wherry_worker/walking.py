"""Walks: one directory listed, what has to be done with it reported.

What becomes of an entry is decided by the pure functions `copy_entry` and `remove_entry`; the rest asks the engine and
sends the batches.
"""

from __future__ import annotations

from contextlib import aclosing

from wherry_worker.attempt import Attempt
from wherry_worker.chunking import BatchBuilder, ChunkLimits
from wherry_worker.engine.messages import (
    Entry,
    EntryBatch,
    ListDirectory,
    Pair,
    Problem,
    Stat,
    StatResult,
    Unlink,
    UnlinkResult,
)
from wherry_worker.engine.overwriting import decide
from wherry_worker.engine.paths import join, parent
from wherry_worker.engine.temporary import is_temporary
from wherry_worker.engines import EngineHandle
from wherry_worker.filtering import EVERYTHING
from wherry_worker.ports import Reports
from wherry_worker.sending import BatchSender
from wherry_worker.work import ChunkItem, DestinationFile, Found, ItemFailure, WalkCopy, WalkRemove, WalkTree


class WalkFailed(Exception):
    """The walk cannot be done; `problem` says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.reason)
        self.problem = problem


def copy_entry(pair: Pair, walk: WalkCopy, batch: BatchBuilder, destination_name: str = "") -> None:
    """Decides what a copy does with one entry of its directory.

    What the chunk would refuse without having looked at any byte is refused here already, and takes no task.
    """
    entry, there = pair.source, pair.destination
    here = "" if there is None else there.kind
    rules, below = walk.rules, walk.path_below
    never = rules.overwrite == "never"
    match entry.kind:
        case _ if not is_name(entry.name):
            batch.add_failure(entry.name, _failure(walk.source_path, pair, _UNLISTABLE))
        case _ if is_temporary(entry.name) and not destination_name:
            # Another copy's unfinished file, here because this directory is a destination too. Who names it wants it.
            batch.skip(entry.name)
        case _ if rules.filters.excludes(below, entry.name):
            batch.skip(entry.name)
        case "file" if not rules.filters.takes_file(below, entry.name):
            batch.skip(entry.name)
        case "directory" if here in ("file", "other"):  # a link may lead to a directory: the walk will find out
            batch.add_failure(entry.name, _failure(walk.source_path, pair, IN_THE_WAY_OF_DIRECTORY))
        case "directory" if here == "symlink" and rules.delete_extraneous:
            # What it leads to lies elsewhere: there nothing is extraneous.
            batch.add_failure(entry.name, _failure(walk.source_path, pair, _LINK_IN_THE_WAY))
        case "directory" if entry.target and leads_upwards(walk.source_path, entry.target):
            batch.add_failure(entry.name, _failure(walk.source_path, pair, _LOOP))
        case "directory":
            batch.add_directory(entry.name)
        case "file" if never and here == "directory":
            batch.add_failure(entry.name, _failure(walk.source_path, pair, _IN_THE_WAY_OF_FILE))
        case "file":
            match decide(rules.overwrite, rules.comparison, entry, there if here == "file" else None):
                case "leave":
                    batch.add_unchanged(entry.name, entry.size_bytes)
                case "refuse":
                    batch.add_failure(entry.name, _failure(walk.source_path, pair, _EXISTS))
                case _:
                    batch.add_file(_item(entry, there, destination_name))
        case "symlink":
            batch.add_skipped(entry.name, _failure(walk.source_path, pair, _SYMLINK))
        case "unlistable":
            batch.add_failure(entry.name, _failure(walk.source_path, pair, entry.problem or _UNLISTABLE))
        case _:
            batch.add_skipped(entry.name, _failure(walk.source_path, pair, _SPECIAL))


def extraneous_entry(entry: Entry, walk: WalkCopy, batch: BatchBuilder) -> None:
    """Decides what a copy does with an entry that only its destination has.

    What filters leave out is left alone, and so are directories where there are filters: they may hold such.
    """
    filters = walk.rules.filters
    if is_temporary(entry.name) or entry.kind == "unlistable" or not is_name(entry.name):
        batch.skip(entry.name)
    elif entry.kind == "directory" and filters == EVERYTHING:
        batch.add_extraneous_directory(entry.name)
    elif entry.kind != "directory" and filters.takes_file(walk.path_below, entry.name):
        batch.add_extraneous(_item(entry, None))
    else:
        batch.skip(entry.name)


def remove_entry(pair: Pair, walk: WalkRemove, batch: BatchBuilder) -> None:
    """Decides what a removal does with one entry of its directory. Links are removed, never followed."""
    entry = pair.source
    match entry.kind:
        case _ if not is_name(entry.name):
            batch.add_failure(entry.name, _failure(walk.path, pair, _UNLISTABLE))
        case "directory":
            # It may be a link that the door shows as what it leads to: its own walk finds out before it lists.
            batch.add_directory(entry.name)
        case "unlistable":
            batch.add_failure(entry.name, _failure(walk.path, pair, entry.problem or _UNLISTABLE))
        case _:
            batch.add_file(_item(entry, None))


def tree_entry(pair: Pair, walk: WalkTree, batch: BatchBuilder) -> None:
    """Decides what is done with one entry of a tree of which each file is worked on. Links are never followed."""
    entry = pair.source
    match entry.kind:
        case _ if not is_name(entry.name):
            batch.add_failure(entry.name, _failure(walk.path, pair, _UNLISTABLE))
        case "directory":
            batch.add_directory(entry.name)
        case "file" if walk.directories_only:
            batch.skip(entry.name)
        case "file":
            batch.add_file(_item(entry, None))
        case "unlistable":
            batch.add_failure(entry.name, _failure(walk.path, pair, entry.problem or _UNLISTABLE))
        case "symlink":
            batch.add_skipped(entry.name, _failure(walk.path, pair, _SYMLINK))
        case _:
            batch.add_skipped(entry.name, _failure(walk.path, pair, _SPECIAL))


async def walk_remove(
    attempt: Attempt, engine: EngineHandle, walk: WalkRemove, reports: Reports, limits: ChunkLimits
) -> None:
    """Does a removal's walk. Raises as walk_copy."""
    if walk.root:
        found = await attempt.first(engine, Stat("source", walk.path))
        entry = found.entry if isinstance(found, StatResult) else None
        if entry is None and walk.cursor:
            return  # a file that an earlier attempt reported, and that is removed by now
        if entry is not None and entry.kind != "directory":
            single = BatchBuilder("", limits, chunk_source_directory=parent(walk.path))
            single.add_file(ChunkItem(last_name(walk.path), "", entry.size_bytes, entry.modify_time_s, entry.mode))
            await reports.report(attempt.lease.ref, [single.take()])
            return
    if walk.dry_run:
        looked = await attempt.first(engine, Stat("source", walk.path))
        there = looked.entry if isinstance(looked, StatResult) else None
        if there is None or there.kind != "directory":
            await reports.report(attempt.lease.ref, [Found(walk.cursor, walk.cursor, directories_done=1)])
            return
    elif not walk.cursor:
        # Servers refuse to unlink a real directory, which tells it from a link to one without any race.
        unlinked = await attempt.first(engine, Unlink(walk.path))
        what = unlinked.found if isinstance(unlinked, UnlinkResult) else "directory"
        if what == "absent" and walk.root and attempt.lease.attempt <= 1:
            raise WalkFailed(_NOTHING_TO_REMOVE)
        if what != "directory":
            await reports.report(attempt.lease.ref, [Found("", "", directories_done=1)])
            return
        if walk.root and not walk.recursive:
            raise WalkFailed(_NOT_RECURSIVE_REMOVAL)
    batch = BatchBuilder(walk.cursor, limits, directories_done=0 if walk.cursor else 1)
    listing = ListDirectory(walk.path, after=walk.cursor or None)
    async with BatchSender(reports, attempt.lease.ref) as sender, aclosing(attempt.run(engine, listing)) as messages:
        async for message in messages:
            for pair in message.pairs if isinstance(message, EntryBatch) else ():
                if batch.full:
                    await sender.add(batch.take())
                remove_entry(pair, walk, batch)
        await sender.add(batch.take(remove_directory=True))
        await sender.flush()


async def walk_tree(
    attempt: Attempt, engine: EngineHandle, walk: WalkTree, reports: Reports, limits: ChunkLimits
) -> None:
    """Does the walk of a change of permissions, or of checksums. Raises as walk_copy."""
    if walk.root:
        found = await attempt.first(engine, Stat("source", walk.path))
        entry = found.entry if isinstance(found, StatResult) else None
        if entry is None:
            raise WalkFailed(_NOTHING_THERE)
        if entry.kind != "directory":
            single = BatchBuilder("", limits, chunk_source_directory=parent(walk.path))
            single.add_file(ChunkItem(last_name(walk.path), "", entry.size_bytes, entry.modify_time_s, entry.mode))
            await reports.report(attempt.lease.ref, [single.take()])
            return
        if not walk.recursive:
            if not walk.directories_too:
                raise WalkFailed(_NOT_RECURSIVE_SUM)
            await reports.report(attempt.lease.ref, [Found("", "", remove_directory=True, directories_done=1)])
            return
    batch = BatchBuilder(walk.cursor, limits, directories_done=0 if walk.cursor else 1)
    async with (
        BatchSender(reports, attempt.lease.ref) as sender,
        aclosing(attempt.run(engine, ListDirectory(walk.path, after=walk.cursor or None))) as messages,
    ):
        async for message in messages:
            for pair in message.pairs if isinstance(message, EntryBatch) else ():
                if batch.full:
                    await sender.add(batch.take())
                tree_entry(pair, walk, batch)
            if isinstance(message, EntryBatch) and message.unlisted is not None:
                batch.add_unlisted(ItemFailure(0, walk.path, message.unlisted, 0))
        await sender.add(batch.take(remove_directory=walk.directories_too))
        await sender.flush()


def _item(entry: Entry, there: Entry | None, destination_name: str = "") -> ChunkItem:
    found = (
        DestinationFile(there.size_bytes, there.modify_time_s) if there is not None and there.kind == "file" else None
    )
    renamed = destination_name if destination_name != entry.name else ""
    return ChunkItem(entry.name, renamed, entry.size_bytes, entry.modify_time_s, entry.mode, found)


def leads_upwards(directory: str, target: str) -> bool:
    """Tells whether a link in a directory leads to that or to one above it, as far as its words tell."""
    parts = [] if target.startswith("/") else directory.split("/")
    for part in target.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return is_inside(directory, "/" + "/".join(part for part in parts if part))


def is_name(name: str) -> bool:
    """Tells whether a name is one of an entry: one that leads elsewhere would have a removal go on there."""
    return name not in ("", ".", "..") and not any(character in name for character in "/\0")


def is_inside(path: str, directory: str) -> bool:
    """Tells whether a path is a directory itself or lies in it."""
    above = directory.rstrip("/") + "/"
    return (path.rstrip("/") + "/").startswith(above)


def last_name(path: str) -> str:
    """Returns the last part of a path."""
    return path.rstrip("/").rsplit("/", 1)[-1]


def _failure(directory: str, pair: Pair, problem: Problem) -> ItemFailure:
    return ItemFailure(0, join(directory, pair.source.name), problem, pair.source.size_bytes)


_NOTHING_THERE = Problem("NOT_FOUND", "There is no such file or directory.", "user")
_NOT_RECURSIVE_SUM = Problem("IS_A_DIRECTORY", "This is a directory.", "user", help="Ask for all files below it.")
_NOTHING_TO_REMOVE = Problem("NOT_FOUND", "There is no such file or directory.", "user")
_NOT_RECURSIVE_REMOVAL = Problem("IS_A_DIRECTORY", "This is a directory.", "user", help="Ask for a recursive removal.")
IN_THE_WAY_OF_DIRECTORY = Problem(
    "DESTINATION_NOT_A_DIRECTORY", "The destination has a file where a directory is to be made.", "user"
)
_LINK_IN_THE_WAY = Problem(
    "DESTINATION_IS_A_LINK",
    "The destination has a symbolic link where a directory is to be made, and what only the destination has is to be "
    "removed: what the link leads to would be.",
    "user",
    help="Remove the link, or copy without removing anything.",
)
_IN_THE_WAY_OF_FILE = Problem(
    "DESTINATION_IS_A_DIRECTORY", "The destination has a directory where a file is to be written.", "user"
)
_EXISTS = Problem(
    "DESTINATION_EXISTS",
    "The destination has another file of this name.",
    "user",
    help="Allow it to be overwritten, or copy elsewhere.",
)
_SYMLINK = Problem(
    "SYMLINK_SKIPPED", "Symbolic links are left out.", "user", help="Have links followed to copy what they lead to."
)
_LOOP = Problem("SYMLINK_LOOP", "This symbolic link leads to a directory above it, which would never end.", "user")
_SPECIAL = Problem("SPECIAL_FILE_SKIPPED", "Devices, sockets and pipes are not copied.", "user")
_UNLISTABLE = Problem("SOURCE_NAME_NOT_CARRIED", "The protocol cannot carry this name.", "user")
