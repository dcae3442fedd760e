"""Why a job is not running, in words and in figures: a pure decision from what the database says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from wherry_queue.states import FINISHED, Hold, JobState


class LimitKind(StrEnum):
    """Whose limit it is."""

    LINK = "LINK_LIMIT"
    SITE = "SITE_LIMIT"
    USER = "USER_LIMIT"


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit that holds for a job's lane.

    Attributes:
        subject: whose: `users/me`, `sites/a in`, `sites/a out`, or `sites/a sites/b`.
        limit: how many tasks may run at once.
        in_use: how many do.
    """

    kind: LimitKind
    subject: str
    limit: int
    in_use: int

    @property
    def full(self) -> bool:
        """Whether nothing more may start."""
        return self.in_use >= self.limit


@dataclass(frozen=True, slots=True)
class Crowd:
    """Who else waits.

    Attributes:
        active_users: people with something to lease now.
        weights: of those, summed.
    """

    active_users: int = 0
    weights: float = 0.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What the reason follows from.

    Attributes:
        hold: why nothing of its lane may be leased.
        source, destination: its sites.
        source_until_ms, destination_until_ms: the ends of the owner's sessions there; 0: none; None: not known.
        ban: the operator's words about a ban that holds it, with the site if it is a site's.
        pending: tasks that could be leased.
        retry_ms: when the next task that rests is due.
        limits: those that hold for it.
        has_workers: whether any worker is connected anywhere.
        position: its place among its owner's waiting jobs, from 1; 0: too far behind to tell.
        weight: its owner's.
    """

    state: JobState
    hold: Hold
    source: str
    destination: str
    running: int = 0
    source_until_ms: int | None = None
    destination_until_ms: int | None = None
    ban: tuple[str, str] | None = None
    pending: int = 0
    retry_ms: int | None = None
    limits: Sequence[Limit] = ()
    has_workers: bool = True
    position: int = 0
    weight: float = 1.0
    crowd: Crowd = field(default_factory=Crowd)


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a job waits; the fields are those of the contract's message."""

    reason: str
    message: str
    site: str = ""
    retry_ms: int | None = None
    position: int = 0
    active_users: int = 0
    share: float = 0.0
    limit: int = 0
    in_use: int = 0
    limit_subject: str = ""


_SITES_UNKNOWN = (
    "The service that knows its sites cannot be asked at the moment; the job goes on by itself as soon as it answers."
)


def reason_of(facts: Facts) -> Reason | None:
    """Returns why a job is not running; None where it is, or has come to its end.

    What its owner can change comes first, as its state says the same; then what an operator has said, then what time
    brings.
    """
    if facts.state in FINISHED or facts.state is JobState.CANCELLING:
        return None
    if facts.state is JobState.PAUSED:
        finishing = " Files that are moving are finished." if facts.running else ""
        return Reason("PAUSED", f"It is paused, and goes on when it is resumed.{finishing}")
    if facts.running:
        return None
    if facts.hold & Hold.SIGN_IN:
        site = facts.source if facts.hold & Hold.SOURCE_SIGN_IN else facts.destination
        message = f"The session at {site} has ended; sign in there again and the job goes on by itself."
        return Reason("SIGN_IN_REQUIRED", message, site=site)
    if facts.hold & Hold.TOO_SHORT:
        return _too_short(facts)
    if facts.hold & Hold.BANNED:
        return _suspended(facts)
    if facts.hold & Hold.SITES_UNKNOWN:
        return Reason("SITES_UNAVAILABLE", _SITES_UNKNOWN)
    if not facts.pending:
        if facts.retry_ms is not None:
            return Reason("BACK_OFF", "It is tried again shortly.", retry_ms=facts.retry_ms)
    elif (full := next((limit for limit in facts.limits if limit.full), None)) is not None:
        return _limited(facts, full)
    if not facts.has_workers:
        return Reason("NO_WORKER", "No worker is connected at the moment.")
    return _in_line(facts, Reason("IN_LINE", "It waits for its turn."))


def _suspended(facts: Facts) -> Reason:
    words, site = facts.ban or ("", "")
    who = f"all work at {site}" if site else "your work"
    said = f": {words}" if words else "."
    return Reason("SUSPENDED", f"The operator has suspended {who}{said}", site=site)


def _too_short(facts: Facts) -> Reason:
    """Names the site whose session ends first: signing in there again is what helps."""
    ends = [
        (until_ms, site)
        for until_ms, site in ((facts.source_until_ms, facts.source), (facts.destination_until_ms, facts.destination))
        if until_ms is not None
    ]
    site = min(ends)[1] if ends else facts.source
    message = f"It would not end before the session at {site} does; sign in there again and the job goes on by itself."
    return Reason("SESSION_TOO_SHORT", message, site=site)


_WHOSE = {
    LimitKind.LINK: "between the two sites",
    LimitKind.SITE: "at a site",
    LimitKind.USER: "of one person",
}


def _limited(facts: Facts, limit: Limit) -> Reason:
    message = f"{limit.in_use} tasks {_WHOSE[limit.kind]} are running, of {limit.limit} that may."
    site = limit.subject.split(" ")[0] if limit.kind is LimitKind.SITE else ""
    reason = Reason(limit.kind, message, site=site, limit=limit.limit, in_use=limit.in_use, limit_subject=limit.subject)
    return _in_line(facts, reason)


def _in_line(facts: Facts, reason: Reason) -> Reason:
    if not facts.pending:
        return reason
    weights = max(facts.crowd.weights, facts.weight)
    return replace(
        reason,
        position=facts.position,
        active_users=max(facts.crowd.active_users, 1),
        share=facts.weight / weights,
    )
