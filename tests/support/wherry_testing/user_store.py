"""Stores of the user service, and things to put into them."""

from __future__ import annotations

from dataclasses import replace

from wherry_fakes.user_store import MemoryUserStore
from wherry_user.accounts import Account, Verification
from wherry_user.audit import DONE, Action, AuditEvent, Origin
from wherry_user.sessions import Lifetimes, Session
from wherry_user.store import SqlStore

Store = MemoryUserStore | SqlStore

NOW_MS = 1_700_000_000_000
MINUTE_MS = 60_000
ORIGIN = Origin("192.0.2.1", "/O=Wherry/CN=client")


def account(name: str = "alice", **changes: object) -> Account:
    """Returns an account, not yet registered."""
    return replace(Account(f"id-{name}", f"{name}@example.org", name, "hash-1", NOW_MS), **changes)  # type: ignore[arg-type]  # a test's shorthand


def verification(token: str = "t1", password_hash: str = "hash-1", at_ms: int = NOW_MS) -> Verification:
    """Returns a verification that lives for ten minutes."""
    return Verification(token, password_hash, f"name of {token}", at_ms, at_ms + 10 * MINUTE_MS)


def event(action: Action = Action.REGISTER) -> AuditEvent:
    """Returns an audit event."""
    return AuditEvent(NOW_MS, action, DONE, ORIGIN)


def lifetimes(now_ms: int = NOW_MS) -> Lifetimes:
    """Returns lifetimes: an hour for sessions, ten minutes for access tokens."""
    return Lifetimes(now_ms, refresh_ttl_ms=60 * MINUTE_MS, access_ttl_ms=10 * MINUTE_MS, margin_ms=MINUTE_MS)


async def verified(store: Store, name: str = "alice") -> Account:
    """Registers an account and confirms its address."""
    new = account(name)
    await store.register(new, verification(f"token of {name}"), event())
    assert await store.verify(f"token of {name}", NOW_MS + 1, event(Action.VERIFY_EMAIL))
    found = await store.account(new.id)
    assert found is not None
    return found


async def begun(store: Store, name: str, *, at_ms: int = NOW_MS, user: str = "id-alice") -> Session:
    """Signs somebody in."""
    times = lifetimes(at_ms)
    session = Session(name, user, at_ms, times.session_expires_ms, times.access_expires_ms)
    kept = await store.start_session(session, f"refresh of {name}", event(Action.SIGN_IN))
    assert kept is not None
    return kept
