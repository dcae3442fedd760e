"""Engines that only pretend: they take their time, report synthetic trees, and fail as often as they are told to."""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from wherry_fakes.synthetic_trees import directory_at, entries_of, share, size_of
from wherry_worker.access import Endpoint, SiteAccess
from wherry_worker.engine.messages import (
    Changed,
    ChecksumFile,
    ChecksumResult,
    CopyFiles,
    Entry,
    EntryBatch,
    ItemDone,
    ListDirectory,
    MakeDirectory,
    Message,
    Pair,
    Problem,
    Progress,
    RemoveDirectory,
    RemoveFiles,
    Rename,
    Stat,
    StatResult,
    Task,
    Unlink,
    UnlinkResult,
)
from wherry_worker.engine.paths import join
from wherry_worker.engine_process import DeathCause, EngineDied
from wherry_worker.engines import EngineKey, Plan

_BATCH_ENTRIES = 1000
#: Shorter waits than this are saved up: the loop could not keep them anyway.
_LEAST_WAIT_S = 0.002
_NORMAL = statistics.NormalDist()


@dataclass(frozen=True, slots=True)
class Pretence:
    """How the engines behave. The same seed and paths give the same failures, whichever process runs them.

    Attributes:
        task_s: how long a task takes in the mean; a chunk's files share it.
        spread: how the times of tasks lie around their mean.
        fail_rate: the part of all files that fail for good.
        retry_rate: the part of all files that fail in an attempt, and may not in the next.
        sick_attempts: after so many attempts at a task none of its files fails.
    """

    seed: int = 0
    task_s: float = 0.0
    spread: Literal["fixed", "exponential", "lognormal"] = "exponential"
    fail_rate: float = 0.0
    retry_rate: float = 0.0
    sick_attempts: int = 1_000_000

    def duration_s(self, *task: object) -> float:
        """Returns how long a task takes."""
        if self.task_s == 0 or self.spread == "fixed":
            return self.task_s
        part = share(self.seed, "duration", *task)
        if self.spread == "exponential":
            return -self.task_s * math.log(1 - part)
        sigma = 1.0
        normal = _NORMAL.inv_cdf(min(max(part, 1e-9), 1 - 1e-9))
        return self.task_s * math.exp(sigma * normal - sigma**2 / 2)

    def problem(self, path: str, attempt: int) -> Problem | None:
        """Returns why a file fails in an attempt, if it does."""
        if attempt > self.sick_attempts:
            return None
        if self.fail_rate and share(self.seed, "fail", path) < self.fail_rate:
            return _FOR_GOOD
        if self.retry_rate and share(self.seed, "retry", path, attempt) < self.retry_rate:
            return _FOR_NOW
        return None


class PretendingEngine:
    """One engine in use."""

    output = ""

    def __init__(self, pretence: Pretence) -> None:
        self._pretence = pretence
        self._killed = asyncio.Event()
        self._cause: DeathCause = "crashed"
        self._deadline = math.inf
        self._halted = False
        self._owed_s = 0.0

    async def run(self, task: Task, deadline: float) -> AsyncGenerator[Message, None]:
        """Pretends to run a task."""
        self._deadline, self._halted = deadline, False
        match task:
            case ListDirectory():
                await self._spend(self._pretence.duration_s("list", task.path, task.after))
                entries = entries_of(task.path, task.after)
                while batch := tuple(islice(entries, _BATCH_ENTRIES)):
                    await self._spend(0)
                    yield EntryBatch(tuple(Pair(entry) for entry in batch))
            case Stat():
                yield StatResult(_entry(task.path))
            case MakeDirectory():
                await self._spend(self._pretence.duration_s(task) if task.side == "source" else 0)
                yield Changed(changed=True)
            case Unlink():
                yield UnlinkResult("removed" if directory_at(task.path) is None else "directory")
            case CopyFiles():
                async for message in self._copy(task):
                    yield message
            case RemoveFiles():
                each_s = self._pretence.duration_s(task.directory, task.names) / max(len(task.names), 1)
                for index, _ in enumerate(task.names, task.first_index):
                    if self._halted:
                        return
                    await self._spend(each_s)
                    yield ItemDone(index, duration_s=each_s)
            case ChecksumFile():
                yield ChecksumResult(task.algorithm, _checksum(task.path))
            case Rename() | RemoveDirectory():
                await self._spend(self._pretence.duration_s(task))
            case _:
                pass
        await self._spend(0)

    async def _copy(self, task: CopyFiles) -> AsyncGenerator[Message, None]:
        each_s = self._pretence.duration_s(task.tag, task.fence) / max(len(task.items), 1)
        for item in task.items:
            if self._halted:
                return
            path = join(task.source_directory, item.source_name)
            yield Progress(item.index, "copying", 0)
            await self._spend(each_s)
            problem = self._pretence.problem(path, task.fence)
            if problem is not None:
                yield ItemDone(item.index, duration_s=each_s, problem=problem)
            else:
                yield ItemDone(item.index, item.size_bytes, _checksum(path), each_s)

    async def _spend(self, seconds: float) -> None:
        """Takes so long, and dies in between where that is asked for."""
        self._owed_s += seconds
        wait_s = min(self._owed_s, self._deadline - time.monotonic())
        if self._owed_s >= _LEAST_WAIT_S and not self._killed.is_set() and wait_s > 0:
            self._owed_s = 0
            try:
                async with asyncio.timeout(wait_s):
                    await self._killed.wait()
            except TimeoutError:
                pass
        if self._killed.is_set():
            raise EngineDied(self._cause)
        if time.monotonic() >= self._deadline:
            raise EngineDied("deadline")

    async def halt(self) -> None:
        """Begins no further file of the running task."""
        self._halted = True

    async def extend(self, deadline: float) -> None:
        """Moves the deadline."""
        self._deadline = deadline

    async def kill(self, cause: DeathCause) -> None:
        """Dies at once."""
        if not self._killed.is_set():
            self._cause = cause
            self._killed.set()


class PretendingEngines:
    """An endless supply of engines, one for each task."""

    def __init__(self, pretence: Pretence) -> None:
        self._pretence = pretence

    @asynccontextmanager
    async def engine(self, key: EngineKey, plan: Plan) -> AsyncIterator[PretendingEngine]:
        """Lends an engine."""
        yield PretendingEngine(self._pretence)

    def known(self, user: str, sites: Sequence[str]) -> list[SiteAccess]:
        """Holds no credentials."""
        return []

    def renew(self, user: str, accesses: Sequence[SiteAccess]) -> None:
        """Needs none either."""

    async def end_sessions(self, user: str, site: str) -> None:
        """Has none to end."""

    async def end_all_sessions(self) -> None:
        """Has none to end."""


class AnySite:
    """Gives access to whatever a lease names, without asking anybody."""

    def __init__(self, sites: Sequence[str]) -> None:
        self._accesses = [
            SiteAccess(site, (Endpoint(PRETENDED_SCHEME, "pretended.example", 1),), (), "none", None, b"")
            for site in sites
        ]

    async def fetch(self, token: str, have: Sequence[SiteAccess]) -> list[SiteAccess]:
        """Returns access that opens nothing."""
        return list(self._accesses)


PRETENDED_SCHEME = "pretended"


def _entry(path: str) -> Entry:
    name = path.rstrip("/").rsplit("/", 1)[-1]
    if directory_at(path) is not None:
        return Entry(name, "directory", mode=0o755)
    return Entry(name, "file", size_of(path), mode=0o644)


def _checksum(path: str) -> str:
    return f"{int(share('checksum', path) * 2**32):08x}"


_FOR_GOOD = Problem("SOURCE_PERMISSION_DENIED", "The engine pretends that this file may not be read.", "source_site")
_FOR_NOW = Problem("CONNECTION_LOST", "The engine pretends that the connection was lost.", "network", retryable=True)
