"""What can go wrong, in the words of the protocol.

GridFtpError
├── Refused                      the server said no; the connection is as good as before
├── UnfitName                    never sent
├── NotOffered                   the server lacks a part of the protocol
├── Unreachable                  no connection came about
├── ConnectionLost ── TimedOut   what was under way may have happened or not
└── SecurityFailed
    ├── HostNotTrusted           the server is not believed
    │   ├── HostCertificateExpired, WrongHost, UnknownAuthority
    ├── CredentialUnusable       here: it cannot be read
    └── CredentialRefused        there: the server does not accept it
        └── CredentialExpired
"""

from __future__ import annotations

from wherry_gridftp.replies import Reply


class GridFtpError(Exception):
    """Something went wrong; the subclasses say what."""


class Refused(GridFtpError):
    """The server answered a command with a refusal; the connection is as good as before."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.text)
        self.reply = reply


class UnfitName(GridFtpError):
    """A name holds a line break or a zero byte, which the protocol cannot carry, or is longer than a command may be."""


class Unreachable(GridFtpError):
    """No connection came about: the name is unknown, nobody listens, or no way leads there."""


class ConnectionLost(GridFtpError):
    """The connection ended, or what came over it is not the protocol; what was under way may have happened or not."""


class TimedOut(ConnectionLost):
    """The server was silent for longer than it may be."""


class SecurityFailed(GridFtpError):
    """The exchange of identities failed; `at_server` says whether the server said so."""

    def __init__(self, text: str, *, at_server: bool = False) -> None:
        super().__init__(text)
        self.at_server = at_server


class HostNotTrusted(SecurityFailed):
    """The server's certificate is not believed; the subclasses say why, where that is one of the usual reasons."""


class HostCertificateExpired(HostNotTrusted):
    """The server's certificate, or that of an authority above it, is past its end or before its beginning."""


class WrongHost(HostNotTrusted):
    """The server's certificate is for another host."""


class UnknownAuthority(HostNotTrusted):
    """The server's certificate is of no authority that is believed."""


class CredentialUnusable(SecurityFailed):
    """The client's own credential, or the authorities it is to believe, cannot be read or used."""


class CredentialRefused(SecurityFailed):
    """The server does not accept the client's credential."""

    def __init__(self, text: str) -> None:
        super().__init__(text, at_server=True)


class CredentialExpired(CredentialRefused):
    """The server does not accept the client's credential because it has expired, as far as its words tell."""


class NotOffered(GridFtpError):
    """The server does not speak a part of the protocol that is needed; another client may do."""
