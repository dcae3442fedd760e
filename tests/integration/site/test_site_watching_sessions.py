"""The queue follows what becomes of people's sign-ins at real sites, over mutual TLS."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import sqlalchemy as sa
from wherry.site.v1 import site_service_pb2 as pb
from wherry.site.v1 import site_service_pb2_grpc as stubs
from wherry_chassis.sql import Database
from wherry_site.models import SessionRow
from wherry_site.store import Store
from wherry_testing.pki import TestPki
from wherry_testing.site_service import SiteServiceUnderTest, running_site_service
from wherry_testing.site_store import a_session, an_event
from wherry_testing.sites import RealSite

TwoSites = tuple[RealSite, RealSite]
S5 = pytest.mark.row("S5", missing="VOMS")
W4 = pytest.mark.row("W4")
WITHIN_S = 5.0
SIGN_OUT = pb.DeleteSiteSessionRequest(name="users/me/siteSessions/site-a")
SIGNED_IN, RENEWED, EXPIRED, SIGNED_OUT = (
    pb.SESSION_CHANGE_KIND_SIGNED_IN,
    pb.SESSION_CHANGE_KIND_RENEWED,
    pb.SESSION_CHANGE_KIND_EXPIRED,
    pb.SESSION_CHANGE_KIND_SIGNED_OUT,
)


class Watching:
    """A stream of changes; the first message has been read."""

    def __init__(self, stream: Any, first: pb.WatchSessionsResponse) -> None:
        self._stream = stream
        self.cursor = first.cursor
        self.seen = list(first.changes)

    async def until(self, number: int) -> list[pb.SessionChange]:
        """Returns all that was seen, as soon as it is so much."""
        async with asyncio.timeout(WITHIN_S):
            while len(self.seen) < number:
                message = await self._stream.read()
                assert message is not grpc.aio.EOF, "the stream has ended"
                self.seen += message.changes
                self.cursor = message.cursor
        return self.seen

    async def ended(self) -> bool:
        """Tells whether the stream ends in good order, with nothing more to say."""
        async with asyncio.timeout(WITHIN_S):
            while (message := await self._stream.read()) is not grpc.aio.EOF:
                assert not message.changes
            return bool(await self._stream.code() is grpc.StatusCode.OK)


@contextlib.asynccontextmanager
async def watching(service: SiteServiceUnderTest, cursor: int = 0) -> AsyncIterator[Watching]:
    async with service.channel("queue") as channel:
        stream = stubs.SiteDirectoryServiceStub(channel).WatchSessions(pb.WatchSessionsRequest(cursor=cursor))
        async with asyncio.timeout(WITHIN_S):
            first = await stream.read()
        assert isinstance(first, pb.WatchSessionsResponse)
        yield Watching(stream, first)
        stream.cancel()


@S5
@W4
async def test_signing_in_again_and_out_is_seen_at_once_and_replayed_from_a_cursor(
    centre: Any, two_sites: TwoSites
) -> None:
    await centre.register(two_sites[0])
    async with watching(centre.service) as stream:
        assert (stream.seen, stream.cursor) == ([], 0)
        first = await centre.sign_in(two_sites[0])
        assert len(await stream.until(1)) == 1
        second = await centre.sign_in(two_sites[0])
        await centre.sessions.DeleteSiteSession(SIGN_OUT, **centre.as_user())
        changes = await stream.until(3)
    assert [change.kind for change in changes] == [SIGNED_IN, RENEWED, SIGNED_OUT]
    assert [change.cursor for change in changes] == [1, 2, 3]
    assert {(change.user, change.site) for change in changes} == {("users/alice", "sites/site-a")}
    assert [change.expire_time for change in changes[:2]] == [first.expire_time, second.expire_time]
    assert abs(changes[2].expire_time.ToMilliseconds() / 1000 - time.time()) < WITHIN_S
    async with watching(centre.service, cursor=1) as again:
        assert again.seen == changes[1:]
        assert again.cursor == 3
    async with watching(centre.service, cursor=3) as again:
        assert again.seen == []


@W4
async def test_the_end_of_a_session_is_told_within_two_seconds_and_its_credential_is_gone(
    centre: Any, two_sites: TwoSites, database_url: str
) -> None:
    await centre.register(two_sites[0])
    database = Database(database_url, threads=2)
    try:
        session = a_session("site-a", life=dt.timedelta(seconds=3))
        await Store(database).put_session(session, an_event())
        end_s = session.session.expire_ms / 1000
        async with watching(centre.service) as stream:
            changes = await stream.until(2)
            assert end_s <= time.time() <= end_s + 2
        assert [change.kind for change in changes] == [SIGNED_IN, EXPIRED]
        assert changes[1].expire_time.ToMilliseconds() == session.session.expire_ms
        left = sa.select(sa.func.count()).select_from(SessionRow)
        assert await database.read(lambda connection: connection.execute(left).scalar_one()) == 0
    finally:
        database.close()


@S5
async def test_deleting_a_site_is_told_as_a_sign_out(centre: Any, two_sites: TwoSites) -> None:
    site = await centre.register(two_sites[0])
    await centre.sign_in(two_sites[0], user="users/bob")
    async with watching(centre.service) as stream:
        await centre.sites.DeleteSite(pb.DeleteSiteRequest(name=site.name), **centre.as_user())
        changes = await stream.until(2)
    assert [(change.user, change.kind) for change in changes] == [("users/bob", SIGNED_IN), ("users/bob", SIGNED_OUT)]


@pytest.mark.row("A1", missing="every role at every RPC")
async def test_nobody_but_the_queue_may_follow(centre: Any) -> None:
    for name in ("client", "worker", "gateway", "user", "operator"):
        async with centre.service.channel(name) as channel:
            stream = stubs.SiteDirectoryServiceStub(channel).WatchSessions(
                pb.WatchSessionsRequest(), metadata=centre.service.as_user("users/alice")
            )
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stream.read()
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED, name


async def test_streams_end_in_good_order_when_the_service_stops(
    pki: TestPki, database_url: str, tmp_path: Path
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with running_site_service(pki, database_url, tmp_path) as service:
            stream = await stack.enter_async_context(watching(service))
        assert await stream.ended()


@S5
@W4
@pytest.mark.row("O1", missing="MariaDB")
async def test_a_sign_in_at_one_replica_is_seen_by_a_follower_of_the_other(
    two_replicas: tuple[Any, Any], two_sites: TwoSites
) -> None:
    one, other = two_replicas
    await one.register(two_sites[0])
    async with watching(one.service) as at_one, watching(other.service) as at_other:
        session = await one.sign_in(two_sites[0])
        begun_s = time.monotonic()
        changes = await at_other.until(1)
        assert time.monotonic() - begun_s < WITHIN_S
        assert (changes[0].kind, changes[0].expire_time) == (SIGNED_IN, session.expire_time)
        await other.sessions.DeleteSiteSession(SIGN_OUT, **other.as_user())
        assert await at_one.until(2) == await at_other.until(2)
