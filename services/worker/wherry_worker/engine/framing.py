"""How messages lie on the pipe between lease process and engine: four bytes of length, then JSON."""

from __future__ import annotations

import struct
from collections.abc import Callable

HEADER = struct.Struct(">I")
#: A frame above this is a broken or hostile peer; a full chunk of 1,000 entries with long names stays below.
MAX_FRAME_BYTES = 16 * 1024 * 1024


class FramingError(Exception):
    """The other side of the pipe sent something that is no frame."""


def pack(body: bytes) -> bytes:
    """Returns `body` with its length before it; raises FramingError for one that is too long."""
    if len(body) > MAX_FRAME_BYTES:
        raise FramingError
    return HEADER.pack(len(body)) + body


def body_length(header: bytes) -> int:
    """Reads the length from a header's four bytes; raises FramingError where it is out of bounds."""
    (length,) = HEADER.unpack(header)
    if length > MAX_FRAME_BYTES:
        raise FramingError
    return int(length)


def read_frame(read: Callable[[int], bytes]) -> bytes | None:
    """Reads one frame's body with `read(n)`, which may return less than asked for and b"" at the end.

    Returns None at a clean end; raises FramingError where the stream ends within a frame.
    """
    header = _read_exactly(read, HEADER.size, at_start=True)
    if header is None:
        return None
    return _read_exactly(read, body_length(header))


def _read_exactly(read: Callable[[int], bytes], count: int, *, at_start: bool = False) -> bytes | None:
    parts: list[bytes] = []
    missing = count
    while missing:
        part = read(missing)
        if not part:
            if at_start and missing == count:
                return None
            raise FramingError
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
