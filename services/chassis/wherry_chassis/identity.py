"""Who is calling: the peer by its certificate, the user by their token."""

from __future__ import annotations

import contextvars
import functools
import hashlib
import re
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

_GRID_NAMES = {
    NameOID.COMMON_NAME: "CN",
    NameOID.ORGANIZATION_NAME: "O",
    NameOID.ORGANIZATIONAL_UNIT_NAME: "OU",
    NameOID.COUNTRY_NAME: "C",
    NameOID.STATE_OR_PROVINCE_NAME: "ST",
    NameOID.LOCALITY_NAME: "L",
    NameOID.DOMAIN_COMPONENT: "DC",
    NameOID.USER_ID: "UID",
    NameOID.EMAIL_ADDRESS: "emailAddress",
}
_NAMES = {short.upper(): short for short in _GRID_NAMES.values()} | {"EMAIL": "emailAddress", "E": "emailAddress"}
_NAME_OIDS = {
    spelling: oid
    for oid, short in _GRID_NAMES.items()
    for name in (short, *(key for key, value in _NAMES.items() if value == short))
    for spelling in (name, name.lower(), name.upper())
}
_BLANKS = re.compile(r"(?<!\\)((?:\\\\)*),\s+")
"""Blanks after a comma that separates; RFC 4514 has none, people write them."""


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end of the connection.

    Attributes:
        subject: its certificate's subject in the grid form.
        thumbprint: hexadecimal SHA-256 of its certificate (DER), as lease tokens are bound to.
        roles: what `[access.roles]` says it is.
    """

    subject: str
    thumbprint: str
    roles: frozenset[str]


@dataclass(frozen=True, slots=True)
class UserClaims:
    """What a verified access token says.

    Attributes:
        user: the resource name, `users/{user}`.
        session_id: the sign-in that the token comes from (`sid`).
        expires_s: end of the token, seconds since the epoch.
    """

    user: str
    session_id: str
    expires_s: int


@dataclass(frozen=True, slots=True)
class Caller:
    """The peer and, where the call came with a valid token, the user."""

    peer: Peer
    user: UserClaims | None
    address: str

    @property
    def user_name(self) -> str:
        """The user's resource name; only for RPCs that the access table gives to users."""
        if self.user is None:
            raise LookupError("the access table let a call without a user through to code that needs one")
        return self.user.user


_caller: contextvars.ContextVar[Caller] = contextvars.ContextVar("caller")


def current_caller() -> Caller:
    """Returns who made the call that is being served."""
    return _caller.get()


def set_caller(caller: Caller) -> contextvars.Token[Caller]:
    """Sets the caller for the current call; the interceptor chain does, and tests of servicers."""
    return _caller.set(caller)


@functools.lru_cache(maxsize=4096)
def certificate_identity(pem: bytes) -> tuple[str, str]:
    """Returns (subject in the grid form, SHA-256 thumbprint in hexadecimal) of a PEM certificate."""
    certificate = x509.load_pem_x509_certificate(pem)
    der = certificate.public_bytes(Encoding.DER)
    return grid_subject(certificate.subject), hashlib.sha256(der).hexdigest()


def grid_subject(name: x509.Name) -> str:
    r"""Returns a name in the grid form, as `/O=Wherry/CN=worker`, most significant part first.

    Within a value, a backslash stands before a backslash, and before a slash that would otherwise begin a part: the
    organisation `Wherry/CN=operator` is `/O=Wherry\/CN=operator`, and never somebody else's name.
    """
    return "".join(f"/{_GRID_NAMES.get(part.oid, part.oid.dotted_string)}={_escaped(str(part.value))}" for part in name)


def normalise_subject(text: str) -> str:
    """Returns a subject in the grid form, given that or RFC 4514 (`CN=worker,O=Wherry`).

    Raises:
        ValueError: it is neither.
    """
    wrong = f"{text!r} is no certificate subject; write it as /O=Organisation/CN=name"
    if not text.startswith("/"):
        try:
            return grid_subject(x509.Name.from_rfc4514_string(_BLANKS.sub(r"\1,", text), _NAME_OIDS)) or _refuse(wrong)
        except ValueError:
            raise ValueError(wrong) from None
    parts = [part.partition("=") for part in _split(text[1:])]
    if not all(key and value for key, _, value in parts):
        raise ValueError(wrong)
    return "".join(f"/{_NAMES.get(key.strip().upper(), key.strip())}={_escaped(value)}" for key, _, value in parts)


def _refuse(problem: str) -> str:
    raise ValueError(problem)


def _escaped(value: str) -> str:
    first, *others = value.replace("\\", "\\\\").split("/")
    return first + "".join(f"\\/{part}" if "=" in part else f"/{part}" for part in others)


def _split(text: str) -> list[str]:
    """Splits at slashes that begin a new `KEY=`, and at none that a backslash escapes (which it removes).

    `/CN=host/a.example` is one part, as service names of the form host/name are common in grid subjects.
    """
    parts = [""]
    index = 0
    while index < len(text):
        character = text[index]
        if character == "\\" and index + 1 < len(text):
            parts[-1] += text[index + 1]
            index += 2
            continue
        if character == "/" and "=" in text[index + 1 :].split("/", 1)[0]:
            parts.append("")
        else:
            parts[-1] += character
        index += 1
    return parts
