"""The queue and the site service as a worker meets them over the network, answering as a script says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
from google.rpc import error_details_pb2
from wherry.queue.v1 import lease_service_pb2 as pb
from wherry.queue.v1 import lease_service_pb2_grpc
from wherry.site.v1 import site_service_pb2 as site_pb
from wherry.site.v1 import site_service_pb2_grpc
from wherry_chassis.status import DOMAIN, make_status


class ScriptedServices(lease_service_pb2_grpc.LeaseServiceServicer, site_service_pb2_grpc.CredentialServiceServicer):
    """Answers as the test says and keeps what it was sent."""

    def __init__(self) -> None:
        self.said: list[pb.StreamLeasesRequest] = []
        self.down: list[pb.StreamLeasesResponse] = []
        self.settled: list[pb.SettleLeasesRequest] = []
        self.reported: list[pb.ReportEntriesRequest] = []
        self.asked: list[site_pb.FetchCredentialsRequest] = []
        self.credentials = site_pb.FetchCredentialsResponse()
        self.refusals: list[tuple[grpc.StatusCode, str, dict[str, str]]] = []

    async def _refuse(self, context: Any) -> None:
        if self.refusals:
            code, reason, metadata = self.refusals.pop(0)
            info = error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)
            await context.abort_with_status(make_status(code, "refused", [info]))

    async def StreamLeases(self, request_iterator: Any, context: Any) -> AsyncIterator[pb.StreamLeasesResponse]:
        self.said.append(await anext(aiter(request_iterator)))
        await self._refuse(context)
        for message in self.down:
            yield message
        async for request in request_iterator:
            self.said.append(request)

    async def SettleLeases(self, request: pb.SettleLeasesRequest, context: Any) -> pb.SettleLeasesResponse:
        await self._refuse(context)
        self.settled.append(request)
        answers = [
            pb.SettlementAnswer(lease=item.lease, status=pb.SETTLEMENT_STATUS_ACCEPTED) for item in request.settlements
        ]
        return pb.SettleLeasesResponse(answers=answers)

    async def ReportEntries(self, request_iterator: Any, context: Any) -> pb.ReportEntriesResponse:
        async for request in request_iterator:
            self.reported.append(request)
            await self._refuse(context)
        return pb.ReportEntriesResponse(cursor=self.reported[-1].cursor)

    async def FetchCredentials(self, request: Any, context: Any) -> site_pb.FetchCredentialsResponse:
        self.asked.append(request)
        await self._refuse(context)
        return self.credentials
