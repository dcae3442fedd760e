"""The jobs that were asked for: what was said of each, and what has to come of it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from wherry.queue.v1 import job_service_pb2 as pb
from wherry.type.v1 import entry_pb2
from wherry_fakes.pretending_engines import Pretence
from wherry_fakes.synthetic_trees import size_of
from wherry_testing.bare_deployment import SITES
from wherry_testing.chaos.plan import JobPlan

_PAIRS = 60
"""In a message of a stream."""
ENDED = frozenset({pb.JOB_STATE_CANCELLED, pb.JOB_STATE_SUCCEEDED, pb.JOB_STATE_PARTIALLY_FAILED, pb.JOB_STATE_FAILED})


@dataclass
class AskedJob:
    """A job of the plan.

    Attributes:
        request_id: what makes its creation harmless to repeat.
        name: `jobs/{job}`, once it was accepted.
        created: set then.
        turn: held while something is asked of it, so that what is asked is asked in its order.
        cancelled: whether the last word about it was to cancel it.
        retries: how often it was opened again.
    """

    plan: JobPlan
    request_id: str
    name: str = ""
    created: asyncio.Event = field(default_factory=asyncio.Event)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    cancelled: bool = False
    retries: int = 0

    def pairs(self) -> Iterator[pb.CreateJobFromPairsRequest]:
        """Yields what asks for `pairs`: a stream, so that it can break in its middle."""
        plan = self.plan
        top = f"/{plan.name}"
        copy = pb.PairsCopy(
            request_id=self.request_id, source=self._at(top), destination=self._to(top), priority=plan.priority
        )
        names = list(plan.paired_names())
        for first in range(0, len(names), _PAIRS):
            files = [
                pb.FilePair(source_path=name.encode(), size_bytes=size_of(f"{top}/{name}"))
                for name in names[first : first + _PAIRS]
            ]
            yield pb.CreateJobFromPairsRequest(copy=None if first else copy, pairs=files)

    def request(self) -> pb.CreateJobRequest:
        """Returns what asks for it, for all but `pairs`."""
        plan = self.plan
        job = pb.Job(priority=plan.priority)
        match plan.shape:
            case "copy":
                job.copy.recursive = True
                self._add(job.copy, plan.tree.path(plan.name))
            case "copy_files":
                for path in plan.copied_files():
                    self._add(job.copy, path)
            case "remove":
                job.remove.recursive = True
                job.remove.targets.append(self._at(plan.tree.path(plan.name)))
            case "remove_files":
                paths = [f"/synthetic/{plan.name}-{number}" for number in range(plan.count)]
                job.remove.targets.extend(self._at(path) for path in paths)
            case "make_directory":
                job.make_directory.target.CopyFrom(self._at(f"/made/{plan.name}"))
            case "rename":
                job.rename.source.CopyFrom(self._at(f"/old/{plan.name}"))
                job.rename.destination.CopyFrom(self._at(f"/new/{plan.name}"))
        return pb.CreateJobRequest(request_id=self.request_id, job=job)

    def _add(self, copy: pb.CopyOperation, path: str) -> None:
        copy.items.append(pb.CopyItem(source=self._at(path), destination=self._to(path)))

    def _to(self, path: str) -> entry_pb2.Location:
        return entry_pb2.Location(site=_site(self.plan.destination), path=f"/to{path}")

    def _at(self, path: str) -> entry_pb2.Location:
        return entry_pb2.Location(site=_site(self.plan.source), path=path)


def asked(plan: JobPlan, seed: int) -> AskedJob:
    """Returns a job of a plan, of which nothing has been said yet."""
    return AskedJob(plan, str(uuid.uuid5(uuid.NAMESPACE_OID, f"{seed} {plan.number} {uuid.uuid4()}")))


@dataclass(frozen=True)
class Expected:
    """What a job comes to that is done to its end."""

    plan: JobPlan
    pretence: Pretence

    @cached_property
    def failing(self) -> dict[str, int]:
        """Size by path of the files that fail for good in whatever attempt."""
        return {
            path: size_of(path)
            for path in self.plan.copied_files()
            if (problem := self.pretence.problem(path, 1)) is not None and not problem.retryable
        }

    def shortcomings(self, job: pb.Job) -> list[str]:
        """Returns in words what is not as it should be of a job that was done to its end."""
        plan, progress = self.plan, job.progress
        failed = len(self.failing)
        state = pb.JOB_STATE_SUCCEEDED
        if failed:
            state = pb.JOB_STATE_FAILED if failed == plan.file_count else pb.JOB_STATE_PARTIALLY_FAILED
        wanted = {
            "state": (pb.JobState.Name(job.state), pb.JobState.Name(state)),
            "files_total": (progress.files_total, plan.file_count),
            "files_failed": (progress.files_failed, failed),
            "files_done": (progress.files_done, plan.file_count - failed),
            "bytes_failed": (progress.bytes_failed, sum(self.failing.values())),
            "bytes_done": (progress.bytes_done, progress.bytes_total - sum(self.failing.values())),
        }
        if plan.shape in ("copy", "copy_files", "pairs"):
            wanted["bytes_total"] = (progress.bytes_total, sum(map(size_of, plan.copied_files())))
        if plan.shape in ("copy", "remove"):
            wanted["directories_total"] = (progress.directories_total, plan.directory_count)
            wanted["directories_done"] = (progress.directories_done, plan.directory_count)
        return [f"{what} is {found}, not {right}" for what, (found, right) in wanted.items() if found != right]


def shortcomings(job: AskedJob, now: pb.Job, pretence: Pretence) -> list[str]:
    """Returns in words what is not as it should be of a job at the end of all things."""
    if now.state not in ENDED:
        return [f"it is {pb.JobState.Name(now.state)} at the end"]
    if now.progress.tasks_open or now.progress.tasks_running:
        return [f"it has ended with {now.progress.tasks_open} tasks open, {now.progress.tasks_running} running"]
    if job.cancelled and now.state == pb.JOB_STATE_CANCELLED:
        done, total = now.progress.files_done + now.progress.files_failed, now.progress.files_total
        return [f"cancelled, with {done} of {total} files"] if done > total else []
    # A cancel that came too late changes nothing.
    return Expected(job.plan, pretence).shortcomings(now)


def _site(number: int) -> str:
    return f"sites/{SITES[number]}"
