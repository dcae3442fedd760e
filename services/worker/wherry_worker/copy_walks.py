"""Walks of copies: a directory listed beside its counterpart, and what lies in small ones below it told with it.

A tree of many small directories would be a task for each directory and one more for its few files. A walk so goes into
its sub-directories itself, one level, where there are many, and its chunks hold files of several of them. Until all of
its own directory is listed it does not know; it then tells what it has but for those sub-directories, and goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from heapq import merge

from wherry_worker.attempt import Attempt
from wherry_worker.chunking import BatchBuilder, ChunkLimits
from wherry_worker.engine.messages import (
    Changed,
    Entry,
    EntryBatch,
    ListDirectory,
    MakeDirectory,
    Pair,
    Problem,
    Stat,
    StatResult,
)
from wherry_worker.engine.paths import byte_order, join, parent
from wherry_worker.engine_process import EngineTaskFailed
from wherry_worker.engines import EngineHandle
from wherry_worker.filtering import EVERYTHING
from wherry_worker.ports import Reports
from wherry_worker.sending import BatchSender
from wherry_worker.walking import (
    IN_THE_WAY_OF_DIRECTORY,
    WalkFailed,
    copy_entry,
    extraneous_entry,
    is_inside,
    last_name,
)
from wherry_worker.work import CopyRules, ItemFailure, WalkCopy

#: Fewer sub-directories than this are left to others at once: they may be large.
LEAST_INNER = 8
#: What one walk goes through of its sub-directories, in entries and in directories; the rest is left to others.
MOST_INNER_ENTRIES = 20_000
MOST_INNER = 2_000
#: Later attempts leave the rest to others: one directory that cannot be had shall not take those beside it along.
MOST_ATTEMPTS = 2


async def walk_copy(
    attempt: Attempt, engine: EngineHandle, walk: WalkCopy, reports: Reports, limits: ChunkLimits
) -> None:
    """Does a copy's walk. Raises WalkFailed, and what the engine and the reports raise."""
    lease = attempt.lease
    same_site = lease.source_site == lease.destination_site
    if walk.root:
        found = await attempt.first(engine, Stat("source", walk.source_path))
        entry = found.entry if isinstance(found, StatResult) else None
        if entry is None:
            raise WalkFailed(_NOT_FOUND)
        if entry.kind != "directory":
            await _copy_one_file(attempt, engine, walk, entry, reports)
            return
        if not walk.recursive:
            raise WalkFailed(_NOT_RECURSIVE)
        if same_site and is_inside(walk.destination_path, walk.source_path):
            raise WalkFailed(_INTO_ITSELF)
    if (place := inner_place(walk.cursor)) is not None:
        await _go_on(attempt, engine, walk, place, reports, limits)
        return
    new = await _destination_is_new(attempt, engine, walk)
    batch = BatchBuilder(walk.cursor, limits, directories_done=0 if walk.cursor or walk.rules.dry_run else 1)
    listing = ListDirectory(
        walk.source_path,
        beside=None if new else walk.destination_path,
        after=walk.cursor or None,
        extraneous=walk.rules.delete_extraneous,
        follow_links=walk.rules.follow_links,
    )
    async with BatchSender(reports, lease.ref) as sender, aclosing(attempt.run(engine, listing)) as messages:
        async for message in messages:
            for one in _in_order(message) if isinstance(message, EntryBatch) else ():
                if batch.full:
                    await sender.add(batch.take())
                if isinstance(one, Entry):
                    extraneous_entry(one, walk, batch)
                else:
                    copy_entry(one, walk, batch)
            if isinstance(message, EntryBatch) and message.unlisted is not None:
                batch.add_unlisted(ItemFailure(0, walk.source_path, message.unlisted, 0))
        go_in = may_go_in(walk.rules) and batch.directories >= LEAST_INNER
        deferred = batch.defer_directories() if go_in else ()
        await sender.add(batch.take())
        if deferred:
            await InnerWalks(attempt, engine, walk, batch, sender).go_into(deferred)
            await sender.add(batch.take())
        await sender.flush()


async def _destination_is_new(attempt: Attempt, engine: EngineHandle, walk: WalkCopy) -> bool:
    """Makes the walk's directory, unless nothing shall be written; tells whether there was none."""
    if walk.rules.dry_run:
        looked = await attempt.first(engine, Stat("destination", walk.destination_path))
        there = looked.entry if isinstance(looked, StatResult) else None
        if there is not None and there.kind != "directory":
            raise WalkFailed(IN_THE_WAY_OF_DIRECTORY)
        return there is None
    made = await attempt.first(
        engine, MakeDirectory("destination", walk.destination_path, parents=walk.root, exist_ok=True)
    )
    return isinstance(made, Changed) and made.changed


def _in_order(batch: EntryBatch) -> Iterator[Pair | Entry]:
    """Returns both kinds of finds in byte order of their names, as the cursor goes."""
    return merge(batch.pairs, batch.extraneous, key=lambda found: byte_order(_found_name(found)))


def _found_name(found: Pair | Entry) -> str:
    return found.name if isinstance(found, Entry) else found.source.name


def may_go_in(rules: CopyRules) -> bool:
    """Tells whether a walk may go into sub-directories: not where it makes none, or more is asked than to copy."""
    return not (rules.dry_run or rules.delete_extraneous or rules.follow_links)


@dataclass(frozen=True, slots=True)
class InnerPlace:
    """How far a walk has come that goes into sub-directories; see `BatchBuilder.defer_directories`.

    Attributes:
        last: where its own listing ends.
        first: the sub-directories come behind this name.
        name: the sub-directory that it has come to; empty: none yet.
        entry: how far it has come there; empty: not at all.
        left: whether that one has been left to others.
    """

    last: str
    first: str
    name: str
    entry: str
    left: bool


def inner_place(cursor: str) -> InnerPlace | None:
    """Reads a cursor; None where the walk is still at its own directory: no name holds a slash."""
    parts = cursor.split("/")
    if len(parts) < 3:
        return None
    return InnerPlace(parts[0], parts[1], parts[2], parts[3] if len(parts) > 3 else "", left=len(parts) > 4)


async def _go_on(
    attempt: Attempt, engine: EngineHandle, walk: WalkCopy, place: InnerPlace, reports: Reports, limits: ChunkLimits
) -> None:
    """Goes on with the sub-directories of a walk whose own directory has been told by an attempt before."""
    names: list[str] = []
    listing = ListDirectory(walk.source_path, beside=walk.destination_path, after=place.first or None)
    async with aclosing(attempt.run(engine, listing)) as messages:
        async for message in messages:
            for pair in message.pairs if isinstance(message, EntryBatch) else ():
                if pair.source.kind == "directory" and byte_order(pair.source.name) <= byte_order(place.last):
                    looked_at = BatchBuilder("", limits)
                    copy_entry(pair, walk, looked_at)
                    # What has come in its way since then is for its own walk to say.
                    names += [pair.source.name] if looked_at.directories or looked_at.has_failures else []
    batch = BatchBuilder(walk.cursor, limits, cursor_base=f"{place.last}/{place.first}/")
    async with BatchSender(reports, attempt.lease.ref) as sender:
        await InnerWalks(attempt, engine, walk, batch, sender).go_into(names, at=place)
        await sender.add(batch.take())
        await sender.flush()


class InnerWalks:
    """Goes into the sub-directories of a walk."""

    def __init__(
        self, attempt: Attempt, engine: EngineHandle, walk: WalkCopy, batch: BatchBuilder, sender: BatchSender
    ) -> None:
        self._attempt = attempt
        self._engine = engine
        self._walk = walk
        self._batch = batch
        self._sender = sender
        self._directories = self._entries = 0

    async def go_into(self, names: Sequence[str], *, at: InnerPlace | None = None) -> None:
        """Goes into sub-directories, those behind a place; what is too much for one walk is left to others."""
        begun = b"" if at is None or not at.name else _place(at.name)
        for name in sorted(names, key=_place):
            if _place(name) < begun or (at is not None and at.left and name == at.name):
                continue
            if self._batch.full:
                await self._sender.add(self._batch.take())
            if at is not None and name == at.name:
                await self._go_in(name, at.entry, counted=True)
            elif self._goes_on:
                await self._go_in(name, "", counted=False)
            else:
                self._batch.leave_to_others(name)

    @property
    def _goes_on(self) -> bool:
        """Whether it goes into another: not for ever, nor where that may be what attempt after attempt fails at."""
        is_small = self._directories < MOST_INNER and self._entries < MOST_INNER_ENTRIES
        return is_small and self._attempt.lease.attempt <= MOST_ATTEMPTS

    async def _go_in(self, name: str, after: str, *, counted: bool) -> None:
        walk = self._walk
        inner = replace(
            walk,
            source_path=join(walk.source_path, name),
            destination_path=join(walk.destination_path, name),
            root=False,
            cursor=after,
            path_below=f"{walk.path_below}/{name}" if walk.path_below else name,
        )
        self._directories += 1
        try:
            await self._tell(inner, name, counted=counted)
        except EngineTaskFailed as failed:
            if failed.problem.retryable or self._batch.below:
                raise
            self._batch.leave_to_others(name)  # its own walk says what is wrong with it
        finally:
            self._batch.leave()

    async def _tell(self, inner: WalkCopy, name: str, *, counted: bool) -> None:
        batch = self._batch
        new = await _destination_is_new(self._attempt, self._engine, inner)
        beside = None if new else inner.destination_path
        listing = ListDirectory(inner.source_path, beside=beside, after=inner.cursor or None)
        async with aclosing(self._attempt.run(self._engine, listing)) as messages:
            async for message in messages:
                if not batch.below:
                    batch.enter(name, counted=counted)
                for pair in message.pairs if isinstance(message, EntryBatch) else ():
                    if batch.full:
                        await self._sender.add(batch.take())
                    copy_entry(pair, inner, batch)
                    self._entries += 1
                if isinstance(message, EntryBatch) and message.unlisted is not None:
                    batch.add_unlisted(ItemFailure(0, inner.source_path, message.unlisted, 0))
        if not batch.below:
            batch.enter(name, counted=counted)  # an empty one


def _place(name: str) -> bytes:
    """Sorting key of sub-directories as their cursors are ordered: with the slash that follows the name there."""
    return byte_order(f"{name}/")


async def _copy_one_file(
    attempt: Attempt, engine: EngineHandle, walk: WalkCopy, entry: Entry, reports: Reports
) -> None:
    above = parent(walk.destination_path)
    there: Entry | None = None
    new = False
    if not walk.rules.dry_run:
        made = await attempt.first(engine, MakeDirectory("destination", above, parents=True, exist_ok=True))
        new = isinstance(made, Changed) and made.changed
    if not new:
        looked = await attempt.first(engine, Stat("destination", walk.destination_path))
        there = looked.entry if isinstance(looked, StatResult) else None
    batch = BatchBuilder("", ChunkLimits(), parent(walk.source_path), above)
    # Who names a file wants it, whatever the filters say of files below directories.
    file_walk = replace(walk, source_path=parent(walk.source_path), rules=replace(walk.rules, filters=EVERYTHING))
    copy_entry(
        Pair(replace(entry, name=last_name(walk.source_path)), there),
        file_walk,
        batch,
        last_name(walk.destination_path),
    )
    await reports.report(attempt.lease.ref, [batch.take()])


_NOT_FOUND = Problem("SOURCE_NOT_FOUND", "There is no such file or directory at the source.", "user")
_NOT_RECURSIVE = Problem(
    "SOURCE_IS_A_DIRECTORY", "The source is a directory.", "user", help="Ask for a recursive copy."
)
_INTO_ITSELF = Problem("DESTINATION_INSIDE_SOURCE", "A directory cannot be copied into itself.", "user")
