"""Carries a plan out: asks, breaks, lets go, waits until all is at rest, and looks at what has come of it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from wherry.queue.v1 import file_service_pb2, file_service_pb2_grpc, job_service_pb2_grpc
from wherry.queue.v1 import job_service_pb2 as pb
from wherry.type.v1 import entry_pb2
from wherry_chassis.errors import DatabaseUnavailable
from wherry_fakes.pretending_engines import Pretence
from wherry_fakes.synthetic_trees import entries_of
from wherry_testing.bare_deployment import SITES, Account, BareDeployment
from wherry_testing.chaos import at_rest, jobs
from wherry_testing.chaos.asking import CALL_S, Asker, Refused, Unanswered
from wherry_testing.chaos.breaking import Breaker
from wherry_testing.chaos.jobs import ENDED, AskedJob
from wherry_testing.chaos.operating import Operator
from wherry_testing.chaos.plan import (
    Ban,
    Control,
    Cut,
    Drain,
    Kill,
    LiftBan,
    Look,
    Plan,
    SetLimit,
    SignIn,
    SignOut,
    Step,
    Submit,
)
from wherry_testing.chaos.result import Result, counted
from wherry_testing.chaos.watching import Watcher

_CLOCK_S = 0.05
_STANDSTILL_S = 8.0
"""Where nothing has been settled for so long the next step is done all the same: all there is may be held."""
_SAY_S = 10.0
_SHOWN_WITHIN_S = 10.0
_NOT_NOW = frozenset({"SITE_SIGN_IN_REQUIRED", "USER_SUSPENDED", "SITE_SUSPENDED"})
"""Why a job is refused that will be taken later: they sign in again, and bans are lifted."""
_FIRST_WAIT_S, _LAST_WAIT_S = 0.5, 8.0
"""Between two askings for it."""
_FAULTS = 40
"""More of them say nothing new."""


class ChaosRun:
    """One run of a plan on a deployment that is up.

    Args:
        pretence: how the workers' engines behave.
        say: prints a line.
        rest_within_s: how long all of it may take to come to rest after the last step.
    """

    def __init__(
        self,
        centre: BareDeployment,
        plan: Plan,
        pretence: Pretence,
        say: Callable[[str], None],
        *,
        rest_within_s: float,
    ) -> None:
        self._centre = centre
        self._plan = plan
        self._pretence = pretence
        self._say = say
        self._rest_within_s = rest_within_s
        self.result = Result(plan.seed)
        self._jobs = [jobs.asked(job, plan.seed) for job in sorted(plan.jobs, key=lambda job: job.number)]
        self._people: list[Account] = []
        self._watchers: list[Watcher] = []
        self._reopened: set[str] = set()
        self._breaker = Breaker(centre, plan.seed, self._fault)
        self._asker = Asker(lambda replica: centre.channel(f"queue-{replica}"), centre.replicas, self._fault)
        self._operator = Operator(centre, self._asker, self._breaker, self._fault)
        self._engine = sa.create_engine(centre.direct_urls["queue"], poolclass=sa.NullPool)
        self._unanswered = 0
        self._deeds: dict[asyncio.Task[None], Step] = {}

    async def run(self) -> Result:
        """Runs it; what is wrong stands in the result."""
        users = range(self._plan.scale.users)
        self._people = list(await asyncio.gather(*(self._centre.person(f"user{n}@example.org") for n in users)))
        self._watchers = [
            Watcher(self._asker.channel, one.metadata, self._reopened, self._fault) for one in self._people
        ]
        background = [asyncio.create_task(watcher.run()) for watcher in self._watchers]
        background.append(asyncio.create_task(self._breaker.supervise()))
        began_s = time.monotonic()
        try:
            await self._do_steps()
            stepped_s = time.monotonic()
            if await self._let_go():
                self.result.resting_s = time.monotonic() - stepped_s
                self.result.seconds = time.monotonic() - began_s
                await self._look_at_jobs()
                await self._look_at_books()
        except Unanswered as error:
            self._fault(f"nobody answers: {error}")
        finally:
            for task in [*background, *self._deeds]:
                task.cancel()
            ended = await asyncio.gather(*background, *self._deeds, return_exceptions=True)
            for problem in ended:
                if isinstance(problem, Exception):
                    self._fault(f"the run itself failed: {type(problem).__name__}: {problem}")
            self._engine.dispose()
        self._look_at_logs()
        self._look_for_deadlocks()
        self.result.seconds = self.result.seconds or time.monotonic() - began_s
        self.result.broken = self._breaker.done + self._operator.done
        self.result.endings = self._breaker.endings
        self.result.repeats = self._asker.repeats
        self.result.reconnects = sum(watcher.reconnects for watcher in self._watchers)
        return self.result

    def _fault(self, text: str) -> None:
        if text not in self.result.faults and len(self.result.faults) < _FAULTS:
            self.result.faults.append(text)
            self._say(f"FAULT: {text}")

    # --- steps ---

    async def _do_steps(self) -> None:
        settled, moved_s, said_s = 0, time.monotonic(), time.monotonic()
        for step in self._plan.steps:
            while settled < step.at and time.monotonic() - moved_s < _STANDSTILL_S:
                await asyncio.sleep(_CLOCK_S)
                now = self._settled(settled)
                if now > settled:
                    settled, moved_s = now, time.monotonic()
                elif not self._unanswered and self._idle():
                    break
                if time.monotonic() - said_s > _SAY_S:
                    said_s = time.monotonic()
                    self._say(f"{settled} settled, {counted(self._breaker.done)}")
            if time.monotonic() - moved_s >= _STANDSTILL_S:
                moved_s = time.monotonic()  # one step for each: all of them together would break everything at once
            deed = asyncio.create_task(self._do(step))
            self._deeds[deed] = step
            deed.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        del self._deeds[task]
        if not task.cancelled() and (problem := task.exception()) is not None:
            self._fault(f"a step failed: {type(problem).__name__}: {problem}")

    async def _do(self, step: Step) -> None:
        match step.act:
            case Submit(job):
                await self._submit(self._jobs[job.number])
            case Control():
                await self._control(step.act)
            case Look():
                await self._look(step.act)
            case SignOut(user, site):
                await self._at_the_sites(lambda: self._centre.sign_out(self._people[user], SITES[site]))
            case SignIn(user, site):
                await self._at_the_sites(lambda: self._centre.sign_in(self._people[user], SITES[site]))
            case SetLimit():
                await self._operator.set_limit(step.act)
            case Ban(kind="user", place=place):
                await self._operator.ban(step.act, self._people[place].name)
            case Ban(place=place):
                await self._operator.ban(step.act, f"sites/{SITES[place]}")
            case LiftBan():
                await self._operator.lift(step.act)
            case Drain():
                await self._operator.drain(step.act)
            case Kill():
                await self._breaker.kill(step.act)
            case Cut():
                self._breaker.cut(step.act)

    async def _submit(self, job: AskedJob) -> None:
        metadata = self._people[job.plan.user].metadata

        async def ask(stub: Any) -> pb.Job:
            if job.plan.shape == "pairs":
                made = stub.CreateJobFromPairs(job.pairs(), metadata=metadata, timeout=CALL_S)
            else:
                made = stub.CreateJob(job.request(), metadata=metadata, timeout=CALL_S)
            answer: pb.Job = await made
            return answer

        wait_s = _FIRST_WAIT_S
        while not job.name:
            try:
                self._unanswered += 1
                try:
                    answer = await self._ask(ask)
                finally:
                    self._unanswered -= 1
            except Refused as refusal:
                if refusal.reason not in _NOT_NOW:
                    self._fault(f"job {job.plan.number} was refused: {refusal}")
                    return
                # Hundreds may wait for a ban to be lifted: asking all the time would be most of what there is to do.
                await asyncio.sleep(wait_s)
                wait_s = min(2 * wait_s, _LAST_WAIT_S)
            else:
                job.name = answer.name
        job.created.set()

    async def _control(self, act: Control) -> None:
        job = self._jobs[act.job]
        async with job.turn:
            await job.created.wait()
            if act.act in ("cancel", "cancel_and_retry"):
                await self._tell(job, "CancelJob", pb.CancelJobRequest(name=job.name))
                job.cancelled = True
            if act.act in ("retry", "cancel_and_retry"):
                await self._retry(job)
            if act.act == "pause":
                await self._tell(job, "PauseJob", pb.PauseJobRequest(name=job.name))
            if act.act == "resume":
                await self._tell(job, "ResumeJob", pb.ResumeJobRequest(name=job.name))
            if act.act == "prioritise":
                request = pb.UpdateJobRequest(job=pb.Job(name=job.name, priority=act.priority))
                request.update_mask.paths.append("priority")
                await self._tell(job, "UpdateJob", request)

    async def _tell(self, job: AskedJob, method: str, request: Any) -> None:
        metadata = self._people[job.plan.user].metadata
        try:
            await self._ask(lambda stub: getattr(stub, method)(request, metadata=metadata, timeout=CALL_S))
        except Refused as refusal:
            if refusal.reason != "JOB_ENDED":
                self._fault(f"{method} of {job.name} was refused: {refusal}")

    async def _retry(self, job: AskedJob) -> None:
        """Retries a job once it has ended."""
        metadata = self._people[job.plan.user].metadata
        request = pb.RetryJobRequest(name=job.name)
        wait_s = _FIRST_WAIT_S
        while True:
            # Hundreds wait so: asking the queue each second would be most of its work.
            shown = self._watchers[job.plan.user].last.get(job.name)
            if shown is None or shown.state not in ENDED or (await self._now(job)).state not in ENDED:
                await asyncio.sleep(1)
                continue
            self._reopened.add(job.name)
            try:
                await self._ask(lambda stub: stub.RetryJob(request, metadata=metadata, timeout=CALL_S))
            except Refused as refusal:
                if refusal.reason in _NOT_NOW:
                    await asyncio.sleep(wait_s)
                    wait_s = min(2 * wait_s, _LAST_WAIT_S)
                    continue
                taken = refusal.doubtful and refusal.reason == "JOB_NOT_ENDED"
                if refusal.reason == "NOTHING_TO_RETRY":
                    return
                if not taken:
                    self._fault(f"RetryJob of {job.name} was refused: {refusal}")
                    return
            job.cancelled = False
            job.retries += 1
            return

    async def _look(self, act: Look) -> None:
        """Lists a directory once, as somebody would who tries again by themselves."""
        path = act.tree.path("looked-at")
        request = file_service_pb2.ListDirectoryRequest(
            location=entry_pb2.Location(site=f"sites/{SITES[act.site]}", path=path)
        )
        names: list[str] = []

        async def listed(channel: Any) -> file_service_pb2.ListDirectoryResponse:
            names.clear()
            stub: Any = file_service_pb2_grpc.FileServiceStub(channel)
            message = file_service_pb2.ListDirectoryResponse()
            async for message in stub.ListDirectory(request, metadata=self._people[act.user].metadata, timeout=60):
                names.extend(entry.name for entry in message.entries)
            return message

        try:
            last = await self._asker.ask(listed)
        except Refused as refusal:
            self.result.looks[refusal.reason] += 1
            return
        if last.HasField("failure"):
            self.result.looks[last.failure.reason] += 1
            return
        self.result.looks["whole"] += 1
        if not last.last or names != [entry.name for entry in entries_of(path)]:
            self._fault(f"a listing of {path} ended well (last: {last.last}) with {len(names)} entries")

    async def _at_the_sites(self, work: Callable[[], Awaitable[None]]) -> None:
        """Changes the site service's rows, once its database is there."""
        while True:
            await self._breaker.database_up.wait()
            try:
                await work()
            except DatabaseUnavailable:  # killed in the midst of it
                await asyncio.sleep(0.5)
            else:
                return

    async def _ask(self, call: Callable[[Any], Awaitable[Any]]) -> Any:
        return await self._asker.ask(lambda channel: call(job_service_pb2_grpc.JobServiceStub(channel)))

    async def _now(self, job: AskedJob) -> pb.Job:
        metadata = self._people[job.plan.user].metadata
        request = pb.GetJobRequest(name=job.name)
        answer: pb.Job = await self._ask(lambda stub: stub.GetJob(request, metadata=metadata, timeout=CALL_S))
        return answer

    # --- the end ---

    async def _let_go(self) -> bool:
        """Waits until whatever was asked has been answered, and all jobs have ended; tells whether they have."""
        self._say("the last step is done; waiting for rest")
        deadline_s = time.monotonic() + self._rest_within_s
        while time.monotonic() < deadline_s:
            if not self._deeds and self._idle(jobs_only=True) and not self._breaker.overdue():
                return True
            await asyncio.sleep(0.2)
        self._fault(f"not at rest {self._rest_within_s:.0f} s after the last step")
        for name in self._breaker.overdue():
            self._fault(f"{name} was told to end, and has not")
        for step in list(self._deeds.values())[:10]:
            self._fault(f"still under way: {step}")
        with contextlib.suppress(DBAPIError), self._engine.connect() as connection:
            for fault in [*at_rest.unfinished(connection), *at_rest.faults(connection)][:20]:
                self._fault(fault)
        return False

    async def _look_at_jobs(self) -> None:
        async for job, now in self._final():
            self.result.states[pb.JobState.Name(now.state).removeprefix("JOB_STATE_")] += 1
            for text in jobs.shortcomings(job, now, self._pretence):
                self._fault(f"{job.name} ({job.plan.shape}, cancelled {job.cancelled}, retried {job.retries}): {text}")
            watcher = self._watchers[job.plan.user]
            if not await watcher.shows(job.name, now.state, _SHOWN_WITHIN_S):
                seen = watcher.last.get(job.name)
                shown = "nothing" if seen is None else pb.JobState.Name(seen.state)
                self._fault(f"{job.name} is {pb.JobState.Name(now.state)}; its owner was last shown {shown}")

    async def _final(self) -> AsyncIterator[tuple[AskedJob, pb.Job]]:
        for job in self._jobs:
            if job.name:
                yield job, await self._now(job)

    async def _look_at_books(self) -> None:
        with self._engine.begin() as connection:
            self.result.left_behind = at_rest.swept(connection)
        with self._engine.connect() as connection:
            for fault in at_rest.faults(connection):
                self._fault(fault)
            self.result.tasks = int(connection.execute(sa.text("select count(*) from task")).scalar_one())
            self.result.settlements = int(connection.execute(sa.text("select count(*) from attempt")).scalar_one())
            bulk = connection.execute(sa.text("select count(*) from job where work_class = 2")).scalar_one()
        if bulk != len(self._jobs):
            self._fault(f"{len(self._jobs)} jobs were asked for, and there are {bulk}")
        if self.result.tasks < self._plan.scale.tasks:
            self._fault(f"only {self.result.tasks} tasks became of the plan, not {self._plan.scale.tasks}")

    def _look_at_logs(self) -> None:
        """Nothing unforeseen may have happened anywhere."""
        for log in sorted((self._centre.folder / "logs").glob("*.log")):
            with log.open(errors="replace") as lines:
                for line in lines:
                    if '"event": "incident"' in line or '"event": "task_crashed"' in line or "notice_not_taken" in line:
                        self._fault(f"{log.name}: {line[-700:].strip()}")

    def _look_for_deadlocks(self) -> None:
        """Locks have an order: who waits for whom in a circle has broken it, though the database gets them out."""
        server = self._centre.server
        log = "" if server is None else (server.folder / "server.log").read_text(errors="replace")
        for part in log.split("ERROR:  deadlock detected")[1:]:
            lines = [line.strip() for line in part.splitlines()[1:16] if "HINT" not in line]
            self._fault(f"a deadlock: {' | '.join(lines)[:1500]}")

    # --- the clock ---

    def _settled(self, before: int) -> int:
        """Returns how many attempts have been settled: the clock of a run. It stands while the database is away."""
        try:
            with self._engine.connect() as connection:
                found = connection.execute(sa.text("select coalesce(max(id), 0) from attempt")).scalar_one()
        except DBAPIError:
            return before
        return int(found)

    def _idle(self, *, jobs_only: bool = False) -> bool:
        """Tells whether no job is open or, but for `jobs_only`, all that are open are held.

        With `jobs_only` there is none to come either: what copies left behind has been removed.
        """
        held = "" if jobs_only else " and hold = 0"
        try:
            with self._engine.connect() as connection:
                looks = [f"select 1 from job where ended_ms is null{held} limit 1"]
                if jobs_only:
                    # In this order: a clean-up is made as its marks go.
                    looks.insert(0, "select 1 from task where left_behind and state >= 5 limit 1")
                return all(connection.execute(sa.text(look)).first() is None for look in looks)
        except DBAPIError:
            return False
