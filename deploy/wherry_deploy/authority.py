"""The deployment's own certificate authority and the host certificates that it signs: EC P-256, PEM."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_DAYS = 3650
HOST_DAYS = 397
_CLOCKS_APART = datetime.timedelta(minutes=5)


def make_key() -> bytes:
    """Returns a new private key, PEM (PKCS #8)."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def organisation(deployment: str) -> str:
    """Returns the organisation that stands in all certificates of a deployment."""
    return f"Wherry {deployment}"


def subject(deployment: str, host: str) -> str:
    """Returns the subject of a host's certificate in the grid form, as `[access.roles]` names it."""
    return f"/O={organisation(deployment)}/CN={host}"


def make_authority(deployment: str, key_pem: bytes) -> bytes:
    """Returns the self-signed certificate of a deployment's authority, PEM."""
    key = _load(key_pem)
    name = _name(deployment, "CA")
    builder = (
        _builder(name, name, key.public_key(), CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def sign_host(
    deployment: str, host: str, key_pem: bytes, ca_pem: bytes, ca_key_pem: bytes, names: Sequence[str], *, serves: bool
) -> bytes:
    """Returns the certificate of a host, PEM.

    Args:
        deployment: the deployment's name.
        host: the common name, as `worker`.
        key_pem: the host's own key.
        ca_pem: the authority's certificate.
        ca_key_pem: the authority's key.
        names: DNS names and IP addresses by which the host is reached.
        serves: whether it may also be a server's certificate, not a client's only.

    Raises:
        ValueError: the authority's key does not belong to its certificate, or one of the files is no PEM.
    """
    ca, ca_key = x509.load_pem_x509_certificate(ca_pem), _load(ca_key_pem)
    if ca_key.public_key() != ca.public_key():
        raise ValueError("the authority's key does not belong to its certificate")
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if serves else [])]
    authority_key_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    builder = (
        _builder(_name(deployment, host), ca.subject, _load(key_pem).public_key(), HOST_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName([_alternative(name) for name in names]), critical=False)
        .add_extension(authority_key_id, critical=False)
    )
    return builder.sign(ca_key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _load(pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ValueError("the key is not an elliptic curve's")
    return key


def _name(deployment: str, host: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organisation(deployment)),
            x509.NameAttribute(NameOID.COMMON_NAME, host),
        ]
    )


def _builder(
    subject_name: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject_name)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS_APART)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
