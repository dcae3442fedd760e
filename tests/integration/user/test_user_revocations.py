"""Revocation is real: other services, other replicas and later lives of the service refuse what has ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from wherry.user.v1 import user_service_pb2 as pb
from wherry.user.v1 import user_service_pb2_grpc as rpc
from wherry_chassis.buildout import Buildout
from wherry_chassis.errors import DomainError, SessionEnded, TokenInvalid
from wherry_chassis.identity import UserClaims
from wherry_chassis.revocations import Revocations, follow
from wherry_chassis.tls import ServiceChannels
from wherry_chassis.tokens import RemoteKeys, TokenVerifier
from wherry_testing.inbox import Inbox
from wherry_testing.pki import TestPki
from wherry_testing.refusals import reason_of, refused
from wherry_testing.user_service import RunningUsers, bearer, user_buildout, user_service

EMAIL = "alice@example.org"
ME = pb.GetUserRequest(name="users/me")
CURRENT = pb.DeleteSessionRequest(name="users/me/sessions/current")
WITHIN_S = 5.0
"""What the design promises."""


def deployment(folder: Path, pki: TestPki, inbox: Inbox, database: str) -> Buildout:
    mail = {
        "host": "127.0.0.1",
        "port": inbox.port,
        "security": "none",
        "sender": "w@example.org",
    }
    return user_buildout(folder, pki, database, mail)


@contextlib.asynccontextmanager
async def another_services_verifier(pki: TestPki, name: str, address: str) -> AsyncIterator[TokenVerifier]:
    """What the site and the queue service stand on."""
    channels = ServiceChannels([address], pki.material(name))
    revocations = Revocations()
    following = asyncio.create_task(follow(channels, revocations))
    try:
        yield TokenVerifier(RemoteKeys(channels), issuer="wherry", audience="wherry", revocations=revocations)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await channels.close()


async def refused_at_last(verify: Callable[[], Awaitable[object]]) -> None:
    """Waits until a token is refused because its session has ended."""
    async with asyncio.timeout(WITHIN_S):
        while not await session_has_ended(verify):  # noqa: ASYNC110  # it happens in another service
            await asyncio.sleep(0.02)


async def session_has_ended(verify: Callable[[], Awaitable[object]]) -> bool:
    try:
        await verify()
    except SessionEnded:
        return True
    except grpc.aio.AioRpcError as error:
        return reason_of(error) == "SESSION_ENDED"
    return False


@pytest.mark.row("D15")
@pytest.mark.row("U3")
@pytest.mark.parametrize("name", ["site", "queue"])
async def test_other_services_refuse_a_signed_out_session_within_seconds(
    service: RunningUsers, pki: TestPki, name: str
) -> None:
    await service.registered(EMAIL)
    tokens, bystander = await service.signed_in(EMAIL), await service.signed_in(EMAIL)
    async with another_services_verifier(pki, name, service.address) as verifier:
        claims = await verifier.verify(tokens.access_token)
        user = await service.users.GetUser(ME, metadata=bearer(tokens))
        assert claims.user == user.name
        await service.sessions.DeleteSession(CURRENT, metadata=bearer(tokens))
        await refused_at_last(lambda: verifier.verify(tokens.access_token))
        assert isinstance(await verifier.verify(bystander.access_token), UserClaims)


@pytest.mark.row("D15")
async def test_a_follower_that_starts_later_learns_of_what_had_ended_before(
    service: RunningUsers, pki: TestPki
) -> None:
    await service.registered(EMAIL)
    tokens = await service.signed_in(EMAIL)
    await service.sessions.DeleteSession(CURRENT, metadata=bearer(tokens))
    async with another_services_verifier(pki, "site", service.address) as verifier:
        await refused_at_last(lambda: verifier.verify(tokens.access_token))


@pytest.mark.row("D15")
async def test_the_stream_is_replayable_from_a_cursor(service: RunningUsers, pki: TestPki) -> None:
    await service.registered(EMAIL)
    async with pki.channel("queue", service.address) as channel:
        stub: rpc.RevocationServiceAsyncStub = rpc.RevocationServiceStub(channel)
        cursors = []
        for _ in range(3):
            tokens = await service.signed_in(EMAIL)
            await service.sessions.DeleteSession(CURRENT, metadata=bearer(tokens))
        stream = stub.WatchRevocations(pb.WatchRevocationsRequest())
        first = await stream.read()
        assert isinstance(first, pb.WatchRevocationsResponse)
        cursors = [revocation.cursor for revocation in first.revocations]
        assert len(cursors) == 3
        assert cursors == sorted(cursors)
        assert first.cursor == cursors[-1]
        stream.cancel()
        stream = stub.WatchRevocations(pb.WatchRevocationsRequest(cursor=cursors[0]))
        rest = await stream.read()
        assert isinstance(rest, pb.WatchRevocationsResponse)
        assert [revocation.cursor for revocation in rest.revocations] == cursors[1:]
        tokens = await service.signed_in(EMAIL)
        await service.sessions.DeleteSession(CURRENT, metadata=bearer(tokens))
        live = await asyncio.wait_for(stream.read(), WITHIN_S)
        assert isinstance(live, pb.WatchRevocationsResponse)
        assert [revocation.cursor for revocation in live.revocations] == [cursors[-1] + 1]
        stream.cancel()


@pytest.mark.row("D15")
async def test_only_the_site_and_the_queue_service_may_follow(service: RunningUsers, pki: TestPki) -> None:
    for name in ("client", "worker", "gateway"):
        async with pki.channel(name, service.address) as channel:
            stub: rpc.RevocationServiceAsyncStub = rpc.RevocationServiceStub(channel)
            with refused("PERMISSION_DENIED", "ACCESS_DENIED"):
                await stub.WatchRevocations(pb.WatchRevocationsRequest()).read()


@pytest.mark.row("D15")
async def test_another_replica_refuses_a_signed_out_session_within_seconds(
    tmp_path: Path, pki: TestPki, inbox: Inbox, fresh_postgres: Callable[[str | None], str]
) -> None:
    buildout = deployment(tmp_path, pki, inbox, fresh_postgres("wherry_user"))
    async with user_service(buildout, pki, inbox) as one, user_service(buildout, pki, inbox) as two:
        await one.registered(EMAIL)
        tokens = await one.signed_in(EMAIL)
        await two.users.GetUser(ME, metadata=bearer(tokens))
        async with another_services_verifier(pki, "site", two.address) as verifier:
            await verifier.verify(tokens.access_token)
            await one.sessions.DeleteSession(CURRENT, metadata=bearer(tokens))
            await refused_at_last(lambda: two.users.GetUser(ME, metadata=bearer(tokens)))
            await refused_at_last(lambda: verifier.verify(tokens.access_token))


@pytest.mark.row("D15")
async def test_a_restart_forgets_no_sign_out_and_keeps_the_keys(tmp_path: Path, pki: TestPki, inbox: Inbox) -> None:
    buildout = deployment(tmp_path, pki, inbox, "sqlite:///user.db")
    async with user_service(buildout, pki, inbox) as service:
        await service.registered(EMAIL)
        ended, alive = await service.signed_in(EMAIL), await service.signed_in(EMAIL)
        await service.sessions.DeleteSession(CURRENT, metadata=bearer(ended))
        keys = await service.keys.GetJwks(pb.GetJwksRequest())
    async with user_service(buildout, pki, inbox) as service:
        with refused("UNAUTHENTICATED", "SESSION_ENDED"):
            await service.users.GetUser(ME, metadata=bearer(ended))
        await service.users.GetUser(ME, metadata=bearer(alive))
        assert await service.keys.GetJwks(pb.GetJwksRequest()) == keys


@pytest.mark.row("U3")
async def test_tokens_that_are_not_ours_are_refused(service: RunningUsers, pki: TestPki) -> None:
    await service.registered(EMAIL)
    good = (await service.signed_in(EMAIL)).access_token
    header, claims = jwt.get_unverified_header(good), jwt.decode(good, options={"verify_signature": False})
    other_key = Ed25519PrivateKey.generate()
    forged = {
        "signed by another key": jwt.encode(claims, other_key, "EdDSA", headers={"kid": header["kid"]}),
        "of an unknown key": jwt.encode(claims, other_key, "EdDSA", headers={"kid": "made-up"}),
        "alg none": jwt.encode(claims, "", "none", headers={"kid": header["kid"]}),
        "a secret of its own": jwt.encode(claims, "x" * 40, "HS256", headers={"kid": header["kid"]}),
        "cut short": good[:-4],
        "no token": "nonsense",
    }
    async with another_services_verifier(pki, "queue", service.address) as verifier:
        for what, token in forged.items():
            with refused("UNAUTHENTICATED", "TOKEN_INVALID"):
                await service.users.GetUser(ME, metadata=(("authorization", f"Bearer {token}"),))
            with pytest.raises(DomainError) as caught:
                await verifier.verify(token)
            assert isinstance(caught.value, TokenInvalid), what
    with refused("UNAUTHENTICATED", "TOKEN_MISSING"):
        await service.users.GetUser(ME)
