"""Deleting one's account: here at once and whole, elsewhere by the outbox of revocations.

The account's rows go, and the revocation of the user is written, in one transaction. Site and queue service follow the
revocations, do their part in databases of their own, and confirm it; until both have, the revocation stays.
"""

from __future__ import annotations

from typing import Protocol

from wherry_user.accounts import Account, email_key
from wherry_user.audit import DONE, Action, AuditEvent, AuditLog, Origin
from wherry_user.clock import Clock, NewId
from wherry_user.errors import PasswordWrong, SignInThrottled, UserNotFound
from wherry_user.passwords import PasswordHasher
from wherry_user.revocations import Revocation, RevocationFeed
from wherry_user.throttle import PER_ACCOUNT, PER_ADDRESS, ThrottleStore, account_key, address_key


class DeletionStore(AuditLog, ThrottleStore, Protocol):
    """Deletes accounts."""

    async def account(self, user_id: str) -> Account | None:
        """Returns an account."""
        ...

    async def delete_account(
        self, user_id: str, pseudonym: str, margin_ms: int, event: AuditEvent
    ) -> Revocation | None:
        """Deletes an account with its sessions and tokens, and revokes the user, in one step.

        The audit log has the pseudonym in place of the user then, and none of their sessions and network addresses;
        the event is kept like that too. The revocation lasts until no access token of theirs can live any more,
        `margin_ms` as in Lifetimes. None, and nothing is changed, if there is no such account.
        """
        ...


class AccountDeletion:
    """Deletes accounts for those who know their password.

    Args:
        margin_ms: as in Lifetimes.
        new_pseudonym: gives what stands in the audit log for a deleted user; at most 36 characters.
    """

    def __init__(
        self,
        store: DeletionStore,
        hasher: PasswordHasher,
        feed: RevocationFeed,
        *,
        margin_ms: int,
        clock: Clock,
        new_pseudonym: NewId,
    ) -> None:
        self._store = store
        self._hasher = hasher
        self._feed = feed
        self._margin_ms = margin_ms
        self._clock = clock
        self._new_pseudonym = new_pseudonym

    async def delete(self, user_id: str, password: str, origin: Origin) -> None:
        """Deletes an account; all its sessions are refused here at once, and elsewhere within seconds.

        Raises:
            PasswordWrong: it is another one.
            SignInThrottled: too many failures lately, those to sign in included; the password was not looked at.
            UserNotFound: there is no such account, or none any more.
        """
        if (account := await self._store.account(user_id)) is None:
            raise UserNotFound
        now_ms = self._clock()
        by_account, by_address = account_key(email_key(account.email)), address_key(origin.address)
        wait_ms = await self._store.count({by_account: PER_ACCOUNT, by_address: PER_ADDRESS}, now_ms)
        if wait_ms:
            await self._store.record(self._event(now_ms, SignInThrottled.reason, origin, user_id))
            raise SignInThrottled(retry_after_s=str(-(-wait_ms // 1000)))
        if not await self._hasher.verify(account.password_hash, password):
            await self._store.record(self._event(now_ms, PasswordWrong.reason, origin, user_id))
            raise PasswordWrong
        await self._store.release([by_account], [by_address])
        revocation = await self._store.delete_account(
            user_id, self._new_pseudonym(), self._margin_ms, self._event(now_ms, DONE, origin, user_id)
        )
        if revocation is None:
            raise UserNotFound
        self._feed.announce(revocation)

    @staticmethod
    def _event(now_ms: int, outcome: str, origin: Origin, user_id: str) -> AuditEvent:
        return AuditEvent(now_ms, Action.DELETE_ACCOUNT, outcome, origin, user_id)
