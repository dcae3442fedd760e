"""Lease tokens: which open something, and which do not."""

from __future__ import annotations

import time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from wherry_fakes.token_issuers import Signer
from wherry_site.errors import LeaseKeysUnavailable, LeaseTokenInvalid
from wherry_site.leases import LeaseVerifier

S6 = pytest.mark.row("S6")
NOW_S = 1_800_000_000.0
THUMBPRINT = "ab" * 32
SIGNER = Signer("k1")


class Keys:
    """Knows one key; or nobody can be asked."""

    def __init__(self, *, away: bool = False) -> None:
        self._away = away

    async def get(self, kid: str) -> Ed25519PublicKey | None:
        if self._away:
            raise LeaseKeysUnavailable
        return SIGNER.key.public_key() if kid == "k1" else None


def claims(**changes: Any) -> dict[str, Any]:
    good = {
        "iss": "wherry-queue",
        "aud": "wherry-site",
        "task": "jobs/j-1/tasks/12",
        "fence": 3,
        "user": "users/alice",
        "sites": ["sites/a", "sites/b"],
        "paths": ["/data"],
        "operations": ["copy"],
        "cnf": {"x5t#S256": THUMBPRINT},
        "iat": int(NOW_S) - 10,
        "exp": int(NOW_S) + 20,
    }
    changed = good | changes
    return {name: value for name, value in changed.items() if value is not ...}


def verifier(now_s: float = NOW_S) -> LeaseVerifier:
    return LeaseVerifier(Keys(), lambda: now_s)


@S6
async def test_a_good_token_says_whose_task_it_is_and_where() -> None:
    lease = await verifier().verify(SIGNER.sign(claims()), THUMBPRINT)
    assert (lease.task, lease.fence, lease.user) == ("jobs/j-1/tasks/12", 3, "users/alice")
    assert lease.sites == ("sites/a", "sites/b")
    assert lease.expires_s == NOW_S + 20


@S6
async def test_the_same_site_twice_is_one() -> None:
    token = SIGNER.sign(claims(sites=["sites/a", "sites/a"]))
    assert (await verifier().verify(token, THUMBPRINT)).sites == ("sites/a",)


@S6
async def test_a_token_ends_with_its_lease_but_for_what_clocks_differ_by() -> None:
    token = SIGNER.sign(claims())
    assert await verifier(NOW_S + 24.9).verify(token, THUMBPRINT)
    with pytest.raises(LeaseTokenInvalid):
        await verifier(NOW_S + 25).verify(token, THUMBPRINT)


@S6
async def test_a_token_of_another_workers_certificate_opens_nothing() -> None:
    with pytest.raises(LeaseTokenInvalid):
        await verifier().verify(SIGNER.sign(claims()), "cd" * 32)


@S6
@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "wherry"},
        {"iss": ...},
        {"aud": "wherry"},
        {"aud": ["wherry", "wherry-queue"]},
        {"aud": ...},
        {"task": "jobs/j-1"},
        {"task": "jobs/j-1/tasks/1\n"},
        {"task": ...},
        {"fence": 0},
        {"fence": -1},
        {"fence": True},
        {"fence": "3"},
        {"fence": 3.5},
        {"fence": 1 << 63},
        {"fence": ...},
        {"user": "alice"},
        {"user": ...},
        {"sites": []},
        {"sites": "sites/a"},
        {"sites": ["sites/a", "sites/b", "sites/c"]},
        {"sites": ["a"]},
        {"sites": [1]},
        {"sites": ...},
        {"cnf": THUMBPRINT},
        {"cnf": {}},
        {"cnf": {"x5t#S256": ""}},
        {"cnf": ...},
        {"exp": ...},
        {"exp": "soon"},
        {"iat": ...},
        {"iat": int(NOW_S) + 60},
        {"exp": int(NOW_S) + 90_000},
    ],
    ids=str,
)
async def test_a_token_with_a_claim_missing_or_unfit_opens_nothing(changes: dict[str, Any]) -> None:
    with pytest.raises(LeaseTokenInvalid):
        await verifier().verify(SIGNER.sign(claims(**changes)), THUMBPRINT)


@S6
@pytest.mark.parametrize("token", ["", "a", "a.b.c", "..", "\N{SNOWMAN}", "eyJhbGciOiJFZERTQSJ9.e30.", "a" * 16000])
async def test_what_is_no_token_opens_nothing(token: str) -> None:
    with pytest.raises(LeaseTokenInvalid) as caught:
        await verifier().verify(token, THUMBPRINT)
    assert caught.value.__cause__ is None, "the library's error may quote the token"


@S6
async def test_a_key_that_the_queue_does_not_know_signs_nothing() -> None:
    for token in (Signer("k1").sign(claims()), Signer("k2").sign(claims()), SIGNER.sign(claims(), kid="k2")):
        with pytest.raises(LeaseTokenInvalid):
            await verifier().verify(token, THUMBPRINT)


@S6
async def test_while_nobody_can_be_asked_for_the_key_the_worker_is_told_to_try_again() -> None:
    with pytest.raises(LeaseKeysUnavailable):
        await LeaseVerifier(Keys(away=True), time.time).verify(SIGNER.sign(claims()), THUMBPRINT)
