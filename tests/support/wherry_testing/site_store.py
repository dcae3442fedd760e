"""A site service's store on SQLite, and things to put into it."""

from __future__ import annotations

import contextlib
import datetime as dt
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

from wherry_chassis import migrations
from wherry_chassis.sql import Database
from wherry_fakes.site_sign_in import FakeCa, shared_key
from wherry_site.audit import Action, AuditEvent
from wherry_site.authorities import Authority
from wherry_site.sessions import SealedSession, SiteSession, credential_to_pem
from wherry_site.sign_in import IssuedCredential
from wherry_site.sites import Endpoint, Site, SiteDraft
from wherry_site.store import Store
from wherry_site.vault import Vault

NOW_MS = 1_700_000_000_000
VAULT = Vault([b"k" * 32])


@contextlib.asynccontextmanager
async def sqlite_store(folder: Path) -> AsyncIterator[Store]:
    """A store in a new file; the schema is made once in a folder's parent and copied."""
    template = folder.parent / "site-template.db"
    if not template.exists():
        migrations.upgrade(f"sqlite:///{template}", "wherry_site")
    shutil.copy(template, folder / "site.db")
    database = Database(f"sqlite:///{folder}/site.db", threads=2)
    try:
        yield Store(database)
    finally:
        database.close()


def an_event(action: Action = Action.SITE_CREATED, user: str = "users/alice", site: str = "sites/a") -> AuditEvent:
    """Returns an audit event."""
    return AuditEvent(NOW_MS, action, user, site, "ipv4:127.0.0.1:1")


def a_site(site_id: str = "a", *, owner: str = "users/alice", public: bool = False, title: str = "") -> Site:
    """Returns a site with one CA and one door."""
    ca = FakeCa(f"O-{site_id}")
    draft = SiteDraft(
        title=title or f"Site {site_id}",
        description="Two\nlines",
        public=public,
        auth_address="localhost:7512",
        authorities=(Authority(ca.pem, (f"/O=O-{site_id}/*",)),),
        default_path="/data/{user}",
    )
    return Site(site_id, owner, draft, (Endpoint("e1", "gsiftp", "localhost", 2811),), NOW_MS, NOW_MS)


def a_session(
    site_id: str = "a",
    *,
    user: str = "users/alice",
    life: dt.timedelta = dt.timedelta(hours=12),
    session_id: str = "",
    vault: Vault = VAULT,
) -> SealedSession:
    """Returns a sealed session that ends `life` after now (the machine's)."""
    key = shared_key(f"{site_id} {user}")
    certificate = FakeCa(f"O-{site_id}").issue("alice", key, life)
    expire_ms = int(certificate.not_valid_after_utc.timestamp() * 1000)
    session = SiteSession(
        id=session_id or f"{site_id} {user}"[:32],
        user=user,
        site_id=site_id,
        username="alice",
        subject=f"/O=O-{site_id}/OU=Users/CN=alice",
        create_ms=NOW_MS,
        expire_ms=expire_ms,
        lifetime_shortened=False,
    )
    pem = credential_to_pem(IssuedCredential(key, certificate))
    return SealedSession(session, vault.seal(pem, user=user, site=f"sites/{site_id}"))
