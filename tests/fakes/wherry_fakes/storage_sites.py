"""A site service in memory: sites, doors, sign-ins."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import grpc
from google.protobuf import empty_pb2
from wherry.site.v1 import site_service_pb2 as messages
from wherry.site.v1 import site_service_pb2_grpc
from wherry_chassis.errors import FieldProblem
from wherry_fakes.answering import refuse, timestamp
from wherry_fakes.people import People

MAX_LIFETIME_S = 72 * 3600


@dataclass
class Sites:
    """The fake's state. `passwords` holds the accounts at sites, by (site, user name)."""

    people: People
    sites: dict[str, messages.Site] = field(default_factory=dict)
    passwords: dict[tuple[str, str], str] = field(default_factory=dict)
    sessions: dict[tuple[str, str], messages.SiteSession] = field(default_factory=dict)

    def add(self, site: str, *, title: str = "", accounts: dict[str, str] | None = None) -> None:
        """Adds a public site with accounts (name to password)."""
        self.sites[f"sites/{site}"] = messages.Site(
            name=f"sites/{site}",
            title=title or site,
            public=True,
            auth_kind=messages.AUTH_KIND_MYPROXY,
            auth_address=f"{site}.example.org:7512",
            endpoints=[
                messages.Endpoint(
                    name=f"sites/{site}/endpoints/1",
                    scheme="gsiftp",
                    host=f"{site}.example.org",
                    port=2811,
                    root_path="/",
                )
            ],
            etag="1",
        )
        for name, password in (accounts or {}).items():
            self.passwords[f"sites/{site}", name] = password

    def sign_in(self, user: str, site: str, *, lifetime_s: float = 3600) -> messages.SiteSession:
        """Makes a sign-in."""
        session = messages.SiteSession(
            name=f"{user}/siteSessions/{site}",
            site=f"sites/{site}",
            username="alice",
            subject="/O=SITE/OU=Users/CN=alice",
            create_time=timestamp(time.time()),
            expire_time=timestamp(time.time() + min(lifetime_s, MAX_LIFETIME_S)),
            lifetime_shortened=lifetime_s > MAX_LIFETIME_S,
        )
        self.sessions[user, f"sites/{site}"] = session
        return session


class FakeSiteService(site_service_pb2_grpc.SiteServiceServicer):
    """Sites and doors."""

    def __init__(self, state: Sites) -> None:
        self._state = state

    def ListSites(
        self, request: messages.ListSitesRequest, context: grpc.ServicerContext
    ) -> messages.ListSitesResponse:
        self._state.people.caller(context)
        names = sorted(self._state.sites)
        first = int(request.page_token or "0")
        page = names[first : first + 1]  # small pages, so that every caller has to turn them
        following = str(first + 1) if first + 1 < len(names) else ""
        return messages.ListSitesResponse(sites=[self._state.sites[name] for name in page], next_page_token=following)

    def GetSite(self, request: messages.GetSiteRequest, context: grpc.ServicerContext) -> messages.Site:
        self._state.people.caller(context)
        return self._site(request.name, context)

    def CreateSite(self, request: messages.CreateSiteRequest, context: grpc.ServicerContext) -> messages.Site:
        caller = self._state.people.caller(context)
        name = f"sites/{request.site_id}"
        if name in self._state.sites:
            refuse(context, grpc.StatusCode.ALREADY_EXISTS, "SITE_EXISTS", "The id is taken.")
        if ":" not in request.site.auth_address:
            problem = FieldProblem("site.auth_address", "must be host:port")
            refuse(context, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS", fields=(problem,))
        made = messages.Site()
        made.CopyFrom(request.site)
        made.name, made.owner, made.etag = name, caller.user, "1"
        for number, endpoint in enumerate(made.endpoints, start=1):
            endpoint.name = f"{name}/endpoints/{number}"
        self._state.sites[name] = made
        return made

    def UpdateSite(self, request: messages.UpdateSiteRequest, context: grpc.ServicerContext) -> messages.Site:
        self._state.people.caller(context)
        site = self._site(request.site.name, context)
        if request.site.etag and request.site.etag != site.etag:
            refuse(context, grpc.StatusCode.ABORTED, "ETAG_MISMATCH", "It has changed.")
        request.update_mask.MergeMessage(request.site, site, True, True)
        site.etag = str(int(site.etag) + 1)
        return site

    def DeleteSite(self, request: messages.DeleteSiteRequest, context: grpc.ServicerContext) -> empty_pb2.Empty:
        self._state.people.caller(context)
        self._site(request.name, context)
        del self._state.sites[request.name]
        return empty_pb2.Empty()

    def CreateEndpoint(
        self, request: messages.CreateEndpointRequest, context: grpc.ServicerContext
    ) -> messages.Endpoint:
        self._state.people.caller(context)
        site = self._site(request.parent, context)
        added = site.endpoints.add()
        added.CopyFrom(request.endpoint)
        added.name = f"{site.name}/endpoints/{len(site.endpoints)}"
        return added

    def UpdateEndpoint(
        self, request: messages.UpdateEndpointRequest, context: grpc.ServicerContext
    ) -> messages.Endpoint:
        refuse(context, grpc.StatusCode.NOT_FOUND, "ENDPOINT_NOT_FOUND")

    def DeleteEndpoint(self, request: messages.DeleteEndpointRequest, context: grpc.ServicerContext) -> empty_pb2.Empty:
        self._state.people.caller(context)
        site = self._site(request.name.partition("/endpoints/")[0], context)
        kept = [endpoint for endpoint in site.endpoints if endpoint.name != request.name]
        del site.endpoints[:]
        site.endpoints.extend(kept)
        return empty_pb2.Empty()

    def _site(self, name: str, context: grpc.ServicerContext) -> messages.Site:
        if name not in self._state.sites:
            refuse(context, grpc.StatusCode.NOT_FOUND, "SITE_NOT_FOUND", f"There is no {name}.")
        return self._state.sites[name]


class FakeSiteSessionService(site_service_pb2_grpc.SiteSessionServiceServicer):
    """Sign-ins at sites."""

    def __init__(self, state: Sites) -> None:
        self._state = state

    def CreateSiteSession(
        self, request: messages.CreateSiteSessionRequest, context: grpc.ServicerContext
    ) -> messages.SiteSession:
        caller = self._state.people.caller(context)
        if request.site not in self._state.sites:
            refuse(context, grpc.StatusCode.NOT_FOUND, "SITE_NOT_FOUND", f"There is no {request.site}.")
        if self._state.passwords.get((request.site, request.username)) != request.password:
            refuse(context, grpc.StatusCode.FAILED_PRECONDITION, "SITE_SIGN_IN_REFUSED")
        lifetime_s = request.lifetime.seconds if request.HasField("lifetime") else 12 * 3600
        session = self._state.sign_in(caller.user, request.site.removeprefix("sites/"), lifetime_s=lifetime_s)
        session.username = request.username
        return session

    def ListSiteSessions(
        self, request: messages.ListSiteSessionsRequest, context: grpc.ServicerContext
    ) -> messages.ListSiteSessionsResponse:
        caller = self._state.people.caller(context)
        found = [session for (user, _), session in sorted(self._state.sessions.items()) if user == caller.user]
        return messages.ListSiteSessionsResponse(site_sessions=found)

    def GetSiteSession(
        self, request: messages.GetSiteSessionRequest, context: grpc.ServicerContext
    ) -> messages.SiteSession:
        return self._state.sessions[self._key(request.name, context)]

    def DeleteSiteSession(
        self, request: messages.DeleteSiteSessionRequest, context: grpc.ServicerContext
    ) -> empty_pb2.Empty:
        del self._state.sessions[self._key(request.name, context)]
        return empty_pb2.Empty()

    def _key(self, name: str, context: grpc.ServicerContext) -> tuple[str, str]:
        caller = self._state.people.caller(context)
        key = (caller.user, f"sites/{name.rpartition('/')[2]}")
        if key not in self._state.sessions:
            refuse(context, grpc.StatusCode.NOT_FOUND, "SITE_SESSION_NOT_FOUND", "You are not signed in there.")
        return key
