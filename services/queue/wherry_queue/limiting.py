"""What an operator can limit or weigh, and how that is written in the audit log."""

from __future__ import annotations

from wherry_chassis.errors import DomainError, Kind

UNLIMITED = -1
"""A limit that an operator has lifted, whatever the deployment's default says."""


class SubjectNotFound(DomainError):
    """Nothing has ever been queued for {subject}; there is nothing of it to limit or to weigh."""

    kind = Kind.NOT_FOUND
    reason = "SUBJECT_NOT_FOUND"


def limit_in_words(cap: int | None) -> str:
    """Returns a limit as it stands in a row, in words: None is the deployment's default, below 0 is no limit."""
    if cap is None:
        return "as in the buildout"
    return "unlimited" if cap < 0 else f"{cap} tasks"
