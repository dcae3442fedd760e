from __future__ import annotations

import time

from wherry_chassis.identity import UserClaims
from wherry_chassis.revocations import Revocations

_CLAIMS = UserClaims("users/alice", "session-1", 0)


def test_whoever_watches_a_session_hears_of_its_end_and_of_its_users() -> None:
    revocations, heard = Revocations(), []
    with revocations.watch(_CLAIMS, lambda: heard.append("ended")):
        revocations.add("session-2", time.time() + 60)
        assert heard == []
        revocations.add("session-1", time.time() + 60)
        revocations.add("users/alice", time.time() + 60)
    assert heard == ["ended", "ended"]


def test_nobody_hears_of_anything_after_having_left() -> None:
    revocations, heard = Revocations(), []
    with revocations.watch(_CLAIMS, lambda: heard.append("first")):
        pass
    with revocations.watch(_CLAIMS, lambda: heard.append("second")):
        revocations.add("session-1", time.time() + 60)
    assert heard == ["second"]


def test_revocations_are_kept_while_they_matter_and_dropped_afterwards() -> None:
    revocations = Revocations()
    revocations.add("session-1", time.time() + 600)
    for number in range(5000):
        revocations.add(f"old-{number}", time.time() - 1)
    assert revocations.is_revoked(_CLAIMS)
    assert not revocations.is_revoked(UserClaims("users/bob", "old-0", 0))
