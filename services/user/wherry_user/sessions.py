"""Sign-ins: a session is a chain of refresh tokens, each of which works once.

Using one again ends the session, since two have it then. That is strict: a client whose refresh was answered but
which lost the answer has to sign in again. To forgive that for some seconds would give a thief those seconds.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from wherry_user.accounts import Account, email_key
from wherry_user.audit import DONE, Action, AuditEvent, AuditLog, Origin
from wherry_user.clock import Clock, NewId, NewSecret, token_hash
from wherry_user.errors import (
    EmailNotVerified,
    RefreshTokenInvalid,
    SessionNotFound,
    SignInRefused,
    SignInThrottled,
)
from wherry_user.passwords import PasswordHasher
from wherry_user.revocations import Revocation, RevocationFeed
from wherry_user.signing import AccessTokens
from wherry_user.throttle import PER_ACCOUNT, PER_ADDRESS, ThrottleStore, account_key, address_key


@dataclass(frozen=True, slots=True)
class Session:
    """A sign-in.

    Attributes:
        expires_ms: when it ends unless refreshed.
        access_expires_ms: when the last access token made for it ends.
        previous_sign_in_ms: the account's sign-in before this one, if any.
    """

    id: str
    user_id: str
    created_ms: int
    expires_ms: int
    access_expires_ms: int
    previous_sign_in_ms: int | None = None


@dataclass(frozen=True, slots=True)
class TokenPair:
    """What a client holds of a session."""

    access: str = field(repr=False)
    access_expires_ms: int
    refresh: str = field(repr=False)
    refresh_expires_ms: int


class Rotation(enum.Enum):
    """What became of a refresh token that was used."""

    ROTATED = "ROTATED"
    UNKNOWN = "UNKNOWN"
    ENDED = "ENDED"
    """Its session is over."""
    REUSED = "REUSED"
    """It had been used before; its session is over from now on."""


@dataclass(frozen=True, slots=True)
class Rotated:
    """The outcome of using a refresh token.

    Attributes:
        session: as it is now; only for ROTATED.
        revocation: only for REUSED.
    """

    rotation: Rotation
    session: Session | None = None
    revocation: Revocation | None = None


class SessionStore(AuditLog, ThrottleStore, Protocol):
    """Keeps sessions, their refresh tokens (hashed), and what is revoked."""

    async def account_by_email(self, key: str) -> Account | None:
        """Returns the account that has an address, given as `email_key`."""
        ...

    async def start_session(self, session: Session, refresh_hash: str, event: AuditEvent) -> Session | None:
        """Keeps a new session; returns it with the sign-in before it, and notes this one with the account.

        None, and nothing is kept, if the account has been deleted meanwhile.
        """
        ...

    async def replace_password_hash(self, user_id: str, old: str, new: str) -> None:
        """Sets an account's password hash, if it is still the old one."""
        ...

    async def rotate(self, old_hash: str, new_hash: str, lifetimes: Lifetimes, event: AuditEvent) -> Rotated:
        """Uses a refresh token up and puts another in its place, in one step that nobody can come between.

        The event is kept with REUSED as its outcome if it was; otherwise there is none.
        """
        ...

    async def sessions_of(self, user_id: str, now_ms: int) -> Sequence[Session]:
        """Returns a user's live sessions, newest first."""
        ...

    async def session(self, session_id: str) -> Session | None:
        """Returns a session, alive or not, while it is kept."""
        ...

    async def end_session(
        self, user_id: str, session_id: str, lifetimes: Lifetimes, event: AuditEvent
    ) -> Revocation | None:
        """Ends a live session of that user, and revokes it; None if there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long things live, seen from a moment.

    Attributes:
        refresh_ttl_ms: a session without a refresh.
        access_ttl_ms: an access token.
        margin_ms: how much longer verifiers may accept an access token: their leeway, and clocks that differ.
    """

    now_ms: int
    refresh_ttl_ms: int
    access_ttl_ms: int
    margin_ms: int

    @property
    def session_expires_ms(self) -> int:
        """When a session ends that is begun or refreshed now."""
        return self.now_ms + self.refresh_ttl_ms

    @property
    def access_expires_ms(self) -> int:
        """When an access token ends that is made now; whole seconds, as tokens have them."""
        return (self.now_ms + min(self.access_ttl_ms, self.refresh_ttl_ms)) // 1000 * 1000

    def revoked_until_ms(self, session: Session) -> int:
        """Until when a revocation of a session matters."""
        return max(session.access_expires_ms, self.now_ms) + self.margin_ms


class Sessions:
    """Signing in, staying so, and signing out.

    Args:
        refresh_ttl_ms, margin_ms: as in Lifetimes.
    """

    def __init__(
        self,
        store: SessionStore,
        hasher: PasswordHasher,
        tokens: AccessTokens,
        feed: RevocationFeed,
        *,
        refresh_ttl_ms: int,
        margin_ms: int,
        clock: Clock,
        new_id: NewId,
        new_secret: NewSecret,
    ) -> None:
        self._store = store
        self._hasher = hasher
        self._tokens = tokens
        self._feed = feed
        self._refresh_ttl_ms = refresh_ttl_ms
        self._margin_ms = margin_ms
        self._clock = clock
        self._new_id = new_id
        self._new_secret = new_secret

    async def sign_in(self, email: str, password: str, origin: Origin) -> tuple[Account, Session, TokenPair]:
        """Signs in.

        Raises:
            SignInRefused: unknown address or wrong password; also where the account is deleted at this moment.
            EmailNotVerified: right password, address not confirmed.
            SignInThrottled: too many failures lately; the password was not looked at.
        """
        key, now_ms = email_key(email), self._clock()
        by_account, by_address = account_key(key), address_key(origin.address)
        wait_ms = await self._store.count({by_account: PER_ACCOUNT, by_address: PER_ADDRESS}, now_ms)
        account = await self._store.account_by_email(key)
        user_id = account.id if account else None
        if wait_ms:
            await self._store.record(AuditEvent(now_ms, Action.SIGN_IN, SignInThrottled.reason, origin, user_id))
            raise SignInThrottled(retry_after_s=str(-(-wait_ms // 1000)))
        matches = await self._hasher.verify(account.password_hash if account else None, password)
        if account is None or not matches:
            await self._store.record(AuditEvent(now_ms, Action.SIGN_IN, SignInRefused.reason, origin, user_id))
            raise SignInRefused
        await self._store.release([by_account], [by_address])
        if account.verified_ms is None:
            await self._store.record(AuditEvent(now_ms, Action.SIGN_IN, EmailNotVerified.reason, origin, user_id))
            raise EmailNotVerified
        if self._hasher.is_outdated(account.password_hash):
            renewed = await self._hasher.hash(password)
            await self._store.replace_password_hash(account.id, account.password_hash, renewed)
        lifetimes, refresh = self._lifetimes(), self._new_secret()
        begun = Session(self._new_id(), account.id, now_ms, lifetimes.session_expires_ms, lifetimes.access_expires_ms)
        event = AuditEvent(now_ms, Action.SIGN_IN, DONE, origin, account.id, begun.id)
        session = await self._store.start_session(begun, token_hash(refresh), event)
        if session is None:
            raise SignInRefused
        return account, session, self._pair(session, refresh, lifetimes)

    async def refresh(self, token: str, origin: Origin) -> TokenPair:
        """Trades a refresh token for a new pair.

        Raises:
            RefreshTokenInvalid: unknown, of a session that is over, or used before, which ends its session.
        """
        lifetimes, new = self._lifetimes(), self._new_secret()
        event = AuditEvent(lifetimes.now_ms, Action.REFRESH, DONE, origin)
        rotated = await self._store.rotate(token_hash(token), token_hash(new), lifetimes, event)
        if rotated.revocation is not None:
            self._feed.announce(rotated.revocation)
        if rotated.session is None:
            raise RefreshTokenInvalid
        return self._pair(rotated.session, new, lifetimes)

    async def live(self, user_id: str) -> Sequence[Session]:
        """Returns a user's live sessions, newest first."""
        return await self._store.sessions_of(user_id, self._clock())

    async def previous_sign_in_ms(self, session_id: str) -> int | None:
        """Returns the sign-in before a session, if there was one."""
        session = await self._store.session(session_id)
        return session.previous_sign_in_ms if session else None

    async def end(self, user_id: str, session_id: str, origin: Origin) -> None:
        """Ends a session; its access tokens are refused here at once, and elsewhere within seconds.

        Raises:
            SessionNotFound: no live one of this user.
        """
        lifetimes = self._lifetimes()
        event = AuditEvent(lifetimes.now_ms, Action.SIGN_OUT, DONE, origin, user_id, session_id)
        revocation = await self._store.end_session(user_id, session_id, lifetimes, event)
        if revocation is None:
            raise SessionNotFound
        self._feed.announce(revocation)

    def _lifetimes(self) -> Lifetimes:
        return Lifetimes(self._clock(), self._refresh_ttl_ms, self._tokens.ttl_ms, self._margin_ms)

    def _pair(self, session: Session, refresh: str, lifetimes: Lifetimes) -> TokenPair:
        access = self._tokens.sign(session.user_id, session.id, lifetimes.now_ms, lifetimes.access_expires_ms)
        return TokenPair(access, lifetimes.access_expires_ms, refresh, session.expires_ms)
