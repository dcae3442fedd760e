"""Lease tokens: what opens a user's credentials to one worker for one task until one moment.

A JWT (RFC 7519) signed with Ed25519, bound to the worker's certificate as RFC 8705 binds access tokens: `cnf` holds the
SHA-256 thumbprint, here in hexadecimal.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ISSUER = "wherry-queue"
AUDIENCE = "wherry-site"


class LeaseTokenSigner:
    """Signs with a key of its own that never leaves the process; its public half has to be published first."""

    def __init__(self) -> None:
        self._key = Ed25519PrivateKey.generate()
        self.kid = secrets.token_hex(8)

    @property
    def public_key(self) -> bytes:
        """The public half, 32 bytes."""
        return self._key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def sign(
        self,
        *,
        task: str,
        fence: int,
        user: str,
        sites: Sequence[str],
        paths: Sequence[str],
        operation: str,
        thumbprint: str,
        now_s: float,
        ttl_s: float,
    ) -> str:
        """Returns a token for a lease.

        Args:
            task: the task's resource name.
            sites: source first; one where there is only one.
            paths: the directories that the task works in.
            thumbprint: SHA-256 of the worker's certificate, hexadecimal.
        """
        claims = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "task": task,
            "fence": fence,
            "user": user,
            "sites": list(sites),
            "paths": list(paths),
            "operations": [operation],
            "cnf": {"x5t#S256": thumbprint},
            "iat": int(now_s),
            "exp": int(now_s + ttl_s),
        }
        return jwt.encode(claims, self._key, algorithm="EdDSA", headers={"kid": self.kid})
