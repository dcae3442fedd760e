"""The user service's database: one class, made of a part for each topic. Each method is one transaction."""

from __future__ import annotations

from wherry_user.store.accounts import AccountPart
from wherry_user.store.deletion import DeletionPart
from wherry_user.store.revocations import RevocationPart
from wherry_user.store.sessions import SessionPart
from wherry_user.store.signing_keys import SigningKeyPart
from wherry_user.store.sweeping import SweepPart


class SqlStore(AccountPart, DeletionPart, RevocationPart, SessionPart, SigningKeyPart, SweepPart):
    """Implements the domain's stores on SQLite and PostgreSQL."""
