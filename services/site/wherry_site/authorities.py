"""The CAs of a site, and what each may speak for."""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import dsa, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from wherry_chassis.errors import FieldProblem
from wherry_chassis.identity import grid_subject

_SUBJECT_MAX = 1000
# As it goes into a signing policy between quotes: nothing that ends them, a `*` only at the end, and something before
# it, so that no CA speaks for everybody.
_NAMESPACE = re.compile(r"(/[A-Za-z][A-Za-z0-9.]*=[^\"'\\*\x00-\x1f\x7f]+)+(/?\*)?")


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA that a site declares.

    Attributes:
        pem: its certificate, nothing before or behind it.
        namespaces: the subjects that it may sign, in the grid form with `*` at the end.
    """

    pem: str
    namespaces: Sequence[str]

    @property
    def certificate(self) -> x509.Certificate:
        """The certificate, parsed."""
        return x509.load_pem_x509_certificate(self.pem.encode())

    @property
    def subject(self) -> str:
        """Its subject in the grid form."""
        return grid_subject(self.certificate.subject)

    @property
    def key_fingerprint(self) -> str:
        """Hexadecimal SHA-256 of its public key."""
        spki = self.certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return hashlib.sha256(spki).hexdigest()


def parse_authorities(
    given: Sequence[tuple[str, Sequence[str]]], now: dt.datetime, prefix: str = "site."
) -> tuple[list[Authority], list[FieldProblem]]:
    """Returns the CAs out of (PEM, namespaces) pairs, and what is unfit about them."""
    authorities: list[Authority] = []
    problems: list[FieldProblem] = []
    if not given:
        problems.append(FieldProblem(f"{prefix}certificate_authorities", "give the certificates of the site's CAs"))
    for index, (pem, namespaces) in enumerate(given):
        path = f"{prefix}certificate_authorities[{index}]"
        try:
            authority = parse_authority(pem, namespaces, now)
        except ValueError as error:
            problems.append(FieldProblem(f"{path}.certificate_pem", str(error)))
            continue
        if any(other.subject == authority.subject for other in authorities):
            problems.append(FieldProblem(f"{path}.certificate_pem", "a CA of the same subject stands before it"))
        if not authority.namespaces:
            problems.append(FieldProblem(f"{path}.namespaces", "name the subjects that the CA may sign, as /O=SITE/*"))
        for place, namespace in enumerate(authority.namespaces):
            if not _NAMESPACE.fullmatch(namespace):
                fault = "write it in the grid form with * at its end only, as /O=SITE/OU=Users/*"
                problems.append(FieldProblem(f"{path}.namespaces[{place}]", fault))
        authorities.append(authority)
    return authorities, problems


def parse_authority(pem: str, namespaces: Sequence[str], now: dt.datetime) -> Authority:
    """Returns a CA; without namespaces it gets that of its own subject, where there is something to take.

    Raises:
        ValueError: not one certificate of a CA that is valid now; the message says what is wrong.
    """
    if "PRIVATE KEY" in pem:
        raise ValueError("has a private key in it: give the certificate only, and keep the key to yourself")
    try:
        certificates = x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        raise ValueError("not a certificate in PEM") from None
    if len(certificates) != 1:
        raise ValueError("more than one certificate: give each a place of its own")
    certificate = certificates[0]
    if not _is_authority(certificate):
        raise ValueError("not the certificate of a CA")
    key = certificate.public_key()
    if isinstance(key, dsa.DSAPublicKey) or (isinstance(key, rsa.RSAPublicKey) and key.key_size < 2048):
        raise ValueError("its key is too weak; RSA needs 2048 bits")
    if not certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc:
        raise ValueError("has expired, or is not valid yet")
    if len(grid_subject(certificate.subject)) > _SUBJECT_MAX:
        raise ValueError("its subject is too long")
    clean = certificate.public_bytes(Encoding.PEM).decode()
    return Authority(clean, tuple(namespaces) or _own_namespace(certificate))


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (x509.ExtensionNotFound, ValueError):
        return False


def _own_namespace(certificate: x509.Certificate) -> tuple[str, ...]:
    """Returns all that shares the CA's subject but for its last part, as `/O=SITE/*` for `/O=SITE/CN=Users CA`."""
    parts = list(certificate.subject)[:-1]
    return (f"{grid_subject(x509.Name(parts))}/*",) if parts else ()


def signing_fault(
    certificate: x509.Certificate, chain: Sequence[x509.Certificate], authorities: Sequence[Authority]
) -> str | None:
    """Says why a person's certificate is not one of these CAs' to give; None if it is."""
    top = certificate
    for link in chain:
        if not _issued(top, link) or not _is_authority(link):
            return "its chain of certificates is broken"
        top = link
    for authority in authorities:
        if _issued(top, authority.certificate):
            subject = grid_subject(certificate.subject)
            if any(_matches(subject, namespace) for namespace in authority.namespaces):
                return None
            return f"its CA may not sign {subject}"
    return "it is of none of the site's CAs"


def _matches(subject: str, namespace: str) -> bool:
    if namespace.endswith("*"):
        return subject.startswith(namespace[:-1])
    return subject == namespace


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
