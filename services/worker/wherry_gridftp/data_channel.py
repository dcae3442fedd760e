"""The channel over which the bytes go from one server to the other (GFD.20): set up once, used for any number of files.

MODE E keeps it open between files, so that the many small ones need no connection each.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from wherry_gridftp.connection import Connection
from wherry_gridftp.errors import NotOffered
from wherry_gridftp.pump import command

_PASSIVE = re.compile(rb"(\d+,\d+,\d+,\d+,\d+,\d+)")
_EXTENDED = re.compile(rb"\(\|([12]?)\|([^|]*)\|(\d+)\|\)")


@dataclass(frozen=True, slots=True)
class DataChannel:
    """How the bytes go.

    Attributes:
        streams: parallel connections for one file; pays for large ones only.
        context: base64 of a certificate, its key and the certificate again, made for this channel alone (DCSC): both
            servers show it and believe it, so that two that trust nothing in common know each other. None: neither
            authenticated nor encrypted.
        private: with a context: whether the bytes are encrypted, too.
        buffer_bytes: of each socket; 0: as the servers have it.
    """

    streams: int = 1
    context: str | None = None
    private: bool = True
    buffer_bytes: int = 0


def set_up(source: Connection, destination: Connection, channel: DataChannel) -> None:
    """Has the source send to the destination what RETR and STOR name from now on.

    Raises:
        Refused: a server does not take one of the options.
        NotOffered: the two have no family of addresses in common.
        ConnectionLost.
    """
    for connection in (source, destination):
        command(connection, b"TYPE I")
        command(connection, b"MODE E")
        for line in _protection(channel):
            command(connection, line)
        if channel.buffer_bytes:
            command(connection, f"SBUF {channel.buffer_bytes}".encode())
    if channel.streams > 1:
        command(source, f"OPTS RETR Parallelism={channel.streams},{channel.streams},{channel.streams};".encode())
    if destination.is_ipv6:
        command(source, _extended_port(destination))
    else:
        command(source, b"PORT " + _port(destination))


def _protection(channel: DataChannel) -> list[bytes]:
    if channel.context is None:
        return [b"DCAU N"]
    lines = [b"DCSC P " + channel.context.encode(), b"DCAU A"]
    return [*lines, b"PBSZ 1048576", b"PROT P"] if channel.private else lines


def _port(destination: Connection) -> bytes:
    reply = command(destination, b"PASV")
    match = _PASSIVE.search(reply.lines[-1][4:])
    if match is None:
        raise NotOffered(reply.text)
    return match[1]


def _extended_port(destination: Connection) -> bytes:
    """Asks for a port by RFC 2428; an answer without an address means that of the control connection."""
    reply = command(destination, b"EPSV")
    match = _EXTENDED.search(reply.lines[-1])
    if match is None:
        raise NotOffered(reply.text)
    host = match[2].decode("ascii", "replace") or destination.peer.partition("%")[0]
    version = 2 if ipaddress.ip_address(host).version == 6 else 1
    return f"EPRT |{version}|{host}|{int(match[3])}|".encode()
