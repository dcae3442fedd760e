"""The site directory over gRPC."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
from wherry.site.v1 import site_service_pb2, site_service_pb2_grpc
from wherry_chassis.logging import logger
from wherry_chassis.tls import ServiceChannels

from wherry_queue.site_directory import ResolvedSite, SitesUnavailable


class GrpcSiteDirectory:
    """Asks the site service."""

    def __init__(self, channels: ServiceChannels, *, timeout_s: float = 5.0) -> None:
        self._channels = channels
        self._timeout_s = timeout_s

    async def resolve(self, user: str, sites: Sequence[str]) -> dict[str, ResolvedSite]:
        """See `SiteDirectory`."""
        request = site_service_pb2.ResolveSitesRequest(user=user, sites=sites)
        try:
            answer = await self._channels.ask(lambda channel: self._ask(channel, request))
        except grpc.aio.AioRpcError as error:
            logger().warning("sites_not_resolved", code=error.code().name)
            raise SitesUnavailable from error
        return {site.site: _resolved(site) for site in answer.sites}

    async def _ask(
        self, channel: grpc.aio.Channel, request: site_service_pb2.ResolveSitesRequest
    ) -> site_service_pb2.ResolveSitesResponse:
        stub = site_service_pb2_grpc.SiteDirectoryServiceStub(channel)
        return await stub.ResolveSites(request, timeout=self._timeout_s)


def _resolved(site: site_service_pb2.ResolvedSite) -> ResolvedSite:
    expires_s = site.session_expire_time.ToMilliseconds() / 1000 if site.HasField("session_expire_time") else None
    return ResolvedSite(site.site, site.title, site.default_path.encode() or b"/", list(site.schemes), expires_s)
