"""Lease tokens: what the queue signed, and whether it opens anything for the worker that shows it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from wherry_site.errors import LeaseTokenInvalid

ISSUER = "wherry-queue"
AUDIENCE = "wherry-site"
ALGORITHM = "EdDSA"
EXPIRY_LEEWAY_S = 5.0
"""Leases end by the queue's database clock, which may differ from ours by a little."""
ISSUED_LEEWAY_S = 30.0
"""A token from the future is refused beyond what clocks of one deployment differ by."""
LIFE_MAX_S = 86400.0
"""No lease is longer. Fences are remembered for as long, so that no token outlives the memory of what superseded it."""

_TASK = re.compile(r"jobs/[A-Za-z0-9-]{1,100}/tasks/[0-9]{1,18}")
_USER = re.compile(r"users/[A-Za-z0-9-]{1,100}")
_SITE = re.compile(r"sites/[a-z0-9][a-z0-9-]{0,62}")


class LeaseKeySource(Protocol):
    """Gives the public keys that the queue's replicas sign lease tokens with."""

    async def get(self, kid: str) -> Ed25519PublicKey | None:
        """Returns the key; None where there is none of that id, or it has expired.

        Raises:
            LeaseKeysUnavailable: it is not known, and the queue cannot be asked.
        """
        ...


@dataclass(frozen=True, slots=True)
class LeaseClaims:
    """What a verified lease token says.

    Attributes:
        task: `jobs/{job}/tasks/{task}`.
        fence: counts the task's leases; only the newest counts.
        user: `users/{user}`, whose task it is.
        sites: `sites/{site}`, one or two, source first.
        thumbprint: hexadecimal SHA-256 of the certificate of the worker that holds the lease.
        expires_s: the lease's end, seconds since the epoch.
    """

    task: str
    fence: int
    user: str
    sites: Sequence[str]
    thumbprint: str
    expires_s: float


class LeaseVerifier:
    """Turns a lease token into claims.

    Args:
        keys: where public keys come from.
        now_s: the time, seconds since the epoch.
    """

    def __init__(self, keys: LeaseKeySource, now_s: Callable[[], float]) -> None:
        self._keys = keys
        self._now_s = now_s

    async def verify(self, token: str, thumbprint: str) -> LeaseClaims:
        """Returns what the token says, if the holder of the certificate `thumbprint` may use it now.

        Raises:
            LeaseTokenInvalid: malformed, not signed by the queue, expired, or bound to another worker's certificate.
            LeaseKeysUnavailable: its key is not known, and the queue cannot be asked.
        """
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            key = await self._keys.get(kid) if isinstance(kid, str) else None
            if key is None:
                raise LeaseTokenInvalid
            payload = jwt.decode(
                token,
                key,
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                audience=AUDIENCE,
                # Times are held against the injected clock below.
                options={"require": ["iss", "aud"], "verify_exp": False, "verify_iat": False, "verify_nbf": False},
            )
            claims, issued_s = _parse(payload)
        except (jwt.InvalidTokenError, ValueError):
            # Not chained: the library's error may quote the token.
            raise LeaseTokenInvalid from None
        now_s = self._now_s()
        if claims.expires_s + EXPIRY_LEEWAY_S <= now_s:
            raise LeaseTokenInvalid
        if issued_s - ISSUED_LEEWAY_S > now_s or claims.expires_s - issued_s > LIFE_MAX_S:
            raise LeaseTokenInvalid
        if claims.thumbprint != thumbprint:
            raise LeaseTokenInvalid
        return claims


def _parse(payload: Mapping[str, Any]) -> tuple[LeaseClaims, float]:
    """Returns the claims and when they were made; raises ValueError where one is missing or of the wrong form."""
    task, fence, user, sites = (payload.get(name) for name in ("task", "fence", "user", "sites"))
    confirmation = payload.get("cnf")
    thumbprint = confirmation.get("x5t#S256") if isinstance(confirmation, dict) else None
    issued_s, expires_s = payload.get("iat"), payload.get("exp")
    if not (isinstance(task, str) and _TASK.fullmatch(task) and isinstance(user, str) and _USER.fullmatch(user)):
        raise ValueError("task or user")
    if type(fence) is not int or not 0 < fence < 1 << 63:
        raise ValueError("fence")
    if not (isinstance(sites, list) and 1 <= len(sites) <= 2):
        raise ValueError("sites")
    if not all(isinstance(site, str) and _SITE.fullmatch(site) for site in sites):
        raise ValueError("sites")
    if not (isinstance(thumbprint, str) and len(thumbprint) == 64):
        raise ValueError("cnf")
    if not (isinstance(issued_s, (int, float)) and isinstance(expires_s, (int, float))):
        raise ValueError("iat or exp")
    # The same site twice is one site.
    unique = tuple(dict.fromkeys(sites))
    return LeaseClaims(task, fence, user, unique, thumbprint, float(expires_s)), float(issued_s)
