"""Sites, their doors, and one's sign-ins at them."""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from wherry.site.v1 import site_service_pb2 as messages

from wherry_client.calls import Caller
from wherry_client.connection import Connection

# Signing in waits for the site's own server.
_SIGN_IN_TIMEOUT_S = 60.0


class Sites:
    """Looks at sites, and changes those that one owns. They are named by id. Every method raises WherryError."""

    def __init__(self, connection: Connection, caller: Caller) -> None:
        self._sites = connection.sites
        self._caller = caller

    def all(self) -> Iterator[messages.Site]:
        """Yields public sites and one's own, by name."""
        token = ""
        while True:
            request = messages.ListSitesRequest(page_size=500, page_token=token)
            answer = self._caller.ask(self._sites.ListSites, request)
            yield from answer.sites
            token = answer.next_page_token
            if not token:
                return

    def get(self, site: str) -> messages.Site:
        """Returns a site with its doors."""
        return self._caller.ask(self._sites.GetSite, messages.GetSiteRequest(name=f"sites/{site}"))

    def create(self, site: str, content: messages.Site) -> messages.Site:
        """Registers a site, doors included."""
        request = messages.CreateSiteRequest(site_id=site, site=content)
        return self._caller.ask(self._sites.CreateSite, request)

    def update(self, content: messages.Site, fields: list[str]) -> messages.Site:
        """Changes the named fields of the site `content.name`; with `content.etag` only if it is as it was read."""
        request = messages.UpdateSiteRequest(site=content, update_mask=FieldMask(paths=fields))
        return self._caller.ask(self._sites.UpdateSite, request)

    def delete(self, site: str) -> None:
        """Deletes a site, its doors, and everybody's sign-ins there."""
        self._caller.ask(self._sites.DeleteSite, messages.DeleteSiteRequest(name=f"sites/{site}"))

    def add_endpoint(self, site: str, endpoint: messages.Endpoint) -> messages.Endpoint:
        """Adds a door."""
        request = messages.CreateEndpointRequest(parent=f"sites/{site}", endpoint=endpoint)
        return self._caller.ask(self._sites.CreateEndpoint, request)

    def remove_endpoint(self, name: str) -> None:
        """Removes the door `sites/{site}/endpoints/{endpoint}`."""
        self._caller.ask(self._sites.DeleteEndpoint, messages.DeleteEndpointRequest(name=name))


class SiteSessions:
    """One's sign-ins at sites, named by their ids. Every method raises WherryError."""

    def __init__(self, connection: Connection, caller: Caller) -> None:
        self._sessions = connection.site_sessions
        self._caller = caller

    def sign_in(self, site: str, username: str, password: str, lifetime_s: int | None = None) -> messages.SiteSession:
        """Signs in; `lifetime_s` None means the service's default of 12 hours."""
        request = messages.CreateSiteSessionRequest(
            parent="users/me",
            site=f"sites/{site}",
            username=username,
            password=password,
            lifetime=None if lifetime_s is None else Duration(seconds=lifetime_s),
        )
        return self._caller.ask(self._sessions.CreateSiteSession, request, _SIGN_IN_TIMEOUT_S)

    def all(self) -> list[messages.SiteSession]:
        """Returns one's live sign-ins, by site."""
        request = messages.ListSiteSessionsRequest(parent="users/me")
        return list(self._caller.ask(self._sessions.ListSiteSessions, request).site_sessions)

    def get(self, site: str) -> messages.SiteSession:
        """Returns one's sign-in at a site; raises NotFoundError where there is none."""
        request = messages.GetSiteSessionRequest(name=f"users/me/siteSessions/{site}")
        return self._caller.ask(self._sessions.GetSiteSession, request)

    def sign_out(self, site: str) -> None:
        """Signs out; the credential is deleted. Raises NotFoundError where there is none."""
        request = messages.DeleteSiteSessionRequest(name=f"users/me/siteSessions/{site}")
        self._caller.ask(self._sessions.DeleteSiteSession, request)
