"""Chunks: files copied, or worked on otherwise, with what came of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import replace

from wherry_worker.access import SiteAccess
from wherry_worker.attempt import Attempt
from wherry_worker.bitmap import Bitmap
from wherry_worker.engine.messages import (
    ChannelUsed,
    ChecksumFiles,
    CopyFiles,
    CopyItem,
    ItemDone,
    LeftBehind,
    Message,
    Problem,
    Progress,
    Protection,
    RemoveFiles,
    RemoveTemporaries,
    SetModes,
    Task,
)
from wherry_worker.engine.paths import join, parent
from wherry_worker.engine.temporary import tag_of
from wherry_worker.engine_process import EngineDied, EngineTaskFailed
from wherry_worker.engines import EngineHandle, EngineUnavailable
from wherry_worker.protection import demanded, with_policy
from wherry_worker.stopping import LEASE_LOST, comes_again
from wherry_worker.work import (
    ChangeModes,
    ChunkItem,
    CopyChunk,
    ItemFailure,
    ItemResult,
    Outcome,
    RemoveChunk,
    Settlement,
    SumChunk,
)

OpenEngine = Callable[[], AbstractAsyncContextManager[EngineHandle]]
#: After so many engines that died over one file each, the chunk is given up for this attempt.
_MOST_DEATHS = 3
#: For removing what a killed copy left; the lease may be over, so it has a time of its own.
CLEAN_UP_S = 15.0
#: A killed engine had begun none but the first open files: it takes them in their order, hundreds at a time.
_BEGUN_AHEAD = 1000

_DIED = {
    "stalled": Problem(
        "TRANSFER_STALLED",
        "The transfer made no progress and was stopped.",
        "network",
        retryable=True,
        help="It is tried again.",
    ),
    "memory": Problem(
        "ENGINE_MEMORY", "The transfer engine used too much memory and was stopped.", "operator", retryable=True
    ),
    "crashed": Problem("ENGINE_CRASHED", "The transfer engine crashed.", "operator", retryable=True),
}


class Tally:
    """What came of a chunk's items so far."""

    def __init__(
        self, attempt: Attempt, items: Sequence[ChunkItem], done: bytes, directory: str, algorithm: str = "adler32"
    ) -> None:
        self._algorithm = algorithm
        self._protection: Protection | None = None
        self._attempt = attempt
        self._items = items
        self._directory = directory
        self._done = Bitmap(done, len(items))
        self._bytes = 0
        self._failures: dict[int, ItemFailure] = {}
        self._results: list[ItemResult] = []
        #: The item that is being worked on, as far as the engine told.
        self.current: int | None = None
        #: Whether temporary files lie at the destination still.
        self.left_behind = False
        #: Of items on their way, the bytes at the destination: several are at a time, and are told of in turn.
        self._moving: dict[int, int] = {}

    def open_items(self) -> list[int]:
        """Returns the indexes of items that are neither done nor failed."""
        return [i for i in range(len(self._items)) if i not in self._done and i not in self._failures]

    def take(self, message: Message) -> None:
        """Notes what the engine told."""
        if isinstance(message, Progress):
            self.current = message.index
            self._moving[message.index] = message.transferred_bytes
            self._advance()
        elif isinstance(message, ChannelUsed):
            self._protection = message.protection
        elif isinstance(message, LeftBehind):
            self.left_behind = True
        elif isinstance(message, ItemDone):
            self.current = None
            self._moving.pop(message.index, None)
            if message.problem is not None:
                self.fail(message.index, message.problem)
                return
            self._done.add(message.index)
            self._bytes += message.size_bytes
            self._results.append(
                ItemResult(
                    message.index,
                    message.size_bytes,
                    message.checksum,
                    message.duration_s,
                    message.adopted,
                    message.algorithm or self._algorithm,
                    message.left_alone,
                    message.kept_beside,
                )
            )
            self._advance()

    def nothing_moves(self) -> None:
        """Notes that there is no engine any more."""
        self.current = None
        self._moving.clear()

    def _advance(self) -> None:
        self._attempt.advance(self._bytes + sum(self._moving.values()), len(self._results))

    def fail(self, index: int, problem: Problem) -> None:
        """Notes that an item failed."""
        path = join(self._directory, self._items[index].name)
        self._failures[index] = ItemFailure(index, path, problem, self._items[index].size_bytes)
        self._attempt.note(f"{problem.reason}: item {index}: {problem.message}")

    def settlement(self, outcome: Outcome, problem: Problem | None = None) -> Settlement:
        """Returns the chunk's result."""
        return Settlement(
            self._attempt.lease.ref,
            outcome,
            problem,
            done=bytes(self._done),
            files_done=len(self._results),
            bytes_done=self._bytes,
            failures=tuple(self._failures.values()),
            results=tuple(self._results),
            protection=self._protection,
            left_behind=self.left_behind,
        )


async def copy_chunk(
    attempt: Attempt, open_engine: OpenEngine, chunk: CopyChunk, sites: Sequence[SiteAccess]
) -> Settlement:
    """Copies a chunk. An engine that dies over a file costs that file this attempt; the others go on with another.

    What a dead engine has left of large files stays, where there is a next attempt, or engine, to go on from it.

    One that is paused ends as completed with what is done; the queue has the rest done later. `sites` are both ends,
    whose demands on the protection of the bytes hold whatever the job says.
    """
    tag, fence = tag_of(attempt.lease.ref.task), attempt.lease.ref.fence
    tally = Tally(attempt, chunk.items, chunk.done, chunk.source_directory, chunk.rules.algorithm)
    _refuse_unfit(tally, chunk.items, chunk.make_parents)
    tally.left_behind = fence > 1  # nobody has looked what earlier attempts have left
    # A chunk of a walk, and nobody has begun it: what the walk saw at both ends is believed.
    is_listed = fence == 1 and not chunk.make_parents
    deaths = 0
    later: list[int] = []
    while (indexes := tally.open_items()) and not attempt.pausing:
        task = CopyFiles(
            tag,
            fence,
            chunk.source_directory,
            chunk.destination_directory,
            tuple(_copy_item(index, chunk.items[index], fresh=is_listed and deaths == 0) for index in indexes),
            chunk.rules.overwrite,
            chunk.rules.algorithm,
            remove_stale=fence > 1 or deaths > 0,
            make_parents=chunk.make_parents,
            protection=chunk.rules.protection,
            least_protection=demanded(sites),
            comparison=chunk.rules.comparison,
            verification=chunk.rules.verification,
            keep_times=chunk.rules.keep_times,
            engines_before=deaths,
            later=tuple(later),
        )
        try:
            async with open_engine() as engine, aclosing(attempt.run(engine, task)) as messages:
                if attempt.pausing:
                    break
                tally.left_behind = False  # what was left before is dealt with, or told of
                async for message in messages:
                    tally.take(message)
            if tally.open_items() == indexes and not attempt.pausing:
                return tally.settlement(Outcome.FAILED, _NOTHING_TOLD)  # again would be for ever
        except EngineTaskFailed as failed:
            attempt.note(f"{failed.problem.reason}: {failed.problem.message}")
            return tally.settlement(Outcome.FAILED, with_policy(failed.problem, sites))
        except EngineDied as died:
            attempt.note(f"engine ended: {died.cause}")
            if attempt.stop_reason != LEASE_LOST:  # else the lease's next holder does it, and may be at work already
                begun = [parent(_destination_path(chunk, index)) for index in tally.open_items()[:_BEGUN_AHEAD]]
                keep = comes_again(attempt.stop_reason) and chunk.rules.verification == "checksum"
                clean_up = RemoveTemporaries(tag, fence, tuple(dict.fromkeys(begun)), keep)
                tally.left_behind = await _remove_temporaries(attempt, open_engine, clean_up)
            if attempt.stop_reason is not None or died.cause not in _DIED:
                return tally.settlement(*_ending(attempt, died))
            deaths += 1
            if tally.current is None or deaths >= _MOST_DEATHS:
                return tally.settlement(Outcome.FAILED, _DIED[died.cause])
            later.append(tally.current)
            tally.fail(tally.current, _DIED[died.cause])
            tally.nothing_moves()
    return tally.settlement(Outcome.COMPLETED)


async def remove_chunk(attempt: Attempt, open_engine: OpenEngine, chunk: RemoveChunk) -> Settlement:
    """Removes a chunk of files."""
    tally = Tally(attempt, chunk.items, chunk.done, chunk.directory)
    return await _each(attempt, open_engine, chunk, tally, lambda names: RemoveFiles(chunk.directory, names))


async def change_modes(attempt: Attempt, open_engine: OpenEngine, chunk: ChangeModes) -> Settlement:
    """Sets the modes of a chunk of files."""
    tally = Tally(attempt, chunk.items, chunk.done, chunk.directory)
    return await _each(attempt, open_engine, chunk, tally, lambda names: SetModes(chunk.directory, names, chunk.mode))


async def sum_chunk(attempt: Attempt, open_engine: OpenEngine, chunk: SumChunk) -> Settlement:
    """Has the checksums of a chunk of files computed."""
    tally = Tally(attempt, chunk.items, chunk.done, chunk.directory, chunk.algorithm)

    def task(names: tuple[str, ...]) -> ChecksumFiles:
        return ChecksumFiles(chunk.directory, names, chunk.algorithm)

    return await _each(attempt, open_engine, chunk, tally, task)


async def _each(
    attempt: Attempt,
    open_engine: OpenEngine,
    chunk: RemoveChunk | ChangeModes | SumChunk,
    tally: Tally,
    task_of: Callable[[tuple[str, ...]], Task],
) -> Settlement:
    """Has something done to each file that is open still; `task_of` makes the task for their names."""
    _refuse_unfit(tally, chunk.items, below=False)
    indexes = tally.open_items()
    if not indexes:
        return tally.settlement(Outcome.COMPLETED)
    names = tuple(chunk.items[index].name for index in indexes)
    try:
        async with (
            open_engine() as engine,
            aclosing(attempt.run(engine, task_of(names))) as messages,
        ):
            if attempt.pausing:
                return tally.settlement(Outcome.COMPLETED)
            async for message in messages:
                if isinstance(message, ItemDone):
                    index = indexes[message.index]
                    # Who removes or sets a mode tells no size.
                    size_bytes = message.size_bytes or chunk.items[index].size_bytes
                    tally.take(replace(message, index=index, size_bytes=size_bytes))
                elif isinstance(message, Progress):
                    tally.take(replace(message, index=indexes[message.index]))
    except EngineTaskFailed as failed:
        return tally.settlement(Outcome.FAILED, failed.problem)
    except EngineDied as died:
        if attempt.stop_reason is not None or died.cause not in _DIED:
            return tally.settlement(*_ending(attempt, died))
        return tally.settlement(Outcome.FAILED, _DIED[died.cause])
    return tally.settlement(Outcome.COMPLETED)


async def _remove_temporaries(attempt: Attempt, open_engine: OpenEngine, task: RemoveTemporaries) -> bool:
    """Has another engine remove what the killed one left; where that fails, the next attempt does.

    Returns whether something is there still.
    """
    try:
        async with open_engine() as engine:
            return isinstance(await attempt.clean_up(engine, task, CLEAN_UP_S), LeftBehind)
    except (EngineDied, EngineTaskFailed, EngineUnavailable) as error:
        attempt.note(f"temporary files could not be removed: {error}")
        return True


def died_problem(died: EngineDied) -> Problem | None:
    """Returns what an engine's death means for its task; None where it was ended for a cause outside it."""
    return _DIED.get(died.cause)


def _ending(attempt: Attempt, died: EngineDied) -> tuple[Outcome, Problem | None]:
    if attempt.stop_reason is not None:
        return Outcome.CANCELLED, None
    return Outcome.RETURNED, deadline_problem(died)


def deadline_problem(died: EngineDied) -> Problem:
    """Returns why a task was given up that had done nothing wrong."""
    return Problem(
        "LEASE_ENDED", f"The worker's time for this attempt was over ({died.cause}).", "operator", retryable=True
    )


def _refuse_unfit(tally: Tally, items: Sequence[ChunkItem], below: bool) -> None:
    """Fails items that could lead out of the chunk's directories; `below` allows paths where there are names else."""
    for index in tally.open_items():
        item = items[index]
        names = [name for name in (item.name, item.destination_name or item.name) if not _is_fit(name, below)]
        if names:
            tally.fail(index, _UNFIT)


def _is_fit(name: str, below: bool) -> bool:
    parts = name.split("/")
    return (below or len(parts) == 1) and not any(part in ("", ".", "..") or "\0" in part for part in parts)


def _destination_path(chunk: CopyChunk, index: int) -> str:
    item = chunk.items[index]
    return join(chunk.destination_directory, item.destination_name or item.name)


_NOTHING_TOLD = Problem(
    "WORKER_ERROR", "The transfer engine ended without a word of its files.", "operator", retryable=True
)
_UNFIT = Problem("PATH_INVALID", "This is no path below the directory that it is given for.", "user")


def _copy_item(index: int, item: ChunkItem, *, fresh: bool) -> CopyItem:
    listed_s = item.modify_time_s if fresh and item.destination is None else None
    return CopyItem(index, item.name, item.destination_name or item.name, item.size_bytes, listed_s or None)
