"""The channel over which the bytes go from one server to the other (GFD.20): set up once, used for any number of files.

MODE E keeps it open between files, so that the many small ones need no connection each.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from wherry_gridftp.connection import Connection
from wherry_gridftp.errors import NotOffered, Refused
from wherry_gridftp.pump import command
from wherry_gridftp.replies import Reply

_PASSIVE = re.compile(rb"(?<!\d)" + rb",".join([rb"(\d{1,3})"] * 6) + rb"(?!\d)")
_EXTENDED = re.compile(rb"\(\|([12]?)\|([^|]{0,64})\|(\d{1,5})\|\)")
_ENCODED = re.compile(rb"[A-Za-z0-9+/=]{16,}")
"""What may be of a key: some servers repeat what they do not like, in whole or in part, as it came or as PEM."""
_PROTECTED_BLOCK_BYTES = 1 << 20

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


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
    context: str | None = field(default=None, repr=False)
    private: bool = True
    buffer_bytes: int = 0


def set_up(source: Connection, destination: Connection, channel: DataChannel) -> DataChannel:
    """Has the source send to the destination what RETR and STOR name from now on.

    Returns the channel as it is: what only makes it faster is left out where a server does not take it. Its protection
    is what was asked for, or there is no channel.

    The destination says where it listens, and the source goes there: over IPv6 where both connections do, else over
    IPv4 where the destination has it.

    Raises:
        NotOffered: a server does not know what is needed, or the two have no family of addresses in common.
        Refused: a server does not want to.
        ConnectionLost.
    """
    for connection in (source, destination):
        _need(connection, b"TYPE I")
        _need(connection, b"MODE E")
        _protect(connection, channel)
    streams, buffer_bytes = channel.streams, channel.buffer_bytes
    if buffer_bytes:
        line = f"SBUF {buffer_bytes}".encode()
        taken = [_try(connection, line) for connection in (source, destination)]
        buffer_bytes = buffer_bytes if all(taken) else 0
    if streams > 1 and not _try(source, f"OPTS RETR Parallelism={streams},{streams},{streams};".encode()):
        streams = 1
    _join(source, destination)
    return replace(channel, streams=streams, buffer_bytes=buffer_bytes)


def _protect(connection: Connection, channel: DataChannel) -> None:
    if channel.context is None:
        try:
            command(connection, b"DCAU N")
        except Refused as refused:
            # Who does not know of it does not ask for it either.
            if not refused.reply.not_understood:
                raise
        return
    _need(connection, b"DCSC P " + channel.context.encode("ascii"), secret=True)
    _need(connection, b"DCAU A")
    if channel.private:
        _need(connection, b"PBSZ %d" % _PROTECTED_BLOCK_BYTES)
        _need(connection, b"PROT P")


def _need(connection: Connection, line: bytes, *, secret: bool = False) -> None:
    """Sends a command without which there is no channel; what is `secret` in it goes into no error."""
    try:
        command(connection, line)
    except Refused as refused:
        reply = refused.reply
        if secret:
            reply = Reply(reply.code, tuple(_ENCODED.sub(b"...", one) for one in reply.lines))
        problem = NotOffered(reply.text) if reply.not_understood else Refused(reply)
    else:
        return
    # Not from within: the refusal that holds the server's own words would be told as the cause.
    raise problem


def _try(connection: Connection, line: bytes) -> bool:
    try:
        command(connection, line)
    except Refused:
        return False
    return True


# --- where to ---


def _join(source: Connection, destination: Connection) -> None:
    """Tells the source where the destination listens; the other family where one of them does not take the first."""
    ways = [_listen_extended, _listen] if source.is_ipv6 and destination.is_ipv6 else [_listen, _listen_extended]
    refusals: list[Refused | NotOffered] = []
    for listen in ways:
        try:
            host, port = listen(destination)
            command(source, _port_command(host, port))
        except (Refused, NotOffered) as problem:
            refusals.append(problem)
        else:
            return
    first = refusals[0]
    if all(isinstance(one, NotOffered) or one.reply.code >= 500 for one in refusals):
        raise NotOffered("no family of addresses in common: " + "; ".join(str(one) for one in refusals)) from first
    raise first


def _port_command(host: Address, port: int) -> bytes:
    if host.version == 4:
        return b"PORT " + b",".join(b"%d" % number for number in (*host.packed, port >> 8, port & 255))
    return f"EPRT |2|{host}|{port}|".encode("ascii")


def _listen(destination: Connection) -> tuple[Address, int]:
    """Asks for a port by RFC 959, which is for IPv4."""
    reply = command(destination, b"PASV")
    match = _PASSIVE.search(reply.lines[-1][4:])
    numbers: Sequence[int] = [int(one) for one in match.groups()] if match is not None else []
    if not numbers or max(numbers) > 255:
        raise NotOffered(reply.text)
    return _checked(reply, ipaddress.IPv4Address(bytes(numbers[:4])), numbers[4] << 8 | numbers[5])


def _listen_extended(destination: Connection) -> tuple[Address, int]:
    """Asks for a port by RFC 2428; an answer without an address means that of the control connection."""
    reply = command(destination, b"EPSV")
    match = _EXTENDED.search(reply.lines[-1])
    if match is None:
        raise NotOffered(reply.text)
    try:
        host = ipaddress.ip_address(match[2].decode("ascii").partition("%")[0] or destination.peer)
    except ValueError as error:
        raise NotOffered(reply.text) from error
    return _checked(reply, host, int(match[3]))


def _checked(reply: Reply, host: Address, port: int) -> tuple[Address, int]:
    if host.is_unspecified or host.is_multicast or not 0 < port < 1 << 16:
        raise NotOffered(f"nobody can connect to that: {reply.text}")
    return host, port
