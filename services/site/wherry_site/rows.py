"""Rows to domain objects and back."""

from __future__ import annotations

from wherry_site.authorities import Authority
from wherry_site.models import AuthorityRow, EndpointRow, SessionRow, SiteRow
from wherry_site.sessions import SealedSession, SiteSession
from wherry_site.sites import Endpoint, Site, SiteDraft, title_key
from wherry_site.vault import Sealed


def to_site(row: SiteRow) -> Site:
    """Returns a site of its row."""
    draft = SiteDraft(
        title=row.title,
        description=row.description,
        public=row.public,
        auth_kind=row.auth_kind,
        auth_address=row.auth_address,
        authorities=tuple(Authority(one.pem, tuple(one.namespaces)) for one in row.authorities),
        default_path=row.default_path,
        data_channel=row.data_channel,
    )
    endpoints = tuple(Endpoint(one.id, one.scheme, one.host, one.port, one.root_path) for one in row.endpoints)
    return Site(row.id, row.owner, draft, endpoints, row.create_ms, row.update_ms, row.revision)


def site_row(site: Site) -> SiteRow:
    """Returns the row of a site."""
    draft = site.draft
    return SiteRow(
        id=site.id,
        owner=site.owner,
        title=draft.title,
        title_key=title_key(draft.title),
        description=draft.description,
        public=draft.public,
        auth_kind=draft.auth_kind,
        auth_address=draft.auth_address,
        default_path=draft.default_path,
        data_channel=draft.data_channel,
        create_ms=site.create_ms,
        update_ms=site.update_ms,
        revision=site.revision,
        authorities=[
            AuthorityRow(
                site_id=site.id,
                position=position,
                subject=one.subject,
                key_fingerprint=one.key_fingerprint,
                pem=one.pem,
                namespaces=list(one.namespaces),
            )
            for position, one in enumerate(draft.authorities)
        ],
        endpoints=[
            EndpointRow(
                site_id=site.id,
                id=one.id,
                position=position,
                scheme=one.scheme,
                host=one.host,
                host_key=one.door[1],
                port=one.port,
                root_path=one.root_path,
            )
            for position, one in enumerate(site.endpoints)
        ],
    )


def to_session(row: SessionRow) -> SiteSession:
    """Returns a session of its row, without what is sealed."""
    return SiteSession(
        id=row.id,
        user=row.user,
        site_id=row.site_id,
        username=row.username,
        subject=row.subject,
        create_ms=row.create_ms,
        expire_ms=row.expire_ms,
        lifetime_shortened=row.lifetime_shortened,
    )


def to_sealed_session(row: SessionRow) -> SealedSession:
    """Returns a session of its row with its sealed credential."""
    return SealedSession(to_session(row), Sealed(row.key_id, bytes(row.wrapped_key), bytes(row.ciphertext)))


def session_row(sealed: SealedSession) -> SessionRow:
    """Returns the row of a session."""
    session = sealed.session
    return SessionRow(
        user=session.user,
        site_id=session.site_id,
        id=session.id,
        username=session.username,
        subject=session.subject,
        create_ms=session.create_ms,
        expire_ms=session.expire_ms,
        lifetime_shortened=session.lifetime_shortened,
        key_id=sealed.sealed.key_id,
        wrapped_key=sealed.sealed.wrapped_key,
        ciphertext=sealed.sealed.ciphertext,
    )
