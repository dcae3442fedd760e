"""Makes up for what could not be asked when a job was accepted: whether its owner sees its sites and is signed in at
them, and where relative paths begin.

While the site service is away, jobs are accepted with `Hold.SITES_UNKNOWN`. As soon as it answers, each of them goes on
as if it had just been handed in, except that what would have been refused then makes it fail now.
"""

from __future__ import annotations

import asyncio
import enum
import itertools
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy.engine import Connection
from wherry_chassis.errors import DatabaseUnavailable, InvalidFields
from wherry_chassis.logging import logger
from wherry_chassis.sql import Database

from wherry_queue.jobs import NewTask, copy_tasks, remove_tasks, rename_tasks, tree_tasks
from wherry_queue.paths import absolute
from wherry_queue.settling import Failure
from wherry_queue.site_directory import ResolvedSite, SiteDirectory, SiteNotFound, SitesUnavailable
from wherry_queue.states import Hold, TaskKind

_PAGE = 500
_SITES = 100
"""So many sites may be named in one question; the contract says so."""
_AT_ONCE = 8
_TRIES = 3
_USER, _SOURCE, _DESTINATION = 1, 2, 3
"""Who can do something about a failure, as the contract numbers them."""


@dataclass(frozen=True, slots=True)
class UnresolvedJob:
    """A job whose sites nobody could be asked about.

    Attributes:
        user, source, destination: the names of its owner and its sites; `user_id`: the owner's row.
    """

    job_id: int
    user_id: int
    user: str
    source: str
    destination: str


class TaskPaths(Protocol):
    """A task as it was accepted; `models.Task` has it."""

    @property
    def kind(self) -> int: ...  # noqa: D102  # named as in the schema
    @property
    def source_path(self) -> bytes: ...  # noqa: D102
    @property
    def destination_path(self) -> bytes | None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Resolution:
    """What becomes of a job.

    Attributes:
        hold: where its owner has to sign in first.
        sessions: when the owner's sessions end, by site, in milliseconds since the epoch; only where there are any.
    """

    hold: Hold
    sessions: Mapping[str, int]


def resolution(job: UnresolvedJob, sites: Mapping[str, ResolvedSite], now_ms: int) -> Resolution | Failure:
    """Returns what becomes of a job now that `sites`, those of its own that its owner sees, are known."""
    for name, party in ((job.source, _SOURCE), (job.destination, _DESTINATION)):
        if name not in sites:
            error = SiteNotFound(site=name)
            return Failure(error.reason, error.message, party, help="Make a new job, with a site that you can see.")
    sessions: dict[str, int] = {}
    hold = Hold.NOTHING
    for name, bit in ((job.source, Hold.SOURCE_SIGN_IN), (job.destination, Hold.DESTINATION_SIGN_IN)):
        until_ms = int((sites[name].session_expires_s or 0) * 1000)
        if until_ms > now_ms:
            sessions[name] = until_ms
        elif bit is Hold.SOURCE_SIGN_IN or job.destination != job.source:
            hold |= bit
    return Resolution(hold, sessions)


def resolved_paths(
    tasks: Sequence[TaskPaths], source: bytes, destination: bytes, *, same_site: bool, deletes: bool = False
) -> list[tuple[bytes, bytes | None]] | Failure:
    """Returns the absolute source and destination paths of a job's first tasks, or what is wrong with them.

    Args:
        tasks: all of them, in the order of the items of the job; of chunks, which have one pair of roots, any one.
        source, destination: the sites' default paths.
        deletes: as `copy_tasks` has it.
    """
    try:
        made = _made_again(tasks, source, destination, same_site=same_site, deletes=deletes)
    except InvalidFields as error:
        return Failure(error.reason, error.message, _USER, help="Make a new job, with other paths.")
    return [(task.source_path, task.destination_path) for task in made]


def _made_again(
    tasks: Sequence[TaskPaths], source: bytes, destination: bytes, *, same_site: bool, deletes: bool
) -> Sequence[NewTask]:
    """Makes the first tasks as if their job had just been handed in; raises InvalidFields."""
    match kind := TaskKind(tasks[0].kind):
        case TaskKind.WALK_COPY:
            items = [
                (
                    absolute(task.source_path, source, f"job.copy.items[{index}].source.path"),
                    absolute(task.destination_path or b"", destination, f"job.copy.items[{index}].destination.path"),
                )
                for index, task in enumerate(tasks)
            ]
            return copy_tasks(items, same_site=same_site, deletes=deletes)
        case TaskKind.WALK_REMOVE:
            return remove_tasks(
                [
                    absolute(task.source_path, source, f"job.remove.targets[{index}].path")
                    for index, task in enumerate(tasks)
                ]
            )
        case TaskKind.WALK_CHANGE_MODE | TaskKind.WALK_CHECKSUM:
            operation = "change_mode" if kind is TaskKind.WALK_CHANGE_MODE else "checksum"
            return tree_tasks(
                kind,
                [
                    absolute(task.source_path, source, f"job.{operation}.targets[{index}].path")
                    for index, task in enumerate(tasks)
                ],
            )
        case TaskKind.RENAME:
            return rename_tasks(
                absolute(tasks[0].source_path, source, "job.rename.source.path"),
                absolute(tasks[0].destination_path or b"", destination, "job.rename.destination.path"),
            )
        case TaskKind.COPY_FILES:
            root = absolute(tasks[0].source_path, source, "copy.source.path")
            return [
                NewTask(kind, root, absolute(tasks[0].destination_path or b"", destination, "copy.destination.path"))
            ]
        case _:
            return [NewTask(kind, absolute(tasks[0].source_path, source, "job.make_directory.target.path"))]


class Settled(enum.Enum):
    """What came of it to settle a job."""

    DONE = enum.auto()
    ALREADY = enum.auto()
    """It needs nothing any more: another replica was first, or it was cancelled."""
    OVERTAKEN = enum.auto()
    """The answer may be older than what has been heard of sessions since; ask again."""


class UnresolvedJobs(Protocol):
    """Keeps jobs."""

    def cursor(self, connection: Connection) -> int:
        """As `FollowedSignIns.cursor` says."""
        ...

    def unresolved(self, connection: Connection, behind: int, limit: int) -> Sequence[UnresolvedJob]:
        """Returns up to `limit` such jobs of users with greater ids than `behind`, by these; each user's together."""
        ...

    def settle(
        self, connection: Connection, job: UnresolvedJob, sites: Mapping[str, ResolvedSite], before: int
    ) -> Settled:
        """Has a job go on, or fail, by what was answered when the feed of sessions stood at `before`."""
        ...


class SiteResolver:
    """Asks about all such jobs, again and again while there are any.

    Args:
        on_settled: called with jobs that go on or have failed, after the commit.
        period_s: how often it is looked whether there are any. Nobody tells it that one was accepted: that was because
            the site service did not answer just then.
    """

    def __init__(
        self,
        database: Database,
        store: UnresolvedJobs,
        directory: SiteDirectory,
        on_settled: Callable[[Sequence[int]], None],
        *,
        period_s: float = 3.0,
    ) -> None:
        self._database = database
        self._store = store
        self._directory = directory
        self._on_settled = on_settled
        self._period_s = period_s
        self._behind = 0

    async def run(self) -> None:
        """Asks, for ever."""
        while True:
            # Not to the second: replicas that were started together need not ask together.
            await asyncio.sleep(self._period_s * random.uniform(0.8, 1.2))  # noqa: S311  # no secret
            await self.look()

    async def look(self) -> bool:
        """Asks about all that there are; tells whether that could be done.

        Where it could not, the next look begins behind the first user about whom there was no answer: if it is theirs
        alone that cannot be had, the others need not wait for it.
        """
        seen: set[int] = set()
        try:
            while True:
                jobs = await self._database.read(self._store.unresolved, self._behind, _PAGE)
                fresh = [job for job in jobs if job.job_id not in seen]
                if fresh:
                    seen.update(job.job_id for job in fresh)
                    unanswered = await self._ask_for_all(fresh)
                    if unanswered:
                        self._behind = min(unanswered)
                        return False
                elif self._behind:
                    self._behind = 0
                else:
                    return not jobs
        except DatabaseUnavailable:
            logger().warning("unresolved_jobs_unread")
            return False

    async def _ask_for_all(self, jobs: Sequence[UnresolvedJob]) -> list[int]:
        """Settles jobs, sorted by user; returns the ids of the users about whom nothing could be learnt now."""
        places = asyncio.Semaphore(_AT_ONCE)
        away = False

        async def one(user_id: int, of_user: Sequence[UnresolvedJob]) -> list[int]:
            nonlocal away
            async with places:
                if not away and await self._settle(of_user):
                    return []
                away = True  # the others need not find out one by one
                return [user_id]

        by_user = [(user_id, list(group)) for user_id, group in itertools.groupby(jobs, key=lambda job: job.user_id)]
        return list(itertools.chain(*await asyncio.gather(*(one(*of_user) for of_user in by_user))))

    async def _settle(self, jobs: Sequence[UnresolvedJob]) -> bool:
        """Asks for a user's sites and settles their jobs; tells whether it could be done."""
        left = list(jobs)
        try:
            for _ in range(_TRIES):
                before = await self._database.read(self._store.cursor)
                sites = await self._resolve(left)
                left = await self._settle_by(left, sites, before)
                if not left:
                    return True
        except (SitesUnavailable, DatabaseUnavailable) as error:
            logger().warning("jobs_not_resolved", reason=error.reason, jobs=len(left))
        return False

    async def _resolve(self, jobs: Sequence[UnresolvedJob]) -> dict[str, ResolvedSite]:
        names = sorted({name for job in jobs for name in (job.source, job.destination)})
        sites: dict[str, ResolvedSite] = {}
        for start in range(0, len(names), _SITES):
            sites |= await self._directory.resolve(jobs[0].user, names[start : start + _SITES])
        return sites

    async def _settle_by(
        self, jobs: Sequence[UnresolvedJob], sites: Mapping[str, ResolvedSite], before: int
    ) -> list[UnresolvedJob]:
        """Settles jobs one by one, each in a transaction of its own; returns those for which the answer is too old."""
        done: list[int] = []
        try:
            for place, job in enumerate(jobs):
                match await self._database.write(self._store.settle, job, sites, before):
                    case Settled.OVERTAKEN:
                        return list(jobs[place:])
                    case Settled.DONE:
                        done.append(job.job_id)
            return []
        finally:
            if done:
                logger().info("jobs_resolved", jobs=len(done))
                self._on_settled(done)
