"""CredentialService: messages to the credential desk and back."""
# What the methods do is said in the contract.
# ruff: noqa: D102

from __future__ import annotations

from typing import Any

from wherry.site.v1 import site_service_pb2 as pb
from wherry.site.v1 import site_service_pb2_grpc as pb_grpc
from wherry_chassis.identity import current_caller

from wherry_site.credentials import CredentialDesk
from wherry_site.servicer import messages


class CredentialServicer(pb_grpc.CredentialServiceServicer):
    """Credentials for workers."""

    def __init__(self, desk: CredentialDesk) -> None:
        self._desk = desk

    async def FetchCredentials(self, request: pb.FetchCredentialsRequest, context: Any) -> pb.FetchCredentialsResponse:
        caller = current_caller()
        credentials = await self._desk.fetch(request.lease_token, list(request.have), caller.peer, caller.address)
        return pb.FetchCredentialsResponse(sites=[messages.credential_message(one) for one in credentials])
