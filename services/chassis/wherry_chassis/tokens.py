"""Verifies users' access tokens: JWT, Ed25519, issuer and audience checked, revoked sessions refused."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

import grpc
import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from wherry.user.v1 import user_service_pb2, user_service_pb2_grpc

from wherry_chassis.errors import KeysUnavailable, SessionEnded, TokenInvalid
from wherry_chassis.identity import UserClaims
from wherry_chassis.logging import logger
from wherry_chassis.revocations import Revocations
from wherry_chassis.tls import ServiceChannels

ALGORITHM = "EdDSA"
LEEWAY_S = 30
_REFETCH_S = 5.0
"""An unknown key id makes us ask for the keys again, but no more often than this: anybody can invent key ids."""
_KEYS_MAX_AGE_S = 300.0


class KeySource(Protocol):
    """Gives public keys by key id."""

    async def get(self, kid: str) -> Ed25519PublicKey | None:
        """Returns the key; None where there is none of that id."""
        ...


class RemoteKeys:
    """The user service's keys, asked for when an unknown one is met, and again every few minutes."""

    def __init__(self, channels: ServiceChannels) -> None:
        self._channels = channels
        self._keys: dict[str, Ed25519PublicKey] = {}
        self._fetched_s = float("-inf")
        self._failed_s = float("-inf")
        self._lock = asyncio.Lock()

    async def get(self, kid: str) -> Ed25519PublicKey | None:
        """Returns the key; raises KeysUnavailable where it is not known and cannot be asked for."""
        async with self._lock:
            now_s = time.monotonic()
            age_s = now_s - self._fetched_s
            if (kid not in self._keys and age_s > _REFETCH_S) or age_s > _KEYS_MAX_AGE_S:
                if now_s - self._failed_s > _REFETCH_S:
                    await self._fetch()
                # A key that was valid minutes ago serves while the user service is away.
                if kid not in self._keys and self._failed_s >= now_s - _REFETCH_S:
                    raise KeysUnavailable
        return self._keys.get(kid)

    async def _fetch(self) -> None:
        try:
            answer = await self._channels.ask(_published)
        except grpc.aio.AioRpcError as error:
            logger().warning("keys_unavailable", reason=error.code().name)
            self._failed_s = time.monotonic()
            return
        self._keys = {key.kid: _public_key(key.x) for key in answer.keys if key.kty == "OKP" and key.crv == "Ed25519"}
        self._fetched_s, self._failed_s = time.monotonic(), float("-inf")


async def _published(channel: grpc.aio.Channel) -> user_service_pb2.GetJwksResponse:
    return await user_service_pb2_grpc.KeyServiceStub(channel).GetJwks(user_service_pb2.GetJwksRequest(), timeout=5)


def _public_key(x: str) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(jwt.utils.base64url_decode(x))


class TokenVerifier:
    """Turns an access token into claims.

    Args:
        keys: where public keys come from.
        issuer, audience: what the token has to name.
        revocations: which sessions and users have ended.
    """

    def __init__(self, keys: KeySource, *, issuer: str, audience: str, revocations: Revocations) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self.revocations = revocations

    async def verify(self, token: str) -> UserClaims:
        """Returns the claims of a valid token.

        Raises:
            TokenInvalid: malformed, badly signed, expired, or for somebody else.
            SessionEnded: its session or user is revoked.
            KeysUnavailable: the user service cannot be asked for a key that is not known yet.
        """
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            key = await self._keys.get(kid) if isinstance(kid, str) else None
            if key is None:
                raise TokenInvalid
            claims = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY_S,
                options={"require": ["exp", "iss", "aud", "sub", "sid"]},
            )
        except jwt.InvalidTokenError as error:
            raise TokenInvalid from error
        if not claims["sub"] or not isinstance(claims["sid"], str) or not claims["sid"]:
            raise TokenInvalid
        found = UserClaims(user=f"users/{claims['sub']}", session_id=claims["sid"], expires_s=int(claims["exp"]))
        if self.revocations.is_revoked(found):
            raise SessionEnded
        return found
