"""A certificate authority for tests, with host certificates whose roles the access table knows.

pki = TestPki(tmp_path)
pki.issue("queue")                    # role `queue`, subject /O=Wherry test/CN=queue
pki.issue("stranger", roles=())       # of our CA, and nobody
Access(roles=pki.roles)               # or `pki.roles` in `[access.roles]` of a buildout
with running(service, "127.0.0.1:0", pki.material("queue")) as port: ...
async with pki.channel("worker", f"127.0.0.1:{port}") as channel: ...
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from wherry_chassis.access import CERTIFICATE_ROLES
from wherry_chassis.identity import certificate_identity
from wherry_chassis.tls import CHANNEL_OPTIONS, MaterialFiles

ORGANISATION = "Wherry test"
_ROLE_OF = {"user": "user-service"}
"""Where the role of a name is not the name itself."""


@dataclass(frozen=True)
class HostFiles:
    """A host certificate as a service reads it.

    Attributes:
        certificate, key, ca: PEM files.
        subject: in the grid form, as access tables name it.
        thumbprint: hexadecimal SHA-256 of the certificate, as lease tokens are bound to.
    """

    certificate: Path
    key: Path
    ca: Path
    subject: str
    thumbprint: str


class TestPki:
    """A CA and what it has issued, in a folder. Keys are EC P-256, so issuing takes about a millisecond."""

    __test__ = False  # pytest would take it for tests, by its name

    def __init__(self, folder: Path, *, name: str = "CA") -> None:
        self.folder = folder
        self.roles: dict[str, list[str]] = {}
        self._issued: dict[str, HostFiles] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _subject(name)
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(self._sign(self._name, self._key.public_key(), days=30, extensions=_ca_extensions()))

    def issue(
        self,
        name: str,
        *,
        roles: Iterable[str] | None = None,
        addresses: Sequence[str] = ("127.0.0.1", "::1"),
        hosts: Sequence[str] = ("localhost",),
        days: float = 1,
    ) -> HostFiles:
        """Issues a certificate, again in place of the one before if there is one: same files, new key.

        Args:
            name: the common name, and the stem of the files.
            roles: its roles; the one that bears its name if not given, and none if there is no such role.
            addresses, hosts: what its bearer may be reached as.
            days: until it expires; negative for one that has.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.DNSName(host) for host in hosts]
        names += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        pem = self._sign(_subject(name), key.public_key(), days=days, extensions=_host_extensions(names))
        certificate, key_file = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        key_file.touch(mode=0o600)
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        certificate.write_bytes(pem)
        subject, thumbprint = certificate_identity(pem)
        if roles is None:
            own = _ROLE_OF.get(name, name)
            roles = [own] if own in CERTIFICATE_ROLES else []
        for role in roles:
            if subject not in self.roles.setdefault(role, []):
                self.roles[role].append(subject)
        self._issued[name] = HostFiles(certificate, key_file, self.ca, subject, thumbprint)
        return self._issued[name]

    def files(self, name: str) -> HostFiles:
        """Returns what was issued under a name; issues it, with the role of that name, if nothing was."""
        return self._issued[name] if name in self._issued else self.issue(name)

    def material(self, name: str) -> MaterialFiles:
        """Returns a host certificate as `wherry_chassis.server.running` and `ServiceChannels` take it."""
        files = self.files(name)
        return MaterialFiles(files.certificate, files.key, files.ca)

    def channel(self, name: str, address: str) -> grpc.aio.Channel:
        """Returns a channel to `host:port` for the bearer of a certificate; close it, or use it as a context."""
        files = self.files(name)
        credentials = grpc.ssl_channel_credentials(
            files.ca.read_bytes(), files.key.read_bytes(), files.certificate.read_bytes()
        )
        return grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS)

    def _sign(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePublicKey,
        *,
        days: float,
        extensions: Sequence[tuple[x509.ExtensionType, bool]],
    ) -> bytes:
        now = dt.datetime.now(dt.UTC)
        ends = now + dt.timedelta(days=days)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(now, ends) - dt.timedelta(hours=1))
            .not_valid_after(ends)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _subject(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _ca_extensions() -> list[tuple[x509.ExtensionType, bool]]:
    return [
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (_usage(signs_certificates=True), True),
    ]


def _host_extensions(names: list[x509.GeneralName]) -> list[tuple[x509.ExtensionType, bool]]:
    # A host is a server to some and a client to others, with one certificate.
    both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    return [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (_usage(signs_certificates=False), True),
        (both, False),
        (x509.SubjectAlternativeName(names), False),
    ]
