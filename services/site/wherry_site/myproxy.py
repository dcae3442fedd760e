"""A small MyProxy client: one command, Get (0), over TLS.

The protocol (MyProxy version 2): TLS to the server; one byte `0`; a request of `KEY=value` lines that ends with NUL;
the server's answer of the same form; a certificate request (PKCS #10, DER); one byte that says how many certificates
follow; these, DER; a last answer. The server answers nothing over TLS 1.3, so 1.2 is the most that is offered.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ssl
from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from wherry_chassis.logging import logger

from wherry_site.errors import SignInRefused, SiteAnswerUnusable, SiteNotTrusted, SiteUnreachable
from wherry_site.sign_in import IssuedCredential, Password, SignInServer, check_request

_ANSWER_MAX_BYTES = 64 << 10
_CERTIFICATES_MAX = 10
_REFUSALS = ("invalid password", "invalid username", "authentication failed", "unknown user", "no certificate for")
"""What servers say to a wrong name or password, in part; a site's mapper may refuse a name in its own words."""


class MyProxySignIn:
    """Signs in at real MyProxy servers.

    Args:
        take_key: gives a fresh RSA key.
        timeout_s: for the whole sign-in.
        now: the time, aware.
    """

    def __init__(
        self,
        take_key: Callable[[], Awaitable[RSAPrivateKey]],
        *,
        timeout_s: float,
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self._take_key = take_key
        self._timeout_s = timeout_s
        self._now = now

    async def sign_in(
        self, server: SignInServer, username: str, password: Password, lifetime_s: int
    ) -> IssuedCredential:
        """Signs in; see the port."""
        check_request(username, password, lifetime_s)
        key = await self._take_key()
        conversation = _Conversation(server, username, password, lifetime_s)
        try:
            async with asyncio.timeout(self._timeout_s):
                certificates = await conversation.run(key)
        except ssl.SSLCertVerificationError as error:
            raise SiteNotTrusted(
                site=server.site, address=conversation.address, cause=error.verify_message.rstrip(".")
            ) from None
        except ssl.SSLError as error:
            conversation.unusable(f"no TLS that we understand ({error.reason or 'unknown'})")
        except (TimeoutError, OSError, EOFError) as error:
            logger().info("myproxy_unreachable", site=server.site, error=type(error).__name__)
            raise SiteUnreachable(site=server.site, address=conversation.address) from None
        return self._checked(conversation, key, certificates)

    def _checked(
        self, conversation: _Conversation, key: RSAPrivateKey, certificates: Sequence[x509.Certificate]
    ) -> IssuedCredential:
        certificate, *chain = certificates
        if certificate.public_key() != key.public_key():
            conversation.unusable("its certificate is not for the key that we made")
        # A lifetime of 0 or less, also when a server's own limits make it so, is answered with success all the same.
        if certificate.not_valid_after_utc <= self._now():
            conversation.unusable("its certificate has already expired")
        return IssuedCredential(key, certificate, [c for c in chain if c.subject != c.issuer])


class _Conversation:
    """One connection to a server."""

    def __init__(self, server: SignInServer, username: str, password: Password, lifetime_s: int) -> None:
        self.address = f"{server.host}:{server.port}"
        self._server = server
        self._username = username
        self._password = password
        self._lifetime_s = lifetime_s

    async def run(self, key: RSAPrivateKey) -> Sequence[x509.Certificate]:
        reader, writer = await self._connect()
        try:
            writer.write(b"0")
            # Made where it is sent: no variable of ours holds it, so no crash dump shows it.
            writer.write(self._request())
            await self._answer(reader)
            writer.write(_certificate_request(key))
            count = (await reader.readexactly(1))[0]
            if not 1 <= count <= _CERTIFICATES_MAX:
                self.unusable(f"it announces {count} certificates")
            certificates = [await self._certificate(reader) for _ in range(count)]
            await self._answer(reader)
            return certificates
        except asyncio.IncompleteReadError as error:
            if error.partial or not reader.at_eof():
                self.unusable("it broke off in the middle")
            raise
        finally:
            writer.close()
            # How the connection ends says nothing any more: the answer is complete, or the failure is known.
            with contextlib.suppress(OSError, ssl.SSLError, TimeoutError):
                async with asyncio.timeout(1):
                    await writer.wait_closed()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = _tls(self._server.authorities)
        last: OSError = OSError("no address")
        for address in self._server.addresses:
            try:
                return await asyncio.open_connection(
                    address, self._server.port, ssl=context, server_hostname=self._server.host, limit=_ANSWER_MAX_BYTES
                )
            except ssl.SSLError:
                raise
            except OSError as error:
                last = error
        raise last

    async def _answer(self, reader: asyncio.StreamReader) -> None:
        """Reads lines to NUL; raises unless they say that all is well."""
        try:
            text = self._masked(await reader.readuntil(b"\0"))
        except asyncio.LimitOverrunError:
            self.unusable("it does not end")
        lines = [line.partition("=") for line in text.splitlines()]
        values = {name: value for name, _, value in lines if name != "ERROR"}
        if values.get("RESPONSE") == "0":
            return
        said = "; ".join(value for name, _, value in lines if name == "ERROR")[:500]
        logger().info("myproxy_refused", site=self._server.site, said=said)
        if any(refusal in said.lower() for refusal in _REFUSALS):
            raise SignInRefused(site=self._server.site)
        self.unusable("an error that is neither about the user nor about the password; its administrator can see more")

    def _masked(self, answer: bytes) -> str:
        """Returns an answer as text, without our password: a server may say it back to us."""
        return answer.rstrip(b"\0").decode("utf-8", "replace").replace(self._password.reveal(), "***")

    def _request(self) -> bytes:
        """Returns the Get request."""
        lines = ("VERSION=MYPROXYv2", "COMMAND=0", f"USERNAME={self._username}")
        secret = f"PASSPHRASE={self._password.reveal()}"
        return "\n".join([*lines, secret, f"LIFETIME={self._lifetime_s}", ""]).encode() + b"\0"

    async def _certificate(self, reader: asyncio.StreamReader) -> x509.Certificate:
        """Reads one DER SEQUENCE; its own length says where it ends."""
        head = await reader.readexactly(4)
        # 0x30 0x82 and two bytes of length: any certificate is between 256 and 65,535 bytes long.
        if head[:2] != b"\x30\x82":
            self.unusable("what should be a certificate is none")
        der = head + await reader.readexactly(int.from_bytes(head[2:], "big"))
        try:
            return x509.load_der_x509_certificate(der)
        except ValueError:
            self.unusable("what should be a certificate is none")

    def unusable(self, cause: str) -> NoReturn:
        raise SiteAnswerUnusable(site=self._server.site, address=self.address, cause=cause) from None


def _tls(authorities: Sequence[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    # The site's CA is believed as it stands, also where it is an intermediate of a bigger one.
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata="\n".join(authorities))
    return context


def _certificate_request(key: RSAPrivateKey) -> bytes:
    """Returns a PKCS #10 request; the server chooses the subject itself."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "wherry")])
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .sign(key, hashes.SHA256())
        .public_bytes(Encoding.DER)
    )
