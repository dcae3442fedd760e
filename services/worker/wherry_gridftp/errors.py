"""What can go wrong, in the words of the protocol."""

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
    """A name holds a line break or a zero byte, which the protocol cannot carry."""


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
    """The server's certificate is not one for its host, or not of an authority that is trusted."""


class CredentialUnusable(SecurityFailed):
    """The client's own credential cannot be read or used."""


class NotOffered(GridFtpError):
    """The server does not speak a part of the protocol that is needed; another client may do."""
