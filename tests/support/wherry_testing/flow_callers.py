"""Somebody who speaks to one replica of the queue, as the gateway would for them; synchronous."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from wherry.queue.v1 import file_service_pb2, file_service_pb2_grpc, job_service_pb2_grpc
from wherry.queue.v1 import job_service_pb2 as pb
from wherry.type.v1 import entry_pb2
from wherry_client.jobs import ENDED
from wherry_testing.running_copies import Folders

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)
_CALL_S = 30.0


class ReplicaCaller:
    """Calls of one person at one replica; each raises grpc.RpcError, and repeats nothing by itself."""

    def __init__(self, channel: grpc.Channel, token: Callable[[], str]) -> None:
        self._token = token
        self.jobs = job_service_pb2_grpc.JobServiceStub(channel)
        self.files = file_service_pb2_grpc.FileServiceStub(channel)

    @property
    def metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """What their calls carry."""
        return (("authorization", f"Bearer {self._token()}"),)

    def keep_token(self) -> None:
        """Goes on with the token of now, though its person may have another soon, or none."""
        token = self._token()
        self._token = lambda: token

    def ask(self, call: grpc.UnaryUnaryMultiCallable[Request, Response], request: Request) -> Response:
        """Calls a method."""
        answer: Response = call(request, metadata=self.metadata, timeout=_CALL_S)
        return answer

    def create(self, job: pb.Job, request_id: str = "") -> pb.Job:
        """Asks for a job."""
        request = pb.CreateJobRequest(request_id=request_id or str(uuid.uuid4()), job=job)
        return self.ask(self.jobs.CreateJob, request)

    def get(self, job: str) -> pb.Job:
        """Returns a job."""
        return self.ask(self.jobs.GetJob, pb.GetJobRequest(name=job))

    def cancel(self, job: str) -> pb.Job:
        """Cancels a job."""
        return self.ask(self.jobs.CancelJob, pb.CancelJobRequest(name=job))

    def pause(self, job: str) -> pb.Job:
        """Pauses a job."""
        return self.ask(self.jobs.PauseJob, pb.PauseJobRequest(name=job))

    def resume(self, job: str) -> pb.Job:
        """Lets a job go on."""
        return self.ask(self.jobs.ResumeJob, pb.ResumeJobRequest(name=job))

    def retry(self, job: str) -> pb.Job:
        """Does again what failed."""
        return self.ask(self.jobs.RetryJob, pb.RetryJobRequest(name=job))

    def watch(self, job: str, within_s: float = _CALL_S) -> Iterator[pb.Job]:
        """Yields a job as its stream tells of it, to its end."""
        for message in self.jobs.WatchJob(pb.WatchJobRequest(name=job), metadata=self.metadata, timeout=within_s):
            yield message.job

    def ended(self, job: str, within_s: float = 90.0) -> pb.Job:
        """Waits for a job's end."""
        last = pb.Job()
        for last in self.watch(job, within_s):  # noqa: B007  # the last one is wanted
            pass
        assert last.state in ENDED, pb.JobState.Name(last.state)
        return last

    def listing(self, site: str, path: str, depth: int = 0) -> Any:  # the stubs know no type for it
        """Opens a listing, to a depth; returns the call, to be read message by message or cancelled."""
        location = entry_pb2.Location(site=f"sites/{site}", path=path)
        request = file_service_pb2.ListDirectoryRequest(location=location, depth=depth)
        return self.files.ListDirectory(request, metadata=self.metadata, timeout=_CALL_S)


def copy_of(source: str, destination: str) -> pb.Job:
    """A recursive copy from site-a to site-b."""
    item = pb.CopyItem(
        source=entry_pb2.Location(site="sites/site-a", path=source),
        destination=entry_pb2.Location(site="sites/site-b", path=destination),
    )
    return pb.Job(copy=pb.CopyOperation(items=[item], recursive=True))


def copy_between(folders: Folders, name: str = "data") -> pb.Job:
    """A recursive copy of a real folder, to `name` in the other one."""
    return copy_of(folders.source.name, f"{folders.destination.name}/{name}")


def removal_of(path: str, site: str = "site-a") -> pb.Job:
    """A recursive removal."""
    target = entry_pb2.Location(site=f"sites/{site}", path=path)
    return pb.Job(remove=pb.RemoveOperation(targets=[target], recursive=True))
