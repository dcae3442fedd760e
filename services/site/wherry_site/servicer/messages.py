"""Messages of the contract to domain objects and back."""

from __future__ import annotations

from collections.abc import Collection

from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from wherry.site.v1 import site_service_pb2 as pb
from wherry.type.v1 import data_channel_pb2

from wherry_site import names
from wherry_site.credentials import SiteCredential
from wherry_site.directory import ResolvedSite
from wherry_site.registry import DraftInput
from wherry_site.session_changes import ChangeKind, SessionChange
from wherry_site.sessions import SiteSession
from wherry_site.sites import AUTH_MYPROXY, Endpoint, Site, SiteDraft

_AUTH_KINDS: dict[pb.AuthKind.ValueType, str] = {pb.AUTH_KIND_MYPROXY: AUTH_MYPROXY}
_CHANGE_KINDS: dict[ChangeKind, pb.SessionChangeKind.ValueType] = {
    ChangeKind.SIGNED_IN: pb.SESSION_CHANGE_KIND_SIGNED_IN,
    ChangeKind.RENEWED: pb.SESSION_CHANGE_KIND_RENEWED,
    ChangeKind.EXPIRED: pb.SESSION_CHANGE_KIND_EXPIRED,
    ChangeKind.SIGNED_OUT: pb.SESSION_CHANGE_KIND_SIGNED_OUT,
}
_AUTH_KIND_VALUES = {kind: value for value, kind in _AUTH_KINDS.items()}
_DATA_CHANNELS: dict[data_channel_pb2.DataChannel.ValueType, str] = {
    data_channel_pb2.DATA_CHANNEL_UNSPECIFIED: "",
    data_channel_pb2.DATA_CHANNEL_CLEAR: "clear",
    data_channel_pb2.DATA_CHANNEL_AUTHENTICATED: "authenticated",
    data_channel_pb2.DATA_CHANNEL_ENCRYPTED: "encrypted",
}
_DATA_CHANNEL_VALUES = {channel: value for value, channel in _DATA_CHANNELS.items()}


def draft_input(message: pb.Site) -> DraftInput:
    """Returns what a request says about a site."""
    draft = SiteDraft(
        title=message.title,
        description=message.description,
        public=message.public,
        auth_kind=_AUTH_KINDS.get(message.auth_kind, ""),
        auth_address=message.auth_address,
        default_path=message.default_path or "/",
        # What is not known is refused, and never taken for no demand.
        data_channel=_DATA_CHANNELS.get(message.data_channel, "unknown"),
    )
    authorities = [(one.certificate_pem, list(one.namespaces)) for one in message.certificate_authorities]
    return DraftInput(draft, authorities, [endpoint(one) for one in message.endpoints])


def endpoint(message: pb.Endpoint) -> Endpoint:
    """Returns a door of a request."""
    _, identifier = names.endpoint_ids(message.name)
    return Endpoint(identifier, message.scheme, message.host, message.port, message.root_path or "/")


def filled_fields(message: Message) -> Collection[str]:
    """Returns the fields that a message has a value for."""
    return {field.name for field, _ in message.ListFields()}


def site_message(site: Site) -> pb.Site:
    """Returns a site's message."""
    draft = site.draft
    return pb.Site(
        name=site.name,
        title=draft.title,
        description=draft.description,
        owner=site.owner,
        public=draft.public,
        auth_kind=_AUTH_KIND_VALUES[draft.auth_kind],
        auth_address=draft.auth_address,
        certificate_authorities=authority_messages(site),
        default_path=draft.default_path,
        data_channel=_DATA_CHANNEL_VALUES[draft.data_channel],
        endpoints=[endpoint_message(site.id, one) for one in site.endpoints],
        create_time=timestamp(site.create_ms),
        update_time=timestamp(site.update_ms),
        etag=site.etag,
    )


def authority_messages(site: Site) -> list[pb.CertificateAuthority]:
    """Returns the messages of a site's CAs."""
    return [
        pb.CertificateAuthority(certificate_pem=one.pem, namespaces=one.namespaces) for one in site.draft.authorities
    ]


def endpoint_message(site_id: str, door: Endpoint) -> pb.Endpoint:
    """Returns a door's message."""
    return pb.Endpoint(
        name=names.endpoint_name(site_id, door.id),
        scheme=door.scheme,
        host=door.host,
        port=door.port,
        root_path=door.root_path,
    )


def session_message(session: SiteSession) -> pb.SiteSession:
    """Returns a sign-in's message."""
    return pb.SiteSession(
        name=names.session_name(session.user, session.site_id),
        site=names.site_name(session.site_id),
        username=session.username,
        subject=session.subject,
        create_time=timestamp(session.create_ms),
        expire_time=timestamp(session.expire_ms),
        lifetime_shortened=session.lifetime_shortened,
    )


def resolved_message(resolved: ResolvedSite) -> pb.ResolvedSite:
    """Returns the message of a site as the queue needs it."""
    site, expire_ms = resolved.site, resolved.session_expire_ms
    return pb.ResolvedSite(
        site=site.name,
        title=site.draft.title,
        default_path=resolved.default_path,
        schemes=list(dict.fromkeys(door.scheme for door in site.endpoints)),
        session_expire_time=None if expire_ms is None else timestamp(expire_ms),
    )


def change_message(change: SessionChange) -> pb.SessionChange:
    """Returns the message of what happened to a sign-in."""
    return pb.SessionChange(
        cursor=change.cursor,
        user=change.user,
        site=names.site_name(change.site_id),
        kind=_CHANGE_KINDS[change.kind],
        expire_time=timestamp(change.expires_ms),
    )


def credential_message(credential: SiteCredential) -> pb.SiteCredential:
    """Returns a credential's message."""
    site = credential.site
    return pb.SiteCredential(
        site=site.name,
        endpoints=[endpoint_message(site.id, one) for one in site.endpoints],
        certificate_authorities=authority_messages(site),
        credential_id=credential.credential_id,
        proxy_pem=credential.pem,
        expire_time=timestamp(credential.expire_ms),
        session_expire_time=timestamp(credential.session_expire_ms),
        data_channel=_DATA_CHANNEL_VALUES[site.draft.data_channel],
    )


def timestamp(milliseconds: int) -> Timestamp:
    """Returns the timestamp of a time in milliseconds since the epoch."""
    moment = Timestamp()
    moment.FromMilliseconds(milliseconds)
    return moment
