"""The site service's directory, as the queue meets it: sites that a user sees and is signed in at, or not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from wherry.site.v1 import site_service_pb2 as pb
from wherry.site.v1 import site_service_pb2_grpc

_LIFE_S = 3600
_HEARTBEAT_S = 5.0


class FakeSiteDirectory(site_service_pb2_grpc.SiteDirectoryServiceServicer):
    """Knows `sites/a` and `sites/b`; everybody is signed in everywhere for an hour, until something else is said.

    Attributes:
        signed_out: pairs of user and site that have no session; changed here alone, nobody is told.
        schemes: the protocols of sites that have other doors than those of GridFTP.
        away: whether nobody gets an answer about sites; sessions are told of all the same.
        asked: how often it was asked to resolve sites.
        ends_s: when the sessions of pairs end, in seconds since the epoch, where it is not in an hour.
        watched: the cursors from which WatchSessions has been asked for.
        changes: what it tells; a test may take some away, as a restored backup would.
    """

    def __init__(self) -> None:
        self.sites = {"sites/a", "sites/b"}
        self.signed_out: set[tuple[str, str]] = set()
        self.away = False
        self.schemes: dict[str, Sequence[str]] = {}
        self.asked = 0
        self.ends_s: dict[tuple[str, str], float] = {}
        self.watched: list[int] = []
        self.changes: list[pb.SessionChange] = []
        self._told = asyncio.Event()

    def sign_out(self, user: str, site: str, *, expired: bool = False) -> None:
        """Ends a session, and tells those who watch."""
        self.signed_out.add((user, site))
        kind = pb.SESSION_CHANGE_KIND_EXPIRED if expired else pb.SESSION_CHANGE_KIND_SIGNED_OUT
        self._tell(user, site, kind, time.time())

    def sign_in(self, user: str, site: str, *, life_s: float = _LIFE_S) -> None:
        """Begins a session, and tells those who watch."""
        renewed = (user, site) not in self.signed_out
        self.signed_out.discard((user, site))
        self.ends_s[user, site] = time.time() + life_s
        kind = pb.SESSION_CHANGE_KIND_RENEWED if renewed else pb.SESSION_CHANGE_KIND_SIGNED_IN
        self._tell(user, site, kind, self.ends_s[user, site])

    def _tell(self, user: str, site: str, kind: pb.SessionChangeKind.ValueType, end_s: float) -> None:
        cursor = self.changes[-1].cursor + 1 if self.changes else 1
        change = pb.SessionChange(cursor=cursor, user=user, site=site, kind=kind, expire_time=_timestamp(end_s))
        self.changes.append(change)
        told, self._told = self._told, asyncio.Event()
        told.set()

    async def ResolveSites(self, request: pb.ResolveSitesRequest, context: Any) -> pb.ResolveSitesResponse:
        """Returns those of the sites that there are."""
        self.asked += 1
        if self.away:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "away")
        answer = pb.ResolveSitesResponse()
        for name in request.sites:
            if name in self.sites:
                site = answer.sites.add(
                    site=name,
                    title=f"Site {name[-1].upper()}",
                    default_path="/home/user",
                    schemes=self.schemes.get(name, ["gsiftp"]),
                )
                pair = (request.user, name)
                if pair not in self.signed_out:
                    end_s = self.ends_s.get(pair, int(time.time()) + _LIFE_S)
                    site.session_expire_time.CopyFrom(_timestamp(end_s))
        return answer

    async def WatchSessions(
        self, request: pb.WatchSessionsRequest, context: Any
    ) -> AsyncIterator[pb.WatchSessionsResponse]:
        """Streams what has been told, then what is."""
        self.watched.append(request.cursor)
        newest = self.changes[-1].cursor if self.changes else 0
        cursor = request.cursor if request.cursor <= newest else 0
        while True:
            told = self._told
            fresh = [change for change in self.changes if change.cursor > cursor]
            cursor = max([cursor, *(change.cursor for change in fresh)])
            yield pb.WatchSessionsResponse(changes=fresh, cursor=cursor)
            try:
                async with asyncio.timeout(_HEARTBEAT_S):
                    await told.wait()
            except TimeoutError:
                pass


def _timestamp(time_s: float) -> Timestamp:
    moment = Timestamp()
    moment.FromMilliseconds(round(time_s * 1000))
    return moment
