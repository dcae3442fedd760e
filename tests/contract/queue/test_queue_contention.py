"""Everything at once on PostgreSQL: locks are taken in one order, and whatever races, the books agree afterwards."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.engine import Connection
from wherry_chassis.errors import DomainError
from wherry_chassis.sql import Database, database_now_ms
from wherry_queue.jobs import Found, NewTask
from wherry_queue.models import Job, Link, Site, Task, User
from wherry_queue.settling import SIGN_IN_REASON, Failure, Settlement
from wherry_queue.sign_ins import ChangeKind, SessionChange
from wherry_queue.states import CHUNKS, ENDED, WALKS, Hold, JobState, Outcome, TaskKind, TaskState, WorkClass, job_state
from wherry_queue.store import (
    cleaning,
    control,
    lanes,
    leases,
    limits,
    phases,
    replicas,
    retention,
    retrying,
    settlements,
    sign_ins,
    submission,
)
from wherry_queue.store.leases import LeasedTask
from wherry_queue.store.limits import Defaults, Kind
from wherry_testing.queue_books import assert_counters
from wherry_testing.queue_cases import POLICY, chunk_task, copy_job, failed, files

_SECONDS = float(os.environ.get("WHERRY_CHAOS_SECONDS", "6"))
_USERS = [f"users/{name}" for name in "abcd"]
_SITES = ["sites/a", "sites/b", "sites/c"]
_DEFAULTS = Defaults(link=6)
_TTL_MS = 60_000
_HOUR_MS = 3_600_000


@dataclass
class Bustle:
    """A database in which many do things at once."""

    database: Database
    chance: random.Random
    until_s: float = 0.0
    replicas: list[int] = field(default_factory=list)
    uids: dict[str, str] = field(default_factory=dict)
    held: list[tuple[int, LeasedTask, str]] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    deadlocks: int = 0
    cursor: int = 0

    async def do(self, work: Callable[..., Any], *args: Any, **values: Any) -> Any:
        """Runs a work in a transaction, and counts it; a refusal is one answer among others."""
        with suppress(DomainError):
            found = await self.database.write(work, *args, **values)
            self.done[work.__name__] += 1
            return found
        return None

    async def rows(self, query: Any) -> Any:
        """Reads."""
        return await self.database.read(lambda c: c.execute(query).all())

    async def for_a_while(self, one: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Does one thing again and again."""
        while time.monotonic() < self.until_s:
            await one()

    # --- who does what ----------------------------------------------------------------------------------------------

    async def submit(self) -> None:
        user, ends = self.chance.choice(_USERS), self.chance.choices(_SITES, k=2)
        kind = self.chance.choice(["chunks", "walk", "removal", "listing"])
        tasks = {
            "chunks": [chunk_task(3) for _ in range(self.chance.randint(1, 12))],
            "walk": [NewTask(TaskKind.WALK_COPY, b"/from", b"/to", root=True)],
            "removal": [NewTask(TaskKind.WALK_REMOVE, b"/from", root=True)],
            "listing": [NewTask(TaskKind.LIST, b"/from")],
        }[kind]
        until_ms = int(time.time() * 1000) + _HOUR_MS
        job = copy_job(
            user, source_site=ends[0], destination_site=ends[1], operation=kind, tasks=tasks,
            request_id=str(self.chance.randint(0, 400)), priority=self.chance.randint(0, 9),
            work_class=WorkClass.INTERACTIVE if kind == "listing" else WorkClass.BULK,
            sessions=dict.fromkeys(ends, until_ms),
        )  # fmt: skip
        _, uid = await self.do(submission.submit, job)
        self.uids[uid] = user
        await asyncio.sleep(self.chance.random() / 50)

    async def work(self) -> None:
        which, thumbprint = self.chance.randrange(2), self.chance.choice(["w1", "w2"])
        replica = self.replicas[which]
        work_class = self.chance.choice([WorkClass.BULK, WorkClass.BULK, WorkClass.BULK, WorkClass.INTERACTIVE])
        taken = await self.do(leases.lease, replica, work_class, self.chance.randint(1, 8), _DEFAULTS)
        if not taken:
            await asyncio.sleep(0.002)
            return
        await self.do(leases.assign, thumbprint, [(task.task_id, task.fence) for task in taken])
        if self.chance.random() < 0.3:
            adopted = await self.do(
                leases.adopt, self.replicas[1 - which], [(task.task_id, task.fence) for task in taken], thumbprint
            )
            replica = self.replicas[1 - which] if adopted else replica
        for task in taken:
            if task.kind in WALKS and self.chance.random() < 0.8:
                await self._report(task, thumbprint)
        if self.chance.random() < 0.15:
            self.held += [(replica, task, thumbprint) for task in taken]
            return
        await self.settle([self.word(task, thumbprint) for task in taken])

    async def _report(self, task: LeasedTask, thumbprint: str) -> None:
        deep = task.source_path.count(b"/") > 2
        removal = task.kind is TaskKind.WALK_REMOVE
        found = Found(
            task.task_id, task.fence, task.cursor, task.cursor + b"a", thumbprint,
            chunks=[files(3)] * self.chance.randint(0, 3), directories=[] if deep else [b"x", b"y"],
            failures=[failed(0)] if self.chance.random() < 0.1 and not removal else [], remove_directory=removal,
        )  # fmt: skip
        await self.do(submission.report, found)

    def word(self, task: LeasedTask, thumbprint: str | None, *, well: bool = False) -> Settlement:
        """What a worker says; with `well`, that all is done."""
        chunk = task.kind in CHUNKS
        before = int.from_bytes(task.settled, "little")
        bits = (7 if well else self.chance.randint(0, 7)) | before if chunk else 0
        fresh = (bits & ~before).bit_count()
        outcome = Outcome.COMPLETED if well else self.chance.choice([Outcome.COMPLETED] * 4 + list(Outcome))
        signed_out = outcome is Outcome.RETURNED and self.chance.random() < 0.3
        failure = Failure(SIGN_IN_REASON if signed_out else "WHY", "because", retryable=self.chance.random() < 0.7)
        return Settlement(
            task.task_id,
            task.fence,
            outcome,
            failure=None if outcome is Outcome.COMPLETED else failure,
            done=bits.to_bytes(1, "little") if chunk else b"",
            files_done=fresh,
            bytes_done=10 * fresh,
            failures=[failed(i, retryable=i == 1) for i in range(3) if chunk and not bits >> i & 1],
            thumbprint=thumbprint,
            sign_in_site=task.source_site if signed_out else "",
            left_behind=chunk and not well and self.chance.random() < 0.3,
        )

    async def settle(self, words: list[Settlement]) -> None:
        _, jobs, _ = await self.do(settlements.settle, words, POLICY)
        if out := [(word.task_id, word.sign_in_site) for word in words if word.sign_in_site]:
            for user, site in await self.do(sign_ins.doubted, out):
                await self.do(sign_ins.learn, user, {site: 0})  # as the site service says it is
        for job_id in jobs:
            await self.do(phases.open_next_phase, job_id)

    async def late(self) -> None:
        """Workers that were silent speak again; some of them never do, and their leases lapse."""
        await asyncio.sleep(0.01)
        some, self.held = self.held[:6], self.held[6:]
        for replica, task, _ in some:
            if self.chance.random() < 0.5:
                await self.do(leases.requeue, replica, [(task.task_id, task.fence)])
        if some:
            await self.settle([self.word(task, thumbprint) for _, task, thumbprint in some])

    async def own(self) -> None:
        if not self.uids:
            return await asyncio.sleep(0.01)
        uid = self.chance.choice(list(self.uids))
        user = self.uids[uid]
        match self.chance.randrange(8):
            case 0 | 1:
                await self.do(control.pause, user, uid)
            case 2 | 3:
                await self.do(control.resume, user, uid)
            case 4:
                await self.do(control.cancel, user, uid)
            case 5 | 6:
                await self.do(retrying.retry, user, uid, lambda _: b"packed")
            case 7:
                await self.do(control.set_priority, user, uid, self.chance.randint(0, 9))
        return None

    async def sign(self) -> None:
        user, site = self.chance.choice(_USERS), self.chance.choice(_SITES)
        until_ms = int(time.time() * 1000) + self.chance.choice([20_000, _HOUR_MS, 2 * _HOUR_MS])
        match self.chance.randrange(4):
            case 0:
                await self.do(sign_ins.learn, user, {other: self.chance.choice([0, until_ms]) for other in _SITES})
            case 1:
                self.cursor += 1
                changes = [
                    SessionChange(one, site, self.chance.choice(list(ChangeKind)), until_ms) for one in reversed(_USERS)
                ]
                await self.do(sign_ins.apply, changes, self.cursor)
            case 2:
                await self.do(sign_ins.learn, user, dict.fromkeys(_SITES, until_ms + _HOUR_MS))
            case 3:
                await self.do(sign_ins.expire)
        await asyncio.sleep(0.01)

    async def operate(self) -> None:
        kind = self.chance.choice(list(Kind))
        table: Any = {Kind.USER: User, Kind.LINK: Link}.get(kind, Site)
        for (row_id,) in await self.rows(sa.select(table.id).order_by(sa.func.random()).limit(1)):
            cap = self.chance.choice([None, -1, -1, 1, 3, 10])
            await self.do(limits.set_cap, kind, row_id, cap, _DEFAULTS)
        bit = self.chance.choice([Hold.USER_BANNED, Hold.SOURCE_BANNED, Hold.DESTINATION_BANNED])
        some = sa.select(Job.id).where(Job.ended_ms.is_(None)).order_by(sa.func.random()).limit(20)
        ids = [row.id for row in await self.rows(some)]
        await self.do(lanes.set_hold, ids, add=bit)
        await self.do(lanes.set_hold, ids, remove=bit)
        await asyncio.sleep(0.02)

    async def keep(self) -> None:
        await self.do(_release)
        for job_id in await self.do(control.half_cancelled):
            await self.do(control.cancel_job, job_id)
        for job_id in await self.do(phases.stalled_jobs):
            await self.do(phases.open_next_phase, job_id)
        while await self.do(cleaning.make, -1000):
            pass
        await self.do(cleaning.sweep, 200)
        await self.do(retention.sweep_listings, 200)
        await self.do(retention.sweep_jobs, 2000)
        await asyncio.sleep(0.01)

    async def die(self) -> None:
        """A replica dies; two others reap it at the same time."""
        await asyncio.sleep(0.3)
        which = self.chance.randrange(2)
        dead, self.replicas[which] = self.replicas[which], await self.do(replicas.renew_replica, None, _TTL_MS)
        await self.do(replicas.retire_replica, dead)
        await asyncio.gather(self.reap(dead), self.reap(dead))

    async def reap(self, dead: int) -> None:
        for job_id in await self.do(leases.requeue, dead, await self.do(leases.running_on, dead)):
            await self.do(phases.open_next_phase, job_id)
        await self.do(replicas.forget_replica, dead)

    # --- the end ----------------------------------------------------------------------------------------------------

    async def let_go(self) -> None:
        """Takes away all that holds anything."""
        open_jobs = sa.select(Job.id, Job.user_id).where(Job.ended_ms.is_(None))
        for replica in [*self.replicas, *[row[0] for row in await self.rows(sa.select(Task.replica_id).distinct())]]:
            if replica is not None:
                await self.reap(replica)
        self.replicas = [await self.do(replicas.renew_replica, None, _TTL_MS) for _ in range(2)]
        ids = [row.id for row in await self.rows(open_jobs)]
        await self.do(lanes.set_hold, ids, remove=Hold.BANNED | Hold.PAUSED)
        until_ms = int(time.time() * 1000) + 9 * _HOUR_MS
        for user in _USERS:
            await self.do(sign_ins.learn, user, dict.fromkeys(_SITES, until_ms))
        for kind, table in ((Kind.USER, User), (Kind.LINK, Link), (Kind.SITE_IN, Site), (Kind.SITE_OUT, Site)):
            for (row_id,) in await self.rows(sa.select(table.id)):
                await self.do(limits.set_cap, kind, row_id, -1, _DEFAULTS)

    async def work_off(self) -> None:
        """Has everything done that there is."""
        for turn in range(3000):
            await self.do(lambda c: lanes.release_delayed(c, 1 << 60))
            await self.keep()
            taken = []
            for work_class in WorkClass:
                taken += await self.do(leases.lease, self.replicas[turn % 2], work_class, 200, _DEFAULTS)
            await self.settle([self.word(task, None, well=True) for task in taken])
            if not taken and not await self.rows(sa.select(Job.id).where(Job.ended_ms.is_(None))):
                return
        left = await self.rows(sa.select(Job.__table__).where(Job.ended_ms.is_(None)))
        assert not left, f"these jobs wait for ever: {[(row.id, job_state(row).name) for row in left]}"


def _release(connection: Connection) -> int:
    return lanes.release_delayed(connection, database_now_ms(connection) + 10_000)


@pytest.fixture
async def bustle(fresh_postgres: Callable[[str | None], str]) -> AsyncIterator[Bustle]:
    seed = int(os.environ.get("WHERRY_CHAOS_SEED", "1"))
    database = Database(fresh_postgres("wherry_queue"), threads=14)
    with database.engine.connect() as connection:
        name = database.url.database
        connection.execute(sa.text(f"alter database {name} set deadlock_timeout = '20ms'"))
        connection.commit()
    database.engine.dispose()  # whoever connects from now on finds deadlocks at once, instead of after a second
    made = Bustle(database, random.Random(seed))
    made.replicas = [await database.write(replicas.renew_replica, None, _TTL_MS) for _ in range(2)]
    try:
        yield made
    finally:
        database.close()


@pytest.fixture(autouse=True)
def _counting_deadlocks(bustle: Bustle) -> Iterator[None]:
    def count(context: Any) -> None:
        bustle.deadlocks += getattr(context.original_exception, "sqlstate", None) == "40P01"

    event.listen(bustle.database.engine, "handle_error", count)
    yield
    event.remove(bustle.database.engine, "handle_error", count)


@pytest.mark.row("D1")
@pytest.mark.row("D4")
@pytest.mark.timeout(_SECONDS * 20 + 120)
async def test_the_books_agree_after_everything_happened_at_once(bustle: Bustle) -> None:
    bustle.until_s = time.monotonic() + _SECONDS
    who = [bustle.submit] * 3 + [bustle.work] * 5 + [bustle.own] * 2 + [bustle.late, bustle.sign, bustle.operate]
    async with asyncio.TaskGroup() as group:
        for one in [*who, bustle.keep, bustle.keep, bustle.die]:
            group.create_task(bustle.for_a_while(one))
    print(f"{sum(bustle.done.values())} transactions, {bustle.deadlocks} deadlocks", dict(bustle.done))  # noqa: T201
    for job_id in await bustle.do(control.half_cancelled):
        await bustle.do(control.cancel_job, job_id)
    await bustle.database.read(assert_counters)
    await bustle.let_go()
    await bustle.work_off()
    await bustle.database.read(assert_counters)
    assert not await bustle.rows(sa.select(Task.id).where(Task.left_behind, Task.state.in_(ENDED)))
    jobs = await bustle.rows(sa.select(Job.__table__))
    assert all(job_state(job) not in (JobState.RUNNING, JobState.QUEUED) for job in jobs)
    idle = await bustle.rows(sa.select(User.name, User.active_bulk, User.active_interactive, User.inflight))
    assert not any(row.active_bulk or row.active_interactive or row.inflight for row in idle)
    assert not await bustle.rows(sa.select(Task.id).where(Task.state == TaskState.RUNNING))
    # They are found and done again, so nobody notices; but in one order of locks there are next to none.
    assert bustle.deadlocks <= sum(bustle.done.values()) / 500
