"""What is written down for ever: who did what, from where, when, and how it ended. Never a secret.

Of somebody who has deleted their account it says only what was done and when: a pseudonym stands in their place.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Protocol


class Action(enum.Enum):
    """What somebody did or tried."""

    REGISTER = "REGISTER"
    VERIFY_EMAIL = "VERIFY_EMAIL"
    RESEND_VERIFICATION = "RESEND_VERIFICATION"
    SIGN_IN = "SIGN_IN"
    REFRESH = "REFRESH"
    SIGN_OUT = "SIGN_OUT"
    DELETE_ACCOUNT = "DELETE_ACCOUNT"


DONE = "DONE"
"""The outcome of what succeeded; other outcomes are the reasons of errors, or say what happened instead."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a call came from.

    Attributes:
        address: the network address, without a port.
        peer: the subject of the calling process's certificate.
    """

    address: str
    peer: str


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One line of the audit log.

    Attributes:
        outcome: `DONE`, or why not.
        user_id: the account concerned; None where there is none. What was typed as an address is not kept: people
            type passwords there.
        session_id: the session concerned, if any.
    """

    at_ms: int
    action: Action
    outcome: str
    origin: Origin
    user_id: str | None = None
    session_id: str | None = None


class AuditLog(Protocol):
    """Takes down events that change nothing else; those that do are written with the change."""

    async def record(self, event: AuditEvent) -> None:
        """Adds an event."""
        ...
