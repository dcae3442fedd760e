"""Why a job waits: what is said where several things would do."""

from __future__ import annotations

from typing import Any

import pytest
from wherry_queue.states import FINISHED, Hold, JobState
from wherry_queue.waiting import Crowd, Facts, Limit, LimitKind, reason_of

pytestmark = pytest.mark.row("B6")


def facts(**values: Any) -> Facts:
    """A job with a task that could be leased, alone in the world."""
    given: dict[str, Any] = {
        "state": JobState.QUEUED,
        "hold": Hold(0),
        "source": "sites/a",
        "destination": "sites/b",
        "pending": 1,
        "position": 1,
        "crowd": Crowd(1, 1.0),
    }
    return Facts(**(given | values))


def word(**values: Any) -> str:
    """The reason, or nothing."""
    found = reason_of(facts(**values))
    return found.reason if found else ""


FULL = Limit(LimitKind.LINK, "sites/a sites/b", 3, 3)


@pytest.mark.parametrize("state", [*sorted(FINISHED), JobState.CANCELLING])
def test_a_job_that_is_over_or_ending_waits_for_nothing(state: JobState) -> None:
    assert word(state=state, pending=0) == ""


def test_one_that_runs_waits_for_nothing_unless_it_was_paused() -> None:
    assert word(state=JobState.RUNNING, running=1) == ""
    assert word(state=JobState.RUNNING, running=1, limits=[FULL], hold=Hold.USER_BANNED) == ""
    found = reason_of(facts(state=JobState.PAUSED, running=1, hold=Hold.PAUSED))
    assert found is not None
    assert found.reason == "PAUSED"
    assert "moving" in found.message


def test_what_must_change_first_is_said_first() -> None:
    everything: dict[str, Any] = {
        "state": JobState.PAUSED,
        "hold": Hold.PAUSED | Hold.SOURCE_SIGN_IN | Hold.DESTINATION_SIGN_IN | Hold.TOO_SHORT | Hold.USER_BANNED,
        "limits": [FULL],
        "has_workers": False,
        "retry_ms": 5,
    }
    assert word(**everything) == "PAUSED"
    waiting = everything | {"state": JobState.WAITING_FOR_SIGN_IN, "hold": everything["hold"] & ~Hold.PAUSED}
    assert word(**waiting) == "SIGN_IN_REQUIRED"
    too_short = waiting | {"hold": Hold.TOO_SHORT | Hold.USER_BANNED}
    assert word(**too_short) == "SESSION_TOO_SHORT"
    banned = everything | {"state": JobState.RUNNING, "hold": Hold.USER_BANNED}
    assert word(**banned) == "SUSPENDED"
    assert word(**banned | {"hold": Hold.USER_BANNED | Hold.SITES_UNKNOWN}) == "SUSPENDED"
    assert word(**banned | {"hold": Hold.SITES_UNKNOWN}) == "SITES_UNAVAILABLE"
    assert word(**waiting | {"hold": Hold.SOURCE_SIGN_IN | Hold.SITES_UNKNOWN}) == "SIGN_IN_REQUIRED"
    limited = banned | {"hold": Hold(0)}
    assert word(**limited) == "LINK_LIMIT"
    assert word(**limited | {"limits": []}) == "NO_WORKER"
    assert word(**limited | {"limits": [], "has_workers": True}) == "IN_LINE"


def test_a_limit_holds_up_only_what_could_be_leased_otherwise() -> None:
    assert word(limits=[FULL], pending=0, retry_ms=9) == "BACK_OFF"
    assert word(limits=[Limit(LimitKind.LINK, "", 3, 2)]) == "IN_LINE"
    assert word(limits=[Limit(LimitKind.LINK, "", 3, 2), Limit(LimitKind.USER, "users/me", 0, 0)]) == "USER_LIMIT"


@pytest.mark.parametrize(
    ("hold", "site"),
    [
        (Hold.SOURCE_SIGN_IN, "sites/a"),
        (Hold.DESTINATION_SIGN_IN, "sites/b"),
        (Hold.SOURCE_SIGN_IN | Hold.DESTINATION_SIGN_IN, "sites/a"),
    ],
)
def test_the_site_to_sign_in_at_is_named(hold: Hold, site: str) -> None:
    found = reason_of(facts(state=JobState.WAITING_FOR_SIGN_IN, hold=hold))
    assert found is not None
    assert found.site == site
    assert site in found.message


@pytest.mark.parametrize(
    ("source", "destination", "site"), [(9, 5, "sites/b"), (5, 9, "sites/a"), (None, 9, "sites/b")]
)
def test_of_two_sessions_the_one_that_ends_first_is_too_short(
    source: int | None, destination: int | None, site: str
) -> None:
    held: dict[str, Any] = {"state": JobState.WAITING_FOR_SIGN_IN, "hold": Hold.TOO_SHORT, "pending": 0}
    found = reason_of(facts(**held, source_until_ms=source, destination_until_ms=destination))
    assert found is not None
    assert (found.reason, found.site) == ("SESSION_TOO_SHORT", site)


def test_a_ban_says_whose_it_is_and_why() -> None:
    found = reason_of(facts(hold=Hold.SOURCE_BANNED, ban=("moving house", "sites/a")))
    assert found is not None
    assert found.message == "The operator has suspended all work at sites/a: moving house"
    found = reason_of(facts(hold=Hold.USER_BANNED, ban=("", "")))
    assert found is not None
    assert found.message == "The operator has suspended your work."


def test_the_share_is_by_weight_among_those_who_wait() -> None:
    found = reason_of(facts(weight=2.0, crowd=Crowd(3, 8.0), position=4))
    assert found is not None
    assert (found.position, found.active_users, found.share) == (4, 3, 0.25)


def test_whoever_waits_is_at_least_one_and_has_at_most_all() -> None:
    found = reason_of(facts(weight=2.0, crowd=Crowd(0, 0.0)))
    assert found is not None
    assert (found.active_users, found.share) == (1, 1.0)
