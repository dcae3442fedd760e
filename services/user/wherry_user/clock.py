"""Time and chance as the domain sees them: handed in, so that tests decide both."""

from __future__ import annotations

import hashlib
import secrets
import time
import uuid
from collections.abc import Callable

Clock = Callable[[], int]
"""Gives milliseconds since the epoch."""

NewId = Callable[[], str]
"""Gives an id that nobody else has: letters, digits and hyphens, at most 36."""

NewSecret = Callable[[], str]
"""Gives a token that nobody can guess: 256 bits, safe in a URL."""


def system_clock() -> int:
    """Returns the machine's time in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def random_id() -> str:
    """Returns a random UUID."""
    return str(uuid.uuid4())


def random_secret() -> str:
    """Returns 32 random bytes in hexadecimal.

    People type some of these behind a command's name, where one that begins with a dash would be an option.
    """
    return secrets.token_hex(32)


def token_hash(token: str) -> str:
    """Returns what is stored of an opaque token: hexadecimal SHA-256.

    No salt and no slow hash, since the token itself is 256 random bits.
    """
    return hashlib.sha256(token.encode()).hexdigest()
