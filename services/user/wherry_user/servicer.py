"""Translates between the contract's messages and the domain, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp
from wherry.user.v1 import user_service_pb2 as pb
from wherry.user.v1 import user_service_pb2_grpc as rpc
from wherry_chassis.errors import FieldProblem, InvalidFields
from wherry_chassis.feed import Batch
from wherry_chassis.identity import Caller, current_caller

from wherry_user import cookies
from wherry_user.accounts import Account, Accounts
from wherry_user.audit import Origin
from wherry_user.clock import Clock
from wherry_user.deletion import AccountDeletion
from wherry_user.errors import FollowerUnclear, RefreshTokenInvalid, SessionNotFound, UserNotFound
from wherry_user.revocations import Follower, Revocation, RevocationFeed, Subject
from wherry_user.sessions import Session, Sessions, TokenPair
from wherry_user.signing import ALGORITHM, KeyRing, StoredKey, base64url

_Context = Any  # grpc.aio.ServicerContext, generic in stubs and not at run time


class UserServicer(rpc.UserServiceServicer):
    """Accounts."""

    def __init__(self, accounts: Accounts, sessions: Sessions, deletion: AccountDeletion) -> None:
        self._accounts = accounts
        self._sessions = sessions
        self._deletion = deletion

    async def CreateUser(self, request: pb.CreateUserRequest, context: _Context) -> pb.CreateUserResponse:
        """Registers an account."""
        await self._accounts.register(request.email, request.password, request.display_name, _origin())
        return pb.CreateUserResponse()

    async def VerifyEmail(self, request: pb.VerifyEmailRequest, context: _Context) -> pb.VerifyEmailResponse:
        """Confirms an address."""
        await self._accounts.verify_email(request.token, _origin())
        return pb.VerifyEmailResponse()

    async def ResendVerification(
        self, request: pb.ResendVerificationRequest, context: _Context
    ) -> pb.ResendVerificationResponse:
        """Mails a further token."""
        self._accounts.request_resend(request.email, _origin())
        return pb.ResendVerificationResponse()

    async def GetUser(self, request: pb.GetUserRequest, context: _Context) -> pb.User:
        """Returns one's account."""
        caller = current_caller()
        account = await self._accounts.get(_own(request.name, caller))
        return _user(account, await self._sessions.previous_sign_in_ms(_session_id(caller)))

    async def DeleteUser(self, request: pb.DeleteUserRequest, context: _Context) -> Empty:
        """Deletes one's account."""
        user_id = _own(request.name, current_caller())
        await self._deletion.delete(user_id, request.password, _origin())
        await _forget_cookies(context)
        return Empty()


class SessionServicer(rpc.SessionServiceServicer):
    """Sign-ins."""

    def __init__(self, sessions: Sessions, clock: Clock) -> None:
        self._sessions = sessions
        self._clock = clock

    async def CreateSession(self, request: pb.CreateSessionRequest, context: _Context) -> pb.CreateSessionResponse:
        """Signs in."""
        as_cookies = _wants_cookies(request.token_delivery)
        account, session, pair = await self._sessions.sign_in(request.email, request.password, _origin())
        tokens = await self._delivered(pair, context, as_cookies=as_cookies)
        return pb.CreateSessionResponse(tokens=tokens, user=_user(account, session.previous_sign_in_ms))

    async def RefreshSession(self, request: pb.RefreshSessionRequest, context: _Context) -> pb.RefreshSessionResponse:
        """Trades a refresh token."""
        as_cookies = _wants_cookies(request.token_delivery)
        pair = await self._sessions.refresh(_refresh_token(request, context, from_cookie=as_cookies), _origin())
        return pb.RefreshSessionResponse(tokens=await self._delivered(pair, context, as_cookies=as_cookies))

    async def ListSessions(self, request: pb.ListSessionsRequest, context: _Context) -> pb.ListSessionsResponse:
        """Lists one's live sessions."""
        caller = current_caller()
        sessions = await self._sessions.live(_own(request.parent, caller))
        return pb.ListSessionsResponse(sessions=[_session(session, _session_id(caller)) for session in sessions])

    async def DeleteSession(self, request: pb.DeleteSessionRequest, context: _Context) -> Empty:
        """Ends one of one's sessions."""
        caller = current_caller()
        parent, _, named = request.name.partition("/sessions/")
        try:
            user_id = _own(parent, caller)
        except UserNotFound as error:
            raise SessionNotFound from error
        current = _session_id(caller)
        session_id = current if named == "current" else named
        await self._sessions.end(user_id, session_id, _origin())
        if session_id == current:
            await _forget_cookies(context)
        return Empty()

    async def _delivered(self, pair: TokenPair, context: _Context, *, as_cookies: bool) -> pb.Tokens:
        if not as_cookies:
            return _tokens(pair)
        await _set_cookies(context, cookies.issued(pair, self._clock()))
        return _expire_times(pair)


class KeyServicer(rpc.KeyServiceServicer):
    """Public keys."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    async def GetJwks(self, request: pb.GetJwksRequest, context: _Context) -> pb.GetJwksResponse:
        """Returns the keys that access tokens alive may be signed by."""
        return pb.GetJwksResponse(keys=[_json_web_key(key) for key in self._ring.published()])


class RevocationServicer(rpc.RevocationServiceServicer):
    """What has ended."""

    def __init__(self, feed: RevocationFeed) -> None:
        self._feed = feed

    async def WatchRevocations(
        self, request: pb.WatchRevocationsRequest, context: _Context
    ) -> AsyncIterator[pb.WatchRevocationsResponse]:
        """Streams revocations."""
        async for batch in self._feed.watch(request.cursor):
            yield _batch(batch)

    async def ConfirmRevocations(self, request: pb.ConfirmRevocationsRequest, context: _Context) -> Empty:
        """Notes how far a follower has done its part."""
        await self._feed.confirm(_follower(current_caller()), request.cursor)
        return Empty()


def _origin() -> Origin:
    caller = current_caller()
    return Origin(_host(caller.address), caller.peer.subject)


def _host(address: str) -> str:
    """Returns the host of a gRPC peer, as `ipv4:192.0.2.1:5000` or `ipv6:[2001:db8::1]:5000` (escaped: `%5B`)."""
    kind, _, rest = address.replace("%5B", "[").replace("%5D", "]").partition(":")
    if kind not in {"ipv4", "ipv6"}:
        return address
    return rest.rpartition(":")[0].strip("[]")


def _through_gateway() -> bool:
    return "gateway" in current_caller().peer.roles


def _gateway_header(context: _Context, name: str) -> str:
    """Returns a header that only the gateway can have made; empty where it is not there once, or from anybody else."""
    if not _through_gateway():
        return ""
    values = [value for key, value in context.invocation_metadata() or () if key == name]
    return str(values[0]) if len(values) == 1 else ""


def _wants_cookies(delivery: pb.TokenDelivery.ValueType) -> bool:
    if delivery != pb.TOKEN_DELIVERY_COOKIES:
        return False
    if not _through_gateway():
        raise InvalidFields(FieldProblem("token_delivery", "cookies are for browsers; leave it unset here"))
    return True


def _refresh_token(request: pb.RefreshSessionRequest, context: _Context, *, from_cookie: bool) -> str:
    """Returns the refresh token from where it has to be.

    The cookie's token is never traded for one in the answer, or a script in a page could get at it.
    """
    if from_cookie:
        if request.refresh_token:
            raise InvalidFields(FieldProblem("refresh_token", "leave it empty, it comes in its cookie"))
        if token := _gateway_header(context, cookies.REFRESH_HEADER):
            return token
        raise RefreshTokenInvalid
    if not request.refresh_token:
        raise InvalidFields(FieldProblem("refresh_token", "the refresh token of the last answer is wanted"))
    return request.refresh_token


async def _set_cookies(context: _Context, values: Sequence[str]) -> None:
    await context.send_initial_metadata(tuple(("set-cookie", value) for value in values))


async def _forget_cookies(context: _Context) -> None:
    """Has a browser forget its cookies, where the call came with them."""
    if _gateway_header(context, cookies.BROWSER_HEADER) == "1":
        await _set_cookies(context, cookies.withdrawn())


def _follower(caller: Caller) -> Follower:
    """Returns which follower calls; one that could be either must not speak for both."""
    followers = [follower for follower in Follower if follower.value in caller.peer.roles]
    if len(followers) != 1:
        raise FollowerUnclear
    return followers[0]


def _own(name: str, caller: Caller) -> str:
    """Returns the caller's user id, if it is what `users/me` or `users/{user}` names."""
    if name not in {"users/me", caller.user_name}:
        raise UserNotFound
    return caller.user_name.removeprefix("users/")


def _session_id(caller: Caller) -> str:
    if caller.user is None:
        raise LookupError("the access table let a call without a user through to code that needs one")
    return caller.user.session_id


def _time(milliseconds: int | None) -> Timestamp | None:
    if milliseconds is None:
        return None
    time = Timestamp()
    time.FromMilliseconds(milliseconds)
    return time


def _user(account: Account, previous_sign_in_ms: int | None) -> pb.User:
    return pb.User(
        name=f"users/{account.id}",
        email=account.email,
        display_name=account.display_name,
        create_time=_time(account.created_ms),
        last_sign_in_time=_time(previous_sign_in_ms),
    )


def _session(session: Session, current: str) -> pb.Session:
    return pb.Session(
        name=f"users/{session.user_id}/sessions/{session.id}",
        create_time=_time(session.created_ms),
        expire_time=_time(session.expires_ms),
        current=session.id == current,
    )


def _tokens(pair: TokenPair) -> pb.Tokens:
    return pb.Tokens(
        access_token=pair.access,
        access_expire_time=_time(pair.access_expires_ms),
        refresh_token=pair.refresh,
        refresh_expire_time=_time(pair.refresh_expires_ms),
    )


def _expire_times(pair: TokenPair) -> pb.Tokens:
    return pb.Tokens(
        access_expire_time=_time(pair.access_expires_ms), refresh_expire_time=_time(pair.refresh_expires_ms)
    )


def _json_web_key(key: StoredKey) -> pb.JsonWebKey:
    return pb.JsonWebKey(kty="OKP", crv="Ed25519", x=base64url(key.public), kid=key.kid, use="sig", alg=ALGORITHM)


def _batch(batch: Batch[Revocation]) -> pb.WatchRevocationsResponse:
    return pb.WatchRevocationsResponse(revocations=[_revocation(r) for r in batch.items], cursor=batch.cursor)


def _revocation(revocation: Revocation) -> pb.Revocation:
    message = pb.Revocation(cursor=revocation.cursor, expire_time=_time(revocation.expires_ms))
    if revocation.kind is Subject.SESSION:
        message.session_id = revocation.subject
    else:
        message.user = f"users/{revocation.subject}"
    return message
