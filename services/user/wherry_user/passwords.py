"""Passwords: Argon2id, with as much work for an account that does not exist as for one that does."""

from __future__ import annotations

import asyncio
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import argon2
from argon2.exceptions import VerifyMismatchError
from wherry_chassis.errors import FieldProblem, InvalidFields

MIN_LENGTH = 8
MAX_LENGTH = 1024
_THREADS = 2
"""Each hash takes 64 MiB meanwhile: a flood of sign-ins waits in line and does not fill the memory."""


def check_new_password(password: str) -> None:
    """Raises InvalidFields for a password that no account may have."""
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH:
        raise InvalidFields(FieldProblem("password", f"must have {MIN_LENGTH} to {MAX_LENGTH} characters"))


class PasswordHasher(Protocol):
    """Makes and checks password hashes."""

    async def hash(self, password: str) -> str:
        """Returns a salted hash in PHC form."""
        ...

    async def verify(self, stored: str | None, password: str) -> bool:
        """Tells whether the password is the stored one; None is nobody's, and takes as long to refuse."""
        ...

    def is_outdated(self, stored: str) -> bool:
        """Tells whether a hash was made with weaker settings than today's."""
        ...


class Argon2Hasher:
    """Argon2id with the second recommendation of RFC 9106 (64 MiB, 3 passes), unless told otherwise.

    Args:
        hasher: other settings.
    """

    def __init__(self, hasher: argon2.PasswordHasher | None = None) -> None:
        self._argon2 = hasher or argon2.PasswordHasher.from_parameters(argon2.profiles.RFC_9106_LOW_MEMORY)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="argon2")
        # Made at once, and not at the first unknown address, whose answer would then take twice as long.
        self._nobodys = self._argon2.hash("nobody's password")

    async def hash(self, password: str) -> str:
        """Returns a salted hash in PHC form."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._argon2.hash, _bytes(password))

    async def verify(self, stored: str | None, password: str) -> bool:
        """Tells whether the password is the stored one; None is nobody's, and takes as long to refuse."""
        matches = await asyncio.get_running_loop().run_in_executor(
            self._threads, self._matches, stored or self._nobodys, _bytes(password)
        )
        return matches and stored is not None

    def is_outdated(self, stored: str) -> bool:
        """Tells whether a hash was made with other settings than today's."""
        return self._argon2.check_needs_rehash(stored)

    async def close(self) -> None:
        """Ends the threads."""
        self._threads.shutdown(cancel_futures=True)

    def _matches(self, stored: str, password: bytes) -> bool:
        try:
            return self._argon2.verify(stored, password)
        except VerifyMismatchError:
            return False


def _bytes(password: str) -> bytes:
    # The same characters reach us differently composed from different keyboards (NIST SP 800-63B, 5.1.1.2).
    return unicodedata.normalize("NFKC", password).encode()
