"""FileService."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from wherry.queue.v1 import file_service_pb2 as pb
from wherry.queue.v1 import file_service_pb2_grpc, lease_service_pb2
from wherry.type.v1 import entry_pb2
from wherry_chassis.errors import DomainError, Kind
from wherry_chassis.identity import current_caller
from wherry_chassis.sql import Database

from wherry_queue.dispatching import Dispatcher
from wherry_queue.hub import Hub
from wherry_queue.jobs import JobNotFound, NewJob, NewTask
from wherry_queue.paths import absolute
from wherry_queue.servicer.messages import failure_message, location_path, shown
from wherry_queue.settling import Failure
from wherry_queue.site_directory import SiteDirectory, signed_in
from wherry_queue.states import ENDED, TaskKind, TaskState, WorkClass
from wherry_queue.store import control, reading, submission

_POLL_S = 1.0


class NoWorker(DomainError):
    """No worker took the listing in time; try again shortly."""

    kind = Kind.UNAVAILABLE
    reason = "NO_WORKER"


class FileServicer(file_service_pb2_grpc.FileServiceServicer):
    """Looks into sites for people who wait."""

    def __init__(
        self,
        database: Database,
        dispatcher: Dispatcher,
        hub: Hub,
        directory: SiteDirectory,
        *,
        wait_s: float,
        heartbeat_s: float,
    ) -> None:
        self._database = database
        self._dispatcher = dispatcher
        self._hub = hub
        self._directory = directory
        self._wait_s = wait_s
        self._heartbeat_s = heartbeat_s

    async def ListDirectory(
        self, request: pb.ListDirectoryRequest, context: Any
    ) -> AsyncIterator[pb.ListDirectoryResponse]:
        """Streams a directory; the caller's leaving cancels it."""
        user, site = current_caller().user_name, request.location.site
        sites = await signed_in(self._directory, user, [site], time.time())
        path = absolute(location_path(request.location), sites[site].default_path, "location.path")
        depth = max(request.depth, 1)
        submitted = asyncio.ensure_future(self._database.write(submission.submit, _listing(user, site, path, depth)))
        try:
            job_id, uid = await asyncio.shield(submitted)
        except asyncio.CancelledError:
            # The caller has gone, but it is being written: it has to be stopped when it is.
            job_id, uid = await submitted
            await self._stop(user, uid, job_id)
            raise
        ended = False
        try:
            with self._hub.waiting(job_id) as waiter:
                self._dispatcher.ready()
                started_s = said_s = time.monotonic()
                seen = 0
                kind = entry_pb2.ENTRY_KIND_DIRECTORY
                while not ended:
                    chunks, task = await self._database.read(reading.listing_after, job_id, seen)
                    ended = task.state in ENDED and not chunks
                    for chunk_id, payload in chunks:
                        seen = chunk_id
                        batch = lease_service_pb2.ReportEntriesRequest.FromString(payload)
                        kind = batch.listed_kind or kind
                        if kind == entry_pb2.ENTRY_KIND_DIRECTORY and max(batch.listed_depth, 1) != depth:
                            # What only looks whole is worse than none.
                            failure = failure_message(_NOT_TO_THE_DEPTH)
                            yield pb.ListDirectoryResponse(last=True, path=shown(path), failure=failure)
                            return
                        yield pb.ListDirectoryResponse(entries=batch.entries, path=shown(path), kind=kind, depth=depth)
                    now_s = time.monotonic()
                    if chunks:
                        said_s = now_s
                        continue
                    if now_s >= said_s + self._heartbeat_s:
                        said_s = now_s
                        yield pb.ListDirectoryResponse(path=shown(path))
                    if ended:
                        if task.state == TaskState.SUCCEEDED:
                            yield pb.ListDirectoryResponse(last=True, path=shown(path), kind=kind, depth=depth)
                        else:
                            failure = failure_message(task.failure)
                            yield pb.ListDirectoryResponse(last=True, path=shown(path), failure=failure)
                    elif task.attempt_count == 0 and now_s - started_s > self._wait_s:
                        raise NoWorker
                    else:
                        await waiter.wait(min(_POLL_S, max(said_s + self._heartbeat_s - now_s, 0)))
        finally:
            if not ended:
                # Shielded: the caller has gone and this call is being torn down; the task has to be stopped still.
                await asyncio.shield(self._stop(user, uid, job_id))

    async def _stop(self, user: str, uid: str, job_id: int) -> None:
        try:
            await self._database.write(control.cancel, user, uid)
        except JobNotFound:
            return  # it has ended and been cleared away
        self._dispatcher.held([job_id])


def _listing(user: str, site: str, path: bytes, depth: int) -> NewJob:
    return NewJob(
        user=user,
        source_site=site,
        destination_site=site,
        operation="list",
        specification=b"",
        tasks=[NewTask(TaskKind.LIST, path)],
        work_class=WorkClass.INTERACTIVE,
        options=lease_service_pb2.ListWork(depth=depth).SerializeToString(),
    )


_NOT_TO_THE_DEPTH = Failure(
    "WORKER_TOO_OLD",
    "the worker that took the listing is of an older release, and lists no directories below",
    party=4,
    retryable=True,
    help="Try again, or list one directory at a time.",
).as_json()
