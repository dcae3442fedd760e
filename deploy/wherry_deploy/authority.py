"""The deployment's two certificate authorities and the certificates that they sign: EC P-256, PEM.

One is for the deployment's own hosts among themselves. The other is for what browsers and the `wherry` command meet: it
is constrained by name (RFC 5280, 4.2.1.10), so that whoever imports it believes it for this deployment alone.
"""

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
_ALL_ADDRESSES = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
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


def make_web_authority(deployment: str, key_pem: bytes, hosts: Sequence[str]) -> bytes:
    """Returns the self-signed certificate of the authority for the public side, PEM.

    Args:
        deployment: the deployment's name.
        key_pem: its key.
        hosts: DNS names (each with all below it) for which it may sign. With an IP address among them it may sign for
            all addresses, otherwise for none: BoringSSL, which gRPC has, refuses a certificate that names an address
            when its authority has any constraint on addresses ("unsupported name constraint type").
    """
    key = _load(key_pem)
    name = _name(deployment, "Web CA")
    permitted = [x509.DNSName(host) for host in hosts if not is_address(host)]
    excluded = None if any(map(is_address, hosts)) else [x509.IPAddress(network) for network in _ALL_ADDRESSES]
    builder = (
        _builder(name, name, key.public_key(), CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.NameConstraints(permitted or None, excluded), critical=True)
    )
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def may_sign(ca_pem: bytes, host: str) -> bool:
    """Tells whether an authority of `make_web_authority` may sign for a DNS name or an IP address.

    Raises:
        ValueError: the file is no PEM.
    """
    ca = x509.load_pem_x509_certificate(ca_pem)
    try:
        constraints = ca.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return True
    if is_address(host):
        return not constraints.excluded_subtrees
    permitted = [name.value.lower() for name in constraints.permitted_subtrees or () if isinstance(name, x509.DNSName)]
    return any(host.lower() == suffix or host.lower().endswith(f".{suffix}") for suffix in permitted)


def is_address(host: str) -> bool:
    """Tells whether a host is given by its IP address."""
    return isinstance(_alternative(host), x509.IPAddress)


def sign_web(deployment: str, key_pem: bytes, ca_pem: bytes, ca_key_pem: bytes, names: Sequence[str]) -> bytes:
    """Returns the certificate that the gateway shows to its callers, PEM. `names` and errors as in `sign_host`."""
    usages = [ExtendedKeyUsageOID.SERVER_AUTH]
    return _sign(_name(deployment, "web"), key_pem, ca_pem, ca_key_pem, names, usages)


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
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if serves else [])]
    return _sign(_name(deployment, host), key_pem, ca_pem, ca_key_pem, names, usages)


def _sign(
    name: x509.Name,
    key_pem: bytes,
    ca_pem: bytes,
    ca_key_pem: bytes,
    names: Sequence[str],
    usages: Sequence[x509.ObjectIdentifier],
) -> bytes:
    ca, ca_key = x509.load_pem_x509_certificate(ca_pem), _load(ca_key_pem)
    if ca_key.public_key() != ca.public_key():
        raise ValueError("the authority's key does not belong to its certificate")
    authority_key_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    builder = (
        _builder(name, ca.subject, _load(key_pem).public_key(), HOST_DAYS)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName([_alternative(other) for other in names]), critical=False)
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
