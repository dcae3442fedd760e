"""Access tokens: JWTs signed with Ed25519, and the keys for it.

The keys live in the service's database, so that all replicas sign and verify alike; the private halves are wrapped
with AES-256-GCM under a key that is not in the database. The newest key signs. An older one is still published until
the last token that it may have signed has expired.
"""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import jwt
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from wherry_chassis.errors import DatabaseUnavailable
from wherry_chassis.logging import logger

from wherry_user.clock import Clock, NewId

ALGORITHM = "EdDSA"
_REFRESH_S = 60.0
"""How long a replica may go on signing with a key after another has made a newer one."""
_ASK_AGAIN_MS = 5_000
"""Anybody can invent key ids: the database is asked about unknown ones no more often than this."""
_NONCE_BYTES = 12
_KEY_BYTES = 32


class SealBroken(Exception):
    """A wrapped key cannot be opened: it was wrapped under another key, or has been changed."""


class KeySeal:
    """Wraps private keys, each bound to its id so that rows cannot be exchanged.

    Raises:
        ValueError: the key has not 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != _KEY_BYTES:
            raise ValueError(f"the key has {len(key)} bytes, it needs {_KEY_BYTES}")
        self._aead = AESGCM(key)

    def wrap(self, secret: bytes, kid: str) -> bytes:
        """Returns nonce and ciphertext."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._aead.encrypt(nonce, secret, _bound_to(kid))

    def unwrap(self, wrapped: bytes, kid: str) -> bytes:
        """Returns the secret; raises SealBroken."""
        try:
            return self._aead.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], _bound_to(kid))
        except (InvalidTag, ValueError) as error:
            raise SealBroken(str(SealBroken.__doc__)) from error


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A signing key as it is kept.

    Attributes:
        kid: its id, in the header of what it has signed.
        public: the public point, 32 bytes (RFC 8032).
        wrapped: the private half, wrapped by KeySeal.
    """

    kid: str
    created_ms: int
    public: bytes
    wrapped: bytes = field(repr=False)


class SigningKeyStore(Protocol):
    """Keeps signing keys."""

    async def signing_keys(self) -> Sequence[StoredKey]:
        """Returns all, newest first."""
        ...

    async def add_signing_key(self, key: StoredKey) -> None:
        """Adds one."""
        ...

    async def add_first_signing_key(self, key: StoredKey) -> None:
        """Adds one if there is none at all; of many who try at once, one succeeds."""
        ...


class KeyRing:
    """The deployment's signing keys, read again every minute.

    Args:
        token_life_ms: how long after its making a token may still be accepted, leeway included.
    """

    def __init__(
        self, store: SigningKeyStore, seal: KeySeal, *, token_life_ms: int, clock: Clock, new_id: NewId
    ) -> None:
        self._store = store
        self._seal = seal
        self._retired_after_ms = token_life_ms + int(2 * _REFRESH_S * 1000)
        self._clock = clock
        self._new_id = new_id
        self._keys: Sequence[StoredKey] = ()
        self._signer: tuple[str, Ed25519PrivateKey] | None = None
        self._read_ms = 0

    async def open(self) -> None:
        """Reads the keys, and makes the first if there is none.

        Raises:
            SealBroken: the newest cannot be opened with the key given.
        """
        await self.reload()
        if not self._keys:
            # Another replica may be starting at this moment: with two keys, each would publish its own alone at first,
            # and tokens that one has signed would be refused wherever the other had been asked for keys.
            await self._store.add_first_signing_key(self._new_key())
            await self.reload()

    async def rotate(self) -> None:
        """Makes a new key, which signs from now on."""
        await self._store.add_signing_key(self._new_key())
        await self.reload()

    def _new_key(self) -> StoredKey:
        private, kid = Ed25519PrivateKey.generate(), self._new_id()
        wrapped = self._seal.wrap(private.private_bytes_raw(), kid)
        return StoredKey(kid, self._clock(), private.public_key().public_bytes_raw(), wrapped)

    async def reload(self) -> None:
        """Reads the keys again."""
        keys = await self._store.signing_keys()
        if keys and (self._signer is None or self._signer[0] != keys[0].kid):
            secret = self._seal.unwrap(keys[0].wrapped, keys[0].kid)
            self._signer = (keys[0].kid, Ed25519PrivateKey.from_private_bytes(secret))
        self._keys, self._read_ms = keys, self._clock()

    async def run(self) -> None:
        """Reads the keys again every minute, for ever."""
        while True:
            await asyncio.sleep(_REFRESH_S)
            try:
                await self.reload()
            except (DatabaseUnavailable, SealBroken) as error:
                logger().error("signing_keys_unread", error=type(error).__name__)

    def signer(self) -> tuple[str, Ed25519PrivateKey]:
        """Returns (key id, private key) of the key that signs."""
        if self._signer is None:
            raise LookupError("the key ring has not been opened")
        return self._signer

    def published(self) -> list[StoredKey]:
        """Returns the keys that tokens alive may be signed by, newest first."""
        now_ms = self._clock()
        successors = (None, *self._keys)
        return [
            key
            for key, successor in zip(self._keys, successors, strict=False)
            if successor is None or successor.created_ms + self._retired_after_ms > now_ms
        ]

    async def get(self, kid: str) -> Ed25519PublicKey | None:
        """Returns the public key of an id, as token verifiers ask for it; None where there is none (any more)."""
        if all(key.kid != kid for key in self._keys) and self._clock() >= self._read_ms + _ASK_AGAIN_MS:
            await self.reload()
        for key in self.published():
            if key.kid == kid:
                return Ed25519PublicKey.from_public_bytes(key.public)
        return None


@dataclass(frozen=True, slots=True)
class AccessTokens:
    """Makes access tokens.

    Attributes:
        issuer, audience: what they name.
        ttl_ms: how long they live.
    """

    ring: KeyRing
    issuer: str
    audience: str
    ttl_ms: int

    def sign(self, user_id: str, session_id: str, now_ms: int, expires_ms: int) -> str:
        """Returns a token for a session of a user."""
        kid, key = self.ring.signer()
        claims = {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": user_id,
            "sid": session_id,
            "iat": now_ms // 1000,
            "exp": expires_ms // 1000,
        }
        return jwt.encode(claims, key, algorithm=ALGORITHM, headers={"kid": kid})


def base64url(data: bytes) -> str:
    """Returns base64url without padding, as JSON Web Keys have it (RFC 7515)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _bound_to(kid: str) -> bytes:
    return b"wherry signing key " + kid.encode()
