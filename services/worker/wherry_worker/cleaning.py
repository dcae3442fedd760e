"""Removes what attempts at a copy left at its destination, when no further attempt does."""

from __future__ import annotations

from itertools import islice

from wherry_worker.attempt import Attempt
from wherry_worker.engine.messages import RemoveTemporaries
from wherry_worker.engine.paths import join, parent
from wherry_worker.engine.temporary import tag_of
from wherry_worker.engine_process import EngineTaskFailed
from wherry_worker.engines import EngineHandle
from wherry_worker.walking import is_name
from wherry_worker.work import CleanUp

#: Looked through in one go: the files of a chunk may lie in a thousand.
_DIRECTORIES = 50
_GONE = frozenset({"NOT_FOUND", "NOT_A_DIRECTORY"})


async def clean_up(attempt: Attempt, engine: EngineHandle, work: CleanUp) -> None:
    """Removes the temporary files of a copy; directories that are gone have none.

    Raises:
        EngineTaskFailed: with why the first of the directories could not be looked through; the others were.
    """
    first: EngineTaskFailed | None = None
    ahead = iter(directories(work))
    while some := tuple(islice(ahead, _DIRECTORIES)):
        try:
            await _remove(attempt, engine, work, some)
        except EngineTaskFailed as failed:
            if failed.problem.retryable:
                raise
            failures = [await _failure(attempt, engine, work, one) for one in some]
            first = first or next((failure for failure in failures if failure is not None), None)
    if first is not None:
        raise first


def directories(work: CleanUp) -> list[str]:
    """Returns the directories in which files of the copy may have been begun, each once."""
    if not work.items:
        return [work.directory]
    names = (item.destination_name or item.name for item in work.items)
    # Others were never copied, and lead elsewhere.
    fit = (name for name in names if all(is_name(part) for part in name.split("/")))
    return list(dict.fromkeys(parent(join(work.directory, name)) for name in fit))


async def _failure(attempt: Attempt, engine: EngineHandle, work: CleanUp, directory: str) -> EngineTaskFailed | None:
    """Cleans up one directory alone, since one of several could not be; returns why, if it is this one."""
    try:
        await _remove(attempt, engine, work, (directory,))
    except EngineTaskFailed as failed:
        if failed.problem.reason in _GONE:
            return None
        attempt.note(f"{failed.problem.reason}: {directory}")
        return failed
    return None


async def _remove(attempt: Attempt, engine: EngineHandle, work: CleanUp, some: tuple[str, ...]) -> None:
    await attempt.first(engine, RemoveTemporaries(tag_of(work.task), work.fence, some))
