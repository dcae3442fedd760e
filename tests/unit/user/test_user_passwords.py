"""Password hashes."""

from __future__ import annotations

from typing import Literal

import argon2
import pytest
from wherry_chassis.errors import InvalidFields
from wherry_fakes.user_ports import quick_hasher
from wherry_user.passwords import Argon2Hasher, check_new_password


@pytest.mark.row("D17")
async def test_passwords_are_hashed_with_argon2id_and_the_settings_of_rfc_9106() -> None:
    stored = await Argon2Hasher().hash("correct horse")
    assert stored.startswith("$argon2id$v=19$m=65536,t=3,p=4$")


@pytest.mark.row("D17")
async def test_a_password_matches_its_hash_and_no_other() -> None:
    hasher = quick_hasher()
    stored = await hasher.hash("correct horse")
    assert stored != await hasher.hash("correct horse"), "every hash has a salt of its own"
    assert await hasher.verify(stored, "correct horse")
    assert not await hasher.verify(stored, "correct horsf")
    assert not await hasher.verify(stored, "")


@pytest.mark.row("U3")
async def test_nobodys_password_never_matches_though_it_is_hashed_too() -> None:
    hashed: list[str] = []

    class Counting(argon2.PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002  # argon2's own name
            hashed.append(str(hash))
            return super().verify(hash, password)

    hasher = Argon2Hasher(Counting(time_cost=1, memory_cost=8, parallelism=1))
    assert not await hasher.verify(None, "nobody's password")
    assert len(hashed) == 1


async def test_characters_composed_differently_are_the_same_password() -> None:
    hasher = quick_hasher()
    assert await hasher.verify(await hasher.hash("café-1234"), "cafe\u0301-1234")


async def test_hashes_made_with_other_settings_are_outdated() -> None:
    quick, today = quick_hasher(), Argon2Hasher()
    assert today.is_outdated(await quick.hash("correct horse"))
    assert not quick.is_outdated(await quick.hash("correct horse"))


@pytest.mark.row("U1")
@pytest.mark.parametrize("password", ["", "1234567", "x" * 1025])
def test_passwords_that_are_too_short_or_long_are_refused(password: str) -> None:
    with pytest.raises(InvalidFields) as caught:
        check_new_password(password)
    assert [problem.field for problem in caught.value.field_problems] == ["password"]


@pytest.mark.row("U1")
@pytest.mark.parametrize("password", ["12345678", "ünïcödé!", "x" * 1024])
def test_passwords_of_eight_characters_and_more_are_taken(password: str) -> None:
    check_new_password(password)
