"""The user service's store in memory; held to the same suite as the real one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from wherry_user.accounts import Account, Verification, email_key
from wherry_user.audit import AuditEvent
from wherry_user.revocations import Follower, Revocation, Subject
from wherry_user.sessions import Lifetimes, Rotated, Rotation, Session
from wherry_user.signing import StoredKey
from wherry_user.sweeping import UNCONFIRMED_KEPT_MS
from wherry_user.throttle import LONGEST_WINDOW_MS, Limit, Tally, counted


@dataclass
class _Token:
    session_id: str
    used: bool = False


class MemoryUserStore:
    """Implements every port of the user service's domain. Nothing awaits in it, so each method is one step."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.verifications: dict[str, tuple[str, Verification]] = {}
        self.sessions: dict[str, Session] = {}
        self.ended: set[str] = set()
        self.tokens: dict[str, _Token] = {}
        self.revocations: list[Revocation] = []
        self.cursor = 0
        self.confirmed = dict.fromkeys(Follower, 0)
        self.keys: list[StoredKey] = []
        self.tallies: dict[str, Tally] = {}
        self.audit: list[AuditEvent] = []

    async def record(self, event: AuditEvent) -> None:
        self.audit.append(event)

    async def count(self, limits: Mapping[str, Limit], now_ms: int) -> int:
        outcomes = {key: counted(self.tallies.get(key), limit, now_ms) for key, limit in limits.items()}
        longest_ms = max((wait_ms for _, wait_ms in outcomes.values()), default=0)
        if longest_ms == 0:
            self.tallies |= {key: tally for key, (tally, _) in outcomes.items()}
        return longest_ms

    async def release(self, reset: Sequence[str], less: Sequence[str]) -> None:
        for key in reset:
            self.tallies.pop(key, None)
        for key in less:
            if key in self.tallies:
                self.tallies[key] = replace(self.tallies[key], count=max(0, self.tallies[key].count - 1))

    async def register(self, account: Account, verification: Verification, event: AuditEvent) -> Account:
        holder = await self.account_by_email(email_key(account.email))
        if holder is None:
            holder = self.accounts[account.id] = account
        if holder.verified_ms is None:
            self.verifications[verification.token_hash] = (holder.id, verification)
            self._adopt(holder.id, verification)
        self.audit.append(replace(event, user_id=holder.id))
        return holder

    async def withdraw(self, verification_hash: str) -> None:
        user_id, _ = self.verifications.pop(verification_hash, (None, None))
        if user_id is None:
            return
        others = [verification for owner, verification in self.verifications.values() if owner == user_id]
        if others:
            self._adopt(user_id, max(others, key=lambda verification: verification.created_ms))
        elif self.accounts[user_id].verified_ms is None:
            del self.accounts[user_id]

    async def resend(self, key: str, new_hash: str, now_ms: int, expires_ms: int, event: AuditEvent) -> Account | None:
        account = await self.account_by_email(key)
        if account is None or account.verified_ms is not None:
            return None
        verification = Verification(new_hash, account.password_hash, account.display_name, now_ms, expires_ms)
        self.verifications[new_hash] = (account.id, verification)
        self.audit.append(replace(event, user_id=account.id))
        return account

    async def verify(self, verification_hash: str, now_ms: int, event: AuditEvent) -> bool:
        user_id, verification = self.verifications.get(verification_hash, (None, None))
        if user_id is None or verification is None or verification.expires_ms <= now_ms:
            return False
        self._adopt(user_id, verification)
        self.accounts[user_id] = replace(self.accounts[user_id], verified_ms=now_ms)
        self.verifications = {h: entry for h, entry in self.verifications.items() if entry[0] != user_id}
        self.audit.append(replace(event, user_id=user_id))
        return True

    async def account(self, user_id: str) -> Account | None:
        return self.accounts.get(user_id)

    async def account_by_email(self, key: str) -> Account | None:
        return next((account for account in self.accounts.values() if email_key(account.email) == key), None)

    async def replace_password_hash(self, user_id: str, old: str, new: str) -> None:
        if user_id in self.accounts and self.accounts[user_id].password_hash == old:
            self.accounts[user_id] = replace(self.accounts[user_id], password_hash=new)

    async def delete_account(
        self, user_id: str, pseudonym: str, margin_ms: int, event: AuditEvent
    ) -> Revocation | None:
        if self.accounts.pop(user_id, None) is None:
            return None
        gone = {session.id: session for session in self.sessions.values() if session.user_id == user_id}
        expires_ms = max([event.at_ms, *(session.access_expires_ms for session in gone.values())]) + margin_ms
        self.sessions = {key: session for key, session in self.sessions.items() if key not in gone}
        self.tokens = {key: token for key, token in self.tokens.items() if token.session_id not in gone}
        self.verifications = {h: entry for h, entry in self.verifications.items() if entry[0] != user_id}
        self.audit = [
            replace(line, user_id=pseudonym, session_id=None, origin=replace(line.origin, address=""))
            if line.user_id == user_id
            else line
            for line in [*self.audit, replace(event, user_id=user_id)]
        ]
        return self._revoke(Subject.USER, user_id, expires_ms)

    async def start_session(self, session: Session, refresh_hash: str, event: AuditEvent) -> Session | None:
        if (account := self.accounts.get(session.user_id)) is None:
            return None
        begun = self.sessions[session.id] = replace(session, previous_sign_in_ms=account.last_sign_in_ms)
        self.accounts[account.id] = replace(account, last_sign_in_ms=session.created_ms)
        self.tokens[refresh_hash] = _Token(session.id)
        self.audit.append(event)
        return begun

    async def rotate(self, old_hash: str, new_hash: str, lifetimes: Lifetimes, event: AuditEvent) -> Rotated:
        token = self.tokens.get(old_hash)
        if token is None:
            return Rotated(Rotation.UNKNOWN)
        session = self.sessions[token.session_id]
        if session.id in self.ended or session.expires_ms <= lifetimes.now_ms:
            return Rotated(Rotation.ENDED)
        if token.used:
            told = replace(event, outcome=Rotation.REUSED.value, user_id=session.user_id, session_id=session.id)
            return Rotated(Rotation.REUSED, revocation=self._end(session, lifetimes, told))
        token.used = True
        self.tokens[new_hash] = _Token(session.id)
        renewed = self.sessions[session.id] = replace(
            session, expires_ms=lifetimes.session_expires_ms, access_expires_ms=lifetimes.access_expires_ms
        )
        return Rotated(Rotation.ROTATED, session=renewed)

    async def sessions_of(self, user_id: str, now_ms: int) -> Sequence[Session]:
        live = [s for s in self.sessions.values() if s.user_id == user_id and self._alive(s, now_ms)]
        return sorted(live, key=lambda session: (-session.created_ms, session.id))

    async def session(self, session_id: str) -> Session | None:
        return self.sessions.get(session_id)

    async def end_session(
        self, user_id: str, session_id: str, lifetimes: Lifetimes, event: AuditEvent
    ) -> Revocation | None:
        session = self.sessions.get(session_id)
        if session is None or session.user_id != user_id or not self._alive(session, lifetimes.now_ms):
            return None
        return self._end(session, lifetimes, event)

    async def newest_cursor(self) -> int:
        return self.cursor

    async def revocations_after(self, cursor: int, limit: int) -> Sequence[Revocation]:
        return [revocation for revocation in self.revocations if revocation.cursor > cursor][:limit]

    async def confirm(self, follower: Follower, cursor: int) -> bool:
        if cursor > self.cursor:
            return False
        self.confirmed[follower] = max(self.confirmed[follower], cursor)
        return True

    async def signing_keys(self) -> Sequence[StoredKey]:
        return sorted(self.keys, key=lambda key: (-key.created_ms, key.kid))

    async def add_signing_key(self, key: StoredKey) -> None:
        self.keys.append(key)

    async def add_first_signing_key(self, key: StoredKey) -> None:
        if not self.keys:
            self.keys.append(key)

    async def sweep(self, now_ms: int) -> Mapping[str, int]:
        before = self._sizes()
        gone = {
            session.id
            for session in self.sessions.values()
            if not self._alive(session, now_ms) and session.access_expires_ms <= now_ms
        }
        self.sessions = {key: session for key, session in self.sessions.items() if key not in gone}
        self.tokens = {key: token for key, token in self.tokens.items() if token.session_id not in gone}
        confirmed = min(self.confirmed.values())
        self.revocations = [
            revocation
            for revocation in self.revocations
            if revocation.expires_ms > now_ms or (revocation.kind is Subject.USER and revocation.cursor > confirmed)
        ]
        self.tallies = {
            key: tally for key, tally in self.tallies.items() if tally.window_start_ms > now_ms - LONGEST_WINDOW_MS
        }
        mailed = {owner for owner, verification in self.verifications.values() if verification.expires_ms > now_ms}
        self.accounts = {
            key: account
            for key, account in self.accounts.items()
            if account.verified_ms is not None
            or account.created_ms > now_ms - UNCONFIRMED_KEPT_MS
            or account.id in mailed
        }
        self.verifications = {h: entry for h, entry in self.verifications.items() if entry[0] in self.accounts}
        after = self._sizes()
        return {kind: before[kind] - after[kind] for kind in before}

    def _sizes(self) -> dict[str, int]:
        return {
            "sessions": len(self.sessions),
            "revocations": len(self.revocations),
            "tallies": len(self.tallies),
            "accounts": len(self.accounts),
        }

    def _alive(self, session: Session, now_ms: int) -> bool:
        return session.id not in self.ended and session.expires_ms > now_ms

    def _adopt(self, user_id: str, verification: Verification) -> None:
        account = self.accounts[user_id]
        if account.verified_ms is None:
            self.accounts[user_id] = replace(
                account, password_hash=verification.password_hash, display_name=verification.display_name
            )

    def _end(self, session: Session, lifetimes: Lifetimes, event: AuditEvent) -> Revocation:
        self.ended.add(session.id)
        self.audit.append(event)
        return self._revoke(Subject.SESSION, session.id, lifetimes.revoked_until_ms(session))

    def _revoke(self, kind: Subject, subject: str, expires_ms: int) -> Revocation:
        self.cursor += 1
        revocation = Revocation(self.cursor, kind, subject, expires_ms)
        self.revocations.append(revocation)
        return revocation
