"""Users, workers, replicas, operators and mishaps at a queue's store, in any order; a model says what must come of it.

Whoever runs it gives it an engine whose database has the newest schema; each example begins with empty tables.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy.engine import Engine
from wherry_chassis.sql import database_now_ms
from wherry_queue.jobs import Found, JobEnded, JobNotEnded, LeaseLost, NewTask, NothingToRetry
from wherry_queue.models import Base, Job, Link, Replica, SignIn, Site, Task, User
from wherry_queue.settling import SIGN_IN_REASON, FailedEntry, Failure, Settlement
from wherry_queue.sign_ins import ChangeKind, SessionChange
from wherry_queue.states import CHUNKS, WALKS, Hold, JobState, Outcome, TaskKind, TaskState, WorkClass, job_state
from wherry_queue.store import (
    control,
    lanes,
    leases,
    limits,
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
from wherry_testing.queue_model import REOPENED, Model, ModelJob, row_of

T = TypeVar("T", bound=Callable[..., Any])

_USERS = ("users/a", "users/b")
_SITES = ("sites/a", "sites/b")
_LINKS = (("sites/a", "sites/b"), ("sites/b", "sites/a"), ("sites/a", "sites/a"))
_THUMBPRINTS = ("w1", "w2")
_DEFAULTS = Defaults(link=4)
_HOUR_MS = 3_600_000
_SHORT_MS = 40_000
"""Less than is needed to begin anything, and longer than an example takes."""
_FILES = 3
"""In each chunk; of 10 bytes each."""
_BATCHES = (b"a", b"b", b"c")
"""The cursors of a walk: so many batches does each directory give."""
_BANS = (Hold.USER_BANNED, Hold.SOURCE_BANNED, Hold.DESTINATION_BANNED)


_SUBMISSION: dict[str, st.SearchStrategy[Any]] = {
    "user": st.sampled_from(_USERS),
    "link": st.sampled_from(_LINKS),
    "kind": st.sampled_from(["walk", "chunks", "chunks", "removal", "removal", "directory", "listing"]),
    "count": st.integers(1, 4),
    "priority": st.sampled_from([0, 5, 9]),
}


@dataclass
class Holding:
    """A lease as its worker has it, who may have lost it without knowing."""

    task: LeasedTask
    thumbprint: str
    replica: int
    cursor: bytes

    @property
    def ref(self) -> tuple[int, int]:
        """The task and its fence."""
        return self.task.task_id, self.task.fence


def batch(holding: Holding, after: bytes) -> Found:
    """Returns what a walk's directory has behind a cursor: the same for whoever lists it, whenever."""
    task = holding.task
    place = 0 if not after else _BATCHES.index(after) + 1
    top = task.source_path.count(b"/") == 1
    removal = task.kind is TaskKind.WALK_REMOVE
    return Found(
        task.task_id,
        task.fence,
        after,
        _BATCHES[place],
        holding.thumbprint,
        chunks=[files(_FILES)] * ((task.job_id + place) % 3),
        directories=[b"sub"] if top and place == 0 else [],
        failures=[failed(0)] if task.job_id % 2 and place == 1 and not removal else [],
        remove_directory=removal and place == len(_BATCHES) - 1,
        directories_done=0 if removal else 1,
    )


_ACTS: dict[str, dict[str, st.SearchStrategy[Any]]] = {}
_OFTEN: list[str] = []


def act(weight: int, **values: st.SearchStrategy[Any]) -> Callable[[T], T]:
    """Makes a method something that may happen, so much more often than others.

    They are not rules of their own: of many, hypothesis leaves out most in each example, and without somebody who
    leases there is nothing to see.
    """

    def note(method: T) -> T:
        _ACTS[method.__name__] = values
        _OFTEN.extend([method.__name__] * weight)
        return method

    return note


def _call(name: str) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    return st.tuples(st.just(name), st.fixed_dictionaries(_ACTS[name]))


class QueueMachine(RuleBasedStateMachine):
    """What may happen; `engine` is set by whoever runs it."""

    engine: Engine

    def __init__(self) -> None:
        super().__init__()
        self.model = Model(_DEFAULTS)
        self.held: list[Holding] = []
        self.not_given: list[tuple[int, LeasedTask]] = []
        self.past: list[Settlement] = []
        self.finished = False
        self.cursor = 0
        self.do(_clear)
        self.replicas = [self.do(replicas.renew_replica, None, _HOUR_MS) for _ in range(2)]
        self.dead: set[int] = set()

    def do(self, work: Any, *args: Any, **values: Any) -> Any:
        """Runs a work in a transaction."""
        with self.engine.begin() as connection:
            return work(connection, *args, **values)

    @initialize(several=st.lists(st.fixed_dictionaries(_SUBMISSION), min_size=2, max_size=4))
    def begin(self, several: list[dict[str, Any]]) -> None:
        """Some work is there already."""
        for values in several:
            self.submit(**values)

    @rule(call=st.deferred(lambda: st.sampled_from(sorted(_OFTEN, key=_OFTEN.count, reverse=True)).flatmap(_call)))
    def step(self, call: tuple[str, dict[str, Any]]) -> None:
        """One thing happens."""
        name, values = call
        getattr(self, name)(**values)

    # --- owners -----------------------------------------------------------------------------------------------------

    @act(3, **_SUBMISSION)
    def submit(self, user: str, link: tuple[str, str], kind: str, count: int, priority: int) -> None:
        """A user asks for something."""
        tasks = {
            "chunks": [chunk_task(_FILES) for _ in range(count)],
            "walk": [NewTask(TaskKind.WALK_COPY, b"/from", b"/to", root=True)],
            "removal": [NewTask(TaskKind.WALK_REMOVE, b"/from", root=True)],
            "directory": [NewTask(TaskKind.MAKE_DIRECTORY, b"/from")],
            "listing": [NewTask(TaskKind.LIST, b"/from")],
        }[kind]
        work_class = WorkClass.INTERACTIVE if kind == "listing" else WorkClass.BULK
        now_ms = self.do(database_now_ms)
        # Whoever has no session that the queue knows of is refused before this; a new one it learns of here.
        sessions = {site: self.model.sessions.get((user, site), 0) for site in link}
        sessions = {site: until_ms if until_ms > now_ms else now_ms + _HOUR_MS for site, until_ms in sessions.items()}
        job_id, uid = self.do(
            submission.submit,
            copy_job(
                user, source_site=link[0], destination_site=link[1], operation=kind, tasks=tasks, priority=priority,
                work_class=work_class, sessions=sessions,
            ),
        )  # fmt: skip
        self.model.sessions |= {(user, site): until_ms for site, until_ms in sessions.items()}
        total = sum(task.entry_count for task in tasks)
        self.model.jobs[job_id] = ModelJob(job_id, uid, user, *link, work_class, priority, total)

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
                self.do(retrying.retry, job.user, job.uid, _pack)
        else:
            self.try_again(job)

    def try_again(self, job: ModelJob) -> bool:
        """Retries an ended job; tells whether there was something to do."""
        row = self.do(lambda c: c.execute(sa.select(Job.__table__).where(Job.id == job.job_id)).one())
        try:
            self.do(retrying.retry, job.user, job.uid, _pack)
        except NothingToRetry:
            assert job_state(row) is JobState.SUCCEEDED
            return False
        assert job_state(row) is not JobState.SUCCEEDED
        job.hold &= ~(REOPENED | Hold.TOO_SHORT)
        return True

    # --- workers ----------------------------------------------------------------------------------------------------

    @act(
        6,
        which=st.integers(0, 1),
        want=st.integers(1, 6),
        interactive=st.sampled_from([False, False, False, True]),
        given=st.sampled_from([True, True, True, True, False]),
        worker=st.sampled_from(_THUMBPRINTS),
    )
    def lease(self, which: int, want: int, interactive: bool, given: bool, worker: str) -> None:
        """A worker has room; with `given` unset the lease never reaches it."""
        work_class = WorkClass.INTERACTIVE if interactive else WorkClass.BULK
        self.take(which, want, work_class, given=given, worker=worker)

    def take(
        self, which: int, want: int, work_class: WorkClass, *, given: bool = True, worker: str = "w1"
    ) -> list[Holding]:
        """Leases, and checks what came of it."""
        replica = self.replicas[which]
        delayed = self.delayed()
        taken = self.do(leases.lease, replica, work_class, want, self.model.defaults)
        if which in self.dead:
            assert not taken, "leased in the name of a replica whose row has expired"
            return []
        assert len(taken) <= want
        self.do(self.model.leased, taken, replica, delayed)
        if not taken:
            self.do(self.model.check_leased_all, work_class)
        if not given:
            self.not_given += [(replica, task) for task in taken]
            return []
        if taken:
            self.do(leases.assign, worker, [(task.task_id, task.fence) for task in taken])
        made = [Holding(task, worker, replica, task.cursor) for task in taken]
        for task in taken:
            self.model.tasks[task.task_id].thumbprint = worker
        self.held += made
        return made

    @act(1)
    def take_back_what_was_not_given(self) -> None:
        """A replica finds leases of its own that nobody has."""
        for replica, task in self.not_given:
            self.take_back(replica, [(task.task_id, task.fence)], given=False)
        self.not_given.clear()

    @act(6, pick=st.integers(0, 99), again=st.booleans(), stranger=st.sampled_from([False, False, False, True]))
    def report(self, pick: int, again: bool, stranger: bool) -> None:
        """A walk finds something, or says again what it found last; perhaps it is one that has lost its lease."""
        walks = [holding for holding in self.held if holding.task.kind in WALKS]
        if not walks:
            walks = [holding for holding in self.take(pick % 2, 3, WorkClass.BULK) if holding.task.kind in WALKS]
        if not walks:
            return
        holding = walks[pick % len(walks)]
        after = holding.cursor
        if again and after:
            place = _BATCHES.index(after)
            after = _BATCHES[place - 1] if place else b""
        if after != _BATCHES[-1]:
            self.tell(holding, after, "stranger" if stranger else holding.thumbprint)

    def tell(self, holding: Holding, after: bytes, thumbprint: str) -> None:
        """Reports a batch, and checks that it counts just once, and only if the lease stands."""
        known = self.model.tasks.get(holding.task.task_id)
        found = batch(holding, after)
        stands = known is not None and known.running and known.fence == holding.task.fence
        stands = stands and known is not None and known.thumbprint == thumbprint
        if not stands or known is None or known.job.hold & Hold.CANCELLED:
            with pytest.raises(LeaseLost):
                self.do(submission.report, replace(found, thumbprint=thumbprint))
            return
        self.do(submission.report, found)
        holding.cursor = max(holding.cursor, found.cursor)
        if known.cursor == after:
            known.cursor = found.cursor
            known.job.files += sum(chunk.entry_count for chunk in found.chunks) + len(found.failures)

    @act(
        7,
        pick=st.integers(0, 99),
        outcome=st.sampled_from([Outcome.COMPLETED, Outcome.COMPLETED, *Outcome]),
        done=st.sets(st.integers(0, _FILES - 1)),
        broken=st.sets(st.integers(0, _FILES - 1)),
        retryable=st.booleans(),
        signed_out=st.booleans(),
        keep=st.booleans(),
        stranger=st.sampled_from([False, False, False, False, True]),
        crash=st.booleans(),
    )
    def settle(
        self, pick: int, outcome: Outcome, done: set[int], broken: set[int], retryable: bool, signed_out: bool,
        keep: bool, stranger: bool, crash: bool,
    ) -> None:  # fmt: skip
        """A worker says how it went; with `keep` its word is sent twice, with `crash` what it opens is left closed."""
        if not self.held and not self.take(pick % 2, 3, WorkClass.BULK):
            return
        holding = self.held[pick % len(self.held)]
        if not stranger:
            self.held.remove(holding)
        task, chunk = holding.task, holding.task.kind in CHUNKS
        before = int.from_bytes(task.settled, "little")
        bits = (sum(1 << i for i in done if i < task.entry_count) | before) if chunk else 0
        fresh = bits & ~before
        failure = Failure("WHY", "because", retryable=retryable)
        sign_in_site = ""
        if outcome is Outcome.RETURNED and signed_out:
            failure, sign_in_site = (
                Failure(SIGN_IN_REASON, "sign in"),
                (task.source_site, task.destination_site)[pick % 2],
            )
        lost = [i for i in sorted(broken) if not bits >> i & 1] if chunk else []
        word = Settlement(
            task.task_id,
            task.fence,
            outcome,
            failure=failure if outcome in (Outcome.FAILED, Outcome.RETURNED) else None,
            done=bits.to_bytes(1, "little") if chunk else b"",
            files_done=fresh.bit_count(),
            bytes_done=10 * fresh.bit_count(),
            failures=[FailedEntry(i, b"/x", 10, failure) for i in lost],
            thumbprint="stranger" if stranger else holding.thumbprint,
            sign_in_site=sign_in_site,
        )
        if self.send((word, fresh), crash=crash) and sign_in_site:
            open_jobs = self.open_jobs()
            self.do(sign_ins.doubt, [(task.task_id, sign_in_site)])
            self.model.learn(task.user, sign_in_site, 0, open_jobs)
        if keep:
            self.past.append(word)
            self.send((word, fresh), (word, fresh))

    def send(self, *words: tuple[Settlement, int], crash: bool = False) -> bool:
        """Sends words together and checks the answers; opens what they end. Tells whether the last counted now.

        Args:
            words: each with the bits of the entries that were done in this attempt.
        """
        answers, jobs, _ = self.do(settlements.settle, [word for word, _ in words], POLICY)
        changed, stands = set(), False
        for (word, fresh), answer in zip(words, answers, strict=True):
            known = self.model.tasks.get(word.task_id)
            stands = known is not None and known.running
            stands = stands and known is not None and (known.fence, known.thumbprint) == (word.fence, word.thumbprint)
            repeated = known is not None and known.settled_fence == word.fence
            assert answer == (stands or repeated), f"the word of fence {word.fence} about task {word.task_id}"
            if stands and known is not None:
                known.running, known.settled_fence = False, word.fence
                assert known.done & fresh == 0, "given out again though it was done"
                known.done |= fresh
                changed.add(known.job.job_id)
        assert jobs == changed
        for job_id in [] if crash else jobs:
            self.do(lanes.open_next_phase, job_id)
        return stands

    @act(1, pick=st.integers(0, 99))
    def repeat(self, pick: int) -> None:
        """An answer was lost and the worker repeats its word."""
        if self.past:
            self.send((self.past[pick % len(self.past)], 0))

    @act(1, pick=st.integers(0, 99))
    def lapse(self, pick: int) -> None:
        """A worker falls silent; its word may still come."""
        if self.held:
            holding = self.held[pick % len(self.held)]
            self.take_back(holding.replica, [holding.ref], given=True)

    def take_back(self, replica: int, refs: Sequence[tuple[int, int]], *, given: bool) -> None:
        """Takes leases back; those that another replica has, or that have ended, must stay as they are."""
        theirs = set()
        for task_id, fence in refs:
            known = self.model.tasks.get(task_id)
            if known is not None and known.running and (known.fence, known.replica) == (fence, replica):
                known.running = False
                theirs.add(known.job.job_id)
        jobs = self.do(leases.requeue, replica, refs, given=given)
        assert jobs == theirs
        for job_id in jobs:
            self.do(lanes.open_next_phase, job_id)

    # --- replicas ---------------------------------------------------------------------------------------------------

    @act(2, which=st.integers(0, 1), worker=st.sampled_from(_THUMBPRINTS), bring=st.integers(1, 4))
    def adopt(self, which: int, worker: str, bring: int) -> None:
        """A worker comes to another replica and brings along what it holds."""
        mine = [holding for holding in self.held if holding.thumbprint == worker][-bring:]
        stand = []
        for holding in mine:
            known = self.model.tasks.get(holding.task.task_id)
            if known is not None and known.running and (known.fence, known.thumbprint) == (holding.task.fence, worker):
                stand.append((holding, known))
        replica = self.replicas[which]
        adopted = self.do(leases.adopt, replica, [holding.ref for holding in mine], worker)
        assert {task.task_id for task in adopted} == {holding.task.task_id for holding, _ in stand}
        for holding, known in stand:
            holding.replica = known.replica = replica

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
        self.replicas[which] = self.do(replicas.renew_replica, self.replicas[which], _HOUR_MS)
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
        for job_id in self.do(lanes.stalled_jobs):
            assert self.do(lanes.open_next_phase, job_id)

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
        user=st.sampled_from(_USERS),
        site=st.sampled_from(_SITES),
        lasts_ms=st.sampled_from([0, 0, _SHORT_MS, _HOUR_MS, 2 * _HOUR_MS]),
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

    @act(1, user=st.sampled_from(_USERS), site=st.sampled_from(_SITES), noticed=st.booleans())
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

    @act(1, link=st.integers(1, 3), rate=st.sampled_from([None, 1e-4, 1e9]))
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

    @act(1, pick=st.integers(0, 99), bit=st.sampled_from(_BANS), lifted=st.booleans())
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
        self.replicas = [self.do(replicas.renew_replica, None, _HOUR_MS) for _ in range(2)]
        self.dead.clear()
        self.sweep()
        for job_id in self.open_jobs():
            self.let_go(self.model.jobs[job_id])
        for user, site in itertools.product(_USERS, _SITES):
            self.sign_in(user, site, 2 * _HOUR_MS, told=True)
        for kind, name, _ in list(self.model.limited()):
            self.set_limit(kind, name, -1)
        self.work_off()
        mine = [job for job in self.model.jobs.values() if job.work_class is WorkClass.BULK]
        for _ in range(3):  # a walk that is retried may find more that stands in the way of something
            again = [job for job in mine if self.try_again(job)]
            for job in again:
                self.let_go(job)
            self.work_off()
        for row in self.do(lambda c: c.execute(sa.select(Job.__table__)).all()):
            assert row.work_class == WorkClass.INTERACTIVE or job_state(row) is JobState.SUCCEEDED, f"job {row.id}"

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

    def complete(self, holding: Holding) -> tuple[Settlement, int]:
        """Does all of a task, as a worker that nothing goes wrong with; returns the word, and what it did."""
        task = holding.task
        while task.kind in WALKS and holding.cursor != _BATCHES[-1]:
            self.tell(holding, holding.cursor, holding.thumbprint)
        before = int.from_bytes(task.settled, "little")
        bits = (1 << task.entry_count) - 1 if task.kind in CHUNKS else 0
        fresh = bits & ~before
        done = bits.to_bytes(1, "little") if bits else b""
        word = Settlement(
            task.task_id, task.fence, Outcome.COMPLETED, done=done, files_done=fresh.bit_count(),
            bytes_done=10 * fresh.bit_count(), thumbprint=holding.thumbprint,
        )  # fmt: skip
        self.held.remove(holding)
        return word, fresh

    # --- looks ------------------------------------------------------------------------------------------------------

    def one_job(self, pick: int) -> ModelJob | None:
        """Returns one of the jobs, where there are any."""
        if not self.model.jobs:
            return None
        return self.model.jobs[sorted(self.model.jobs)[pick % len(self.model.jobs)]]

    def open_jobs(self) -> set[int]:
        """Returns the jobs that have not ended."""
        return set(self.do(lambda c: c.execute(sa.select(Job.id).where(Job.ended_ms.is_(None))).scalars().all()))

    def delayed(self) -> set[int]:
        """Returns the tasks that wait."""
        query = sa.select(Task.id).where(Task.state == TaskState.DELAYED)
        return set(self.do(lambda c: c.execute(query).scalars().all()))

    def known(self, table: type[User] | type[Site], name: str) -> bool:
        """Tells whether any work has named a user or site."""
        return self.do(lambda c: c.execute(sa.select(table.id).where(table.name == name)).first()) is not None


def _pack(some: Sequence[tuple[bytes, bytes, int]]) -> bytes:
    return b"%d files" % len(some)


def _clear(connection: Any) -> None:
    tables = reversed(Base.metadata.sorted_tables)
    if connection.dialect.name == "postgresql":
        names = ", ".join(table.name for table in tables)
        connection.execute(sa.text(f"truncate {names} restart identity"))
        return
    for table in tables:
        connection.execute(sa.delete(table))
