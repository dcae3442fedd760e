"""Accounts: registration, confirmation of the address, and what others may learn (nothing).

An account begins unverified. Each registration of an unverified address has its own token, and the token brings the
password that was given **with it**: whoever registers somebody else's address gains nothing when its owner registers
too and confirms their own mail.
"""

from __future__ import annotations

import asyncio
import unicodedata
from dataclasses import dataclass, field
from typing import Protocol

from wherry_chassis.errors import DatabaseUnavailable, FieldProblem, InvalidFields
from wherry_chassis.logging import logger

from wherry_user.audit import DONE, Action, AuditEvent, AuditLog, Origin
from wherry_user.clock import Clock, NewId, NewSecret, token_hash
from wherry_user.errors import MailUnavailable, UserNotFound, VerificationTokenInvalid
from wherry_user.mail import Mailer, MailFailed, MailTexts
from wherry_user.passwords import PasswordHasher, check_new_password
from wherry_user.throttle import MAILS_PER_ACCOUNT, ThrottleStore, mail_key

_RESENDS_WAITING = 1000
_MAIL_LIMIT = "MAIL_LIMIT"
"""Audit outcome: nothing was mailed, since this address has been sent enough for now."""


def email_key(email: str) -> str:
    """Returns what an address is known by: case and composition of characters make no difference."""
    return unicodedata.normalize("NFC", email.strip()).casefold()


@dataclass(frozen=True, slots=True)
class Account:
    """A person's account.

    Attributes:
        email: the address as it was first typed.
        verified_ms: when the address was confirmed; None before.
        last_sign_in_ms: the latest sign-in; None before the first.
    """

    id: str
    email: str
    display_name: str
    password_hash: str = field(repr=False)
    created_ms: int
    verified_ms: int | None = None
    last_sign_in_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """A mailed token, and what it brings into force.

    Attributes:
        token_hash: hexadecimal SHA-256 of the token.
        password_hash, display_name: as given at the registration that the token was mailed for.
    """

    token_hash: str
    password_hash: str = field(repr=False)
    display_name: str
    created_ms: int
    expires_ms: int


class AccountStore(AuditLog, ThrottleStore, Protocol):
    """Keeps accounts."""

    async def register(self, account: Account, verification: Verification, event: AuditEvent) -> Account:
        """Keeps a registration; returns the account that has the address now.

        That is `account` if the address was free. If it belongs to an unverified account, that one gets the
        verification too, and the registration's password and name; if to a verified one, nothing changes.
        """
        ...

    async def withdraw(self, verification_hash: str) -> None:
        """Takes a verification back whose mail did not go out.

        An unverified account has then the password and the name of its newest other one; with none left it goes too.
        """
        ...

    async def resend(self, key: str, new_hash: str, now_ms: int, expires_ms: int, event: AuditEvent) -> Account | None:
        """Gives an unverified account a further verification and returns it; None for any other address."""
        ...

    async def verify(self, verification_hash: str, now_ms: int, event: AuditEvent) -> bool:
        """Confirms the address that a live verification belongs to, once; all of the account's are void then.

        Returns False, and changes nothing, if there is no such.
        """
        ...

    async def account(self, user_id: str) -> Account | None:
        """Returns an account."""
        ...

    async def account_by_email(self, key: str) -> Account | None:
        """Returns the account that has an address, given as `email_key`."""
        ...


class Accounts:
    """What people do with their accounts.

    Args:
        verification_ttl_ms: how long a mailed token is good for.
    """

    def __init__(
        self,
        store: AccountStore,
        hasher: PasswordHasher,
        mailer: Mailer,
        texts: MailTexts,
        *,
        verification_ttl_ms: int,
        clock: Clock,
        new_id: NewId,
        new_secret: NewSecret,
    ) -> None:
        self._store = store
        self._hasher = hasher
        self._mailer = mailer
        self._texts = texts
        self._ttl_ms = verification_ttl_ms
        self._clock = clock
        self._new_id = new_id
        self._new_secret = new_secret
        self._resends: asyncio.Queue[tuple[str, Origin]] = asyncio.Queue(_RESENDS_WAITING)

    async def register(self, email: str, password: str, display_name: str, origin: Origin) -> None:
        """Registers an account and mails a token; does as much, and says the same, for an address that has one.

        Raises:
            InvalidFields: the address or the password is unfit.
            MailUnavailable: the mail could not be sent; nothing was kept.
        """
        email, display_name = email.strip(), display_name.strip()
        check_new_password(password)
        local_part, _, host = email.rpartition("@")
        if not (local_part and host) or _has_controls(email):
            raise InvalidFields(FieldProblem("email", "must be an e-mail address"))
        if _has_controls(display_name):
            raise InvalidFields(FieldProblem("display_name", "must be one line of text"))
        hashed = await self._hasher.hash(password)
        now_ms, token = self._clock(), self._new_secret()
        allowance = mail_key(email_key(email))
        if await self._store.count({allowance: MAILS_PER_ACCOUNT}, now_ms):
            await self._store.record(AuditEvent(now_ms, Action.REGISTER, _MAIL_LIMIT, origin))
            return
        name = display_name or local_part
        new = Account(self._new_id(), email, name, hashed, now_ms)
        verification = Verification(token_hash(token), hashed, name, now_ms, now_ms + self._ttl_ms)
        account = await self._store.register(new, verification, AuditEvent(now_ms, Action.REGISTER, DONE, origin))
        if account.verified_ms is not None:
            mail = self._texts.already_registered(account.email)
        else:
            mail = self._texts.verification(account.email, token, self._ttl_ms)
        try:
            await self._mailer.send(mail)
        except BaseException as error:
            # Also when the caller has gone meanwhile: nobody knows then whether the mail went out.
            await self._store.withdraw(verification.token_hash)
            await self._store.release([], [allowance])
            await self._store.record(AuditEvent(now_ms, Action.REGISTER, MailUnavailable.reason, origin))
            if isinstance(error, MailFailed):
                raise MailUnavailable from error
            raise

    def request_resend(self, email: str, origin: Origin) -> None:
        """Has a new token mailed, if the address is registered and unverified.

        Returns at once, before anything is looked up: neither the answer nor its time tells who is registered.
        """
        try:
            self._resends.put_nowait((email, origin))
        except asyncio.QueueFull:
            logger().error("resend_dropped", waiting=_RESENDS_WAITING)

    async def deliver_resends(self) -> None:
        """Mails, for ever, what was asked for by `request_resend`."""
        while True:
            email, origin = await self._resends.get()
            try:
                await self._resend(email_key(email), origin)
            except (MailFailed, DatabaseUnavailable) as error:
                logger().error("resend_failed", error=type(error).__name__)

    async def _resend(self, key: str, origin: Origin) -> None:
        now_ms, token = self._clock(), self._new_secret()
        if await self._store.count({mail_key(key): MAILS_PER_ACCOUNT}, now_ms):
            await self._store.record(AuditEvent(now_ms, Action.RESEND_VERIFICATION, _MAIL_LIMIT, origin))
            return
        event = AuditEvent(now_ms, Action.RESEND_VERIFICATION, DONE, origin)
        account = await self._store.resend(key, token_hash(token), now_ms, now_ms + self._ttl_ms, event)
        if account is None:
            return
        try:
            await self._mailer.send(self._texts.verification(account.email, token, self._ttl_ms))
        except MailFailed:
            await self._store.withdraw(token_hash(token))
            await self._store.release([], [mail_key(key)])
            raise

    async def verify_email(self, token: str, origin: Origin) -> None:
        """Confirms an address by the token mailed to it.

        Raises:
            VerificationTokenInvalid: unknown, used or expired.
        """
        now_ms = self._clock()
        event = AuditEvent(now_ms, Action.VERIFY_EMAIL, DONE, origin)
        if not await self._store.verify(token_hash(token.strip()), now_ms, event):
            raise VerificationTokenInvalid

    async def get(self, user_id: str) -> Account:
        """Returns an account; raises UserNotFound if there is none."""
        if (account := await self._store.account(user_id)) is None:
            raise UserNotFound
        return account


def _has_controls(text: str) -> bool:
    return any(unicodedata.category(character) == "Cc" for character in text)
