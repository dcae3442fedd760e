"""The queue over gRPC."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
from wherry.queue.v1 import lease_service_pb2 as pb
from wherry.queue.v1 import lease_service_pb2_grpc as stubs
from wherry_chassis.logging import logger
from wherry_chassis.tls import ServiceChannels

from wherry_worker.grpc_errors import PASSING, error_info
from wherry_worker.ports import (
    LeaseLost,
    LeaseStream,
    QueueUnavailable,
    SettlementRefused,
    StreamEvent,
)
from wherry_worker.reading import event_of
from wherry_worker.telling import found_message, progress_message, ref_message, settlement_message
from wherry_worker.work import Found, LeaseRef, Outcome, Settlement, TaskProgress

#: Work stops so long before its lease's end.
LEASE_MARGIN_S = 3.0
_SETTLE_TIMEOUT_S = 20.0
_REPORT_TIMEOUT_S = 60.0
_REPORT_TRIES_S = 45.0
_REPORT_WAIT_S = 0.5


class QueueClient:
    """Speaks the lease protocol to one replica at a time."""

    def __init__(self, channels: ServiceChannels, worker: str, version: str) -> None:
        self._channels = channels
        self._worker = worker
        self._version = version

    @asynccontextmanager
    async def stream(self, held: Sequence[LeaseRef]) -> AsyncIterator[LeaseStream]:
        """Opens a stream. What breaks it becomes QueueUnavailable; the next one is opened to the next replica."""
        channel = self._channels.get()
        call = _stub(channel).StreamLeases()
        stream = _Stream(call, self)
        try:
            opening = pb.OpenStream(
                worker=self._worker, held=[ref_message(ref) for ref in held[:10000]], version=self._version
            )
            await stream.write(pb.StreamLeasesRequest(open=opening))
            yield stream
        finally:
            call.cancel()
            self._channels.rotate(channel)

    async def settle(self, settlements: Sequence[Settlement]) -> set[LeaseRef]:
        """Settles a batch."""
        request = pb.SettleLeasesRequest(settlements=[settlement_message(item) for item in settlements])
        channel = self._channels.get()
        try:
            answer = await _stub(channel).SettleLeases(request, timeout=_SETTLE_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            if error.code() in PASSING:
                self._channels.rotate(channel)
                raise QueueUnavailable(_brief(error)) from error
            raise SettlementRefused(_brief(error)) from error
        stale = [item.lease.task for item in answer.answers if item.status == pb.SETTLEMENT_STATUS_STALE]
        if stale:
            logger().info("settlements_stale", tasks=stale[:20], count=len(stale))
        return {LeaseRef(item.lease.task, item.lease.fence) for item in answer.answers}

    async def report(self, ref: LeaseRef, batches: Sequence[Found]) -> None:
        """Reports batches; after a break all of them again, as the queue drops what it has."""
        deadline = time.monotonic() + _REPORT_TRIES_S
        while True:
            channel = self._channels.get()
            try:
                await _stub(channel).ReportEntries(
                    (found_message(ref, batch) for batch in batches), timeout=_REPORT_TIMEOUT_S
                )
            except grpc.aio.AioRpcError as error:
                reason, _ = error_info(error)
                if reason == "LEASE_LOST":
                    raise LeaseLost from error
                if error.code() not in PASSING or time.monotonic() > deadline:
                    raise QueueUnavailable(_brief(error)) from error
                self._channels.rotate(channel)
                await asyncio.sleep(_REPORT_WAIT_S)
            else:
                return

    async def refuse(self, refs: Sequence[LeaseRef]) -> None:
        """Gives back what this release does not know how to do."""
        await self.settle([Settlement(ref, Outcome.RETURNED, retry_after_s=30) for ref in refs])


class _Stream:
    """A lease stream."""

    def __init__(self, call: Any, client: QueueClient) -> None:  # the stubs know no type for a bidirectional call
        self._call = call
        self._client = client

    async def write(self, message: pb.StreamLeasesRequest) -> None:
        try:
            await self._call.write(message)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError) as error:
            raise QueueUnavailable(_brief(error)) from error

    async def capacity(self, interactive: int, bulk: int) -> None:
        """Says how many tasks of each class are held at once."""
        capacity = pb.Capacity(interactive=interactive, bulk=bulk)
        await self.write(pb.StreamLeasesRequest(capacity=capacity))

    async def progress(self, tasks: Sequence[TaskProgress]) -> None:
        """Says how far tasks are."""
        report = pb.ProgressReport(tasks=[progress_message(item) for item in tasks])
        await self.write(pb.StreamLeasesRequest(progress=report))

    async def drain(self) -> None:
        """Says that nothing more is wanted."""
        await self.write(pb.StreamLeasesRequest(drain=pb.DrainNotice()))

    async def events(self) -> AsyncIterator[StreamEvent]:
        """Yields what comes down."""
        try:
            while (message := await self._call.read()) is not grpc.aio.EOF:
                event, unknown = event_of(message, LEASE_MARGIN_S)
                if unknown:
                    logger().error("work_unknown", tasks=[ref.task for ref in unknown])
                    await self._client.refuse(unknown)
                yield event
        except grpc.aio.AioRpcError as error:
            raise QueueUnavailable(_brief(error)) from error


def _stub(channel: grpc.aio.Channel) -> Any:
    # The stubs' class for asyncio exists for type checkers only, and lacks what aio adds.
    return stubs.LeaseServiceStub(channel)


def _brief(error: BaseException) -> str:
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    return type(error).__name__
