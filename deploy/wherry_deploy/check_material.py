"""Checks of what lies in files: the authority, host certificates, keys and other secrets."""

from __future__ import annotations

import base64
import binascii
import datetime
import ipaddress
import os
import stat
from collections.abc import Collection, Generator
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from wherry_chassis.access import build_table
from wherry_chassis.buildout import Buildout, BuildoutError, Gateway, Identity, SecretRef, Service
from wherry_chassis.identity import grid_subject

from wherry_deploy.findings import Finding, Findings
from wherry_deploy.ports import split

_RENEW_WITHIN = datetime.timedelta(days=14)
_WRAPPING_KEY_BYTES = 32
_ROLE = {"user": "user-service", "site": "site", "queue": "queue", "worker": "worker", "gateway": "gateway"}
"""What the holder of each certificate has to be in `[access.roles]`."""


def check_material(buildout: Buildout) -> Findings:
    """Looks at every certificate, key and secret that the file names."""
    authorities = yield from _authorities(buildout)
    sections: dict[tuple[str, ...], Identity] = {
        **{("service", name): getattr(buildout.service, name) for name in ("user", "site", "queue")},
        ("worker",): buildout.worker,
    }
    if buildout.gateway is not None:
        sections["gateway",] = buildout.gateway
    for key, section in sections.items():
        yield from _identity(buildout, key, section, authorities)
    if buildout.gateway is not None:
        yield from _public(buildout.gateway)
    yield from _secrets(buildout)
    if (file := buildout.mail.ca) is not None and not os.access(file, os.R_OK):
        yield Finding(("mail", "ca"), f"{file} cannot be read")


def _authorities(buildout: Buildout) -> Generator[Finding, None, list[x509.Certificate]]:
    key, file = ("deployment", "ca"), buildout.deployment.ca
    try:
        found = x509.load_pem_x509_certificates(file.read_bytes())
    except OSError as error:
        yield Finding(key, f"{file} cannot be read ({error.strerror}); `wherry-buildout init` makes one")
        return []
    except ValueError:
        yield Finding(key, f"{file} holds no certificate in PEM")
        return []
    for certificate in found:
        try:
            constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        except x509.ExtensionNotFound:
            constraints = x509.BasicConstraints(ca=False, path_length=None)
        if not constraints.ca:
            yield Finding(key, f"{file}: {grid_subject(certificate.subject)} is not an authority's certificate")
        yield from _validity(key, file, certificate)
    return found


def _identity(
    buildout: Buildout, key: tuple[str, ...], section: Identity, authorities: list[x509.Certificate]
) -> Findings:
    certificate_key, file = (*key, "certificate"), section.certificate
    chain = yield from _chain(certificate_key, file)
    yield from _private_key((*key, "key"), section.key, file, chain)
    if not chain:
        return
    yield from _validity(certificate_key, file, chain[0])
    if authorities and not _signed(chain, authorities):
        yield Finding(certificate_key, f"{file} is not signed by an authority of {buildout.deployment.ca}")
    if isinstance(section, Service):
        hosts = {split(address)[0] for address in section.addresses}
        yield from _names(certificate_key, file, hosts, chain[0])
    yield from _role(buildout, certificate_key, key[-1], chain[0])


def _public(gateway: Gateway) -> Findings:
    """Looks at what the gateway's callers see."""
    key, file = ("gateway", "public_certificate"), gateway.public_certificate
    chain = yield from _chain(key, file)
    yield from _private_key(("gateway", "public_key"), gateway.public_key, file, chain)
    if chain:
        yield from _validity(key, file, chain[0], "renew it (one that init has made: remove it, and run init again)")
        yield from _names(key, file, {urlsplit(gateway.public_url).hostname or ""}, chain[0])


def _chain(key: tuple[str, ...], file: Path) -> Generator[Finding, None, list[x509.Certificate]]:
    try:
        return x509.load_pem_x509_certificates(file.read_bytes())
    except OSError as error:
        yield Finding(key, f"{file} cannot be read ({error.strerror}); `wherry-buildout init` makes one")
    except ValueError:
        yield Finding(key, f"{file} holds no certificate in PEM")
    return []


def _private_key(key: tuple[str, ...], file: Path, certificate: Path, chain: list[x509.Certificate]) -> Findings:
    try:
        private = load_pem_private_key(file.read_bytes(), None)
        mode = stat.S_IMODE(file.stat().st_mode)
    except OSError as error:
        yield Finding(key, f"{file} cannot be read ({error.strerror})")
        return
    except (ValueError, TypeError):
        yield Finding(key, f"{file} holds no private key in PEM, or one under a password")
        return
    if mode & 0o077:
        yield Finding(key, f"{file} can be read by others (mode {mode:04o}): chmod 600 it")
    if chain and private.public_key() != chain[0].public_key():
        yield Finding(key, f"{file} does not belong to the certificate {certificate}")


def _validity(
    key: tuple[str, ...],
    file: Path,
    certificate: x509.Certificate,
    advice: str = "remove it and run `wherry-buildout init`, which makes a new one",
) -> Findings:
    now = datetime.datetime.now(datetime.UTC)
    left = certificate.not_valid_after_utc - now
    if certificate.not_valid_before_utc > now:
        yield Finding(key, f"{file} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC")
    elif left <= datetime.timedelta():
        yield Finding(key, f"{file} expired on {certificate.not_valid_after_utc:%Y-%m-%d}; {advice}")
    elif left < _RENEW_WITHIN:
        yield Finding(key, f"{file} expires in {left.days} days; {advice}", fatal=False)


def _signed(chain: list[x509.Certificate], authorities: list[x509.Certificate]) -> bool:
    """Whether the chain, in its order, leads to one of the authorities."""
    last = chain[0]
    for issuer in chain[1:]:
        if not _issued(last, issuer):
            break
        last = issuer
    return any(_issued(last, authority) or last == authority for authority in authorities)


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _names(key: tuple[str, ...], file: Path, hosts: Collection[str], certificate: x509.Certificate) -> Findings:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        yield Finding(key, f"{file} has no subject alternative names, and clients go by nothing else")
        return
    dns = {name.lower() for name in names.get_values_for_type(x509.DNSName)}
    addresses = set(names.get_values_for_type(x509.IPAddress))
    for host in sorted(hosts):
        try:
            covered = ipaddress.ip_address(host) in addresses
        except ValueError:
            covered = host.lower() in dns or f"*.{host.lower().partition('.')[2]}" in dns
        if not covered:
            yield Finding(key, f"{file} does not name {host}, under which it is met: clients would refuse")


def _role(buildout: Buildout, key: tuple[str, ...], who: str, certificate: x509.Certificate) -> Findings:
    table = build_table(buildout.access)
    name, role = grid_subject(certificate.subject), _ROLE[who]
    if role not in table.roles_of(name):
        yield Finding(key, f'its subject {name} is not named in access.roles.{role}: add "{name}" there')


def _secrets(buildout: Buildout) -> Findings:
    for key, reference, wrapping in (
        (("service", "site", "key_encryption_key"), buildout.service.site.key_encryption_key, True),
        (("tokens", "signing_key_encryption_key"), buildout.tokens.signing_key_encryption_key, True),
        (("mail", "password"), buildout.mail.password, False),
        *((("service", name, "database"), _reference(buildout, name), False) for name in ("user", "site", "queue")),
    ):
        if reference is not None:
            yield from _secret(key, reference, wrapping=wrapping)


def _reference(buildout: Buildout, service: str) -> SecretRef | None:
    database = getattr(buildout.service, service).database
    return database if isinstance(database, SecretRef) else None


def _secret(key: tuple[str, ...], reference: SecretRef, *, wrapping: bool) -> Findings:
    try:
        secret = reference.read()
    except BuildoutError as error:
        yield Finding(key, str(error))
        return
    if reference.startswith("file:"):
        file = Path(reference.removeprefix("file:"))
        mode = stat.S_IMODE(file.stat().st_mode)
        if mode & 0o077:
            yield Finding(key, f"{file} can be read by others (mode {mode:04o}): chmod 600 it")
    if wrapping and not _is_wrapping_key(secret):
        yield Finding(key, f"{reference} must hold {_WRAPPING_KEY_BYTES} bytes in base64: openssl rand -base64 32")


def _is_wrapping_key(secret: bytes) -> bool:
    try:
        return len(base64.b64decode(secret, validate=True)) == _WRAPPING_KEY_BYTES
    except binascii.Error:
        return False
