"""Listings for somebody who waits: a directory, or a tree to a depth.

The entries of a directory come together, in byte order of their names; then those of the first directory among them
with all below it, then those of the next. So only names of directories are held, and what is found goes up at once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace

from wherry_worker.attempt import Attempt
from wherry_worker.chunking import BATCH_BYTES
from wherry_worker.engine.messages import Entry, EntryBatch, ListDirectory, Problem, Stat, StatResult
from wherry_worker.engine.paths import join, to_bytes
from wherry_worker.engine_process import EngineTaskFailed
from wherry_worker.engines import EngineHandle
from wherry_worker.ports import Reports
from wherry_worker.sending import BatchSender
from wherry_worker.walking import WalkFailed, is_name
from wherry_worker.work import Found, ListOne

#: A listing to a depth ends here: all of it is kept for minutes, and somebody waits for it.
MOST_ENTRIES = 1_000_000
#: So many directories in a row that cannot be listed, and not for what they are: then it is the site.
MOST_IN_A_ROW = 3
_BATCH_ENTRIES = 1000
_ENTRY_BYTES = 60
#: What has been found is not held for longer than this before the next directory is listed.
_HELD_S = 0.3
#: How the reasons end that say something of a directory, and nothing of its site or the way there.
_OF_ITSELF = ("NOT_FOUND", "NOT_A_DIRECTORY", "PERMISSION_DENIED", "NAME_NOT_CARRIED", "NAME_TOO_LONG", "LINK_LOOP")


async def list_for_caller(
    attempt: Attempt, engine: EngineHandle, work: ListOne, reports: Reports, most_entries: int = MOST_ENTRIES
) -> None:
    """Lists a directory, to a depth, for somebody who waits; a file gives itself.

    A directory below that cannot be listed is told once more, with why, and the rest goes on. Links are not followed.
    Raises WalkFailed after `most_entries` entries of a listing to a depth, and what the engine and the reports raise;
    what was found by then has been reported.
    """
    async with BatchSender(reports, attempt.lease.ref) as sender:
        found = _Found(sender, work.depth, most_entries)
        try:
            await _list(attempt, engine, work, found)
        except EngineTaskFailed as failed:
            await found.flush()
            if found.told or not failed.problem.reason.endswith("NOT_A_DIRECTORY"):
                raise
            looked = await attempt.first(engine, Stat("source", work.path))
            if not isinstance(looked, StatResult) or looked.entry is None:
                raise
            single = Found("", looked.entry.name, entries=(looked.entry,), listed_kind=looked.entry.kind)
            await sender.add(replace(single, listed_depth=work.depth))
            await sender.flush()
            return
        except WalkFailed:
            await found.flush()
            raise
        await found.flush()


async def _list(attempt: Attempt, engine: EngineHandle, work: ListOne, found: _Found) -> None:
    # For each level the directory that is listed, as a path below the root, and those in it that are still to come.
    levels: list[tuple[str, Iterator[str]]] = []
    names = await _list_one(attempt, engine, work.path, "", found)
    await found.flush()
    if work.depth > 1:
        levels.append(("", iter(names)))
    in_a_row = 0
    while levels:
        above, waiting = levels[-1]
        name = next(waiting, None)
        if name is None:
            levels.pop()
            continue
        below = f"{above}/{name}" if above else name
        await found.flush_if_held()
        try:
            names = await _list_one(attempt, engine, join(work.path, below), below, found)
        except EngineTaskFailed as failed:
            in_a_row = 0 if failed.problem.reason.endswith(_OF_ITSELF) else in_a_row + 1
            if in_a_row >= MOST_IN_A_ROW or failed.problem.reason.endswith("SESSION_EXPIRED"):
                raise
            await found.add(Entry(below, "directory", problem=failed.problem))
            continue
        in_a_row = 0
        if len(levels) + 1 < work.depth:
            levels.append((below, iter(names)))


async def _list_one(attempt: Attempt, engine: EngineHandle, path: str, below: str, found: _Found) -> list[str]:
    """Tells the entries of one directory; returns the names of the directories among them."""
    names = []
    async with aclosing(attempt.run(engine, ListDirectory(path))) as messages:
        async for message in messages:
            for pair in message.pairs if isinstance(message, EntryBatch) else ():
                entry = pair.source
                if found.depth > 1 and entry.kind != "unlistable" and not is_name(entry.name):
                    # As a part of a path it would stand for another place, which might be listed in its stead.
                    entry = replace(entry, kind="unlistable", problem=_NO_NAME)
                if entry.kind == "directory":
                    names.append(entry.name)
                await found.add(replace(entry, name=f"{below}/{entry.name}") if below else entry)
    return names


class _Found:
    """What has been found, on its way up in batches."""

    def __init__(self, sender: BatchSender, depth: int, most_entries: int) -> None:
        self.depth = depth
        self.told = 0
        self._sender = sender
        self._most = most_entries
        self._entries: list[Entry] = []
        self._weight = 0
        self._cursor = ""
        self._flushed_at = time.monotonic()

    async def add(self, entry: Entry) -> None:
        """Takes an entry. Raises WalkFailed where there are too many."""
        if self.depth > 1 and self.told >= self._most:
            raise WalkFailed(_too_long(self._most))
        weight = _ENTRY_BYTES + _name_bytes(entry.name)
        if self._entries and (len(self._entries) >= _BATCH_ENTRIES or self._weight + weight > BATCH_BYTES):
            await self._sender.add(self._batch())
        self._entries.append(entry)
        self._weight += weight
        self.told += 1

    async def flush_if_held(self) -> None:
        """Has what was found go up where it has been held for long enough: a directory may take long to be listed."""
        if time.monotonic() - self._flushed_at > _HELD_S:
            await self.flush()

    async def flush(self) -> None:
        """Has all that was found go up."""
        if self._entries:
            await self._sender.add(self._batch())
        await self._sender.flush()
        self._flushed_at = time.monotonic()

    def _batch(self) -> Found:
        # Names would not do as cursors: they do not come in byte order where there are several directories.
        after, self._cursor = self._cursor, f"{self.told:010}"
        entries, self._entries, self._weight = tuple(self._entries), [], 0
        return Found(after, self._cursor, entries=entries, listed_depth=self.depth)


def _name_bytes(name: str) -> int:
    """Returns how much of a message a name takes: one that is not UTF-8 stands there twice, once to be shown."""
    raw = to_bytes(name)
    try:
        raw.decode()
    except UnicodeDecodeError:
        return 4 * len(raw)
    return len(raw)


def _too_long(most_entries: int) -> Problem:
    return Problem(
        "LISTING_TOO_LONG",
        f"There are more than {most_entries:,} entries to this depth.",
        "user",
        help="List to a smaller depth, or begin further down.",
    )


_NO_NAME = Problem("SOURCE_NAME_NOT_CARRIED", "The site's server tells a name that none can be.", "source_site")
