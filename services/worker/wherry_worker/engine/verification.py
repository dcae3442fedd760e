"""What is said of a copy that is not like its source, or cannot be made as it was asked for."""

from __future__ import annotations

from wherry_worker.engine.messages import Problem


def size_differs(expected_bytes: int, found_bytes: int) -> Problem:
    """The copy has another size than the source had; a negative one: there is no copy."""
    return Problem(
        "SIZE_MISMATCH",
        f"The source has {expected_bytes} bytes, the copy {max(found_bytes, 0)}.",
        "network",
        retryable=True,
        help="It is tried again; the source may have changed during the copy.",
    )


def checksum_differs(algorithm: str, at_source: str, at_destination: str) -> Problem:
    """The copy has another checksum than the source."""
    return Problem(
        "CHECKSUM_MISMATCH",
        f"The {algorithm} checksums differ: {at_source} at the source, {at_destination} at the copy.",
        "network",
        retryable=True,
        help="It is tried again; the source may have changed during the copy.",
    )


def source_changed() -> Problem:
    """The source was written to while it was copied."""
    return Problem(
        "SOURCE_CHANGED",
        "The file was changed at the source while it was copied.",
        "user",
        retryable=True,
        help="It is tried again; copy it once nothing writes to it any more.",
    )


def leads_nowhere() -> Problem:
    """A symbolic link was to be followed."""
    return Problem("SYMLINK_LEADS_NOWHERE", "What this symbolic link leads to is not there.", "user")


def not_protected() -> Problem:
    """The bytes shall go protected, and one of the doors cannot do that."""
    return Problem(
        "DATA_CHANNEL_NOT_PROTECTED",
        "The two sites cannot protect the bytes on their way, as was asked for.",
        "user",
        help="Leave the protection of the data channel to the sites.",
        stops=True,
    )
