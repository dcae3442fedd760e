"""What a server tells of a transfer while it goes on: markers (GFD.20, 3.3)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from wherry_gridftp.replies import Reply

PERFORMANCE, RANGES = 112, 111
MAX_RANGES = 4096
"""Kept of one file; a server that tells more costs a resumed copy some bytes, and nobody memory."""
MAX_RESTART_BYTES = 1 << 15
"""Servers need not take lines of any length."""
_MAX_STRIPES = 1024
_STRIPE = re.compile(rb"Stripe Index: *(\d{1,9})(?!\d)")
_BYTES = re.compile(rb"Stripe Bytes Transferred: *(\d{1,19})(?!\d)")
_RANGE = re.compile(rb"(?<!\d)(\d{1,19})-(\d{1,19})(?!\d)")

Range = tuple[int, int]
"""From the first byte to the one after the last."""


class Markers:
    """How far one file is, as its destination has told: nothing is guessed in between.

    Args:
        have: what was there before. Servers count the bytes that they get on top of it from 0, and tell of no ranges
            that they did not get themselves.
    """

    def __init__(self, have: Iterable[Range] = ()) -> None:
        self._stripes: dict[int, int] = {}
        self._ranges: list[Range] = merged(have)
        self._had = self._sum()

    def take(self, reply: Reply) -> bool:
        """Takes a marker; tells whether it said something new."""
        text = b"\n".join(reply.lines)
        if reply.code == PERFORMANCE:
            stripe, count = _STRIPE.search(text), _BYTES.search(text)
            if count is None:
                return False
            index = int(stripe[1]) if stripe else 0
            if index not in self._stripes and len(self._stripes) >= _MAX_STRIPES:
                return False
            new = self._stripes.get(index) != int(count[1])
            self._stripes[index] = int(count[1])
            return new
        if reply.code == RANGES:
            before = self._ranges
            told = ((int(first), int(last)) for first, last in _RANGE.findall(text[4:]))
            self._ranges = merged([*before, *told])[:MAX_RANGES]
            return self._ranges != before
        return False

    @property
    def bytes(self) -> int:
        """Bytes that are at the destination."""
        return max(self._had + sum(self._stripes.values()), self._sum())

    @property
    def ranges(self) -> Sequence[Range]:
        """Which, in order and apart: what need not be sent again."""
        return self._ranges

    def _sum(self) -> int:
        return sum(last - first for first, last in self._ranges)


def merged(ranges: Iterable[Range]) -> list[Range]:
    """Returns ranges in order, those that touch as one."""
    whole: list[Range] = []
    for first, last in sorted(ranges):
        if whole and first <= whole[-1][1]:
            whole[-1] = (whole[-1][0], max(last, whole[-1][1]))
        elif last > first:
            whole.append((first, last))
    return whole


def restart_value(ranges: Iterable[Range]) -> bytes:
    """Returns ranges as REST wants them in MODE E; of very many the first: what is left out is only sent again."""
    value = b""
    for first, last in ranges:
        more = b"%s%d-%d" % (b"," if value else b"", first, last)
        if len(value) + len(more) > MAX_RESTART_BYTES:
            break
        value += more
    return value
