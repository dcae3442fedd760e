"""Credentials for workers: only against a live lease, narrowed, each issue audited."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from wherry_chassis.identity import Peer

from wherry_site.audit import Action, AuditEvent
from wherry_site.errors import SiteSessionExpired
from wherry_site.issued import IssuedProxies, IssuedProxy
from wherry_site.key_pool import KeyPool
from wherry_site.leases import LIFE_MAX_S, LeaseClaims, LeaseVerifier
from wherry_site.names import site_id
from wherry_site.proxies import proxy_pem, sign_proxy
from wherry_site.sessions import SealedSession, credential_from_pem
from wherry_site.sites import Site
from wherry_site.vault import Vault, VaultLocked


@dataclass(frozen=True, slots=True)
class SiteCredential:
    """What a worker gets for one site.

    Attributes:
        site: with its doors and CAs.
        credential_id: names the credential.
        pem: proxy, key and chain; empty where the worker has it already.
        expire_ms: the credential's end, milliseconds since the epoch.
        session_expire_ms: the end of the user's session at the site.
    """

    site: Site
    credential_id: str
    pem: bytes = field(repr=False)
    expire_ms: int
    session_expire_ms: int


class LeaseStore(Protocol):
    """Keeps the highest fences, and has what a lease opens."""

    async def open_lease(
        self, claims: LeaseClaims, now_ms: int
    ) -> tuple[Mapping[str, Site], Mapping[str, SealedSession]]:
        """Remembers the lease's fence; returns the lease's sites that the user sees and the live sessions, by site id.

        Raises:
            LeaseSuperseded: a higher fence was seen for the task.
        """
        ...

    async def record_issue(self, claims: LeaseClaims, events: Sequence[AuditEvent]) -> None:
        """Adds to the audit trail, if the lease is still the newest; raises LeaseSuperseded if not."""
        ...

    async def forget_fences(self, before_ms: int) -> int:
        """Drops fences not seen since; returns how many."""
        ...


class CredentialDesk:
    """Hands credentials to workers.

    Args:
        verifier: of lease tokens.
        store, vault, keys, issued: what it stands on.
        now_ms: the time, milliseconds since the epoch.
        new_id: makes credential ids.
    """

    def __init__(
        self,
        *,
        verifier: LeaseVerifier,
        store: LeaseStore,
        vault: Vault,
        keys: KeyPool,
        issued: IssuedProxies,
        now_ms: Callable[[], int],
        new_id: Callable[[], str],
    ) -> None:
        self._verifier = verifier
        self._store = store
        self._vault = vault
        self._keys = keys
        self._issued = issued
        self._now_ms = now_ms
        self._new_id = new_id

    async def fetch(
        self, token: str, have: Collection[str], worker: Peer, address: str = ""
    ) -> Sequence[SiteCredential]:
        """Returns one credential for each site of the lease, source first.

        Raises:
            LeaseTokenInvalid, LeaseKeysUnavailable: as LeaseVerifier says.
            LeaseSuperseded: a newer lease of the task was seen.
            SiteSessionExpired: the user is not signed in at one of the sites (any more).
        """
        claims = await self._verifier.verify(token, worker.thumbprint)
        sites, sessions = await self._store.open_lease(claims, self._now_ms())
        for name in claims.sites:
            if site_id(name) not in sites or site_id(name) not in sessions:
                raise SiteSessionExpired(site=name)
        credentials, events = [], []
        for name in claims.sites:
            site, sealed = sites[site_id(name)], sessions[site_id(name)]
            proxy = await self._proxy(sealed, worker.thumbprint)
            held = proxy.credential_id in have
            credentials.append(
                SiteCredential(
                    site=site,
                    credential_id=proxy.credential_id,
                    pem=b"" if held else proxy.pem,
                    expire_ms=int(proxy.end_s * 1000),
                    session_expire_ms=sealed.session.expire_ms,
                )
            )
            events.append(
                AuditEvent(
                    self._now_ms(),
                    Action.CREDENTIAL_CONFIRMED if held else Action.CREDENTIAL_ISSUED,
                    claims.user,
                    name,
                    address,
                    task=claims.task,
                    fence=claims.fence,
                    worker=worker.subject,
                    worker_thumbprint=worker.thumbprint,
                    credential_id=proxy.credential_id,
                    expire_ms=int(proxy.end_s * 1000),
                )
            )
        # What is not in the trail does not leave.
        await self._store.record_issue(claims, events)
        return credentials

    async def sweep(self) -> None:
        """Drops what nobody can ask for any more."""
        self._issued.sweep(self._now_ms() / 1000)
        # A token lives at most LIFE_MAX_S: none is left that a fence older than this would have to stop.
        await self._store.forget_fences(self._now_ms() - int((LIFE_MAX_S + 3600) * 1000))

    async def _proxy(self, sealed: SealedSession, thumbprint: str) -> IssuedProxy:
        """Returns the worker's proxy for a session: the one that it was given, or a new one."""
        session = sealed.session
        if (last := self._last(sealed, thumbprint)) is not None:
            return last
        key = await self._keys.take()
        if (last := self._last(sealed, thumbprint)) is not None:
            # Another call for the same worker was quicker: answer alike. From here on nothing waits.
            return last
        now = dt.datetime.fromtimestamp(self._now_ms() / 1000, dt.UTC)
        try:
            pem = self._vault.open(sealed.sealed, user=session.user, site=_site(sealed))
        except VaultLocked:
            # Sealed with a key-encryption key that is no more: the user has to sign in again.
            raise SiteSessionExpired(site=_site(sealed)) from None
        credential = credential_from_pem(pem)
        proxy = sign_proxy(credential.certificate, credential.key, key, now=now)
        issued = IssuedProxy(
            credential_id=self._new_id(),
            pem=proxy_pem(proxy, key, [credential.certificate, *credential.chain]),
            begin_s=now.timestamp(),
            end_s=proxy.not_valid_after_utc.timestamp(),
        )
        self._issued.put(session.id, thumbprint, issued)
        return issued

    def _last(self, sealed: SealedSession, thumbprint: str) -> IssuedProxy | None:
        last = self._issued.get(sealed.session.id, thumbprint)
        if last is not None and last.serves(self._now_ms() / 1000, sealed.session.expire_ms / 1000):
            return last
        return None


def _site(sealed: SealedSession) -> str:
    return f"sites/{sealed.session.site_id}"
