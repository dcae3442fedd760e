"""A GridFTP client that keeps hundreds of commands under way, on the standard library alone.

It knows nothing of Wherry. What it does that others do not: third-party copies of many files without a pause between
them, of which the outcome of each is known; two servers that trust nothing in common, each with a credential of its own
and none of them delegated; a data channel that is encrypted with a certificate made for it.

    with Connection(Endpoint("a.example"), Credential(Path("proxy.pem"), Path("authorities"))) as a:
        for entry in list_directory(a, b"/data"):
            print(entry.name, entry.size_bytes)

Modules: `gsi` and `login` (the security exchange), `replies`, `connection` (commands under way), `pump` (several of
them at once), `operations` (names), `listing`, `entries`, `features`, `data_channel`, `third_party` and `markers`
(bytes), `errors`. Specifications: RFC 959, 2228, 2389, 2428, 3659; GFD.20 (GridFTP), GFD.47, GFD.78.
"""

from __future__ import annotations

from wherry_gridftp.connection import Connection, Endpoint
from wherry_gridftp.data_channel import DataChannel, set_up
from wherry_gridftp.entries import Entry
from wherry_gridftp.features import Offer, features, offer
from wherry_gridftp.gsi import Credential
from wherry_gridftp.listing import list_directory
from wherry_gridftp.markers import Markers
from wherry_gridftp.pump import Broken, command, pump
from wherry_gridftp.replies import Reply
from wherry_gridftp.third_party import Failure, ThirdParty

__all__ = [
    "Broken",
    "Connection",
    "Credential",
    "DataChannel",
    "Endpoint",
    "Entry",
    "Failure",
    "Markers",
    "Offer",
    "Reply",
    "ThirdParty",
    "command",
    "features",
    "list_directory",
    "offer",
    "pump",
    "set_up",
]
