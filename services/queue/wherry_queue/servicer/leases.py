"""LeaseService and LeaseKeyService."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from wherry.queue.v1 import job_service_pb2, lease_service_pb2_grpc
from wherry.queue.v1 import lease_service_pb2 as pb
from wherry_chassis.errors import DomainError, FieldProblem, InvalidFields, Kind
from wherry_chassis.identity import current_caller
from wherry_chassis.sql import Database

from wherry_queue.dispatching import Dispatcher
from wherry_queue.jobs import Chunk, Found
from wherry_queue.progress import Moved, ProgressBoard
from wherry_queue.servicer import messages
from wherry_queue.servicer.lease_messages import lease_message
from wherry_queue.settling import FailedEntry, RetryPolicy, Settlement
from wherry_queue.states import Outcome, TaskKind, WorkClass
from wherry_queue.store import replicas, settlements, sign_ins, submission
from wherry_queue.workers import GivenLease, Outgoing, StoppedLease, WorkerStream

_OF_LISTINGS = frozenset({"entries", "listed_kind", "listed_depth"})
_MESSAGE_BYTES = 1 << 20
_Part = TypeVar("_Part", pb.EndedSession, pb.Lease, pb.RenewedLease, pb.CancelledLease)


class StreamTooOld(DomainError):
    """The stream has reached its maximum age; open another, to any replica."""

    kind = Kind.UNAVAILABLE
    reason = "STREAM_TOO_OLD"


class ReplicaDraining(DomainError):
    """This replica takes no workers any more; open the stream at another."""

    kind = Kind.UNAVAILABLE
    reason = "REPLICA_ENDING"


class LeaseServicer(lease_service_pb2_grpc.LeaseServiceServicer):
    """Gives tasks to workers and takes their results.

    Args:
        admit: lets a worker in, by name and thumbprint of its certificate, or raises.
        ask: has the site service asked whether users are signed in at sites, of whom workers say that they are not. A
            worker's word alone parks nobody: its clock may be wrong, or what a site told it.
    """

    def __init__(
        self,
        database: Database,
        dispatcher: Dispatcher,
        progress: ProgressBoard,
        policy: RetryPolicy,
        admit: Callable[[str, str], Awaitable[None]],
        ask: Callable[[Sequence[tuple[str, str]]], None],
        *,
        stream_max_age_s: float,
    ) -> None:
        self._database = database
        self._dispatcher = dispatcher
        self._admit = admit
        self._ask = ask
        self._progress = progress
        self._policy = policy
        self._stream_max_age_s = stream_max_age_s

    async def StreamLeases(
        self, request_iterator: AsyncIterator[pb.StreamLeasesRequest], context: Any
    ) -> AsyncIterator[pb.StreamLeasesResponse]:
        """Runs a worker's stream."""
        first = await anext(aiter(request_iterator), None)
        if first is None or first.WhichOneof("message") != "open":
            raise InvalidFields(FieldProblem("open", "is the first message of a stream"))
        operations = [TaskKind(kind) for kind in first.open.operations if kind]
        if self._dispatcher.draining:
            raise ReplicaDraining
        peer = current_caller().peer
        await self._admit(first.open.worker, peer.thumbprint)
        worker = WorkerStream(
            first.open.worker,
            peer.thumbprint,
            operations,
            version=first.open.version,
            opened_s=time.monotonic(),
            subject=peer.subject,
        )
        lost = await self._dispatcher.open(worker, [_ref(held) for held in first.open.held])
        listener = asyncio.create_task(self._listen(worker, request_iterator))
        terms = self._dispatcher.terms
        try:
            yield pb.StreamLeasesResponse(
                opened=pb.StreamOpened(
                    heartbeat_interval=messages.duration(terms.heartbeat_s),
                    lease_ttl=messages.duration(terms.ttl_s),
                    lost=[ref for ref in first.open.held if _ref(ref) in lost],
                )
            )
            ends_s = time.monotonic() + self._stream_max_age_s
            while time.monotonic() < ends_s:
                outgoing = await worker.next(min(terms.heartbeat_s, max(ends_s - time.monotonic(), 0.01)))
                for message in _responses(outgoing):
                    yield message
                if outgoing.end or listener.done():
                    return
            raise StreamTooOld
        finally:
            self._dispatcher.close(worker)
            listener.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listener

    async def _listen(self, worker: WorkerStream, requests: AsyncIterator[pb.StreamLeasesRequest]) -> None:
        """Takes what a worker says until it says no more."""
        async for request in requests:
            self._dispatcher.heard(worker)
            match request.WhichOneof("message"):
                case "capacity":
                    worker.places[WorkClass.INTERACTIVE] = request.capacity.interactive
                    worker.places[WorkClass.BULK] = request.capacity.bulk
                    self._dispatcher.wake()
                case "progress":
                    for report in request.progress.tasks:
                        self._note_progress(worker, report)
                case "drain":
                    worker.draining = True
        worker.end()

    def _note_progress(self, worker: WorkerStream, report: pb.TaskProgress) -> None:
        held = worker.held.get(messages.task_id_of(report.lease.task))
        if held is not None and held.ref == _ref(report.lease):
            moved = Moved(report.transferred_bytes, report.files_done)
            said = report.measure_time.ToMilliseconds() if report.HasField("measure_time") else None
            measured_ms = int(time.time() * 1000) if said is None else said
            self._progress.moved(held.task.job_id, held.task.task_id, moved, measured_ms)

    async def SettleLeases(self, request: pb.SettleLeasesRequest, context: Any) -> pb.SettleLeasesResponse:
        """Takes results."""
        peer = current_caller().peer
        words = [
            _settlement(item, self._dispatcher.worker_of(_ref(item.lease)) or peer.subject, peer.thumbprint)
            for item in request.settlements
        ]
        landed = [
            self._dispatcher.landing(
                (word.task_id, word.fence), Moved(word.bytes_done, word.files_done), peer.thumbprint
            )
            for word in words
        ]
        answers, jobs, counted = await self._database.write(
            settlements.settle, words, self._policy, self._dispatcher.replica_id, landed
        )
        # Only what counted now: a word that was refused may be anybody's, and a repeated one may be old.
        for word, answer in zip(words, answers, strict=True):
            if answer:
                self._dispatcher.settled((word.task_id, word.fence))
        await self._dispatcher.open_phases(jobs)
        self._dispatcher.changed(jobs)
        signed_out = [
            (word.task_id, word.sign_in_site)
            for word in words
            if word.signed_out and word.sign_in_site and (word.task_id, word.fence) in counted
        ]
        if signed_out:
            self._ask(await self._database.read(sign_ins.doubted, signed_out))
        return pb.SettleLeasesResponse(
            answers=[
                pb.SettlementAnswer(
                    lease=item.lease,
                    status=pb.SETTLEMENT_STATUS_ACCEPTED if counted else pb.SETTLEMENT_STATUS_STALE,
                )
                for item, counted in zip(request.settlements, answers, strict=True)
            ]
        )

    async def ReportEntries(
        self, request_iterator: AsyncIterator[pb.ReportEntriesRequest], context: Any
    ) -> pb.ReportEntriesResponse:
        """Takes what a walk or a listing found; each batch is durable before the next is read."""
        cursor = b""
        thumbprint = current_caller().peer.thumbprint
        async for request in request_iterator:
            found = _found(request, thumbprint)
            job_id = await self._database.write(submission.report, found)
            cursor = found.cursor
            self._dispatcher.changed([job_id])
            self._dispatcher.ready()
        return pb.ReportEntriesResponse(cursor=cursor)


class LeaseKeyServicer(lease_service_pb2_grpc.LeaseKeyServiceServicer):
    """Tells the site service what lease tokens are verified with."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def GetLeaseKeys(self, request: pb.GetLeaseKeysRequest, context: Any) -> pb.GetLeaseKeysResponse:
        """Returns the keys of all replicas."""
        keys = await self._database.read(replicas.published_keys)
        return pb.GetLeaseKeysResponse(
            keys=[
                pb.LeaseKey(kid=key.kid, public_key=key.public_key, expire_time=messages.timestamp(key.expires_ms))
                for key in keys
            ]
        )


def _ref(lease: pb.LeaseRef) -> tuple[int, int]:
    return messages.task_id_of(lease.task), lease.fence


def _responses(outgoing: Outgoing) -> Iterable[pb.StreamLeasesResponse]:
    """Returns the messages for what there is to say, each at most about 1 MiB; an empty one if there is nothing."""
    for ended in _parts([pb.EndedSession(user=user, site=site) for user, site in outgoing.ended_sessions]):
        yield pb.StreamLeasesResponse(ended_sessions=ended)
    for leases in _parts([lease_message(lease) for lease in outgoing.given]):
        yield pb.StreamLeasesResponse(leases=leases)
    for renewed in _parts([_renewed(lease) for lease in outgoing.renewed]):
        yield pb.StreamLeasesResponse(renewed=renewed)
    # After the leases: a lease that is stopped at once is known to its worker by then.
    for cancelled in _parts([_cancelled(stop) for stop in outgoing.stopped]):
        yield pb.StreamLeasesResponse(cancelled=cancelled)
    if outgoing.drain_grace_s is not None:
        yield pb.StreamLeasesResponse(drain_grace=messages.duration(outgoing.drain_grace_s))
    if not outgoing:
        yield pb.StreamLeasesResponse()


def _parts(items: Sequence[_Part]) -> Iterable[Sequence[_Part]]:
    """Cuts messages into lists that fit into one each."""
    part: list[_Part] = []
    size = 0
    for item in items:
        size += item.ByteSize()
        if part and size > _MESSAGE_BYTES:
            yield part
            part, size = [], item.ByteSize()
        part.append(item)
    if part:
        yield part


def _renewed(lease: GivenLease) -> pb.RenewedLease:
    ref = pb.LeaseRef(task=lease.task.name, fence=lease.task.fence)
    return pb.RenewedLease(lease=ref, time_left=messages.duration(lease.time_left_s), lease_token=lease.token)


def _cancelled(stop: StoppedLease) -> pb.CancelledLease:
    return pb.CancelledLease(lease=pb.LeaseRef(task=stop.task.name, fence=stop.task.fence), reason=stop.reason)


def _failed_entry(item: job_service_pb2.EntryFailure) -> FailedEntry:
    path = item.raw_path or item.path.encode("utf-8", "surrogateescape")
    return FailedEntry(item.index, path, item.size_bytes, messages.failure_of(item.failure))


def _settlement(item: pb.Settlement, worker: str, thumbprint: str) -> Settlement:
    task_id, fence = _ref(item.lease)
    return Settlement(
        task_id=task_id,
        fence=fence,
        outcome=Outcome(item.outcome),
        failure=messages.failure_of(item.failure) if item.HasField("failure") else None,
        done=item.done,
        files_done=item.files_done,
        bytes_done=item.bytes_done,
        files_unchanged=item.files_unchanged,
        bytes_unchanged=item.bytes_unchanged,
        data_channel=item.data_channel,
        failures=[_failed_entry(failure) for failure in item.failures],
        results=item.results,
        retry_after_s=messages.seconds(item.retry_after),
        log=item.log,
        worker=worker,
        thumbprint=thumbprint,
        sign_in_site=item.sign_in_site,
        left_behind=item.left_behind,
    )


def _chunk(chunk: pb.EntryChunk) -> Chunk:
    return Chunk(chunk.payload, chunk.entry_count, chunk.total_bytes)


def _found(request: pb.ReportEntriesRequest, thumbprint: str) -> Found:
    task_id, fence = _ref(request.lease)
    directories = None
    if request.chunk_source_directory:
        directories = (request.chunk_source_directory, request.chunk_destination_directory)
    return Found(
        task_id=task_id,
        fence=fence,
        after=request.after,
        cursor=request.cursor,
        thumbprint=thumbprint,
        chunks=[_chunk(chunk) for chunk in request.chunks],
        directories=list(request.directories),
        remove_directory=request.remove_directory,
        failures=[_failed_entry(failure) for failure in request.failures],
        directories_done=request.directories_done,
        chunk_directories=directories,
        skipped=[_failed_entry(entry) for entry in request.skipped],
        files_unchanged=request.files_unchanged,
        bytes_unchanged=request.bytes_unchanged,
        extraneous_chunks=[_chunk(chunk) for chunk in request.extraneous_chunks],
        extraneous_directories=list(request.extraneous_directories),
        inner_directories=request.inner_directories,
        below=request.below,
        entries=_listed(request) if request.entries else b"",  # the last: it leaves nothing else of the message
    )


def _listed(request: pb.ReportEntriesRequest) -> bytes:
    """Returns what is kept of a listing. All else is taken out of the message: a copy of its entries costs more."""
    fields: Sequence[Any] = [field.name for field, _ in request.ListFields()]  # the stubs know them by their literals
    for name in fields:
        if name not in _OF_LISTINGS:
            request.ClearField(name)
    return request.SerializeToString()
