"""Makes users' access tokens, as the user service does and as a forger would."""

from __future__ import annotations

import time
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from wherry_chassis.revocations import Revocations
from wherry_chassis.tokens import ALGORITHM, TokenVerifier

ISSUER = "wherry"
AUDIENCE = "wherry"


class TokenMaker:
    """A signing key with an id; also a `KeySource` that knows this one key."""

    def __init__(self, kid: str = "key-1") -> None:
        self.kid = kid
        self.private = Ed25519PrivateKey.generate()

    async def get(self, kid: str) -> Ed25519PublicKey | None:
        """Returns the public key where the id is its own."""
        return self.private.public_key() if kid == self.kid else None

    def token(self, *, headers: dict[str, Any] | None = None, without: str = "", **claims: Any) -> str:
        """Returns a token of user `alice`, session `session-1`, valid for ten minutes.

        Args:
            headers: to add or replace.
            without: a claim to leave out.
            claims: to add or replace.
        """
        return jwt.encode(
            self.claims(without=without, **claims), self.private, ALGORITHM, {"kid": self.kid, **(headers or {})}
        )

    @staticmethod
    def claims(*, without: str = "", **claims: Any) -> dict[str, Any]:
        """Returns the claims of such a token."""
        now_s = int(time.time())
        usual = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "sid": "session-1", "iat": now_s, "exp": now_s + 600}
        return {key: value for key, value in (usual | claims).items() if key != without}

    def verifier(self, revocations: Revocations | None = None) -> TokenVerifier:
        """Returns a verifier that believes this key alone."""
        return TokenVerifier(
            self, issuer=ISSUER, audience=AUDIENCE, revocations=Revocations() if revocations is None else revocations
        )
