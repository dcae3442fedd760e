"""The site service's directory, as the queue meets it: sites that a user sees and is signed in at, or not."""

from __future__ import annotations

import time
from typing import Any

from wherry.site.v1 import site_service_pb2 as pb
from wherry.site.v1 import site_service_pb2_grpc


class FakeSiteDirectory(site_service_pb2_grpc.SiteDirectoryServiceServicer):
    """Knows `sites/a` and `sites/b`; everybody is signed in everywhere, until `signed_out` says otherwise."""

    def __init__(self) -> None:
        self.sites = {"sites/a", "sites/b"}
        self.signed_out: set[tuple[str, str]] = set()

    async def ResolveSites(self, request: pb.ResolveSitesRequest, context: Any) -> pb.ResolveSitesResponse:
        """Returns those of the sites that there are."""
        answer = pb.ResolveSitesResponse()
        for name in request.sites:
            if name in self.sites:
                site = answer.sites.add(
                    site=name, title=f"Site {name[-1].upper()}", default_path="/home/user", schemes=["gsiftp"]
                )
                if (request.user, name) not in self.signed_out:
                    site.session_expire_time.FromSeconds(int(time.time()) + 3600)
        return answer
