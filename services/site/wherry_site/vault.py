"""Envelope encryption of credentials: a stolen database opens none of them.

Each credential is sealed (AES-256-GCM) with a data key of its own, which is wrapped (AES-256-GCM again) by the
key-encryption key that only the site service's process has. Both are bound to user and site as associated data, so a
sealed row that is moved to another user or site does not open. To change the key-encryption key, give the new one on
the first line of its secret and the old one below: new rows are wrapped with the first, old ones still open, and are
wrapped anew with `rewrap`, which touches the data key only.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_KEY_BYTES = 32
_NONCE_BYTES = 12
_PURPOSE_CREDENTIAL = b"wherry-vault-credential-v1"
_PURPOSE_DATA_KEY = b"wherry-vault-data-key-v1"


class VaultLocked(Exception):
    """A sealed credential that does not open: another key-encryption key, another user or site, or damage."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A sealed credential, as the database has it.

    Attributes:
        key_id: which key-encryption key wraps the data key.
        wrapped_key: nonce and wrapped data key.
        ciphertext: nonce and encrypted credential.
    """

    key_id: str
    wrapped_key: bytes
    ciphertext: bytes


@dataclass(frozen=True, slots=True)
class _WrappingKey:
    id: str
    cipher: AESGCM = field(repr=False)


class Vault:
    """Seals and opens credentials.

    Args:
        keys: key-encryption keys, 32 bytes each; the first seals, all open.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) != _KEY_BYTES for key in keys):
            raise ValueError(f"a key-encryption key has {_KEY_BYTES} bytes")
        self._keys = [_WrappingKey(_key_id(key), AESGCM(key)) for key in keys]

    @classmethod
    def from_secret(cls, secret: bytes) -> Vault:
        """Returns the vault of a secret: keys in base64, one a line, the newest first.

        Raises:
            ValueError: it is none; the message does not repeat it.
        """
        try:
            return cls([base64.b64decode(line, validate=True) for line in secret.split()])
        except (binascii.Error, ValueError):
            raise ValueError(f"a key-encryption key is {_KEY_BYTES} bytes in base64, one a line") from None

    @property
    def older_key_ids(self) -> Sequence[str]:
        """Names the keys that open but no longer seal."""
        return [key.id for key in self._keys[1:]]

    def seal(self, credential: bytes, *, user: str, site: str) -> Sealed:
        """Returns `credential` sealed for a user (`users/…`) at a site (`sites/…`)."""
        data_key = os.urandom(_KEY_BYTES)
        ciphertext = _encrypt(AESGCM(data_key), credential, _bound(_PURPOSE_CREDENTIAL, user, site))
        return self._wrap(data_key, ciphertext, user, site)

    def open(self, sealed: Sealed, *, user: str, site: str) -> bytes:
        """Returns the credential.

        Raises:
            VaultLocked: it was sealed with a key that we do not have, for somebody else, or is damaged.
        """
        data_key = self._unwrap(sealed, user, site)
        return _decrypt(AESGCM(data_key), sealed.ciphertext, _bound(_PURPOSE_CREDENTIAL, user, site))

    def opens(self, sealed: Sealed, *, user: str, site: str) -> bool:
        """Tells whether `open` returns the credential."""
        try:
            self.open(sealed, user=user, site=site)
        except VaultLocked:
            return False
        return True

    def rewrap(self, sealed: Sealed, *, user: str, site: str) -> Sealed:
        """Returns the same, its data key wrapped with the newest key; raises VaultLocked as `open` does."""
        return self._wrap(self._unwrap(sealed, user, site), sealed.ciphertext, user, site)

    def _wrap(self, data_key: bytes, ciphertext: bytes, user: str, site: str) -> Sealed:
        newest = self._keys[0]
        wrapped = _encrypt(newest.cipher, data_key, _bound(_PURPOSE_DATA_KEY, user, site))
        return Sealed(newest.id, wrapped, ciphertext)

    def _unwrap(self, sealed: Sealed, user: str, site: str) -> bytes:
        for key in self._keys:
            if key.id == sealed.key_id:
                return _decrypt(key.cipher, sealed.wrapped_key, _bound(_PURPOSE_DATA_KEY, user, site))
        raise VaultLocked(f"no key-encryption key {sealed.key_id}")


def _bound(purpose: bytes, user: str, site: str) -> bytes:
    """Returns the associated data; resource names have no NUL, so two different ones never read the same."""
    return b"\0".join([purpose, user.encode(), site.encode()])


def _encrypt(cipher: AESGCM, plaintext: bytes, associated: bytes) -> bytes:
    # Random nonces: a data key encrypts once, and a wrapping key stays far below the 2^32 that NIST SP 800-38D allows.
    nonce = os.urandom(_NONCE_BYTES)
    return nonce + cipher.encrypt(nonce, plaintext, associated)


def _decrypt(cipher: AESGCM, sealed: bytes, associated: bytes) -> bytes:
    try:
        return cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], associated)
    except (InvalidTag, ValueError):
        raise VaultLocked("the seal is broken") from None


def _key_id(key: bytes) -> str:
    """Names a key without telling anything of use about it: 32 random bytes cannot be found from a hash."""
    return hashlib.sha256(b"wherry-vault-key-id\0" + key).hexdigest()[:16]
