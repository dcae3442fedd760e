"""SiteSessionService and SiteDirectoryService: messages to sign-ins and back."""
# What the methods do is said in the contract.
# ruff: noqa: D102

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from google.protobuf.empty_pb2 import Empty
from wherry.site.v1 import site_service_pb2 as pb
from wherry.site.v1 import site_service_pb2_grpc as pb_grpc

from wherry_site import names
from wherry_site.directory import SiteDirectory
from wherry_site.errors import UserNotFound
from wherry_site.registry import Actor
from wherry_site.servicer import messages
from wherry_site.servicer.sites import actor
from wherry_site.session_changes import SessionChanges
from wherry_site.sessions import SiteSessions
from wherry_site.sign_in import Password


class SiteSessionServicer(pb_grpc.SiteSessionServiceServicer):
    """People's sign-ins."""

    def __init__(self, sessions: SiteSessions) -> None:
        self._sessions = sessions

    async def CreateSiteSession(self, request: pb.CreateSiteSessionRequest, context: Any) -> pb.SiteSession:
        session = await self._sessions.create(
            _actor_of(request.parent),
            names.site_id(request.site),
            request.username,
            Password(request.password),
            int(request.lifetime.ToSeconds()) if request.HasField("lifetime") else None,
        )
        return messages.session_message(session)

    async def ListSiteSessions(self, request: pb.ListSiteSessionsRequest, context: Any) -> pb.ListSiteSessionsResponse:
        sessions = await self._sessions.live(_actor_of(request.parent).user)
        return pb.ListSiteSessionsResponse(site_sessions=[messages.session_message(one) for one in sessions])

    async def GetSiteSession(self, request: pb.GetSiteSessionRequest, context: Any) -> pb.SiteSession:
        user, site_id = names.session_ids(request.name)
        return messages.session_message(await self._sessions.get(_actor_of(user).user, site_id))

    async def DeleteSiteSession(self, request: pb.DeleteSiteSessionRequest, context: Any) -> Empty:
        user, site_id = names.session_ids(request.name)
        await self._sessions.delete(_actor_of(user), site_id)
        return Empty()


class SiteDirectoryServicer(pb_grpc.SiteDirectoryServiceServicer):
    """What the queue asks."""

    def __init__(self, directory: SiteDirectory, changes: SessionChanges) -> None:
        self._directory = directory
        self._changes = changes

    async def ResolveSites(self, request: pb.ResolveSitesRequest, context: Any) -> pb.ResolveSitesResponse:
        resolved = await self._directory.resolve(request.user, list(request.sites))
        return pb.ResolveSitesResponse(sites=[messages.resolved_message(one) for one in resolved])

    async def WatchSessions(
        self, request: pb.WatchSessionsRequest, context: Any
    ) -> AsyncIterator[pb.WatchSessionsResponse]:
        async for batch in self._changes.watch(request.cursor):
            changes = [messages.change_message(change) for change in batch.items]
            yield pb.WatchSessionsResponse(changes=changes, cursor=batch.cursor)


def _actor_of(parent: str) -> Actor:
    """Returns who makes the call, where `parent` is they; raises UserNotFound for anybody else."""
    caller = actor()
    if parent not in {"users/me", caller.user}:
        raise UserNotFound(user=parent)
    return caller
