"""What a server offers (RFC 2389), and what follows from it.

| feature | is for | where it is missing |
| --- | --- | --- |
| MLST | `operations.stat` | NotOffered by `Offer.require` |
| MLSC | `list_directory` | NotOffered: other listings need a data channel to the client |
| CKSM | `operations.checksum` | NotOffered |
| DCSC | a data channel with a context | NotOffered by `set_up`; never one without protection in its place |
| PARALLEL | several streams | one stream: `set_up` tells |
| MFMT | `operations.set_modify_time` | the server's older `SITE UTIME` is what is used |
| REST STREAM | ranges that are there already | the file is refused |

Addresses of the data channel (EPSV, EPRT, PASV, PORT) are commands of every server; which are used is found by trying.
"""

from __future__ import annotations

from dataclasses import dataclass

from wherry_gridftp.connection import Connection
from wherry_gridftp.errors import NotOffered, Refused
from wherry_gridftp.pump import command


@dataclass(frozen=True, slots=True)
class Offer:
    """What one server offers.

    Attributes:
        names: of features, in capitals, as `MLSC`, `DCSC`, `CKSM`.
        checksums: algorithms for `operations.checksum`, as `adler32`, in the server's order; empty also where it offers
            checksums and does not say which.
    """

    names: frozenset[str] = frozenset()
    checksums: tuple[str, ...] = ()

    def require(self, *names: str) -> None:
        """Raises NotOffered where one of these features is missing."""
        if missing := sorted(set(names) - self.names):
            raise NotOffered(f"{', '.join(missing)} is missing")


def offer(connection: Connection) -> Offer:
    """Asks what a server offers; one that does not understand the question offers nothing.

    Raises:
        Refused, ConnectionLost.
    """
    try:
        reply = command(connection, b"FEAT")
    except Refused as refused:
        if refused.reply.not_understood:
            return Offer()
        raise
    told = [line.decode("ascii", "replace").split(maxsplit=1) for line in reply.lines if line.startswith(b" ")]
    features = {words[0].upper(): words[1] if len(words) > 1 else "" for words in told if words}
    sums = (one.partition(":")[0].strip().lower() for one in features.get("CKSM", "").split(";"))
    return Offer(frozenset(features), tuple(dict.fromkeys(name for name in sums if name)))


def features(connection: Connection) -> frozenset[str]:
    """Returns the names of what the server offers, in capitals; raises as `offer` does."""
    return offer(connection).names
