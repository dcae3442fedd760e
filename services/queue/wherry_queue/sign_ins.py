"""Users' sign-ins at sites, as far as the queue goes by them: what the site service tells, and what may start.

The site service knows; the queue keeps what it was last told, so that leasing asks nobody. Its news open and close
lanes within a second; whoever is parked is asked about again and again besides, so that no lost word parks for ever.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

LEAST_REST_MS = 60_000
"""With less than this left of a session nothing is begun that needs it, however little it seems to be."""
SLOWEST_BYTES_PER_S = 1_000_000
"""Nothing is taken for slower than this: what was learnt of small files says little of large ones, and what is tried in
vain loses only the file that is not finished."""
ANSWERED_REST_MS = 600_000
"""What is enough for anything, once its user has signed in again because it was refused."""


Pair = tuple[str, str]
"""`users/{user}` and `sites/{site}`."""


class ChangeKind(enum.IntEnum):
    """What happened to a sign-in; the numbers are the contract's."""

    SIGNED_IN = 1
    RENEWED = 2
    EXPIRED = 3
    SIGNED_OUT = 4


@dataclass(frozen=True, slots=True)
class SessionChange:
    """A change of a user's sign-in at a site.

    Attributes:
        user: `users/{user}`.
        site: `sites/{site}`.
        until_ms: when the session ends, milliseconds since the epoch; for one that has ended, when it did.
    """

    user: str
    site: str
    kind: ChangeKind
    until_ms: int


@dataclass(frozen=True, slots=True)
class SignInNews:
    """The ids of the jobs that a change has parked or set going again."""

    opened: Sequence[int] = ()
    closed: Sequence[int] = ()


def fits(
    bytes_left: int, bytes_per_second: float | None, until_ms: int | None, now_ms: int, refused_until_ms: int
) -> bool:
    """Tells whether a task may start now, or is refused because its session would end before it does.

    It fits if what is left of the session is at least its estimate, and at least `LEAST_REST_MS`; where no rate is
    known, the latter alone. So that nothing waits for ever, a task is refused at most once for each end of a session:

    - A session that ends when the one ends for which it was refused, or earlier, is tried all the same: waiting has
      brought nothing better.
    - One that ends later was signed in for since. While the one that it was refused for would still last, this is its
      user's answer to the refusal, and as much as the site gives: `ANSWERED_REST_MS` is then enough, however long the
      estimate. (Not anything at all: the task may be between two sites, with only one of them signed in at again.)
    - Otherwise it is looked at anew, and may be refused once more for that end.

    A session that is over is none, and lets nothing start.

    Args:
        bytes_left: what the task has still to move.
        bytes_per_second: what one task on its link has lately moved; None: not known.
        until_ms: the end of the session, of the two the earlier; None: nothing is known of it.
        now_ms: the time, by the same clock as `until_ms`.
        refused_until_ms: the end of the session for which this task was last refused; 0: it never was.
    """
    if until_ms is None:
        return True
    if until_ms <= now_ms:
        return False
    if refused_until_ms >= until_ms:
        return True
    need_ms = float(LEAST_REST_MS)
    if bytes_per_second:
        need_ms = max(need_ms, bytes_left * 1000 / max(bytes_per_second, SLOWEST_BYTES_PER_S))
    if refused_until_ms > now_ms:
        need_ms = min(need_ms, ANSWERED_REST_MS)
    return until_ms - now_ms >= need_ms
