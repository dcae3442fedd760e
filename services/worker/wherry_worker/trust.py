"""A trust directory as Globus and OpenSSL read it: `<hash>.0` with a CA, `<hash>.signing_policy` with what it may sign.

The policies are made here, from the namespaces that the site declared, so that a site's CA can speak for nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from wherry_chassis.identity import grid_subject

_UTF8_STRING = 0x0C
_SEQUENCE = 0x30
_SET = 0x31
#: Types whose text OpenSSL folds before it hashes; others are taken as they are.
_FOLDED = frozenset({0x0C, 0x13, 0x14, 0x16, 0x1A, 0x1C, 0x1E})


class TrustError(Exception):
    """The CAs of the task's sites cannot be trusted side by side, or one is no certificate."""


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA: its certificate, PEM, and the subjects (grid form, `*` at the end) that it may sign; none means any."""

    certificate_pem: str
    namespaces: tuple[str, ...] = ()


def write_trust_directory(folder: Path, authorities: Iterable[Authority]) -> None:
    """Makes a directory with exactly these CAs.

    Raises:
        TrustError: a certificate cannot be read, or two CAs have the same subject and different keys.
    """
    folder.mkdir(mode=0o700)
    keys: dict[str, bytes] = {}
    for authority in authorities:
        try:
            certificate = x509.load_pem_x509_certificate(authority.certificate_pem.encode())
        except ValueError as error:
            raise TrustError("a CA certificate of the site cannot be read") from error
        name = subject_hash(certificate.subject)
        der = certificate.public_bytes(Encoding.DER)
        if keys.setdefault(name, der) != der:
            raise TrustError(f"two CAs have the name {grid_subject(certificate.subject)} and different keys")
        (folder / f"{name}.0").write_bytes(certificate.public_bytes(Encoding.PEM))
        (folder / f"{name}.signing_policy").write_text(signing_policy(certificate, authority.namespaces))


def signing_policy(certificate: x509.Certificate, namespaces: Iterable[str]) -> str:
    """Returns the policy file's text; without namespaces the CA may sign any subject."""
    subjects = " ".join(f'"{_quotable(namespace)}"' for namespace in namespaces) or '"*"'
    return (
        f"access_id_CA   X509    '{_quotable(grid_subject(certificate.subject))}'\n"
        "pos_rights     globus  CA:sign\n"
        f"cond_subjects  globus  '{subjects}'\n"
    )


def _quotable(text: str) -> str:
    if any(char in "'\"\r\n\0" for char in text):
        raise TrustError("a CA's name or namespace holds a quote or a line break")
    return text


def subject_hash(name: x509.Name) -> str:
    """Returns the hash that OpenSSL looks a CA up by, as `openssl x509 -hash` prints it.

    It is the SHA-1 of the name's canonical form: every text as UTF-8, lower case, white space trimmed and collapsed.
    (`X509_NAME_hash` in OpenSSL's crypto/x509/x509_cmp.c says so.)
    """
    canonical = b""
    for part in name.rdns:
        members = []
        for attribute in part:
            oid, value_type, value = _attribute(attribute)
            if value_type in _FOLDED:
                text = " ".join(str(attribute.value).split(" ")).strip()
                while "  " in text:
                    text = text.replace("  ", " ")
                folded = "".join(char.lower() if char.isascii() else char for char in text)
                value = _der(_UTF8_STRING, folded.encode())
            members.append(_der(_SEQUENCE, oid + value))
        canonical += _der(_SET, b"".join(sorted(members)))
    digest = hashlib.sha1(canonical, usedforsecurity=False).digest()
    return f"{int.from_bytes(digest[:4], 'little'):08x}"


def _attribute(attribute: x509.NameAttribute[str | bytes]) -> tuple[bytes, int, bytes]:
    """Returns (OID in DER, tag of the value, value in DER)."""
    # A name with this one attribute, in DER: SEQUENCE { SET { SEQUENCE { OID, value } } }.
    body = x509.Name([attribute]).public_bytes()
    for _ in range(3):
        _, body = _unwrap(body)
    length = 2 + body[1]  # an OID is shorter than 128 bytes
    return body[:length], body[length], body[length:]


def _unwrap(der: bytes) -> tuple[int, bytes]:
    if der[1] < 0x80:
        return der[0], der[2 : 2 + der[1]]
    count = der[1] & 0x7F
    length = int.from_bytes(der[2 : 2 + count], "big")
    return der[0], der[2 + count : 2 + count + length]


def _der(tag: int, content: bytes) -> bytes:
    if len(content) < 0x80:
        return bytes([tag, len(content)]) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content
