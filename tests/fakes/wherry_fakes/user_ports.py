"""Fakes of the user service's other ports: clock, chance, mail, and a quick password hash."""

from __future__ import annotations

import itertools

import argon2
from wherry_user.mail import Mail, MailFailed
from wherry_user.passwords import Argon2Hasher


class FakeClock:
    """A clock that stands still until it is told to go on; milliseconds since the epoch."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms

    def pass_by(self, *, seconds: float = 0, days: float = 0) -> None:
        """Lets time pass."""
        self.now_ms += int((seconds + days * 86_400) * 1000)


class Numbered:
    """Gives `prefix-1`, `prefix-2` and so on."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._numbers = itertools.count(1)

    def __call__(self) -> str:
        return f"{self._prefix}-{next(self._numbers)}"


class FakeMailer:
    """Keeps what it is given, or refuses it."""

    def __init__(self) -> None:
        self.attempts = 0
        self.sent: list[Mail] = []
        self.fails = False

    async def send(self, mail: Mail) -> None:
        self.attempts += 1
        if self.fails:
            raise MailFailed
        self.sent.append(mail)


def quick_hasher() -> Argon2Hasher:
    """Returns the real hasher with the least work that Argon2 knows."""
    return Argon2Hasher(argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
