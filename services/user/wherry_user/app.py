"""The user service, put together."""

from __future__ import annotations

import base64
import binascii
import ssl

import grpc
from wherry.user.v1 import user_service_pb2 as pb
from wherry.user.v1 import user_service_pb2_grpc as rpc
from wherry_chassis.access import build_table
from wherry_chassis.buildout import Buildout, BuildoutError, Mail, SecretRef, database_url
from wherry_chassis.interceptors import chain
from wherry_chassis.pseudonyms import random_pseudonym
from wherry_chassis.revocations import Revocations
from wherry_chassis.server import Service
from wherry_chassis.sql import Database
from wherry_chassis.tokens import LEEWAY_S, TokenVerifier

from wherry_user.accounts import Accounts
from wherry_user.clock import random_id, random_secret, system_clock
from wherry_user.deletion import AccountDeletion
from wherry_user.mail import MailTexts
from wherry_user.passwords import Argon2Hasher
from wherry_user.revocations import Revocation, RevocationFeed, Subject
from wherry_user.servicer import KeyServicer, RevocationServicer, SessionServicer, UserServicer
from wherry_user.sessions import Sessions
from wherry_user.signing import AccessTokens, KeyRing, KeySeal, SealBroken
from wherry_user.smtp import Login, SmtpMailer
from wherry_user.store import SqlStore
from wherry_user.sweeping import Sweeper

_MARGIN_MS = 2 * LEEWAY_S * 1000
"""Verifiers allow for clocks that differ; so long may a token live on after its end. Twice, to be on the safe side."""


def build(buildout: Buildout, replica: int) -> Service:  # noqa: ARG001  # all replicas are alike
    """Returns the service of a deployment.

    Raises:
        BuildoutError: a secret cannot be read, or is not what it has to be.
    """
    tokens = buildout.tokens
    try:
        table = build_table(buildout.access)
    except ValueError as error:
        raise BuildoutError(str(error)) from error
    seal = _seal(tokens.signing_key_encryption_key)
    mailer = _mailer(buildout.mail)
    database = Database(database_url(buildout.service.user))
    store = SqlStore(database)
    hasher = Argon2Hasher()
    access_ttl_ms = int(tokens.access_ttl_s * 1000)
    ring = KeyRing(store, seal, token_life_ms=access_ttl_ms + _MARGIN_MS, clock=system_clock, new_id=random_id)
    revocations = Revocations()
    feed = RevocationFeed(store, lambda revocation: revocations.add(*_refused(revocation)))
    accounts = Accounts(
        store,
        hasher,
        mailer,
        MailTexts(buildout.deployment.name, buildout.mail.verify_url),
        verification_ttl_ms=int(tokens.verification_ttl_s * 1000),
        clock=system_clock,
        new_id=random_id,
        new_secret=random_secret,
    )
    sessions = Sessions(
        store,
        hasher,
        AccessTokens(ring, tokens.issuer, tokens.audience, access_ttl_ms),
        feed,
        refresh_ttl_ms=int(tokens.refresh_ttl_s * 1000),
        margin_ms=_MARGIN_MS,
        clock=system_clock,
        new_id=random_id,
        new_secret=random_secret,
    )
    deletion = AccountDeletion(
        store, hasher, feed, margin_ms=_MARGIN_MS, clock=system_clock, new_pseudonym=random_pseudonym
    )
    sweeper = Sweeper(store, system_clock)
    verifier = TokenVerifier(ring, issuer=tokens.issuer, audience=tokens.audience, revocations=revocations)

    async def open_ring() -> None:
        try:
            await ring.open()
        except SealBroken as error:
            raise BuildoutError(f"tokens.signing_key_encryption_key: {error}") from error

    def register(server: grpc.aio.Server) -> None:
        rpc.add_UserServiceServicer_to_server(UserServicer(accounts, sessions, deletion), server)
        rpc.add_SessionServiceServicer_to_server(SessionServicer(sessions, system_clock), server)
        rpc.add_KeyServiceServicer_to_server(KeyServicer(ring), server)
        rpc.add_RevocationServiceServicer_to_server(RevocationServicer(feed), server)

    return Service(
        name="user",
        register=register,
        service_names=[service.full_name for service in pb.DESCRIPTOR.services_by_name.values()],
        interceptors=chain(table, verifier),
        database=database,
        # What has been revoked is known before the first token is looked at: a restart forgets no sign-out.
        before_start=[open_ring, feed.catch_up],
        background=[ring.run, feed.run, accounts.deliver_resends, sweeper.run],
        before_stop=feed.close,
        close=[hasher.close],
    )


def _refused(revocation: Revocation) -> tuple[str, float]:
    """Returns what the chassis refuses, and until when in seconds since the epoch."""
    subject = revocation.subject if revocation.kind is Subject.SESSION else f"users/{revocation.subject}"
    return subject, revocation.expires_ms / 1000


def _seal(reference: SecretRef) -> KeySeal:
    try:
        return KeySeal(base64.b64decode(reference.read(), validate=True))
    except (binascii.Error, ValueError) as error:
        raise BuildoutError(
            f"tokens.signing_key_encryption_key: {error}; 32 random bytes in base64 are wanted"
        ) from error


def _mailer(mail: Mail) -> SmtpMailer:
    login = None
    if mail.username is not None:
        if mail.password is None:
            raise BuildoutError("mail.password: missing, since mail.username is given")
        if mail.security == "none":
            raise BuildoutError("mail.security: a login needs `starttls` or `tls`, or the password could be read")
        login = Login(mail.username, mail.password.read().decode())
    try:
        trust = ssl.create_default_context(cafile=mail.ca)
    except OSError as error:
        raise BuildoutError(f"mail.ca: cannot be read: {error}") from error
    return SmtpMailer(mail.host, mail.port, mail.security, mail.sender, trust, login)
