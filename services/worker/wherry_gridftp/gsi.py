"""The Grid's security exchange: TLS whose records travel in base64 in `ADAT` commands (RFC 2228, GFD.78).

Nothing here reads or writes a socket. No credential is delegated: the server never gets a usable proxy.
"""

from __future__ import annotations

import base64
import contextlib
import ssl
from dataclasses import dataclass
from pathlib import Path

from wherry_gridftp.errors import CredentialUnusable, HostNotTrusted, SecurityFailed

#: VERIFY_ALLOW_PROXY_CERTS, which Python's ssl does not name before 3.13.
_ALLOW_PROXY_CERTIFICATES = 0x40
_READ_BYTES = 1 << 16
NO_DELEGATION = b"0"
"""What the client says in place of a delegated credential: none."""


@dataclass(frozen=True, slots=True)
class Credential:
    """What one side believes and shows.

    Attributes:
        file: PEM with certificate, key and chain; a proxy (RFC 3820) or an end entity's.
        trust_directory: certificates of the authorities believed for this server, named by their subjects' hashes.
    """

    file: Path
    trust_directory: Path


class Gsi:
    """One exchange with one server, and the protection of lines after it."""

    def __init__(self, credential: Credential, host: str) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            context = _context(credential)
        except (OSError, ssl.SSLError) as error:
            reason = getattr(error, "reason", None) or error.strerror or "unreadable"
            raise CredentialUnusable(f"the credential or the authorities cannot be used: {reason}") from error
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self.done = False

    def step(self, token: bytes = b"") -> bytes:
        """Takes what the server sent and returns what to send; `done` says whether that was the last of it.

        Raises:
            HostNotTrusted, SecurityFailed: the exchange cannot go on.
        """
        self._incoming.write(token)
        try:
            self._tls.do_handshake()
            self.done = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLCertVerificationError as error:
            raise HostNotTrusted(error.verify_message) from error
        except ssl.SSLError as error:
            raise SecurityFailed(error.reason or "the exchange failed") from error
        return self._outgoing.read()

    def wrap(self, data: bytes) -> bytes:
        """Returns data as records."""
        self._tls.write(data)
        return self._outgoing.read()

    def unwrap(self, token: bytes) -> bytes:
        """Returns what records hold; raises SecurityFailed."""
        self._incoming.write(token)
        parts: list[bytes] = []
        try:
            with contextlib.suppress(ssl.SSLWantReadError):
                while part := self._tls.read(_READ_BYTES):
                    parts.append(part)
        except ssl.SSLError as error:
            raise SecurityFailed(error.reason or "a line could not be opened") from error
        return b"".join(parts)

    def command_line(self, command: bytes) -> bytes:
        """Returns a command as the line that carries it."""
        return b"ENC " + base64.b64encode(self.wrap(command + b"\r\n")) + b"\r\n"


def _context(credential: Credential) -> ssl.SSLContext:
    """Believes these authorities only, and demands the host's own name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # the profile's tokens are those of 1.2
    context.load_verify_locations(capath=credential.trust_directory)
    context.load_cert_chain(credential.file)
    context.verify_flags |= ssl.VerifyFlags(_ALLOW_PROXY_CERTIFICATES)
    return context
