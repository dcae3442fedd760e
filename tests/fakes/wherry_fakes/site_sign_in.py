"""Sites to sign in at, in memory: the port `SignIn` without a MyProxy."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from wherry_site.errors import SignInRefused, SiteNotTrusted, SiteUnreachable
from wherry_site.key_pool import generate_key
from wherry_site.sign_in import IssuedCredential, Password, SignInServer, check_request


@functools.cache
def shared_key(purpose: str) -> RSAPrivateKey:
    """Returns a key for a purpose, the same for the whole run: making one takes 100 ms."""
    return generate_key()


def _name(*parts: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(kind, value) for kind, value in parts])


class FakeCa:
    """A CA `/O={organisation}/CN={name}` that signs `/O={organisation}/OU=Users/*`."""

    def __init__(self, organisation: str, name: str = "Users CA", *, key: RSAPrivateKey | None = None) -> None:
        self.organisation = organisation
        self.key = key or shared_key(f"{organisation} {name}")
        self.name = _name((NameOID.ORGANIZATION_NAME, organisation), (NameOID.COMMON_NAME, name))
        self.certificate = self.sign(self.name, self.key, dt.timedelta(days=30), ca=True)

    @property
    def pem(self) -> str:
        """Its certificate."""
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def issue(self, account: str, key: RSAPrivateKey, life: dt.timedelta) -> x509.Certificate:
        """Returns an end-entity certificate for an account."""
        subject = _name(
            (NameOID.ORGANIZATION_NAME, self.organisation),
            (NameOID.ORGANIZATIONAL_UNIT_NAME, "Users"),
            (NameOID.COMMON_NAME, account),
        )
        return self.sign(subject, key, life)

    def issue_host(self, host: str, key: RSAPrivateKey) -> x509.Certificate:
        """Returns a host certificate."""
        subject = _name((NameOID.ORGANIZATION_NAME, self.organisation), (NameOID.COMMON_NAME, host))
        return self.sign(subject, key, dt.timedelta(hours=1), host=host)

    def sign(
        self, subject: x509.Name, key: RSAPrivateKey, life: dt.timedelta, *, ca: bool = False, host: str = ""
    ) -> x509.Certificate:
        """Returns a certificate; a negative life gives one that has expired."""
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .issuer_name(self.name)
            .subject_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(now, now + life) - dt.timedelta(minutes=5))
            .not_valid_after(now + life)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if host:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        return builder.sign(self.key, hashes.SHA256())


@dataclass
class FakeSite:
    """A place to sign in at.

    Attributes:
        accounts: names and passwords.
        max_life: it gives no longer.
        down: whether it does not answer.
    """

    name: str
    accounts: dict[str, str]
    port: int = 7512
    host: str = "localhost"
    max_life: dt.timedelta = dt.timedelta(hours=72)
    down: bool = False
    ca: FakeCa = field(init=False)

    def __post_init__(self) -> None:
        self.ca = FakeCa(self.name)

    @property
    def server(self) -> SignInServer:
        """Where it is."""
        return SignInServer(f"sites/{self.name}", self.host, self.port, ["127.0.0.1"], [self.ca.pem])


class FakeSignIn:
    """The port, for fake sites."""

    def __init__(self, *sites: FakeSite) -> None:
        self._sites = {(site.host, site.port): site for site in sites}

    async def sign_in(
        self, server: SignInServer, username: str, password: Password, lifetime_s: int
    ) -> IssuedCredential:
        """Signs in; see the port."""
        check_request(username, password, lifetime_s)
        address = f"{server.host}:{server.port}"
        site = self._sites.get((server.host, server.port))
        if site is None or site.down:
            raise SiteUnreachable(site=server.site, address=address)
        if site.ca.pem not in server.authorities:
            raise SiteNotTrusted(site=server.site, address=address, cause="unknown CA")
        if site.accounts.get(username) != password.reveal():
            raise SignInRefused(site=server.site)
        key = shared_key(f"{site.name} {username}")
        life = min(dt.timedelta(seconds=lifetime_s), site.max_life)
        return IssuedCredential(key, site.ca.issue(username, key, life))


def elsewhere(server: SignInServer, *, port: int) -> SignInServer:
    """Returns the same with another port."""
    return dataclasses.replace(server, port=port)
