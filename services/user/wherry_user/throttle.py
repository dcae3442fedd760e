"""Slows down who guesses passwords: so many failures for an account or from an address, and then a wait.

Each try is counted before the password is looked at, and taken back if it was right, so that tries at the same moment
cannot slip through together. Unknown accounts are counted like known ones, or the throttle would tell them apart.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from wherry_user.clock import token_hash


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `count` of something within `window_ms` from the first."""

    count: int
    window_ms: int


@dataclass(frozen=True, slots=True)
class Tally:
    """How often something has happened since a window began."""

    window_start_ms: int
    count: int


PER_ACCOUNT = Limit(10, 15 * 60_000)
PER_ADDRESS = Limit(30, 15 * 60_000)
MAILS_PER_ACCOUNT = Limit(5, 60 * 60_000)
"""Mails that strangers can have sent to one address: it must not become a way of molesting somebody."""

LONGEST_WINDOW_MS = max(limit.window_ms for limit in (PER_ACCOUNT, PER_ADDRESS, MAILS_PER_ACCOUNT))


def counted(tally: Tally | None, limit: Limit, now_ms: int) -> tuple[Tally, int]:
    """Counts one more; returns the tally, and for how many milliseconds it has to be refused (0: it may go on)."""
    if tally is None or now_ms >= tally.window_start_ms + limit.window_ms:
        return Tally(now_ms, 1), 0
    if tally.count >= limit.count:
        return tally, tally.window_start_ms + limit.window_ms - now_ms
    return Tally(tally.window_start_ms, tally.count + 1), 0


def account_key(email_key: str) -> str:
    """Returns the key of sign-ins for an account, given its normalised address (hashed: it may be unknown to us)."""
    return f"account:{token_hash(email_key)}"


def mail_key(email_key: str) -> str:
    """Returns the key of mails to an address."""
    return f"mail:{token_hash(email_key)}"


def address_key(address: str) -> str:
    """Returns the key of sign-ins from a network address.

    An IPv6 address counts as its /64, which is what one host is given.
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return f"address:{address[:80]}"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return f"address:{parsed.ipv4_mapped}"
        return f"address:{ipaddress.ip_network((parsed, 64), strict=False)}"
    return f"address:{parsed}"


class ThrottleStore(Protocol):
    """Counts, for all replicas together."""

    async def count(self, limits: Mapping[str, Limit], now_ms: int) -> int:
        """Counts one more for each key, or for none if one of them is over its limit.

        Returns how many milliseconds to wait; 0 if it was counted.
        """
        ...

    async def release(self, reset: Sequence[str], less: Sequence[str]) -> None:
        """Forgets the tallies of the keys in `reset`, and takes one off those in `less`."""
        ...
