"""Who watches which jobs at this replica, and what is known of these."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from wherry_queue.hub import Waiter
from wherry_queue.shelf import Measure, Shelf
from wherry_queue.store.watching import Signs

_SHELF_BYTES = 32 << 20

M = TypeVar("M")


class Watcher(Waiter):
    """One who watches; `wait` gives the ids of jobs of which there may be news.

    Attributes:
        user: whose jobs; None: one job.
        began_with: the content of what it has read alone, by job, until it cannot be told that again; not of one job.
        owed: jobs that are being read for it.
        from_round: what was read before this round may be older than what it has read alone.
        until_look: when `began_with` can be forgotten.
        blind: whether the database has been away for too long.
    """

    def __init__(self, user: str | None) -> None:
        super().__init__()
        self.user = user
        self.began_with: dict[int, int] = {}
        self.owed: set[int] = set()
        self.from_round = math.inf
        self.until_look = math.inf
        self.blind = False


@dataclass(slots=True)
class KnownJob:
    """A job that somebody watches.

    Attributes:
        signs: as last looked at; None: not yet.
        gone: whether its row is no longer there.
    """

    owner: str
    signs: Signs | None = None
    gone: bool = False


@dataclass(slots=True)
class WatchedUser:
    """A user all of whose jobs somebody watches.

    Attributes:
        ids: of those jobs that are known.
    """

    watchers: set[Watcher] = field(default_factory=set)
    ids: set[int] = field(default_factory=set)


class WatchList(Generic[M]):
    """All watchers, and all jobs that they watch.

    Attributes:
        known: by the jobs' ids; all of `single`, and all ids of `users`.
        single: who watches one job.
        users: who watches all jobs of a user.
        brief, whole: the last messages, for those who watch many jobs and for those who watch one.
        dirty: jobs to be looked at, those first that have waited longest.
        owed: jobs to be read in full even if they have not changed, and who is told of them then.
    """

    def __init__(self, measure: Measure[M]) -> None:
        self.known: dict[int, KnownJob] = {}
        self.single: dict[int, set[Watcher]] = {}
        self.users: dict[str, WatchedUser] = {}
        self.brief = Shelf(measure, _SHELF_BYTES)
        self.whole = Shelf(measure, _SHELF_BYTES)
        self.dirty: dict[int, None] = {}
        self.owed: dict[int, set[Watcher]] = {}

    def add_single(self, job_id: int, owner: str) -> Watcher:
        """Returns a new watcher of a job of `owner`."""
        watcher = Watcher(None)
        self.known.setdefault(job_id, KnownJob(owner))
        self.single.setdefault(job_id, set()).add(watcher)
        return watcher

    def remove_single(self, watcher: Watcher, job_id: int) -> None:
        """Takes a watcher of a job away."""
        self._owe_nothing(watcher)
        self.single[job_id].discard(watcher)
        if not self.single[job_id]:
            del self.single[job_id]
            self.whole.forget(job_id)
            self._forget_unwatched([job_id])

    def add(self, user: str) -> Watcher:
        """Returns a new watcher of all of a user's jobs."""
        watcher = Watcher(user)
        self.users.setdefault(user, WatchedUser()).watchers.add(watcher)
        return watcher

    def remove(self, watcher: Watcher, user: str) -> None:
        """Takes a watcher of a user's jobs away."""
        self._owe_nothing(watcher)
        watched = self.users[user]
        watched.watchers.discard(watcher)
        if not watched.watchers:
            del self.users[user]
            for job_id in watched.ids:
                self.brief.forget(job_id)
            self._forget_unwatched(watched.ids)

    def everybody(self) -> Iterator[Watcher]:
        """Gives all watchers."""
        for watchers in (*self.single.values(), *(user.watchers for user in self.users.values())):
            yield from watchers

    def watchers(self, job_id: int, *, brief: bool) -> Collection[Watcher]:
        """Returns who watches a job as one of its user's, or alone."""
        if not brief:
            return self.single.get(job_id, ())
        known = self.known.get(job_id)
        user = self.users.get(known.owner) if known is not None else None
        return user.watchers if user is not None and job_id in user.ids else ()

    def shelf(self, watcher: Watcher) -> Shelf[M]:
        """Returns where a watcher's messages lie."""
        return self.whole if watcher.user is None else self.brief

    def meet(self, owners: Mapping[int, str], signs: Mapping[int, Signs] | None = None) -> None:
        """Takes jobs in that are watched because of their users; what is known of others already stands."""
        for job_id, name in owners.items():
            if (user := self.users.get(name)) is not None:
                self.known.setdefault(job_id, KnownJob(name, (signs or {}).get(job_id)))
                user.ids.add(job_id)

    def owe(self, watcher: Watcher, job_ids: Iterable[int]) -> None:
        """Notes that jobs are to be read for a watcher."""
        for job_id in job_ids:
            if watcher.user is not None:
                self.meet({job_id: watcher.user})  # it ended, and was forgotten before this watcher came to it
            self.owed.setdefault(job_id, set()).add(watcher)
            self.dirty[job_id] = None
            watcher.owed.add(job_id)

    def settle(self, job_id: int) -> Collection[Watcher]:
        """Returns to whom a job was owed, and owes it no longer."""
        owed = self.owed.pop(job_id, set())
        for watcher in owed:
            watcher.owed.discard(job_id)
        return owed

    def gone(self, job_id: int) -> Collection[Watcher]:
        """Notes that a job's row is no longer there; returns who watches it alone."""
        known = self.known[job_id]
        known.gone = True
        self.settle(job_id)
        if (user := self.users.get(known.owner)) is not None:
            user.ids.discard(job_id)
            self.brief.forget(job_id)
        self._forget_unwatched([job_id])
        return self.single.get(job_id, ())

    def forget_ended(self, since_id: int) -> None:
        """Forgets jobs that have ended, and lie so far back that a look does not take them for new ones."""
        for user in self.users.values():
            ended = [job_id for job_id in user.ids if job_id < since_id and self._has_ended(job_id)]
            user.ids.difference_update(ended)
            for job_id in ended:
                self.brief.forget(job_id)
            self._forget_unwatched(ended)

    def _has_ended(self, job_id: int) -> bool:
        signs = self.known[job_id].signs
        return signs is not None and not signs.open and job_id not in self.dirty

    def _owe_nothing(self, watcher: Watcher) -> None:
        for job_id in watcher.owed:
            self.owed[job_id].discard(watcher)

    def _forget_unwatched(self, job_ids: Iterable[int]) -> None:
        for job_id in job_ids:
            if job_id in self.known and job_id not in self.single and not self.watchers(job_id, brief=True):
                del self.known[job_id]
                self.dirty.pop(job_id, None)
                self.settle(job_id)
