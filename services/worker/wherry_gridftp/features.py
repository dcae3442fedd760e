"""What a server offers (RFC 2389)."""

from __future__ import annotations

from wherry_gridftp.connection import Connection
from wherry_gridftp.pump import command


def features(connection: Connection) -> frozenset[str]:
    """Returns the names of what the server offers, in capitals, as `MLSC`, `DCSC`, `CKSM`."""
    reply = command(connection, b"FEAT")
    return frozenset(
        line.split()[0].decode("ascii", "replace").upper()
        for line in reply.lines
        if line.startswith(b" ") and line.split()
    )
