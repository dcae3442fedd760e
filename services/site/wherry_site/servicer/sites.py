"""SiteService: messages to the registry and back."""
# What the methods do is said in the contract.
# ruff: noqa: D102

from __future__ import annotations

from typing import Any

from google.protobuf.empty_pb2 import Empty
from wherry.site.v1 import site_service_pb2 as pb
from wherry.site.v1 import site_service_pb2_grpc as pb_grpc
from wherry_chassis.identity import current_caller

from wherry_site import names
from wherry_site.registry import Actor, SiteRegistry
from wherry_site.servicer import messages


class SiteServicer(pb_grpc.SiteServiceServicer):
    """Sites and their doors."""

    def __init__(self, registry: SiteRegistry) -> None:
        self._registry = registry

    async def ListSites(self, request: pb.ListSitesRequest, context: Any) -> pb.ListSitesResponse:
        sites, token = await self._registry.page(actor().user, request.page_size, request.page_token)
        return pb.ListSitesResponse(sites=[messages.site_message(site) for site in sites], next_page_token=token)

    async def GetSite(self, request: pb.GetSiteRequest, context: Any) -> pb.Site:
        return messages.site_message(await self._registry.get(actor().user, names.site_id(request.name)))

    async def CreateSite(self, request: pb.CreateSiteRequest, context: Any) -> pb.Site:
        given = messages.draft_input(request.site)
        return messages.site_message(await self._registry.create(actor(), request.site_id, given))

    async def UpdateSite(self, request: pb.UpdateSiteRequest, context: Any) -> pb.Site:
        site = await self._registry.update(
            actor(),
            names.site_id(request.site.name),
            messages.draft_input(request.site),
            mask=list(request.update_mask.paths),
            filled=messages.filled_fields(request.site),
            etag=request.site.etag,
        )
        return messages.site_message(site)

    async def DeleteSite(self, request: pb.DeleteSiteRequest, context: Any) -> Empty:
        await self._registry.delete(actor(), names.site_id(request.name), request.etag)
        return Empty()

    async def CreateEndpoint(self, request: pb.CreateEndpointRequest, context: Any) -> pb.Endpoint:
        site, door = await self._registry.add_endpoint(
            actor(), names.site_id(request.parent), messages.endpoint(request.endpoint)
        )
        return messages.endpoint_message(site.id, door)

    async def UpdateEndpoint(self, request: pb.UpdateEndpointRequest, context: Any) -> pb.Endpoint:
        site_id, _ = names.endpoint_ids(request.endpoint.name)
        site, door = await self._registry.update_endpoint(
            actor(),
            site_id,
            messages.endpoint(request.endpoint),
            mask=list(request.update_mask.paths),
            filled=messages.filled_fields(request.endpoint),
        )
        return messages.endpoint_message(site.id, door)

    async def DeleteEndpoint(self, request: pb.DeleteEndpointRequest, context: Any) -> Empty:
        await self._registry.delete_endpoint(actor(), *names.endpoint_ids(request.name))
        return Empty()


def actor() -> Actor:
    """Returns who makes the call that is being served."""
    caller = current_caller()
    return Actor(caller.user_name, caller.address)
