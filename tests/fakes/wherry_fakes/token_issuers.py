"""The user service's and the queue's signing keys, as the services that verify tokens meet them."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from google.protobuf import empty_pb2
from wherry.queue.v1 import lease_service_pb2, lease_service_pb2_grpc
from wherry.user.v1 import user_service_pb2, user_service_pb2_grpc


class Signer:
    """An Ed25519 key with its id."""

    def __init__(self, kid: str) -> None:
        self.kid = kid
        self.key = Ed25519PrivateKey.generate()

    @property
    def public(self) -> bytes:
        """The public point, 32 bytes."""
        return self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def sign(self, claims: dict[str, Any], *, kid: str | None = None) -> str:
        """Returns a JWT."""
        return jwt.encode(claims, self.key, algorithm="EdDSA", headers={"kid": kid or self.kid})


class FakeUserKeys(user_service_pb2_grpc.KeyServiceServicer, user_service_pb2_grpc.RevocationServiceServicer):
    """Issues access tokens, gives their key, and tells what is revoked."""

    def __init__(self) -> None:
        self.signer = Signer("user-key")
        self.confirmed: list[int] = []
        """Cursors that followers have confirmed."""
        self._revoked: list[user_service_pb2.Revocation] = []
        self._changed = asyncio.Event()

    def token(self, user: str, *, session: str = "session-1") -> str:
        """Returns an access token of `users/{user}`."""
        now = int(time.time())
        claims = {"iss": "wherry", "aud": "wherry", "sub": user.removeprefix("users/"), "sid": session}
        return self.signer.sign(claims | {"iat": now, "exp": now + 600})

    def revoke(self, session: str) -> None:
        """Ends a session."""
        self._tell(user_service_pb2.Revocation(session_id=session))

    def delete(self, user: str) -> None:
        """Deletes the account of `users/{user}`."""
        self._tell(user_service_pb2.Revocation(user=user))

    def _tell(self, revocation: user_service_pb2.Revocation) -> None:
        revocation.cursor = len(self._revoked) + 1
        revocation.expire_time.FromSeconds(int(time.time()) + 3600)
        self._revoked.append(revocation)
        self._changed.set()

    async def GetJwks(self, request: user_service_pb2.GetJwksRequest, context: Any) -> user_service_pb2.GetJwksResponse:
        x = base64.urlsafe_b64encode(self.signer.public).rstrip(b"=").decode()
        key = user_service_pb2.JsonWebKey(kty="OKP", crv="Ed25519", x=x, kid=self.signer.kid, use="sig", alg="EdDSA")
        return user_service_pb2.GetJwksResponse(keys=[key])

    async def WatchRevocations(
        self, request: user_service_pb2.WatchRevocationsRequest, context: Any
    ) -> AsyncIterator[user_service_pb2.WatchRevocationsResponse]:
        told = request.cursor
        while True:
            news = self._revoked[told:]
            told = len(self._revoked)
            yield user_service_pb2.WatchRevocationsResponse(revocations=news, cursor=told)
            self._changed.clear()
            await self._changed.wait()

    async def ConfirmRevocations(
        self, request: user_service_pb2.ConfirmRevocationsRequest, context: Any
    ) -> empty_pb2.Empty:
        self.confirmed.append(request.cursor)
        return empty_pb2.Empty()


class FakeLeaseKeys(lease_service_pb2_grpc.LeaseKeyServiceServicer):
    """Issues lease tokens as the queue's replicas do, and gives their keys. `asked` counts the questions."""

    def __init__(self, *, life_s: float = 3600) -> None:
        self.signers: list[Signer] = [Signer("lease-key-1")]
        self.life_s = life_s
        self.asked = 0

    def claims(
        self,
        *,
        thumbprint: str,
        user: str,
        sites: Sequence[str],
        task: str = "jobs/j1/tasks/1",
        fence: int = 1,
        ttl_s: float = 30,
    ) -> dict[str, Any]:
        """Returns the claims of a good lease token."""
        now = int(time.time())
        return {
            "iss": "wherry-queue",
            "aud": "wherry-site",
            "task": task,
            "fence": fence,
            "user": user,
            "sites": list(sites),
            "paths": ["/"],
            "operations": ["copy"],
            "cnf": {"x5t#S256": thumbprint},
            "iat": now,
            "exp": now + ttl_s,
        }

    def token(self, **claims: Any) -> str:
        """Returns a lease token of the newest key; see `claims`."""
        return self.signers[-1].sign(self.claims(**claims))

    async def GetLeaseKeys(
        self, request: lease_service_pb2.GetLeaseKeysRequest, context: Any
    ) -> lease_service_pb2.GetLeaseKeysResponse:
        self.asked += 1
        answer = lease_service_pb2.GetLeaseKeysResponse()
        for signer in self.signers:
            key = answer.keys.add(kid=signer.kid, public_key=signer.public)
            key.expire_time.FromMilliseconds(int((time.time() + self.life_s) * 1000))
        return answer
