"""The Grid's security exchange: TLS whose records travel in base64 in `ADAT` commands (RFC 2228, GFD.78).

Nothing here reads or writes a socket. No credential is delegated: the server never gets a usable proxy.
"""

from __future__ import annotations

import binascii
import contextlib
import errno
import ssl
from dataclasses import dataclass
from pathlib import Path

from wherry_gridftp.errors import (
    CredentialExpired,
    CredentialRefused,
    CredentialUnusable,
    HostCertificateExpired,
    HostNotTrusted,
    SecurityFailed,
    UnknownAuthority,
    Unreachable,
    WrongHost,
)

#: VERIFY_ALLOW_PROXY_CERTS, which Python's ssl does not name before 3.13.
_ALLOW_PROXY_CERTIFICATES = 0x40
_READ_BYTES = 1 << 16
NO_DELEGATION = b"0"
"""What the client says in place of a delegated credential: none."""
#: X509_V_ERR_* of OpenSSL's x509_vfy.h.
_VERIFY_ERRORS: dict[int, type[HostNotTrusted]] = {
    2: UnknownAuthority,  # unable to get issuer certificate
    9: HostCertificateExpired,  # not yet valid
    10: HostCertificateExpired,
    18: UnknownAuthority,  # signed by itself
    19: UnknownAuthority,  # an authority that signed itself, and is not believed
    20: UnknownAuthority,  # unable to get local issuer certificate
    21: UnknownAuthority,  # unable to verify the first certificate
    62: WrongHost,  # host name
    64: WrongHost,  # address
}


@dataclass(frozen=True, slots=True)
class Credential:
    """What one side believes and shows.

    Attributes:
        file: PEM with certificate, key and chain; a proxy (RFC 3820) or an end entity's. The key is not encrypted.
        trust_directory: certificates of the authorities believed for this server, named by their subjects' hashes.
    """

    file: Path
    trust_directory: Path


class Gsi:
    """One exchange with one server, and the protection of lines after it.

    Raises:
        CredentialUnusable: when it is made.
        Unreachable: the host is no name that there could be.
    """

    def __init__(self, credential: Credential, host: str) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            context = _context(credential)
        except OSError as error:
            reason = getattr(error, "reason", None) or error.strerror or "unreadable"
            raise CredentialUnusable(f"the credential or the authorities cannot be used: {reason}") from error
        try:
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        except (TypeError, ValueError) as error:  # the former for a zero byte
            raise Unreachable("Name or service not known: it is no host's name") from error
        self.done = False

    def step(self, token: bytes = b"") -> bytes:
        """Takes what the server sent and returns what to send; `done` says whether that was the last of it.

        Raises:
            HostNotTrusted, CredentialRefused, SecurityFailed: the exchange cannot go on.
        """
        self._incoming.write(token)
        try:
            self._tls.do_handshake()
            self.done = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLCertVerificationError as error:
            raise _VERIFY_ERRORS.get(error.verify_code, HostNotTrusted)(error.verify_message) from error
        except ssl.SSLError as error:
            raise _failed(error, "the exchange failed") from error
        return self._outgoing.read()

    def wrap(self, data: bytes) -> bytes:
        """Returns data as records; raises SecurityFailed."""
        rest = memoryview(data)
        try:
            while rest:
                # A write takes no more than one record holds.
                rest = rest[self._tls.write(rest) :]
        except ssl.SSLError as error:
            raise _failed(error, "a line could not be protected") from error
        return self._outgoing.read()

    def unwrap(self, token: bytes) -> bytes:
        """Returns what records hold; raises SecurityFailed."""
        self._incoming.write(token)
        parts: list[bytes] = []
        try:
            with contextlib.suppress(ssl.SSLWantReadError):
                while part := self._tls.read(_READ_BYTES):
                    parts.append(part)
                    if not self._incoming.pending and not self._tls.pending():
                        break  # nearly always after the first: to be told so by an exception takes longer
        except ssl.SSLError as error:
            raise _failed(error, "a line could not be opened") from error
        return b"".join(parts)

    def command_line(self, command: bytes) -> bytes:
        """Returns a command as the line that carries it; raises SecurityFailed."""
        return b"ENC " + binascii.b2a_base64(self.wrap(command + b"\r\n"), newline=False) + b"\r\n"


def refused_by_server(text: str) -> CredentialRefused:
    """Returns what a server's words about our credential mean: whether it has expired is told by the words alone."""
    return CredentialExpired(text) if "expired" in text.lower() else CredentialRefused(text)


def _context(credential: Credential) -> ssl.SSLContext:
    """Believes these authorities only, and demands the host's own name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # the profile's tokens are those of 1.2
    context.options |= ssl.OP_NO_RENEGOTIATION
    if not credential.trust_directory.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "there is no directory of authorities")
    context.load_verify_locations(capath=credential.trust_directory)
    # With no password OpenSSL would ask for one at the terminal.
    context.load_cert_chain(credential.file, password="")
    context.verify_flags |= ssl.VerifyFlags(_ALLOW_PROXY_CERTIFICATES)
    return context


def _failed(error: ssl.SSLError, otherwise: str) -> SecurityFailed:
    reason = (error.reason or otherwise).replace("_", " ").lower()
    return refused_by_server(reason) if " alert " in reason else SecurityFailed(reason)
