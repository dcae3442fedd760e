"""Signing in at a site: the port, and what passes through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from wherry_chassis.errors import FieldProblem, InvalidFields


class Password:
    """A password on its way to a site; shows itself nowhere."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Returns the password; for the one place that sends it."""
        return self._text

    def __repr__(self) -> str:
        return "Password(***)"

    def __reduce__(self) -> tuple[type[Password], tuple[str]]:
        raise TypeError("a password is not serialized")


@dataclass(frozen=True, slots=True)
class SignInServer:
    """Where one signs in at a site.

    Attributes:
        site: `sites/{site}`, for messages.
        host: the name that the server's certificate has to be for.
        port: TCP port.
        addresses: what `host` was resolved to and found allowed; nothing else is connected to. Tried in this order.
        authorities: PEM certificates of the site's CAs; nothing else is believed.
    """

    site: str
    host: str
    port: int
    addresses: Sequence[str]
    authorities: Sequence[str]


@dataclass(frozen=True, slots=True)
class IssuedCredential:
    """What a sign-in gives.

    Attributes:
        key: made for this sign-in, known to nobody else.
        certificate: the person's end-entity certificate.
        chain: intermediate certificates that came with it, without the CA itself.
    """

    key: RSAPrivateKey = field(repr=False)
    certificate: x509.Certificate
    chain: Sequence[x509.Certificate] = ()


def check_request(username: str, password: Password, lifetime_s: int) -> None:
    """Returns if a sign-in can be asked for: MyProxy's protocol is lines that end with NUL, so a value has neither.

    Raises:
        InvalidFields: one cannot; the message does not show it.
    """
    if _breaks_out(username):
        raise InvalidFields(FieldProblem("username", "has a line break or a NUL"))
    if _breaks_out(password.reveal()):
        raise InvalidFields(FieldProblem("password", "has a line break or a NUL"))
    if lifetime_s <= 0:
        raise InvalidFields(FieldProblem("lifetime", "must be more than nothing"))


def _breaks_out(value: str) -> bool:
    return any(character in value for character in "\0\r\n")


class SignIn(Protocol):
    """Exchanges a password for a short-lived credential."""

    async def sign_in(
        self, server: SignInServer, username: str, password: Password, lifetime_s: int
    ) -> IssuedCredential:
        """Signs in; the site may give less than `lifetime_s`.

        Raises:
            InvalidFields: as `check_request` says.
            SignInRefused: unknown user or wrong password, indistinguishably.
            SiteUnreachable: nobody answers there, or not in time.
            SiteNotTrusted: the server's certificate is not of the site's CAs, or for another host. Nothing was sent.
            SiteAnswerUnusable: the answer makes no sense, or the certificate is not for our key or already expired.
        """
        ...
