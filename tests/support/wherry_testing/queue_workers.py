"""Workers and replicas at a queue's store, as stateful tests have them: leases, reports, words, lapses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine
from sqlalchemy.engine import Engine
from wherry_queue.jobs import LeaseLost
from wherry_queue.models import Job, Site, Task, User
from wherry_queue.settling import SIGN_IN_REASON, FailedEntry, Failure, Settlement
from wherry_queue.states import CHUNKS, WALKS, Hold, Outcome, TaskState, WorkClass
from wherry_queue.store import (
    leases,
    phases,
    replicas,
    settlements,
    sign_ins,
    submission,
)
from wherry_queue.store.leases import LeasedTask
from wherry_testing.queue_acts import (
    BATCHES,
    DEFAULTS,
    FILES,
    HOUR_MS,
    THUMBPRINTS,
    Holding,
    act,
    batch,
    clear,
    file_size,
)
from wherry_testing.queue_cases import POLICY
from wherry_testing.queue_model import Model, ModelJob


class QueueWorkers(RuleBasedStateMachine):
    """What workers and replicas do; `engine` is set by whoever runs it."""

    engine: Engine

    def __init__(self) -> None:
        super().__init__()
        self.model = Model(DEFAULTS)
        self.held: list[Holding] = []
        self.not_given: list[tuple[int, LeasedTask]] = []
        self.past: list[Settlement] = []
        self.cursor = 0
        self.do(clear)
        self.replicas = [self.do(replicas.renew_replica, None, HOUR_MS) for _ in range(2)]
        self.dead: set[int] = set()

    def do(self, work: Any, *args: Any, **values: Any) -> Any:
        """Runs a work in a transaction."""
        with self.engine.begin() as connection:
            return work(connection, *args, **values)

    @act(
        6,
        which=st.integers(0, 1),
        want=st.integers(1, 6),
        interactive=st.sampled_from([False, False, False, True]),
        given=st.sampled_from([True, True, True, True, False]),
        worker=st.sampled_from(THUMBPRINTS),
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
            place = BATCHES.index(after)
            after = BATCHES[place - 1] if place else b""
        if after != BATCHES[-1]:
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
            chunks = [] if holding.task.extraneous else found.chunks
            known.job.files += sum(chunk.entry_count for chunk in chunks) + len(found.failures)
            known.job.files += found.files_unchanged
            known.unchanged += found.files_unchanged
            known.job.skipped += len(found.skipped)

    @act(
        7,
        pick=st.integers(0, 99),
        outcome=st.sampled_from([Outcome.COMPLETED, Outcome.COMPLETED, *Outcome]),
        done=st.sets(st.integers(0, FILES - 1)),
        broken=st.sets(st.integers(0, FILES - 1)),
        retryable=st.booleans(),
        signed_out=st.booleans(),
        ended=st.booleans(),
        keep=st.booleans(),
        stranger=st.sampled_from([False, False, False, False, True]),
        crash=st.booleans(),
    )
    def settle(
        self, pick: int, outcome: Outcome, done: set[int], broken: set[int], retryable: bool, signed_out: bool,
        ended: bool, keep: bool, stranger: bool, crash: bool,
    ) -> None:  # fmt: skip
        """A worker says how it went; with `keep` its word is sent twice, with `crash` what it opens is left closed.

        With `signed_out` it says that a session has ended; with `ended` the site service says so too.
        """
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
            bytes_done=file_size(task) * fresh.bit_count(),
            files_unchanged=pick % 3,
            failures=[FailedEntry(i, b"/x", file_size(task), failure) for i in lost],
            thumbprint="stranger" if stranger else holding.thumbprint,
            sign_in_site=sign_in_site,
        )
        if self.send((word, fresh), crash=crash) and sign_in_site:
            # The word itself changes nothing: the model goes on as it was, until the site service is asked.
            assert self.do(sign_ins.doubted, [(task.task_id, sign_in_site)]) == [(task.user, sign_in_site)]
            if ended:
                open_jobs = self.open_jobs()
                self.do(sign_ins.learn, task.user, {sign_in_site: 0})
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
            self.do(phases.open_next_phase, job_id)
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
            self.do(phases.open_next_phase, job_id)

    @act(2, which=st.integers(0, 1), worker=st.sampled_from(THUMBPRINTS), bring=st.integers(1, 4))
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

    def complete(self, holding: Holding) -> tuple[Settlement, int]:
        """Does all of a task, as a worker that nothing goes wrong with; returns the word, and what it did."""
        task = holding.task
        while task.kind in WALKS and holding.cursor != BATCHES[-1]:
            self.tell(holding, holding.cursor, holding.thumbprint)
        before = int.from_bytes(task.settled, "little")
        bits = (1 << task.entry_count) - 1 if task.kind in CHUNKS else 0
        fresh = bits & ~before
        done = bits.to_bytes(1, "little") if bits else b""
        word = Settlement(
            task.task_id, task.fence, Outcome.COMPLETED, done=done, files_done=fresh.bit_count(),
            bytes_done=file_size(task) * fresh.bit_count(), thumbprint=holding.thumbprint,
        )  # fmt: skip
        self.held.remove(holding)
        return word, fresh

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
