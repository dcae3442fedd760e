"""Users, workers, replicas, operators and mishaps at a queue's store, in any order; a model says what must come of it.

Whoever runs it gives it an engine whose database has the newest schema; each example begins with empty tables.
"""

from __future__ import annotations

import itertools
import sys
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule
from wherry_chassis.sql import database_now_ms
from wherry_queue.jobs import JobEnded, JobNotEnded, NewTask, NothingToRetry
from wherry_queue.models import EntryFailure, Job, Link, Replica, SignIn, Site, User
from wherry_queue.resolving import Settled
from wherry_queue.sign_ins import ChangeKind, SessionChange
from wherry_queue.site_directory import ResolvedSite
from wherry_queue.states import Hold, JobState, TaskKind, WorkClass, job_state
from wherry_queue.store import (
    control,
    lanes,
    leases,
    limits,
    phases,
    replicas,
    resolving,
    retention,
    retrying,
    sign_ins,
    submission,
)
from wherry_queue.store.limits import Kind
from wherry_testing.queue_acts import (
    BANS,
    DIRECTORY_BLOCKED,
    FILES,
    HOUR_MS,
    LARGE,
    OFTEN,
    SHORT_MS,
    SITES,
    SUBMISSION,
    USERS,
    act,
    call_of,
    pack,
)
from wherry_testing.queue_books import assert_counters
from wherry_testing.queue_cases import chunk_task, copy_job
from wherry_testing.queue_model import REOPENED, ModelJob, row_of
from wherry_testing.queue_workers import QueueWorkers


class QueueMachine(QueueWorkers):
    """All that may happen, and what must hold; `engine` is set by whoever runs it."""

    @initialize(several=st.lists(st.fixed_dictionaries(SUBMISSION), min_size=2, max_size=4))
    def begin(self, several: list[dict[str, Any]]) -> None:
        """Some work is there already."""
        for values in several:
            self.submit(**values)

    @rule(call=st.deferred(lambda: st.sampled_from(sorted(OFTEN, key=OFTEN.count, reverse=True)).flatmap(call_of)))
    def step(self, call: tuple[str, dict[str, Any]]) -> None:
        """One thing happens."""
        name, values = call
        getattr(self, name)(**values)

    # --- owners -----------------------------------------------------------------------------------------------------

    @act(3, **SUBMISSION)
    def submit(self, user: str, link: tuple[str, str], kind: str, count: int, priority: int, unresolved: bool) -> None:
        """A user asks for something; with `unresolved`, of sites that nobody can be asked about."""
        tasks = {
            "chunks": [chunk_task(FILES, LARGE if count == 4 else 10) for _ in range(count)],
            **{key: [NewTask(TaskKind.WALK_COPY, b"/from", b"/to", root=True)] for key in ("walk", "sync", "dry run")},
            "modes": [NewTask(TaskKind.WALK_CHANGE_MODE, b"/from", root=True)],
            "removal": [NewTask(TaskKind.WALK_REMOVE, b"/from", root=True)],
            "directory": [NewTask(TaskKind.MAKE_DIRECTORY, b"/from")],
            "listing": [NewTask(TaskKind.LIST, b"/from")],
        }[kind]
        work_class = WorkClass.INTERACTIVE if kind == "listing" else WorkClass.BULK
        unresolved = unresolved and work_class is WorkClass.BULK
        now_ms = self.do(database_now_ms)
        # Whoever has no session that the queue knows of is refused before this; a new one it learns of here.
        sessions = {site: self.model.sessions.get((user, site), 0) for site in link}
        sessions = {site: until_ms if until_ms > now_ms else now_ms + HOUR_MS for site, until_ms in sessions.items()}
        sessions = {} if unresolved else sessions
        job_id, uid = self.do(
            submission.submit,
            copy_job(
                user, source_site=link[0], destination_site=link[1], operation=kind, tasks=tasks, priority=priority,
                work_class=work_class, sessions=sessions, unresolved=unresolved, dry_run=kind == "dry run",
                delete_extraneous=kind == "sync" or (kind == "dry run" and count > 2),
            ),
        )  # fmt: skip
        self.model.sessions |= {(user, site): until_ms for site, until_ms in sessions.items()}
        total = sum(task.entry_count for task in tasks)
        hold = Hold.SITES_UNKNOWN if unresolved else Hold.NOTHING
        job = ModelJob(job_id, uid, user, *link, work_class, priority, total, hold)
        job.dry_run, job.deletes = kind == "dry run", kind in ("sync", "dry run")
        self.model.jobs[job_id] = job

    @act(3, pick=st.integers(0, 99), what=st.sampled_from(["pause", "pause", "resume", "cancel", "priority"]))
    def change(self, pick: int, what: str) -> None:
        """An owner pauses, resumes or cancels a job, or gives it another priority."""
        if (job := self.one_job(pick)) is None:
            return
        is_open = job.job_id in self.open_jobs()
        if what == "cancel":
            self.do(control.cancel, job.user, job.uid)
            if is_open:
                job.hold |= Hold.CANCELLED
            return
        if job.work_class is not WorkClass.BULK:
            return
        arguments = (job.user, job.uid) + ((pick % 10,) if what == "priority" else ())
        work = {"pause": control.pause, "resume": control.resume, "priority": control.set_priority}[what]
        if not is_open or job.hold & Hold.CANCELLED:
            with pytest.raises(JobEnded):
                self.do(work, *arguments)
            return
        self.do(work, *arguments)
        if what == "priority":
            job.priority = pick % 10
        else:
            job.hold = job.hold | Hold.PAUSED if what == "pause" else job.hold & ~Hold.PAUSED

    @act(2, pick=st.integers(0, 99))
    def retry(self, pick: int) -> None:
        """An owner has what failed done again."""
        if (job := self.one_job(pick)) is None:
            return
        if job.work_class is not WorkClass.BULK:
            return
        if job.job_id in self.open_jobs():
            with pytest.raises(JobNotEnded):
                self.do(retrying.retry, job.user, job.uid, pack)
        else:
            self.try_again(job)

    def try_again(self, job: ModelJob) -> bool:
        """Retries an ended job; tells whether there was something to do."""
        row = self.do(lambda c: c.execute(sa.select(Job.__table__).where(Job.id == job.job_id)).one())
        failures = sa.select(EntryFailure.failure).where(
            EntryFailure.job_id == job.job_id, EntryFailure.entry_index == 0, ~EntryFailure.skipped
        )
        reasons = [failure["reason"] for failure in self.do(lambda c: c.execute(failures).scalars().all())]
        try:
            self.do(retrying.retry, job.user, job.uid, pack)
        except NothingToRetry:
            assert job.dry_run or job_state(row) is JobState.SUCCEEDED
            return False
        assert job_state(row) is not JobState.SUCCEEDED
        job.hold &= ~(REOPENED | Hold.TOO_SHORT)
        job.files -= reasons.count(DIRECTORY_BLOCKED)  # it was counted as a file, and is walked now
        return True

    # --- replicas ---------------------------------------------------------------------------------------------------

    @act(1, which=st.integers(0, 1))
    def die(self, which: int) -> None:
        """A replica says nothing any more."""
        self.dead.add(which)
        gone = sa.update(Replica).where(Replica.id == self.replicas[which]).values(until_ms=1)
        self.do(lambda c: c.execute(gone).rowcount)

    @act(1, comes_back=st.booleans())
    def end_of_death(self, comes_back: bool) -> None:
        """A silent replica comes back, or is reaped and another takes its place."""
        if not self.dead:
            return
        which = min(self.dead)
        if not comes_back:
            self.reap()
        # One that was reaped meanwhile gets a new row.
        self.replicas[which] = self.do(replicas.renew_replica, self.replicas[which], HOUR_MS)
        self.dead.remove(which)

    def reap(self) -> None:
        """Takes all back from replicas that have died, as the others do."""
        for dead in self.do(replicas.dead_replicas, 60_000):
            self.take_back(dead, self.do(leases.running_on, dead), given=True)
            self.do(replicas.forget_replica, dead)

    @act(1)
    def sweep(self) -> None:
        """A replica repairs what a crash has left."""
        for job_id in self.do(control.half_cancelled):
            self.do(control.cancel_job, job_id)
        for job_id in self.do(phases.stalled_jobs):
            assert self.do(phases.open_next_phase, job_id)

    @act(3)
    def release(self) -> None:
        """Some seconds pass: what rests is looked at again."""
        self.do(lambda c: lanes.release_delayed(c, database_now_ms(c) + 10_000))

    @act(1)
    def forget_what_is_old(self) -> None:
        """Time passes: what has ended is deleted, and nothing else."""
        open_jobs = self.open_jobs()
        while self.do(retention.sweep_jobs, -1000) + self.do(retention.sweep_listings, -1000):
            pass
        for job_id in set(self.model.jobs) - open_jobs:
            del self.model.jobs[job_id]
        gone = {task_id for task_id, task in self.model.tasks.items() if task.job.job_id not in open_jobs}
        # SQLite may give an id again once the rows behind it have gone: words about them are not sent any more.
        self.held = [holding for holding in self.held if holding.task.task_id not in gone]
        self.past = [word for word in self.past if word.task_id not in gone]
        for task_id in gone:
            del self.model.tasks[task_id]

    # --- sites and operators ----------------------------------------------------------------------------------------

    @act(
        2,
        user=st.sampled_from(USERS),
        site=st.sampled_from(SITES),
        lasts_ms=st.sampled_from([0, 0, SHORT_MS, HOUR_MS, 2 * HOUR_MS]),
        told=st.booleans(),
    )
    def sign_in(self, user: str, site: str, lasts_ms: int, told: bool) -> None:
        """The site service tells of a session, by its feed or because it was asked."""
        until_ms = self.do(database_now_ms) + lasts_ms if lasts_ms else 0
        open_jobs = self.open_jobs()
        if told:
            self.cursor += 1
            kind = ChangeKind.SIGNED_IN if until_ms else ChangeKind.SIGNED_OUT
            self.do(sign_ins.apply, [SessionChange(user, site, kind, until_ms)], self.cursor)
            assert self.do(sign_ins.cursor) == self.cursor
        else:
            self.do(sign_ins.learn, user, {site: until_ms})
        if self.known(User, user) and self.known(Site, site):
            self.model.learn(user, site, until_ms, open_jobs)
            if until_ms:
                self.do(self.model.check_released, user, site)

    @act(2, lasts_ms=st.sampled_from([0, HOUR_MS, HOUR_MS]), seen=st.sampled_from([True, True, True, False]))
    def resolve(self, lasts_ms: int, seen: bool) -> None:
        """The site service can be asked again about the jobs that came in while it could not; with `seen` unset their
        owners see none of the sites."""
        until_ms = (self.do(database_now_ms) + lasts_ms) // 1000 * 1000 if lasts_ms else 0
        sites = {name: ResolvedSite(name, name, b"/", [], until_ms / 1000) for name in SITES} if seen else {}
        for waiting in self.do(resolving.unresolved, 0, 1000):
            job = self.model.jobs[waiting.job_id]
            assert job.hold & Hold.SITES_UNKNOWN
            assert self.do(resolving.settle, waiting, sites, self.do(resolving.cursor)) is Settled.DONE
            if not seen:
                assert job.job_id not in self.open_jobs()
                continue
            job.hold &= ~(Hold.SITES_UNKNOWN | Hold.SIGN_IN)
            if until_ms:
                self.model.sessions |= {(job.user, site): until_ms for site in (job.source, job.destination)}
            else:
                job.hold |= Hold.SOURCE_SIGN_IN if job.source == job.destination else Hold.SIGN_IN

    @act(1, user=st.sampled_from(USERS), site=st.sampled_from(SITES), noticed=st.booleans())
    def run_out(self, user: str, site: str, noticed: bool) -> None:
        """A session ends by the clock; with `noticed` unset the sweep comes later."""
        if self.model.sessions.get((user, site)):
            until_ms = self.do(database_now_ms) - 1
            user_id = sa.select(User.id).where(User.name == user).scalar_subquery()
            site_id = sa.select(Site.id).where(Site.name == site).scalar_subquery()
            ended = sa.update(SignIn).where(SignIn.user_id == user_id, SignIn.site_id == site_id)
            ended = ended.values(until_ms=until_ms)
            assert self.do(lambda c: c.execute(ended).rowcount) == 1
            self.model.sessions[user, site] = until_ms
        if noticed:
            self.expire()

    def expire(self) -> None:
        """The sweep parks what needs sessions that have ended."""
        open_jobs, now_ms = self.open_jobs(), self.do(database_now_ms)
        self.do(sign_ins.expire)
        for (user, site), until_ms in list(self.model.sessions.items()):
            if 0 < until_ms <= now_ms:
                self.model.learn(user, site, 0, open_jobs)

    @act(1, link=st.integers(1, 3), rate=st.sampled_from([None, 1.0, 1e9]))
    def measure(self, link: int, rate: float | None) -> None:
        """A link is found to be so fast that everything fits into a session, or so slow that nothing does."""
        self.do(lambda c: c.execute(sa.update(Link).where(Link.id == link).values(bytes_per_second=rate)).rowcount)

    @act(
        3,
        pick=st.integers(0, 99),
        kind=st.sampled_from(list(Kind)),
        cap=st.sampled_from([None, -1, 0, 1, 2, 3]),
    )
    def limit(self, pick: int, kind: Kind, cap: int | None) -> None:
        """An operator sets a limit, or takes one away."""
        if (job := self.one_job(pick)) is None:
            return
        names = {Kind.USER: job.user, Kind.SITE_OUT: job.source, Kind.SITE_IN: job.destination}
        self.set_limit(kind, names.get(kind, f"{job.source} {job.destination}"), cap)

    def set_limit(self, kind: Kind, name: str, cap: int | None) -> None:
        """Sets a limit in the store and in the model."""
        key = self.do(row_of, kind, name)
        assert key is not None
        self.do(limits.set_cap, kind, key[1], cap, self.model.defaults)
        self.model.caps[kind, name] = cap

    @act(1, pick=st.integers(0, 99), bit=st.sampled_from(BANS), lifted=st.booleans())
    def ban(self, pick: int, bit: Hold, lifted: bool) -> None:
        """An operator bans whom or what a job is about, or lifts it."""
        if (job := self.one_job(pick)) is None:
            return
        if job.job_id in self.open_jobs():
            self.do(lanes.set_hold, [job.job_id], **{"remove" if lifted else "add": bit})
            job.hold = job.hold & ~bit if lifted else job.hold | bit

    # --- what must hold ---------------------------------------------------------------------------------------------

    @invariant()
    def the_books_agree(self) -> None:
        """No counter drifts, and the database says what the model says."""
        self.do(assert_counters)
        self.do(self.model.check)

    def teardown(self) -> None:
        if sys.exc_info()[0] is None:
            self.finish()

    def finish(self) -> None:
        """Lets everything go, and has workers complete it: then every job must end, and every retry succeed."""
        for which in (0, 1):
            self.die(which)
        self.reap()
        self.replicas = [self.do(replicas.renew_replica, None, HOUR_MS) for _ in range(2)]
        self.dead.clear()
        self.sweep()
        for job_id in self.open_jobs():
            self.let_go(self.model.jobs[job_id])
        self.resolve(HOUR_MS, seen=True)
        for user, site in itertools.product(USERS, SITES):
            self.sign_in(user, site, 2 * HOUR_MS, told=True)
        for kind, name, _ in list(self.model.limited()):
            self.set_limit(kind, name, -1)
        self.work_off()
        mine = [job for job in self.model.jobs.values() if job.work_class is WorkClass.BULK]
        for _ in range(3):  # a walk that is retried may find more that stands in the way of something
            again = [job for job in mine if self.try_again(job)]
            for job in again:
                self.let_go(job)
            self.resolve(HOUR_MS, seen=True)
            self.work_off()
        for row in self.do(lambda c: c.execute(sa.select(Job.__table__)).all()):
            if row.work_class == WorkClass.BULK and not row.dry_run:
                assert job_state(row) is JobState.SUCCEEDED, f"job {row.id}"
                assert row.extraneous_removed == row.extraneous_total, f"job {row.id} has left something there"

    def let_go(self, job: ModelJob) -> None:
        """Takes all from a job that its owner and operators hold it by."""
        self.do(lanes.set_hold, [job.job_id], remove=Hold.BANNED | Hold.PAUSED)
        job.hold &= ~(Hold.BANNED | Hold.PAUSED)

    def work_off(self) -> None:
        """Has workers do everything there is, all of it well."""
        for turn in range(200):
            self.do(lambda c: lanes.release_delayed(c, 1 << 60))
            mine = self.take(turn % 2, 20, WorkClass.INTERACTIVE) + self.take(turn % 2, 20, WorkClass.BULK)
            if mine:
                self.send(*[self.complete(holding) for holding in mine])
            if not mine and not self.open_jobs():
                break
        self.the_books_agree()
        left = self.do(lambda c: c.execute(sa.select(Job.__table__).where(Job.ended_ms.is_(None))).all())
        assert not left, f"these jobs wait for ever: {[(row.id, job_state(row).name) for row in left]}"
