"""What stands in the place of users whose accounts were deleted, where something has to be kept."""

from __future__ import annotations

import secrets

DELETED = "deleted-"
"""How all pseudonyms begin; no user's id does."""


def random_pseudonym() -> str:
    """Returns an id in a deleted user's place, of 32 characters: it names nobody, and is nobody else's."""
    return f"{DELETED}{secrets.token_hex(12)}"
