"""Deleting an account: real services over mTLS, some of them away for a while."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import grpc
import pytest
from wherry.site.v1 import site_service_pb2 as site_pb
from wherry.site.v1 import site_service_pb2_grpc as site_rpc
from wherry.user.v1 import user_service_pb2 as pb
from wherry.user.v1 import user_service_pb2_grpc as rpc
from wherry_chassis import deletions, migrations
from wherry_chassis.buildout import Buildout
from wherry_chassis.errors import DatabaseUnavailable
from wherry_chassis.identity import UserClaims
from wherry_chassis.revocations import Revocations, follow
from wherry_chassis.sql import Database
from wherry_chassis.tls import ServiceChannels
from wherry_fakes.site_sign_in import FakeCa
from wherry_site.audit import Action
from wherry_site.store import Store
from wherry_testing.inbox import Inbox
from wherry_testing.pki import TestPki
from wherry_testing.refusals import reason_of, refused
from wherry_testing.site_service import SiteServiceUnderTest, running_site_service
from wherry_testing.site_store import a_session, an_event
from wherry_testing.user_service import PASSWORD, RunningUsers, bearer, user_buildout, user_service
from wherry_testing.waiting import until
from wherry_user.revocations import Subject
from wherry_user.store import SqlStore

EMAIL, OTHER = "alice@example.org", "bob@example.org"
ME = pb.GetUserRequest(name="users/me")
DELETE = pb.DeleteUserRequest(name="users/me", password=PASSWORD)
WITHIN_S = 5.0
"""What the design promises for sessions that have ended."""
AGES_MS = 4_000_000_000_000
"""A time when all tokens have expired."""
U6 = pytest.mark.row("U6", missing="export of one's data")


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deletions, "_IN_FLIGHT_S", 0.05)


@pytest.fixture(params=["sqlite", "postgresql"])
def buildout(request: pytest.FixtureRequest, tmp_path: Path, pki: TestPki, inbox: Inbox) -> Buildout:
    mail = {"host": "127.0.0.1", "port": inbox.port, "security": "none", "sender": "w@example.org"}
    database = "sqlite:///user.db"
    if request.param == "postgresql":
        fresh: Callable[[str], str] = request.getfixturevalue("fresh_postgres")
        database = fresh("wherry_user")
    return user_buildout(tmp_path / "deployment", pki, database, mail)


@pytest.fixture
async def centre(buildout: Buildout, pki: TestPki, inbox: Inbox) -> AsyncIterator[RunningUsers]:
    """A user service on each database, with Alice and Bob."""
    async with user_service(buildout, pki, inbox) as service:
        for email in (EMAIL, OTHER):
            await service.registered(email)
        yield service


@pytest.fixture
async def outbox(buildout: Buildout) -> AsyncIterator[SqlStore]:
    """The user service's database."""
    database = Database(str(buildout.service.user.database))
    yield SqlStore(database)
    database.close()


async def swept(outbox: SqlStore) -> list[str]:
    """Sweeps as if all tokens had expired; returns the users that are kept all the same."""
    await outbox.sweep(AGES_MS)
    return [one.subject for one in await outbox.revocations_after(0, 100) if one.kind is Subject.USER]


async def name_of(service: RunningUsers, tokens: pb.Tokens) -> str:
    return (await service.users.GetUser(ME, metadata=bearer(tokens))).name


class FollowingService:
    """A service that follows, as the site and the queue service do; what it has done outlives its process."""

    def __init__(self, pki: TestPki, name: str, address: str) -> None:
        self.done: list[str] = []
        self.away = False
        self.revocations = Revocations()
        self._material = pki.material(name)
        self._address = address

    async def forget(self, users: Sequence[str]) -> None:
        if self.away:
            raise DatabaseUnavailable
        self.done += users

    async def refuses(self, user: str) -> None:
        """Waits until it refuses all of a user's tokens."""
        await until(lambda: self.revocations.is_revoked(UserClaims(user, "any session", 0)), WITHIN_S)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        channels = ServiceChannels([self._address], self._material)
        task = asyncio.create_task(follow(channels, self.revocations, self.forget))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await channels.close()


@U6
async def test_with_a_wrong_password_or_somebody_elses_name_nothing_is_deleted(centre: RunningUsers) -> None:
    alice, bob = await centre.signed_in(EMAIL), await centre.signed_in(OTHER)
    hers = await name_of(centre, alice)
    with refused("FAILED_PRECONDITION", "PASSWORD_WRONG"):
        await centre.users.DeleteUser(pb.DeleteUserRequest(name="users/me", password="wrong"), metadata=bearer(alice))
    with refused("NOT_FOUND", "USER_NOT_FOUND"):
        await centre.users.DeleteUser(pb.DeleteUserRequest(name=hers, password=PASSWORD), metadata=bearer(bob))
    with refused("INVALID_ARGUMENT", "INVALID_FIELDS"):
        await centre.users.DeleteUser(pb.DeleteUserRequest(name="users/me"), metadata=bearer(alice))
    with refused("UNAUTHENTICATED", "TOKEN_MISSING"):
        await centre.users.DeleteUser(DELETE)
    assert await name_of(centre, alice) == hers


@U6
async def test_all_sessions_of_a_deleted_account_are_refused_everywhere_within_seconds(
    centre: RunningUsers, pki: TestPki
) -> None:
    first, second, bob = await centre.signed_in(EMAIL), await centre.signed_in(EMAIL), await centre.signed_in(OTHER)
    user = await name_of(centre, first)
    followers = [FollowingService(pki, name, centre.address) for name in ("site", "queue")]
    async with contextlib.AsyncExitStack() as stack:
        for follower in followers:
            await stack.enter_async_context(follower.running())
        await centre.users.DeleteUser(pb.DeleteUserRequest(name=user, password=PASSWORD), metadata=bearer(first))
        for tokens in (first, second):
            with refused("UNAUTHENTICATED", "SESSION_ENDED"):
                await centre.users.GetUser(ME, metadata=bearer(tokens))
            with refused("UNAUTHENTICATED", "REFRESH_TOKEN_INVALID"):
                request = pb.RefreshSessionRequest(refresh_token=tokens.refresh_token)
                await centre.sessions.RefreshSession(request)
        with refused("UNAUTHENTICATED", "SIGN_IN_REFUSED"):
            await centre.signed_in(EMAIL)
        for follower in followers:
            await follower.refuses(user)
    await name_of(centre, bob)


@U6
async def test_the_address_of_a_deleted_account_can_be_registered_again(centre: RunningUsers) -> None:
    tokens = await centre.signed_in(EMAIL)
    before = await name_of(centre, tokens)
    await centre.users.DeleteUser(DELETE, metadata=bearer(tokens))
    await centre.registered(EMAIL)
    after = await centre.signed_in(EMAIL)
    assert await name_of(centre, after) != before


@U6
async def test_the_outbox_keeps_a_deletion_until_both_services_have_done_their_part(
    centre: RunningUsers, pki: TestPki, outbox: SqlStore
) -> None:
    tokens = await centre.signed_in(EMAIL)
    user = await name_of(centre, tokens)
    site, queue = (FollowingService(pki, name, centre.address) for name in ("site", "queue"))
    await centre.users.DeleteUser(DELETE, metadata=bearer(tokens))
    assert await swept(outbox) == [user.removeprefix("users/")]
    queue.away = True
    async with site.running(), queue.running():
        await until(lambda: len(site.done) >= 2)
        assert await swept(outbox) == [user.removeprefix("users/")]
        queue.away = False
        async with asyncio.timeout(20):
            while await swept(outbox):  # noqa: ASYNC110  # it is confirmed in another service
                await asyncio.sleep(0.05)
    assert set(site.done) == set(queue.done) == {user}


@U6
async def test_a_follower_that_was_away_for_ages_catches_up_after_restarts_of_both(
    buildout: Buildout, pki: TestPki, inbox: Inbox, outbox: SqlStore
) -> None:
    users = []
    async with user_service(buildout, pki, inbox) as before:
        site = FollowingService(pki, "site", before.address)
        async with site.running():
            for email in (EMAIL, OTHER):
                await before.registered(email)
                tokens = await before.signed_in(email)
                users.append(await name_of(before, tokens))
                await before.users.DeleteUser(DELETE, metadata=bearer(tokens))
            await until(lambda: len(site.done) >= 4)
    assert await swept(outbox) == [user.removeprefix("users/") for user in users]
    async with user_service(buildout, pki, inbox) as after:
        queue = FollowingService(pki, "queue", after.address)
        queue.away = True
        async with queue.running():
            await queue.refuses(users[1])
        queue.away = False
        assert queue.done == [], "its process ended before anything was done"
        async with queue.running():
            await until(lambda: len(queue.done) >= 4)
        site = FollowingService(pki, "site", after.address)
        async with queue.running(), site.running():
            async with asyncio.timeout(20):
                while await swept(outbox):  # noqa: ASYNC110  # it is confirmed in another service
                    await asyncio.sleep(0.05)
    assert set(queue.done) == set(users)


@U6
@pytest.mark.row("D15")
async def test_only_the_site_and_the_queue_service_may_confirm(
    centre: RunningUsers, pki: TestPki, outbox: SqlStore
) -> None:
    tokens = await centre.signed_in(EMAIL)
    await centre.users.DeleteUser(DELETE, metadata=bearer(tokens))
    request = pb.ConfirmRevocationsRequest(cursor=1)
    for name in ("client", "worker", "gateway", "operator"):
        async with pki.channel(name, centre.address) as channel:
            with refused("PERMISSION_DENIED", "ACCESS_DENIED"):
                await rpc.RevocationServiceStub(channel).ConfirmRevocations(request)
    async with pki.channel("queue", centre.address) as channel:
        stub: rpc.RevocationServiceAsyncStub = rpc.RevocationServiceStub(channel)
        with refused("FAILED_PRECONDITION", "CURSOR_UNKNOWN"):
            await stub.ConfirmRevocations(pb.ConfirmRevocationsRequest(cursor=2))
        await stub.ConfirmRevocations(request)
    assert len(await swept(outbox)) == 1


# -- with a real site service


class SiteCentre:
    """A real site service that follows the real user service, and its database."""

    def __init__(self, pki: TestPki, folder: Path, users: RunningUsers) -> None:
        self._pki, self._folder, self._users = pki, folder, users
        folder.mkdir()
        self._url = f"sqlite:///{folder}/site.db"
        migrations.upgrade(self._url, "wherry_site")

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[SiteServiceUnderTest]:
        running = running_site_service(self._pki, self._url, self._folder, user_service=self._users.address)
        async with running as service:
            yield service

    @contextlib.asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        database = Database(self._url, threads=2)
        yield Store(database)
        database.close()

    async def sign_in(self, user: str, site: str) -> None:
        async with self.store() as store:
            sealed = a_session(site, user=user)
            assert await store.put_session(sealed, an_event(Action.SIGNED_IN, user, f"sites/{site}"))

    async def sessions_of(self, user: str) -> list[str]:
        async with self.store() as store:
            return [session.site_id for session in await store.sessions(user, 0)]


def site_named(title: str) -> site_pb.Site:
    return site_pb.Site(
        title=title,
        public=True,
        auth_kind=site_pb.AUTH_KIND_MYPROXY,
        auth_address="localhost:7512",
        certificate_authorities=[site_pb.CertificateAuthority(certificate_pem=FakeCa(title).pem)],
        endpoints=[site_pb.Endpoint(scheme="gsiftp", host="localhost", port=2811)],
        default_path="/data",
    )


async def add_site(service: SiteServiceUnderTest, tokens: pb.Tokens, site_id: str) -> None:
    async with service.channel("client") as channel:
        stub: site_rpc.SiteServiceAsyncStub = site_rpc.SiteServiceStub(channel)
        request = site_pb.CreateSiteRequest(site_id=site_id, site=site_named(site_id))
        await stub.CreateSite(request, metadata=bearer(tokens))


async def sites_seen(service: SiteServiceUnderTest, tokens: pb.Tokens) -> list[str]:
    async with service.channel("client") as channel:
        stub: site_rpc.SiteServiceAsyncStub = site_rpc.SiteServiceStub(channel)
        answer = await stub.ListSites(site_pb.ListSitesRequest(), metadata=bearer(tokens))
        return [site.name for site in answer.sites]


async def ended_there(service: SiteServiceUnderTest, tokens: pb.Tokens) -> bool:
    try:
        await sites_seen(service, tokens)
    except grpc.aio.AioRpcError as error:
        return reason_of(error) == "SESSION_ENDED"
    return False


@U6
async def test_own_sites_and_everybodys_sessions_there_go_with_the_account(
    centre: RunningUsers, pki: TestPki, tmp_path: Path, outbox: SqlStore
) -> None:
    alice, bob = await centre.signed_in(EMAIL), await centre.signed_in(OTHER)
    users = {email: await name_of(centre, tokens) for email, tokens in ((EMAIL, alice), (OTHER, bob))}
    there = SiteCentre(pki, tmp_path / "site", centre)
    queue = FollowingService(pki, "queue", centre.address)
    async with there.running() as service, queue.running():
        await add_site(service, alice, "hers")
        await add_site(service, bob, "his")
        for user in users.values():
            for site in ("hers", "his"):
                await there.sign_in(user, site)
        await centre.users.DeleteUser(DELETE, metadata=bearer(alice))
        async with asyncio.timeout(WITHIN_S):
            while not await ended_there(service, alice):  # noqa: ASYNC110  # it happens in another service
                await asyncio.sleep(0.02)
        async with asyncio.timeout(20):
            while await swept(outbox):  # noqa: ASYNC110  # as above
                await asyncio.sleep(0.05)
        assert await sites_seen(service, bob) == ["sites/his"]
        assert await there.sessions_of(users[EMAIL]) == []
        assert await there.sessions_of(users[OTHER]) == ["his"]


@U6
async def test_a_site_service_that_was_down_does_its_part_when_it_comes_back(
    centre: RunningUsers, pki: TestPki, tmp_path: Path, outbox: SqlStore
) -> None:
    alice, bob = await centre.signed_in(EMAIL), await centre.signed_in(OTHER)
    there = SiteCentre(pki, tmp_path / "site", centre)
    user = await name_of(centre, alice)
    async with there.running() as service:
        await add_site(service, alice, "hers")
        await there.sign_in(user, "hers")
    queue = FollowingService(pki, "queue", centre.address)
    async with queue.running():
        await centre.users.DeleteUser(DELETE, metadata=bearer(alice))
        await until(lambda: len(queue.done) >= 2)
    assert await there.sessions_of(user) == ["hers"]
    assert len(await swept(outbox)) == 1
    async with there.running() as service, queue.running():
        async with asyncio.timeout(20):
            while await swept(outbox):  # noqa: ASYNC110  # it is confirmed in another service
                await asyncio.sleep(0.05)
        assert await sites_seen(service, bob) == []
    assert await there.sessions_of(user) == []
