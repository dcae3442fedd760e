"""Looks at jobs for all who watch them at this replica: together, however many watch, and each job once.

Whoever watches reads alone only what a watch begins with. From then on the feed does the reading: of jobs to which
something has happened, as the bulletin says, a few times a second; and slowly, as the truth, of all watched jobs that
have not ended and of the watched users' new ones. A watcher is told ids only, and fetches what it has to say when it is
ready to say it: one that is slow holds a set of ids, not what happened meanwhile.

A watcher is never sent back in time: what was read before the end of its own first reading is read again for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

from wherry_chassis.errors import DatabaseUnavailable, DomainError, Kind
from wherry_chassis.logging import logger
from wherry_chassis.sql import Database

from wherry_queue.bulletin import Bulletin, Topic
from wherry_queue.shelf import Measure
from wherry_queue.store import watching
from wherry_queue.store.reading import JobView
from wherry_queue.store.waiting import Circumstances
from wherry_queue.store.watching import Signs
from wherry_queue.watch_list import Watcher, WatchList

SHORTEST_S = 0.25
"""Between two readings, and between two messages of a watch, however much happens."""
_LOOK_S = 2.0
_SHARE = 20
"""A look at all that is watched takes at most the twentieth part of the time, however much it is."""
_LONGEST_LOOK_S = 30.0
_TOLD_PER_S = 2000
"""Watchers told, on average: to tell thousands takes the replica's time away from the work itself."""
_JOBS_PER_ROUND = 2000
_SIGNS_AT_ONCE = 500
_VIEWS_AT_ONCE = 100
"""So many jobs in a reading: what people ask for may be long."""
_WAITING_PER_LOOK = 100
"""Of jobs that wait, so many are read in full at each look, in turn: why they wait changes without them."""
_ASKED_AT_ONCE = 1000
_RETRY_S = 1.0
_BLIND_S = 10.0
"""While the database is away for less than this, watches are silent; then they end, and say why."""

M = TypeVar("M")


class ReplicaEnding(DomainError):
    """This replica of the service ends; open the stream again, and another one answers."""

    kind = Kind.UNAVAILABLE
    reason = "REPLICA_ENDING"


class Showing(Measure[M], Protocol[M]):
    """How a job is shown to those who watch; that time goes by alone does not change a message's content."""

    def message(self, view: JobView) -> M:
        """Returns what is sent."""
        ...


class WatchFeed(Generic[M]):
    """The feed of this replica.

    Args:
        showing: how jobs are shown.
        here: what this replica knows beside the database.
    """

    def __init__(
        self, database: Database, bulletin: Bulletin, showing: Showing[M], here: Callable[[], Circumstances]
    ) -> None:
        self._database = database
        self._showing = showing
        self.here = here
        self._list = WatchList(showing)
        self._begun: set[int] = set()
        self._learning: list[set[int]] = []
        self._since_id: int | None = None
        self._finding_since = asyncio.Lock()
        self._round_number = 0
        self._look_number = 0
        self._told: set[Watcher] = set()
        self._news = asyncio.Event()
        self._round_due_s = math.inf
        self._look_due_s = math.inf
        self._hurried = False
        self._turn_id = 0
        self._had_workers = False
        self._failing_since_s: float | None = None
        self._closed = False
        bulletin.subscribe(Topic.JOBS, self._have_changed)
        bulletin.subscribe(Topic.BEGUN, self._have_begun)
        bulletin.on_gap(self._look_soon)

    # --- what watchers do -------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def watching_job(self, job_id: int, owner: str) -> Iterator[Watcher]:
        """Gives a watcher of a job of `owner`."""
        watcher = self._list.add_single(job_id, owner)
        self._schedule_look()
        try:
            yield watcher
        finally:
            self._list.remove_single(watcher, job_id)

    @contextlib.contextmanager
    def watching_jobs_of(self, user: str) -> Iterator[Watcher]:
        """Gives a watcher of all of a user's jobs, and of those to come; listings are none."""
        watcher = self._list.add(user)
        self._schedule_look()
        try:
            yield watcher
        finally:
            self._list.remove(watcher, user)
            if not self._list.users:
                self._since_id = None

    async def begin(self, user: str, since_id: int) -> list[int]:
        """Returns what a watch of a user's jobs begins with: the open ones, and those from `since_id` on.

        The watcher reads them; here it is noted how they are.
        """
        async with self._finding_since:
            if self._since_id is None:
                self._since_id = max(await self._database.read(watching.newest_id) - watching.LOOKED_BACK, 0)
            from_id = min(since_id, self._since_id)
        meanwhile: set[int] = set()
        self._learning.append(meanwhile)
        try:
            look = await self._database.read(watching.look, [user], from_id)
        finally:
            self._learning = [other for other in self._learning if other is not meanwhile]
        self._list.meet(look.owners, look.signs)
        self._mark(job_id for job_id in meanwhile if job_id in look.signs)
        return [job_id for job_id, signs in look.signs.items() if signs.open or job_id >= since_id]

    def begins_with(self, watcher: Watcher, job_id: int, message: M) -> None:
        """Notes what a watcher has read alone."""
        content = self._showing.content(message)
        if watcher.user is not None:
            watcher.began_with[job_id] = content
        if job_id in self._list.known:
            self._list.shelf(watcher).note(job_id, content)

    def caught_up(self, watcher: Watcher) -> None:
        """Notes that a watcher has read all that it begins with."""
        watcher.from_round = self._round_number + 1
        # The look after the next one: what the next one finds will have been told by then.
        watcher.until_look = self._look_number + 2

    def shown(self, watcher: Watcher, told: Iterable[int]) -> Iterator[tuple[int, M | None]]:
        """Gives jobs that a watcher was told of, newest first, each as it is when the watcher comes to it.

        Of those that are not at hand, since it is slow or has only just begun, it is told again. None is given for a
        job that is no longer there.
        """
        shelf, missing = self._list.shelf(watcher), list[int]()
        for job_id in sorted(told, reverse=True):
            known, shown = self._list.known.get(job_id), shelf[job_id]
            if known is not None and known.gone:
                yield job_id, None
            elif shown is None or shown.message is None or shown.round_number < watcher.from_round:
                missing.append(job_id)
            elif watcher.began_with.pop(job_id, None) != shown.content:
                yield job_id, shown.message
        self.ask(watcher, missing[:_ASKED_AT_ONCE])
        for job_id in missing[_ASKED_AT_ONCE:]:
            watcher.wake(job_id)
        if self._look_number >= watcher.until_look:
            watcher.began_with.clear()

    def ask(self, watcher: Watcher, job_ids: Collection[int], *, within_s: float = 0.0) -> None:
        """Has jobs read again, and a watcher told of them whether they have changed or not."""
        if job_ids:
            self._list.owe(watcher, job_ids)
            self._schedule(within_s)

    def go_on(self, watcher: Watcher) -> None:
        """Raises what ends a watch: ReplicaEnding; DatabaseUnavailable where that lasts."""
        if self._closed:
            raise ReplicaEnding
        if watcher.blind:
            raise DatabaseUnavailable

    def close(self) -> None:
        """Wakes all watchers, so that they see that this replica ends."""
        self._closed = True
        for watcher in self._list.everybody():
            watcher.wake()

    # --- what happens -----------------------------------------------------------------------------------------------

    def _have_changed(self, job_ids: Sequence[Any]) -> None:
        for meanwhile in self._learning:
            meanwhile.update(job_ids)
        self._mark(job_id for job_id in job_ids if job_id in self._list.known)

    def _have_begun(self, begun: Sequence[Any]) -> None:
        ids = [job_id for user, job_id in begun if user in self._list.users]
        self._begun.update(ids)
        self._mark(ids)

    def _mark(self, job_ids: Iterable[int]) -> None:
        """Has jobs looked at in the next round."""
        marked = dict.fromkeys(job_ids)
        if marked:
            self._list.dirty.update(marked)
            self._schedule(0.0)

    def _schedule(self, within_s: float) -> None:
        due_s = time.monotonic() + within_s
        if due_s < self._round_due_s:
            self._round_due_s = due_s
            self._news.set()

    def _schedule_look(self) -> None:
        """Sees to it that there is a next look, now that there is something to look at."""
        if self._look_due_s == math.inf:
            self._look_due_s = time.monotonic() + _LOOK_S
            self._news.set()

    def _look_soon(self) -> None:
        self._hurried = True
        self._news.set()

    def _tell(self, watchers: Iterable[Watcher], job_id: int) -> None:
        for watcher in watchers:
            watcher.wake(job_id)
            self._told.add(watcher)

    # --- its own work -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Reads for the watchers for ever."""
        while True:
            await self._rest()
            began_s = time.monotonic()
            try:
                if self._hurried or began_s >= self._look_due_s:
                    await self._look()
                await self._round()
            except DatabaseUnavailable:
                self._failed(began_s)
                await asyncio.sleep(_RETRY_S)
                continue
            self._failing_since_s = None
            told, self._told = len(self._told), set()
            await asyncio.sleep(began_s + max(SHORTEST_S, told / _TOLD_PER_S) - time.monotonic())

    def _failed(self, began_s: float) -> None:
        logger().warning("watches_interrupted")
        self._hurried = True
        if self._failing_since_s is None:
            self._failing_since_s = began_s
        if time.monotonic() - self._failing_since_s > _BLIND_S:
            for watcher in self._list.everybody():
                watcher.blind = True
                watcher.wake()

    async def _rest(self) -> None:
        """Returns when a round or a look is due."""
        while not self._hurried and (left_s := min(self._round_due_s, self._look_due_s) - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if left_s == math.inf else left_s):
                    await self._news.wait()
            self._news.clear()

    async def _look(self) -> None:
        """Looks at all that is watched, and has what is new or has changed read in the next rounds."""
        self._hurried = False
        watched = self._list
        if not watched.users and not watched.single:
            self._look_due_s = math.inf
            return
        self._look_number += 1
        users, since_id = list(watched.users), self._since_id
        expected = [job_id for job_id, known in watched.known.items() if known.signs is None or known.signs.open]
        began_s = time.monotonic()
        look = await self._database.read(watching.look, users, since_id or 0, expected)
        now_s = time.monotonic()
        self._look_due_s = now_s + min(max(_LOOK_S, _SHARE * (now_s - began_s)), _LONGEST_LOOK_S)
        watched.meet(look.owners)
        self._mark(job_id for job_id in {*expected, *look.signs} if self._is_news(job_id, look.signs.get(job_id)))
        self._read_some_that_wait()
        if since_id is not None and since_id == self._since_id:
            self._since_id = look.next_id
            watched.forget_ended(look.next_id)

    def _is_news(self, job_id: int, signs: Signs | None) -> bool:
        """Tells whether a look has found a job otherwise than it is known; without signs it was not there."""
        known = self._list.known.get(job_id)
        return known is not None and not known.gone and (signs is None or known.signs != signs)

    def _read_some_that_wait(self) -> None:
        """Has some of the jobs that wait read in full, in turn; the newest, when workers have come or gone."""
        waiting = [job_id for job_id, known in self._list.known.items() if known.signs and known.signs.waiting]
        has_workers = self.here().has_workers
        if has_workers != self._had_workers:
            self._had_workers = has_workers
            some = heapq.nlargest(_JOBS_PER_ROUND, waiting)
        else:
            turn = [job_id for job_id in waiting if job_id < self._turn_id] or waiting
            some = heapq.nlargest(_WAITING_PER_LOOK, turn)
            self._turn_id = some[-1] if some else 0
        for job_id in some:
            self._list.owed.setdefault(job_id, set())
        self._mark(some)

    async def _round(self) -> None:
        """Reads the jobs to which something has happened, and tells their watchers."""
        self._round_due_s = math.inf
        self._round_number += 1
        dirty = self._list.dirty
        ids = list(itertools.islice(dirty, _JOBS_PER_ROUND))
        for job_id in ids:
            del dirty[job_id]
        done = 0
        try:
            if begun := self._begun.intersection(ids):
                self._list.meet(await self._database.read(watching.owners, begun))
                self._begun -= begun
            while done < len(ids):
                await self._read(ids[done : done + _SIGNS_AT_ONCE])
                done += _SIGNS_AT_ONCE
        finally:
            dirty.update(dict.fromkeys(ids[done:]))
            if dirty:
                self._schedule(0.0)

    async def _read(self, ids: Collection[int]) -> None:
        """Reads how jobs are, and in full those that have changed or are owed to somebody."""
        watched = self._list
        ids = [job_id for job_id in ids if job_id in watched.known]
        found = await self._database.read(watching.look_at, ids) if ids else {}
        changed: dict[int, Signs] = {}
        for job_id in ids:
            if (known := watched.known.get(job_id)) is None:
                continue
            if (signs := found.get(job_id)) is None:
                self._tell(watched.gone(job_id), job_id)
            elif known.signs != signs or job_id in watched.owed:
                changed[job_id] = signs
        order = list(changed)
        for start in range(0, len(order), _VIEWS_AT_ONCE):
            some = order[start : start + _VIEWS_AT_ONCE]
            for brief in (False, True):
                await self._show([job_id for job_id in some if watched.watchers(job_id, brief=brief)], brief=brief)
            for job_id in some:
                if (known := watched.known.get(job_id)) is not None:
                    known.signs = changed[job_id]
                self._tell(watched.settle(job_id), job_id)

    async def _show(self, ids: Sequence[int], *, brief: bool) -> None:
        """Reads jobs in full, builds their messages, and tells those who see them so whether there is news."""
        of = {job_id: self._list.known[job_id].owner for job_id in ids}
        if not of:
            return
        shelf, round_number = self._list.brief if brief else self._list.whole, self._round_number
        for view in await self._database.read(watching.views, of, self.here(), brief=brief):
            job_id = view.row.id
            try:
                message = self._showing.message(view)
            except Exception:  # noqa: BLE001  # logged whole; one job must not end the watching of all others
                logger().exception("job_not_shown", job=view.row.uid)
                continue
            watchers = self._list.watchers(job_id, brief=brief)
            if watchers and shelf.put(job_id, message, round_number):
                self._tell(watchers, job_id)
