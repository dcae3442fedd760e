"""The table of failures, row by row, with texts as the servers and libraries write them."""
# ruff: noqa: E501  # a raw text is compared best in one piece

from __future__ import annotations

import pytest
from wherry_worker.engine.failure_table import TABLE
from wherry_worker.engine.failures import explain, shorten
from wherry_worker.engine.namespace import DoorError

_REPLY = "globus_ftp_client: the server responded with an error "
_OPEN = (
    "500 500-Command failed. : globus_l_gfs_file_open failed.  500-globus_xio: Unable to open file /x  500-globus_xio: "
)

#: (row, phase, errno, text, reason at the source). Texts marked with * were written by a real server or library.
SAMPLES: tuple[tuple[str, str, int, str, str], ...] = (
    (
        "server certificate expired",
        "login",
        13,
        "the server's certificate: certificate has expired",
        "SOURCE_SERVER_CERTIFICATE_EXPIRED",
    ),
    (
        "expired at the server", "stat", 13,
        _REPLY + "530 530-globus_xio: Authentication Error 530-OpenSSL Error: certificate verify failed: certificate has expired",
        "SOURCE_SESSION_EXPIRED",
    ),
    (  # *
        "server without credential", "stat", 13,
        _REPLY + "530 530-globus_xio: Server side credential failure  530-GSS failure:   530-GSS Major Status: General failure",
        "SOURCE_SERVER_MISCONFIGURED",
    ),
    (  # *
        "refused identity", "stat", 13,
        _REPLY + "530 530-globus_xio: Authentication Error  530-GSS failure:   530-GSS Major Status: Authentication Failed",
        "SOURCE_REFUSED_IDENTITY",
    ),
    (  # *
        "untrusted server", "login", 13, "the server's certificate: self-signed certificate in certificate chain",
        "SOURCE_NOT_TRUSTED",
    ),
    ("wrong host name", "copy", 13, "globus_ftp_control: GSS failure: Mutual authentication failed", "SOURCE_WRONG_HOST"),
    (  # *
        "no usable credential here", "stat", 13,
        "globus_ftp_control: gss_init_sec_context failed GSS failure:  GSS Major Status: General failure",
        "WORKER_CREDENTIAL_UNUSABLE",
    ),
    (  # *
        "name unknown", "copy", 70,
        "TRANSFER  globus_xio: Unable to connect to no.invalid:1 globus_xio: globus_libc_getaddrinfo failed.",
        "SOURCE_HOST_UNKNOWN",
    ),
    (  # *
        "no route or port closed", "copy", 70,
        "TRANSFER  globus_xio: Unable to connect to localhost:1 globus_xio: System error in connect: Connection refused",
        "SOURCE_UNREACHABLE",
    ),
    ("server full", "stat", 70, _REPLY + "421 Service busy: Connection limit exceeded.", "SOURCE_BUSY"),
    (
        "disk full", "copy", 70,
        "TRANSFER  " + _REPLY + "500 500-globus_xio: System error in write: No space left on device",
        "DESTINATION_FULL",
    ),
    ("quota", "copy", 70, "TRANSFER  " + _REPLY + "500 500-System error in write: Disk quota exceeded", "DESTINATION_QUOTA"),
    ("read-only", "mkdir", 70, _REPLY + "550-GridFTP-Errno: 30  550-GridFTP-Reason: System error in mkdir", "SOURCE_READ_ONLY"),
    ("too large", "copy", 70, _REPLY + "500-System error in write: File too large", "SOURCE_FILE_TOO_LARGE"),
    (  # *
        "name too long", "stat", 70,
        _REPLY + "451 451-GlobusError: v=1 c=INTERNAL_ERROR  451-GridFTP-Errno: 36  451-GridFTP-Error-String: File name too long",
        "SOURCE_NAME_TOO_LONG",
    ),
    (  # *
        "not empty", "rmdir", 70, _REPLY + "451 451-GlobusError: v=1 c=INTERNAL_ERROR  451-GridFTP-Errno: 39",
        "SOURCE_NOT_EMPTY",
    ),
    ("loop of links", "stat", 70, "451-GridFTP-Errno: 40 Too many levels of symbolic links", "SOURCE_LINK_LOOP"),
    ("input or output error", "checksum", 70, "500-System error in read: Input/output error", "SOURCE_STORAGE_ERROR"),
    ("busy", "unlink", 70, "550-GridFTP-Errno: 16 Device or resource busy", "SOURCE_IN_USE"),
    (  # *
        "line break in a name", "stat", 70, "globus_ftp_client: a protocol error occurred ", "SOURCE_NAME_NOT_CARRIED",
    ),
    ("listing a file", "list", 21, "gsiftp://localhost:1/x is not a directory", "SOURCE_NOT_A_DIRECTORY"),  # *
    ("denied", "stat", 13, _REPLY + "550 550-GlobusError: v=1 c=PERMISSION_DENIED", "SOURCE_PERMISSION_DENIED"),  # *
    ("denied, in words", "copy", 70, _REPLY + _OPEN + "System error in open: Permission denied", "SOURCE_PERMISSION_DENIED"),
    ("not a directory", "stat", 20, _REPLY + "550 550-GlobusError: v=1 c=NOT_A_DIRECTORY", "SOURCE_NOT_A_DIRECTORY"),  # *
    ("is a directory", "unlink", 21, _REPLY + "550 550-GlobusError: v=1 c=IS_A_DIRECTORY", "SOURCE_IS_A_DIRECTORY"),  # *
    ("not found", "stat", 2, _REPLY + "550 550-GlobusError: v=1 c=PATH_NOT_FOUND", "SOURCE_NOT_FOUND"),  # *
    ("not found, in words", "copy", 70, _REPLY + _OPEN + "System error in open: No such file or directory", "SOURCE_NOT_FOUND"),
    ("exists", "mkdir", 17, _REPLY + "553 553-GlobusError: v=1 c=PATH_EXISTS", "SOURCE_EXISTS"),  # *
    (
        "data port unreachable", "copy", 70,
        "TRANSFER  " + _REPLY + "500 500-Command failed. : an end-of-file was reached", "TRANSFER_BROKEN",
    ),
    ("connection lost", "stat", 70, "Connection reset: the server closed the control connection", "SOURCE_CONNECTION_LOST"),
    ("timed out in a copy", "copy", 110, "TRANSFER  Operation timed out", "TRANSFER_STALLED"),  # *
    ("timed out", "stat", 110, "Connection with the server: operation timed out", "SOURCE_TIMED_OUT"),
    ("checksum unknown", "checksum", 70, _REPLY + "500 Unknown checksum algorithm requested.", "SOURCE_CHECKSUM_UNSUPPORTED"),  # *
)  # fmt: skip


@pytest.mark.parametrize(("row", "phase", "errno", "text", "reason"), SAMPLES, ids=[sample[0] for sample in SAMPLES])
def test_a_text_is_explained_by_its_row(row: str, phase: str, errno: int, text: str, reason: str) -> None:
    error = DoorError(phase, errno, text)
    first = next(item for item in TABLE if item.fits("gsiftp", error))
    assert first.name == row
    problem = explain(error, "gsiftp", "source", "site-a")
    assert problem.reason == reason
    assert "{" not in problem.message + problem.help


def test_every_row_has_a_sample() -> None:
    assert {row.name for row in TABLE} == {sample[0] for sample in SAMPLES}
    assert len({row.name for row in TABLE}) == len(TABLE)


def test_reasons_and_parties_say_on_which_side_it_was() -> None:
    error = DoorError("stat", 70, "421 Service busy")
    assert (explain(error, "gsiftp", "source", "a").reason, explain(error, "gsiftp", "source", "a").party) == (
        "SOURCE_BUSY",
        "source_site",
    )
    there = explain(error, "gsiftp", "destination", "b")
    assert (there.reason, there.party) == ("DESTINATION_BUSY", "destination_site")
    only = explain(error, "gsiftp", "site", "b")
    assert (only.reason, only.party) == ("BUSY", "source_site")
    unclear = explain(error, "gsiftp", "transfer", "a or b")
    assert (unclear.reason, unclear.party) == ("TRANSFER_BUSY", "unknown")


def test_what_no_row_knows_is_shown_raw_in_one_line_and_tried_again() -> None:
    problem = explain(DoorError("copy", 70, "something\r\n\x00 quite\tnew"), "gsiftp", "source", "a")
    assert problem.reason == "UNKNOWN_ERROR"
    assert "something quite new" in problem.message
    assert problem.retryable
    assert len(shorten("x" * 10_000)) == 600
