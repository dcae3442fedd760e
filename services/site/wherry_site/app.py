"""The site service, put together."""

from __future__ import annotations

import asyncio
import secrets
import time

import grpc
from wherry.site.v1 import site_service_pb2 as pb
from wherry.site.v1 import site_service_pb2_grpc as pb_grpc
from wherry_chassis.access import build_table
from wherry_chassis.buildout import Buildout, BuildoutError, database_url
from wherry_chassis.command import material_files
from wherry_chassis.errors import DatabaseUnavailable
from wherry_chassis.interceptors import chain
from wherry_chassis.logging import logger
from wherry_chassis.revocations import Revocations, follow
from wherry_chassis.server import Service
from wherry_chassis.sql import Database
from wherry_chassis.tls import ServiceChannels
from wherry_chassis.tokens import RemoteKeys, TokenVerifier

from wherry_site.credentials import CredentialDesk
from wherry_site.deletion import UserDeletion
from wherry_site.directory import SiteDirectory
from wherry_site.egress import Egress, SystemResolver
from wherry_site.issued import IssuedProxies
from wherry_site.key_pool import KeyPool
from wherry_site.lease_keys import RemoteLeaseKeys
from wherry_site.leases import LeaseVerifier
from wherry_site.myproxy import MyProxySignIn
from wherry_site.registry import SiteRegistry
from wherry_site.servicer.credentials import CredentialServicer
from wherry_site.servicer.sessions import SiteDirectoryServicer, SiteSessionServicer
from wherry_site.servicer.sites import SiteServicer
from wherry_site.session_changes import session_changes
from wherry_site.sessions import SiteSessions
from wherry_site.store import Store
from wherry_site.vault import Vault

_EXPIRE_S = 1.0
_SWEEP_S = 30.0


def build(buildout: Buildout, replica: int) -> Service:  # noqa: ARG001  # replicas of this service are all alike
    """Returns the service of a deployment.

    Raises:
        BuildoutError: a secret or a certificate cannot be used.
    """
    section = buildout.service.site
    try:
        vault = Vault.from_secret(section.key_encryption_key.read())
    except ValueError as error:
        raise BuildoutError(f"service.site.key_encryption_key, {section.key_encryption_key}: {error}") from error
    files = material_files(buildout, "site")
    to_users = ServiceChannels(buildout.service.user.addresses, files)
    to_revocations = ServiceChannels(buildout.service.user.addresses, files)
    to_queue = ServiceChannels(buildout.service.queue.addresses, files)
    revocations = Revocations()
    verifier = TokenVerifier(
        RemoteKeys(to_users),
        issuer=buildout.tokens.issuer,
        audience=buildout.tokens.audience,
        revocations=revocations,
    )
    database = Database(database_url(section))
    store = Store(database, changed=lambda: changes.wake())
    changes = session_changes(store)
    egress = Egress(SystemResolver(), buildout.egress.allow)
    keys = KeyPool()
    issued = IssuedProxies()
    registry = SiteRegistry(store, egress, now_ms=_now_ms, new_id=lambda: secrets.token_hex(4))
    sessions = SiteSessions(
        registry=registry,
        store=store,
        egress=egress,
        sign_in=MyProxySignIn(keys.take, timeout_s=section.myproxy_timeout_s),
        vault=vault,
        issued=issued,
        now_ms=_now_ms,
        new_id=_new_id,
    )
    desk = CredentialDesk(
        verifier=LeaseVerifier(RemoteLeaseKeys(to_queue), now_s=time.time),
        store=store,
        vault=vault,
        keys=keys,
        issued=issued,
        now_ms=_now_ms,
        new_id=_new_id,
    )
    directory = SiteDirectory(store, vault, now_ms=_now_ms)
    deletion = UserDeletion(store, issued, now_ms=_now_ms)

    def register(server: grpc.aio.Server) -> None:
        pb_grpc.add_SiteServiceServicer_to_server(SiteServicer(registry), server)
        pb_grpc.add_SiteSessionServiceServicer_to_server(SiteSessionServicer(sessions), server)
        pb_grpc.add_SiteDirectoryServiceServicer_to_server(SiteDirectoryServicer(directory, changes), server)
        pb_grpc.add_CredentialServiceServicer_to_server(CredentialServicer(desk), server)

    return Service(
        name="site",
        register=register,
        service_names=[service.full_name for service in pb.DESCRIPTOR.services_by_name.values()],
        interceptors=chain(build_table(buildout.access), verifier),
        database=database,
        background=[
            lambda: follow(to_revocations, revocations, deletion.forget),
            changes.run,
            keys.fill,
            lambda: _expire(sessions),
            lambda: _sweep(sessions, desk),
        ],
        before_stop=changes.close,
        close=[to_users.close, to_revocations.close, to_queue.close],
    )


async def _expire(sessions: SiteSessions) -> None:
    """Ends sessions within about a second of their ends, for ever."""
    while True:
        try:
            if ended := await sessions.expire():
                logger().info("site_sessions_ended", count=ended)
        except DatabaseUnavailable:
            logger().warning("expiry_postponed")
        await asyncio.sleep(_EXPIRE_S)


async def _sweep(sessions: SiteSessions, desk: CredentialDesk) -> None:
    """Deletes what nobody needs any more, for ever."""
    while True:
        try:
            await sessions.sweep()
            await desk.sweep()
        except DatabaseUnavailable:
            logger().warning("sweep_postponed")
        await asyncio.sleep(_SWEEP_S)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _new_id() -> str:
    return secrets.token_hex(16)
