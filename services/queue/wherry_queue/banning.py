"""Bans: users and sites of which no work is done until an operator says otherwise; nothing of it is lost."""

from __future__ import annotations

from dataclasses import dataclass

from wherry_chassis.errors import DomainError, Kind


class UserSuspended(DomainError):
    """An operator has suspended your work: {explanation}"""

    kind = Kind.PERMISSION_DENIED
    reason = "USER_SUSPENDED"


class SiteSuspended(DomainError):
    """An operator has suspended all work at {site}: {explanation}"""

    kind = Kind.FAILED_PRECONDITION
    reason = "SITE_SUSPENDED"


class BanNotFound(DomainError):
    """There is no ban {ban}."""

    kind = Kind.NOT_FOUND
    reason = "BAN_NOT_FOUND"


@dataclass(frozen=True, slots=True)
class BanRecord:
    """A ban.

    Attributes:
        subject: `users/{user}` or `sites/{site}`.
        reason: what the people concerned are told.
        created_ms: since when, milliseconds since the epoch.
    """

    id: int
    subject: str
    reason: str
    created_ms: int

    @property
    def name(self) -> str:
        """The ban's resource name."""
        return f"bans/{self.id}"
