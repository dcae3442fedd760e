"""People's sign-ins at sites."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from wherry_chassis.identity import grid_subject
from wherry_chassis.logging import logger

from wherry_site.audit import Action, AuditEvent
from wherry_site.authorities import signing_fault
from wherry_site.egress import AddressRefused, Egress, HostUnknown, NameServiceFailed
from wherry_site.errors import (
    AddressNotAllowed,
    SignInRefused,
    SiteAnswerUnusable,
    SiteSessionNotFound,
    SiteUnreachable,
)
from wherry_site.issued import IssuedProxies
from wherry_site.names import site_name
from wherry_site.registry import Actor, SiteRegistry
from wherry_site.session_changes import KEPT_MS, ChangeKind, SessionChange
from wherry_site.sign_in import IssuedCredential, Password, SignIn, SignInServer
from wherry_site.sites import Site, parse_address
from wherry_site.vault import Sealed, Vault, VaultLocked

LIFETIME_DEFAULT_S = 12 * 3600
_REWRAP = 100
"""So many data keys are wrapped anew in one sweep."""
_SHORTENED_S = 120
"""A certificate that ends by less than this before what was asked for was not shortened: clocks and rounding differ."""


@dataclass(frozen=True, slots=True)
class SiteSession:
    """A sign-in at a site.

    Attributes:
        id: names this very sign-in; another one has another id.
        user: `users/{user}`.
        site_id: as in `sites/{site_id}`.
        username: the account's name at the site.
        subject: the certificate's, in the grid form.
        create_ms, expire_ms: begin and end, milliseconds since the epoch.
        lifetime_shortened: whether the site gave less time than was asked for.
    """

    id: str
    user: str
    site_id: str
    username: str
    subject: str
    create_ms: int
    expire_ms: int
    lifetime_shortened: bool


@dataclass(frozen=True, slots=True)
class SealedSession:
    """A session with its sealed credential."""

    session: SiteSession
    sealed: Sealed = field(repr=False)


class SessionStore(Protocol):
    """Keeps sessions."""

    async def put_session(self, sealed: SealedSession, event: AuditEvent) -> bool:
        """Keeps a session in place of the user's earlier one there; False if the site is gone meanwhile."""
        ...

    async def sessions(self, user: str, now_ms: int) -> Sequence[SiteSession]:
        """Returns the user's live sessions, by site."""
        ...

    async def remove_session(self, user: str, site_id: str, event: AuditEvent) -> SiteSession | None:
        """Deletes a session; returns what it was."""
        ...

    async def remove_expired(self, now_ms: int) -> int:
        """Deletes sessions that have ended, and tells of each once; returns how many. There may be more."""
        ...

    async def forget_changes(self, before_ms: int) -> int:
        """Drops what was told of sessions before a time; returns how much."""
        ...

    async def sealed_with(self, key_ids: Sequence[str], limit: int) -> Sequence[SealedSession]:
        """Returns sessions whose data key is wrapped with one of the named keys."""
        ...

    async def reseal(self, session_id: str, before: Sealed, after: Sealed) -> None:
        """Puts `after` in the place of `before`, if the session still has that."""
        ...

    async def record(self, event: AuditEvent) -> None:
        """Adds to the audit trail."""
        ...


class SiteSessions:
    """Signs people in and out.

    Args:
        registry, store, egress, sign_in, vault: what it stands on.
        issued: proxies that were handed out, to be forgotten at sign-out.
        now_ms: the time, milliseconds since the epoch.
        new_id: makes session ids.
    """

    def __init__(
        self,
        *,
        registry: SiteRegistry,
        store: SessionStore,
        egress: Egress,
        sign_in: SignIn,
        vault: Vault,
        issued: IssuedProxies,
        now_ms: Callable[[], int],
        new_id: Callable[[], str],
    ) -> None:
        self._registry = registry
        self._store = store
        self._egress = egress
        self._sign_in = sign_in
        self._vault = vault
        self._issued = issued
        self._now_ms = now_ms
        self._new_id = new_id

    async def create(
        self, actor: Actor, site_id: str, username: str, password: Password, lifetime_s: int | None
    ) -> SiteSession:
        """Signs in at a site. Raises as CreateSiteSession says."""
        site = await self._registry.get(actor.user, site_id)
        server = await self._server(site)
        asked_s = LIFETIME_DEFAULT_S if lifetime_s is None else lifetime_s
        begin_ms = self._now_ms()
        try:
            credential = await self._sign_in.sign_in(server, username, password, asked_s)
        except SignInRefused:
            await self._store.record(self._event(Action.SIGN_IN_REFUSED, actor, site_id))
            raise
        if fault := signing_fault(credential.certificate, credential.chain, site.draft.authorities):
            raise SiteAnswerUnusable(site=site.name, address=site.draft.auth_address, cause=f"a certificate: {fault}")
        expire_ms = int(credential.certificate.not_valid_after_utc.timestamp() * 1000)
        session = SiteSession(
            id=self._new_id(),
            user=actor.user,
            site_id=site_id,
            username=username,
            subject=grid_subject(credential.certificate.subject),
            create_ms=begin_ms,
            expire_ms=expire_ms,
            lifetime_shortened=expire_ms < begin_ms + (asked_s - _SHORTENED_S) * 1000,
        )
        sealed = self._vault.seal(credential_to_pem(credential), user=actor.user, site=site.name)
        kept = await self._store.put_session(
            SealedSession(session, sealed), self._event(Action.SIGNED_IN, actor, site_id)
        )
        if not kept:
            # Deleted while we were signing in: as if it had been before.
            await self._registry.get(actor.user, site_id)
        return session

    async def live(self, user: str) -> Sequence[SiteSession]:
        """Returns the user's live sessions, by site."""
        return await self._store.sessions(user, self._now_ms())

    async def get(self, user: str, site_id: str) -> SiteSession:
        """Returns the user's session at a site; raises SiteSessionNotFound."""
        for session in await self.live(user):
            if session.site_id == site_id:
                return session
        raise SiteSessionNotFound(site=site_name(site_id))

    async def delete(self, actor: Actor, site_id: str) -> None:
        """Signs out: the credential is deleted. Raises SiteSessionNotFound."""
        event = self._event(Action.SIGNED_OUT, actor, site_id)
        removed = await self._store.remove_session(actor.user, site_id, event)
        if removed is None:
            raise SiteSessionNotFound(site=site_name(site_id))
        self._issued.forget(removed.id)
        if removed.expire_ms <= self._now_ms():
            raise SiteSessionNotFound(site=site_name(site_id))

    async def expire(self) -> int:
        """Deletes the sessions that have ended, with their sealed credentials; returns how many there were."""
        total = 0
        while ended := await self._store.remove_expired(self._now_ms()):
            total += ended
        return total

    async def sweep(self) -> None:
        """Wraps data keys of older wrapping keys anew, and drops changes that are kept no longer."""
        await self._store.forget_changes(self._now_ms() - KEPT_MS)
        for kept in await self._store.sealed_with(self._vault.older_key_ids, limit=_REWRAP):
            user, site = kept.session.user, site_name(kept.session.site_id)
            try:
                resealed = self._vault.rewrap(kept.sealed, user=user, site=site)
            except VaultLocked:
                # Damaged: the user signs in again, and the row goes when it expires.
                logger().error("vault_locked", session=kept.session.id)
                continue
            await self._store.reseal(kept.session.id, kept.sealed, resealed)

    async def _server(self, site: Site) -> SignInServer:
        address = parse_address(site.draft.auth_address)
        try:
            addresses = await self._egress.pin(address.host)
        except (HostUnknown, NameServiceFailed):
            raise SiteUnreachable(site=site.name, address=site.draft.auth_address) from None
        except AddressRefused:
            raise AddressNotAllowed("site", host=address.host) from None
        authorities = [authority.pem for authority in site.draft.authorities]
        return SignInServer(site.name, address.host, address.port, addresses, authorities)

    def _event(self, action: Action, actor: Actor, site_id: str) -> AuditEvent:
        return AuditEvent(self._now_ms(), action, actor.user, site_name(site_id), actor.address)


def sign_in_changes(session: SiteSession, before_ms: int | None, now_ms: int) -> Sequence[SessionChange]:
    """Returns what a sign-in changes; `before_ms` is the end of the session whose place it takes, if of any."""
    if before_ms is not None and before_ms > now_ms:
        return [SessionChange(0, session.user, session.site_id, ChangeKind.RENEWED, session.expire_ms)]
    signed_in = SessionChange(0, session.user, session.site_id, ChangeKind.SIGNED_IN, session.expire_ms)
    if before_ms is None:
        return [signed_in]
    return [SessionChange(0, session.user, session.site_id, ChangeKind.EXPIRED, before_ms), signed_in]


def credential_to_pem(credential: IssuedCredential) -> bytes:
    """Returns what the vault seals: key, certificate and chain, PEM."""
    key = credential.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    chain = [credential.certificate, *credential.chain]
    return key + b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)


def credential_from_pem(pem: bytes) -> IssuedCredential:
    """Returns what `credential_to_pem` was given."""
    # Sealed by ourselves and authenticated: checking the key's arithmetic again would cost more than signing with it.
    key = load_pem_private_key(pem, None, unsafe_skip_rsa_key_validation=True)
    assert isinstance(key, RSAPrivateKey)
    certificate, *chain = x509.load_pem_x509_certificates(pem)
    return IssuedCredential(key, certificate, chain)
