"""Keys and revocations as they come from the user service's contract, over real connections that break."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp
from wherry.user.v1 import user_service_pb2 as pb
from wherry.user.v1 import user_service_pb2_grpc as stubs
from wherry_chassis import deletions as deletions_module
from wherry_chassis import tokens as tokens_module
from wherry_chassis.access import build_table
from wherry_chassis.buildout import Access
from wherry_chassis.errors import KeysUnavailable, TokenInvalid
from wherry_chassis.identity import UserClaims
from wherry_chassis.interceptors import chain
from wherry_chassis.revocations import Revocations, follow
from wherry_chassis.server import Service, running
from wherry_chassis.sql import Database
from wherry_chassis.tls import ServiceChannels
from wherry_chassis.tokens import RemoteKeys, TokenVerifier
from wherry_testing.access_tokens import AUDIENCE, ISSUER, TokenMaker
from wherry_testing.pki import TestPki
from wherry_testing.waiting import PATIENCE_S

_DEADLINE_S = PATIENCE_S


class _Users(stubs.KeyServiceServicer, stubs.RevocationServiceServicer):
    """The user service's side of the two contracts."""

    def __init__(self) -> None:
        self.makers: list[TokenMaker] = []
        self.asked = 0
        self.events: list[pb.Revocation] = []
        self.cursors: list[int] = []
        self.confirmed: list[int] = []
        self.restored = False
        self._changed = asyncio.Condition()

    async def GetJwks(self, request: pb.GetJwksRequest, context: Any) -> pb.GetJwksResponse:  # noqa: N802  # the contract's name
        self.asked += 1
        return pb.GetJwksResponse(keys=[_jwk(maker) for maker in self.makers])

    async def WatchRevocations(  # noqa: N802  # as above
        self, request: pb.WatchRevocationsRequest, context: Any
    ) -> AsyncIterator[pb.WatchRevocationsResponse]:
        self.cursors.append(request.cursor)
        # As the real one does with a cursor that is not its own: from the beginning.
        sent = 0 if self.restored and request.cursor > len(self.events) else request.cursor
        while True:
            fresh = [event for event in self.events if event.cursor > sent]
            sent = max([sent, *(event.cursor for event in fresh)])
            yield pb.WatchRevocationsResponse(revocations=fresh, cursor=sent)
            async with self._changed:
                while len(self.events) <= sent:
                    await self._changed.wait()

    async def ConfirmRevocations(self, request: pb.ConfirmRevocationsRequest, context: Any) -> Empty:  # noqa: N802  # as above
        self.confirmed.append(request.cursor)
        return Empty()

    async def revoke(self, **subject: Any) -> None:
        until = Timestamp(seconds=int(time.time()) + 600)
        async with self._changed:
            self.events.append(pb.Revocation(cursor=len(self.events) + 1, expire_time=until, **subject))
            self._changed.notify_all()


def _jwk(maker: TokenMaker) -> pb.JsonWebKey:
    point = maker.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    x = jwt.utils.base64url_encode(point).decode()
    return pb.JsonWebKey(kty="OKP", crv="Ed25519", x=x, kid=maker.kid, use="sig", alg="EdDSA")


@contextlib.asynccontextmanager
async def _serving(users: _Users, pki: TestPki, folder: Path, listen: str = "127.0.0.1:0") -> AsyncIterator[str]:
    def register(server: grpc.aio.Server) -> None:
        stubs.add_KeyServiceServicer_to_server(users, server)
        stubs.add_RevocationServiceServicer_to_server(users, server)

    pki.files("queue")
    table = build_table(Access(roles=pki.roles))
    service = Service(
        name="user",
        register=register,
        service_names=["wherry.user.v1.KeyService", "wherry.user.v1.RevocationService"],
        interceptors=chain(table, TokenMaker().verifier()),
        database=Database(f"sqlite:///{folder}/user.db"),
    )
    async with running(service, listen, pki.material("user"), grace_s=0.1) as port:
        yield f"127.0.0.1:{port}"


def _verifier(channels: ServiceChannels) -> TokenVerifier:
    keys = RemoteKeys(channels)
    return TokenVerifier(keys, issuer=ISSUER, audience=AUDIENCE, revocations=Revocations())


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(_DEADLINE_S):
        while not condition():  # noqa: ASYNC110  # what is waited for gives no event
            await asyncio.sleep(0.01)


def _claims(session: str, user: str = "users/alice") -> UserClaims:
    return UserClaims(user, session, 0)


@pytest.mark.row("O6", missing="lease keys")
async def test_a_rotated_key_works_at_once_and_the_old_one_stops_when_it_is_withdrawn(
    pki: TestPki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens_module, "_REFETCH_S", 0.0)
    old, new, users = TokenMaker("old"), TokenMaker("new"), _Users()
    users.makers = [old]
    async with _serving(users, pki, tmp_path) as address:
        channels = ServiceChannels([address], pki.material("queue"))
        verifier = _verifier(channels)
        await verifier.verify(old.token())
        await verifier.verify(old.token())
        assert users.asked == 1
        users.makers = [old, new]
        await verifier.verify(new.token())
        await verifier.verify(old.token())
        users.makers = [new]
        monkeypatch.setattr(tokens_module, "_KEYS_MAX_AGE_S", 0.0)
        with pytest.raises(TokenInvalid):
            await verifier.verify(old.token())
        await verifier.verify(new.token())
        await channels.close()


async def test_invented_key_ids_do_not_make_us_ask_each_time(pki: TestPki, tmp_path: Path) -> None:
    users = _Users()
    users.makers = [TokenMaker("real")]
    async with _serving(users, pki, tmp_path) as address:
        channels = ServiceChannels([address], pki.material("queue"))
        verifier = _verifier(channels)
        for number in range(20):
            with pytest.raises(TokenInvalid):
                await verifier.verify(TokenMaker(f"invented-{number}").token())
        assert users.asked == 1
        await channels.close()


async def test_known_keys_serve_while_the_user_service_is_away_and_it_is_not_asked_for_every_call(
    pki: TestPki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker, users = TokenMaker("known"), _Users()
    users.makers = [maker]
    async with _serving(users, pki, tmp_path) as address:
        channels = ServiceChannels([address], pki.material("queue"))
        verifier = _verifier(channels)
        await verifier.verify(maker.token())
    rotations = 0

    def rotate(_: grpc.aio.Channel) -> None:
        nonlocal rotations
        rotations += 1

    monkeypatch.setattr(channels, "rotate", rotate)
    monkeypatch.setattr(tokens_module, "_KEYS_MAX_AGE_S", 0.0)
    for _ in range(10):
        await verifier.verify(maker.token())
    assert rotations == 1
    with pytest.raises(KeysUnavailable):
        await verifier.verify(TokenMaker("unknown").token())
    await channels.close()


@pytest.mark.row("D15")
async def test_revocations_are_followed_from_the_last_cursor_over_a_restart_of_the_user_service(
    pki: TestPki, tmp_path: Path
) -> None:
    users, revocations = _Users(), Revocations()
    await users.revoke(session_id="before")
    async with contextlib.AsyncExitStack() as stack:
        async with _serving(users, pki, tmp_path) as address:
            channels = ServiceChannels([address], pki.material("queue"))
            following = asyncio.create_task(follow(channels, revocations))
            stack.callback(following.cancel)
            await _until(lambda: revocations.is_revoked(_claims("before")))
            revoked_s = time.monotonic()
            await users.revoke(session_id="live")
            await _until(lambda: revocations.is_revoked(_claims("live")))
            assert time.monotonic() - revoked_s < 5
        await users.revoke(user="users/bob")
        async with _serving(users, pki, tmp_path, address):
            back_s = time.monotonic()
            await _until(lambda: revocations.is_revoked(_claims("any", "users/bob")))
            assert time.monotonic() - back_s < 5
        assert not revocations.is_revoked(_claims("other", "users/carol"))
        assert users.cursors[0] == 0
        assert users.cursors[-1] == 2
        await channels.close()


@pytest.mark.row("U6", missing="export of one's data")
async def test_deletions_are_done_and_confirmed_over_a_restart_of_the_user_service(
    pki: TestPki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deletions_module, "_IN_FLIGHT_S", 0.5)
    users, revocations, done = _Users(), Revocations(), list[str]()

    async def forget(names: Sequence[str]) -> None:
        done.extend(names)

    async with contextlib.AsyncExitStack() as stack:
        async with _serving(users, pki, tmp_path) as address:
            channels = ServiceChannels([address], pki.material("queue"))
            following = asyncio.create_task(follow(channels, revocations, forget))
            stack.callback(following.cancel)
            await users.revoke(session_id="a session")
            await users.revoke(user="users/bob")
            await _until(lambda: done == ["users/bob"])
        assert users.confirmed == []
        async with _serving(users, pki, tmp_path, address):
            await _until(lambda: users.confirmed == [2])
            await users.revoke(user="users/carol")
            await _until(lambda: users.confirmed == [2, 3])
        assert users.cursors[-1] >= 2
        assert done == ["users/bob"] * 2 + ["users/carol"] * 2
        await channels.close()


async def test_a_follower_goes_back_with_a_user_service_that_was_restored_from_a_backup(
    pki: TestPki, tmp_path: Path
) -> None:
    users, revocations = _Users(), Revocations()
    for number in range(3):
        await users.revoke(session_id=f"session-{number}")
    async with contextlib.AsyncExitStack() as stack:
        async with _serving(users, pki, tmp_path) as address:
            channels = ServiceChannels([address], pki.material("queue"))
            following = asyncio.create_task(follow(channels, revocations))
            stack.callback(following.cancel)
            await _until(lambda: revocations.is_revoked(_claims("session-2")))
        users.events = users.events[:1]
        users.restored = True
        for part in ("second", "third"):
            async with _serving(users, pki, tmp_path, address):
                await users.revoke(session_id=part)
                await _until(functools.partial(revocations.is_revoked, _claims(part)))
        assert users.cursors[-2:] == [3, 2]
        await channels.close()


async def test_only_site_and_queue_may_follow_revocations(pki: TestPki, tmp_path: Path) -> None:
    pki.files("worker")
    async with _serving(_Users(), pki, tmp_path) as address, pki.channel("worker", address) as channel:
        stream = stubs.RevocationServiceStub(channel).WatchRevocations(pb.WatchRevocationsRequest())
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
