"""Who did what to what, from where: the audit trail, which is only ever added to.

But where somebody deletes their account, a pseudonym takes their place, and their network addresses go.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Action(enum.Enum):
    """What was done."""

    SITE_CREATED = "site.created"
    SITE_UPDATED = "site.updated"
    SITE_DELETED = "site.deleted"
    ACCOUNT_DELETED = "account.deleted"
    """With all that the user had here; from then on a pseudonym stands in their place."""
    SIGNED_IN = "site_session.created"
    SIGN_IN_REFUSED = "site_session.refused"
    SIGNED_OUT = "site_session.deleted"
    CREDENTIAL_ISSUED = "credential.issued"
    """A proxy certificate left for a worker."""
    CREDENTIAL_CONFIRMED = "credential.confirmed"
    """A worker was told to go on with the one that it has, for another lease."""


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One line of the trail.

    Attributes:
        at_ms: when, milliseconds since the epoch.
        user: `users/{user}` who did it, or for whom it was done.
        site: `sites/{site}`; empty for what is not about one.
        address: where the caller's connection came from.
        task, fence: the lease, for credentials.
        worker, worker_thumbprint: subject and SHA-256 of the worker's certificate, for credentials.
        credential_id, expire_ms: which credential, and its end.
    """

    at_ms: int
    action: Action
    user: str
    site: str
    address: str = ""
    task: str = ""
    fence: int | None = None
    worker: str = ""
    worker_thumbprint: str = ""
    credential_id: str = ""
    expire_ms: int | None = None
