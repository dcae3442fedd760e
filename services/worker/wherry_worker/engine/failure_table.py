"""The one table from a door's raw words to a reason, whose problem it is, and whether to try again.

The first row that fits decides. A row's `text` is searched for in the raw text, ignoring case. Texts come from gfal2
and Globus, which cut them at about 500 characters, so that patterns look for what stands early. `{side}` in a reason
becomes SOURCE or DESTINATION, or goes away where there is one site only, `{site}` in a text the site's name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from wherry_worker.engine.messages import Party
from wherry_worker.engine.namespace import DoorError

#: Phases: `login` does not exist of its own: a door logs in with the first operation that needs it.
ANY = "*"


@dataclass(frozen=True, slots=True)
class Row:
    """One row.

    `whose` None means the site where it happened; `phases` is a set of phases or ANY; `errno` None fits all.
    """

    name: str
    scheme: str
    phases: frozenset[str] | str
    errno: int | None
    text: str
    reason: str
    message: str
    whose: Party | None
    retryable: bool
    help: str = ""
    stops: bool = False

    def fits(self, scheme: str, error: DoorError) -> bool:
        """Tells whether an error is what this row is about."""
        return (
            self.scheme in (ANY, scheme)
            and (self.phases == ANY or error.phase in self.phases)
            and self.errno in (None, error.errno)
            and re.search(self.text, error.text, re.IGNORECASE | re.DOTALL) is not None
        )


_COPY = frozenset({"copy"})
_SIGN_IN = "Sign in at {site} again."
_ASK_ADMIN = "Tell the administrators of {site}."

TABLE: tuple[Row, ...] = (
    # Credentials and trust: errno 13 for all of them, so the text decides before "permission denied" does.
    Row(
        "server certificate expired",
        "gsiftp",
        ANY,
        None,
        r"server's certificate: certificate (has expired|is not yet valid)",
        "{side}_SERVER_CERTIFICATE_EXPIRED",
        "The host certificate of {site}'s server has expired.",
        None,
        True,
        _ASK_ADMIN,
        stops=True,
    ),
    Row(
        "expired at the server",
        "gsiftp",
        ANY,
        None,
        r"certificate (has )?expired|credential.{0,40}has expired|lifetime.{0,20}expired",
        "{side}_SESSION_EXPIRED",
        "The sign-in at {site} has expired.",
        "user",
        False,
        _SIGN_IN,
        stops=True,
    ),
    Row(
        "server without credential",
        "gsiftp",
        ANY,
        None,
        r"Server side credential failure",
        "{side}_SERVER_MISCONFIGURED",
        "The server of {site} has no valid host certificate.",
        None,
        True,
        _ASK_ADMIN,
        stops=True,
    ),
    Row(
        "refused identity",
        "gsiftp",
        ANY,
        None,
        r"530[ -].{0,60}(Authentication Error|Login incorrect|authorization|mapp|gridmap|callout)",
        "{side}_REFUSED_IDENTITY",
        "{site} did not accept the sign-in's certificate.",
        None,
        False,
        "Sign in at {site} again; if it stays so, tell its administrators.",
        stops=True,
    ),
    Row(
        "wrong host name",
        "gsiftp",
        ANY,
        None,
        r"server's certificate: .*(mismatch|not valid for)|mutual authentication failed|the expected name",
        "{side}_WRONG_HOST",
        "The server of {site} shows a certificate for another host.",
        None,
        False,
        _ASK_ADMIN,
        stops=True,
    ),
    Row(
        "untrusted server",
        "gsiftp",
        ANY,
        None,
        r"server's certificate:|(couldn't|could not|can't) (verify|get the local trusted)|certificate verify failed",
        "{side}_NOT_TRUSTED",
        "The server of {site} shows a certificate that is not of the site's CAs.",
        None,
        False,
        _ASK_ADMIN,
        stops=True,
    ),
    Row(
        "no usable credential here",
        "gsiftp",
        ANY,
        None,
        r"gss_init_sec_context failed|Error with GSI credential|Valid credentials could not be found",
        "WORKER_CREDENTIAL_UNUSABLE",
        "The worker could not use the credential for {site}.",
        "operator",
        True,
        "Tell the operators of this service.",
        stops=True,
    ),
    # Reaching the server.
    Row(
        "name unknown",
        "gsiftp",
        ANY,
        None,
        r"Name or service not known|getaddrinfo|name resolution",
        "{side}_HOST_UNKNOWN",
        "The host name of {site} cannot be resolved.",
        None,
        True,
        _ASK_ADMIN,
        stops=True,
    ),
    Row(
        "no route or port closed",
        "gsiftp",
        ANY,
        None,
        r"Connection refused|No route to host|Network is unreachable|Unable to connect",
        "{side}_UNREACHABLE",
        "The server of {site} cannot be reached.",
        None,
        True,
        "It is tried again; if it stays so, tell the administrators of {site}.",
        stops=True,
    ),
    Row(
        "server full",
        "gsiftp",
        ANY,
        None,
        r"Too many connections|421[ -]|Service busy|connection limit",
        "{side}_BUSY",
        "The server of {site} has too many connections.",
        None,
        True,
        "It is tried again.",
        stops=True,
    ),
    # Space.
    Row(
        "disk full",
        ANY,
        ANY,
        None,
        r"No space left on device|insufficient (storage|space)|Errno: 28\b",
        "DESTINATION_FULL",
        "There is no space left at {site}.",
        "destination_site",
        False,
        "Make room at {site}, then retry the job.",
        stops=True,
    ),
    Row(
        "quota",
        ANY,
        ANY,
        None,
        r"quota exceeded|Disk quota|Errno: 122\b",
        "DESTINATION_QUOTA",
        "Your quota at {site} is used up.",
        "user",
        False,
        "Make room at {site}, then retry the job.",
        stops=True,
    ),
    Row(
        "read-only",
        ANY,
        ANY,
        None,
        r"Read-only file system|Errno: 30\b",
        "{side}_READ_ONLY",
        "The file system at {site} is read-only.",
        None,
        False,
        _ASK_ADMIN,
        stops=True,
    ),
    Row(
        "too large",
        ANY,
        ANY,
        None,
        r"File too large|Errno: 27\b",
        "{side}_FILE_TOO_LARGE",
        "The file is too large for the file system at {site}.",
        None,
        False,
        _ASK_ADMIN,
    ),
    # Paths. Globus gives namespace errors a number of their own, which gfal2 does not always pass on.
    Row(
        "name too long",
        ANY,
        ANY,
        None,
        r"File name too long|Errno: 36\b",
        "{side}_NAME_TOO_LONG",
        "The name is too long for {site}.",
        "user",
        False,
        "Use a shorter name.",
    ),
    Row(
        "not empty",
        ANY,
        ANY,
        None,
        r"Directory not empty|Errno: 39\b",
        "{side}_NOT_EMPTY",
        "The directory at {site} is not empty.",
        "user",
        False,
    ),
    Row(
        "loop of links",
        ANY,
        ANY,
        None,
        r"Too many levels of symbolic links|Errno: 40\b",
        "{side}_LINK_LOOP",
        "A symbolic link at {site} leads back to itself.",
        "user",
        False,
    ),
    Row(
        "input or output error",
        ANY,
        ANY,
        None,
        r"Input/output error|Errno: 5\b",
        "{side}_STORAGE_ERROR",
        "The storage at {site} reports an input or output error.",
        None,
        True,
        _ASK_ADMIN,
    ),
    Row(
        "busy",
        ANY,
        ANY,
        None,
        r"Device or resource busy|Text file busy|Errno: (16|26)\b",
        "{side}_IN_USE",
        "The file at {site} is in use.",
        "user",
        True,
        "It is tried again.",
    ),
    Row(
        "line break in a name",
        "gsiftp",
        ANY,
        None,
        r"a protocol error occurred|holds a line break",
        "{side}_NAME_NOT_CARRIED",
        "GridFTP cannot carry this name: it holds a line break.",
        "user",
        False,
        "Rename it at {site}.",
    ),
    Row(
        "listing a file",
        "gsiftp",
        frozenset({"list"}),
        21,
        r"is not a directory",
        "{side}_NOT_A_DIRECTORY",
        "This is a file at {site}, not a directory.",
        "user",
        False,
    ),
    Row(
        "denied",
        ANY,
        ANY,
        13,
        r"",
        "{side}_PERMISSION_DENIED",
        "Permission denied at {site}.",
        "user",
        False,
        "Ask whoever owns it at {site} for access.",
    ),
    Row(
        "denied, in words",
        ANY,
        ANY,
        None,
        r"Permission denied|Operation not permitted|Errno: (1|13)\b",
        "{side}_PERMISSION_DENIED",
        "Permission denied at {site}.",
        "user",
        False,
        "Ask whoever owns it at {site} for access.",
    ),
    Row(
        "not a directory",
        ANY,
        ANY,
        20,
        r"",
        "{side}_NOT_A_DIRECTORY",
        "A part of the path at {site} is a file, not a directory.",
        "user",
        False,
    ),
    Row("is a directory", ANY, ANY, 21, r"", "{side}_IS_A_DIRECTORY", "This is a directory at {site}.", "user", False),
    Row(
        "not found",
        ANY,
        ANY,
        2,
        r"",
        "{side}_NOT_FOUND",
        "There is no such file or directory at {site}.",
        "user",
        False,
    ),
    Row(
        "not found, in words",
        ANY,
        ANY,
        None,
        r"No such file or directory|PATH_NOT_FOUND|Errno: 2\b",
        "{side}_NOT_FOUND",
        "There is no such file or directory at {site}.",
        "user",
        False,
    ),
    Row("exists", ANY, ANY, 17, r"", "{side}_EXISTS", "It exists already at {site}.", "user", False),
    # Transfers.
    Row(
        "data port unreachable",
        "gsiftp",
        _COPY,
        None,
        r"data channel|Connection (timed out|reset)|an end-of-file was reached|broken pipe",
        "TRANSFER_BROKEN",
        "The connection between the two sites broke.",
        "network",
        True,
        "It is tried again; if it stays so, a firewall between the sites may be closed for data ports.",
    ),
    Row(
        "connection lost",
        "gsiftp",
        ANY,
        None,
        r"end-of-file was reached|Connection (reset|timed out)|broken pipe|closed the (control )?connection",
        "{side}_CONNECTION_LOST",
        "The connection to {site} was lost.",
        "network",
        True,
        "It is tried again.",
    ),
    Row(
        "timed out in a copy",
        ANY,
        _COPY,
        110,
        r"",
        "TRANSFER_STALLED",
        "The transfer made no progress.",
        "network",
        True,
        "It is tried again.",
    ),
    Row(
        "timed out",
        ANY,
        ANY,
        110,
        r"",
        "{side}_TIMED_OUT",
        "The server of {site} did not answer in time.",
        None,
        True,
        "It is tried again.",
        stops=True,
    ),
    Row(
        "checksum unknown",
        ANY,
        frozenset({"checksum"}),
        None,
        r"Unknown checksum algorithm|not (supported|implemented)|50[0-4] .*CKSM",
        "{side}_CHECKSUM_UNSUPPORTED",
        "The server of {site} cannot compute this checksum.",
        None,
        False,
        stops=True,
    ),
)
