"""The site service over gRPC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
from wherry.site.v1 import site_service_pb2 as pb
from wherry.site.v1 import site_service_pb2_grpc as stubs
from wherry_chassis.tls import ServiceChannels

from wherry_worker.access import SiteAccess
from wherry_worker.grpc_errors import PASSING, error_info
from wherry_worker.ports import CredentialRefused, SiteSessionExpired, SiteUnavailable
from wherry_worker.reading import access_of

_FETCH_TIMEOUT_S = 15.0


class SiteClient:
    """Fetches credentials, from one replica at a time."""

    def __init__(self, channels: ServiceChannels, *, replicas: int = 1) -> None:
        self._channels = channels
        self._replicas = replicas

    async def fetch(self, token: str, have: Sequence[SiteAccess]) -> list[SiteAccess]:
        """Fetches the credentials of a lease."""
        request = pb.FetchCredentialsRequest(lease_token=token, have=[access.credential_id for access in have])
        channel = self._channels.get()
        try:
            return await _fetch(channel, request, have)
        except grpc.aio.AioRpcError as error:
            if error.code() not in PASSING:
                raise _refusal(error) from error
            if self._replicas <= 1:
                raise SiteUnavailable(error.code().name) from error
            self._channels.rotate(channel)
        try:
            return await _fetch(self._channels.get(), request, have)
        except grpc.aio.AioRpcError as error:
            if error.code() in PASSING:
                raise SiteUnavailable(error.code().name) from error
            raise _refusal(error) from error


async def _fetch(
    channel: grpc.aio.Channel, request: pb.FetchCredentialsRequest, have: Sequence[SiteAccess]
) -> list[SiteAccess]:
    stub: Any = stubs.CredentialServiceStub(channel)
    answer: pb.FetchCredentialsResponse = await stub.FetchCredentials(request, timeout=_FETCH_TIMEOUT_S)
    try:
        return [access_of(item, have) for item in answer.sites]
    except ValueError as error:
        raise CredentialRefused(str(error)) from error


def _refusal(error: grpc.aio.AioRpcError) -> Exception:
    reason, metadata = error_info(error)
    if reason == "SITE_SESSION_EXPIRED":
        return SiteSessionExpired(metadata.get("site", ""))
    return CredentialRefused(reason or error.code().name)
