"""What every store of the user service does: the fake, SQLite and PostgreSQL alike."""

from __future__ import annotations

import asyncio

import pytest
from wherry_testing.user_store import MINUTE_MS, NOW_MS, Store, account, begun, event, lifetimes, verification, verified
from wherry_user.audit import Action
from wherry_user.revocations import Subject
from wherry_user.sessions import Rotation
from wherry_user.signing import StoredKey
from wherry_user.sweeping import UNCONFIRMED_KEPT_MS
from wherry_user.throttle import Limit


@pytest.mark.row("U1")
async def test_an_address_that_is_free_is_registered_unverified(store: Store) -> None:
    holder = await store.register(account(), verification(), event())
    assert holder.id == "id-alice"
    found = await store.account_by_email("alice@example.org")
    assert found is not None
    assert (found.id, found.verified_ms, found.display_name) == ("id-alice", None, "name of t1")


@pytest.mark.row("U1")
async def test_a_verified_address_keeps_its_account_when_registered_again(store: Store) -> None:
    first = await verified(store)
    holder = await store.register(
        account(id="another", email="ALICE@example.org"), verification("t2", "hash-2"), event()
    )
    assert holder == first
    assert await store.account("another") is None
    assert not await store.verify("t2", NOW_MS, event())


async def test_each_token_of_an_unverified_address_brings_its_own_password(store: Store) -> None:
    await store.register(account(), verification("t1", "hash-1"), event())
    await store.register(account(id="another"), verification("t2", "hash-2", NOW_MS + 1), event())
    assert await store.verify("t1", NOW_MS + 2, event())
    found = await store.account("id-alice")
    assert found is not None
    assert found.password_hash == "hash-1"
    assert not await store.verify("t2", NOW_MS + 3, event())


@pytest.mark.row("U1")
async def test_a_withdrawn_registration_leaves_no_account(store: Store) -> None:
    await store.register(account(), verification(), event())
    await store.withdraw("t1")
    assert await store.account_by_email("alice@example.org") is None
    await store.withdraw("t1")


async def test_a_withdrawn_second_registration_leaves_the_first(store: Store) -> None:
    await store.register(account(), verification("t1", "hash-1"), event())
    await store.register(account(id="another"), verification("t2", "hash-2", NOW_MS + 1), event())
    await store.withdraw("t2")
    found = await store.account("id-alice")
    assert found is not None
    assert (found.password_hash, found.display_name) == ("hash-1", "name of t1")
    assert await store.verify("t1", NOW_MS + 2, event())


@pytest.mark.row("U2")
async def test_a_verification_works_once(store: Store) -> None:
    await store.register(account(), verification(), event())
    assert await store.verify("t1", NOW_MS + 1, event())
    assert not await store.verify("t1", NOW_MS + 2, event())


@pytest.mark.row("U2")
async def test_of_many_uses_of_a_verification_at_once_one_succeeds(store: Store) -> None:
    await store.register(account(), verification(), event())
    outcomes = await asyncio.gather(*(store.verify("t1", NOW_MS + 1, event()) for _ in range(8)))
    assert sorted(outcomes) == [False] * 7 + [True]


@pytest.mark.row("U2")
async def test_a_verification_expires(store: Store) -> None:
    await store.register(account(), verification(), event())
    assert not await store.verify("t1", NOW_MS + 10 * MINUTE_MS, event())
    found = await store.account("id-alice")
    assert found is not None
    assert found.verified_ms is None


@pytest.mark.row("U2")
async def test_resending_is_for_unverified_accounts_only(store: Store) -> None:
    assert await store.resend("alice@example.org", "t2", NOW_MS, NOW_MS + MINUTE_MS, event()) is None
    await store.register(account(), verification(), event())
    assert await store.resend("alice@example.org", "t2", NOW_MS, NOW_MS + MINUTE_MS, event()) is not None
    assert await store.verify("t2", NOW_MS + 1, event())
    assert await store.resend("alice@example.org", "t3", NOW_MS, NOW_MS + MINUTE_MS, event()) is None


async def test_registrations_of_one_address_at_once_make_one_account(store: Store) -> None:
    holders = await asyncio.gather(
        *(store.register(account(id=f"id-{n}"), verification(f"t{n}"), event()) for n in range(8))
    )
    assert len({holder.id for holder in holders}) == 1


async def test_text_that_a_database_cannot_hold_is_nobodys_address(store: Store) -> None:
    assert await store.account_by_email("a\0b@example.org") is None


async def test_a_password_hash_is_replaced_only_if_it_is_still_the_old_one(store: Store) -> None:
    await verified(store)
    await store.replace_password_hash("id-alice", "something else", "hash-2")
    await store.replace_password_hash("id-alice", "hash-1", "hash-3")
    found = await store.account("id-alice")
    assert found is not None
    assert found.password_hash == "hash-3"


@pytest.mark.row("U3")
async def test_a_session_knows_the_sign_in_before_it(store: Store) -> None:
    await verified(store)
    first = await begun(store, "s1")
    second = await begun(store, "s2", at_ms=NOW_MS + 5)
    assert (first.previous_sign_in_ms, second.previous_sign_in_ms) == (None, NOW_MS)
    assert await store.session("s2") == second
    found = await store.account("id-alice")
    assert found is not None
    assert found.last_sign_in_ms == NOW_MS + 5


@pytest.mark.row("U3")
async def test_live_sessions_are_listed_newest_first(store: Store) -> None:
    await verified(store)
    await verified(store, "bob")
    for number, name in enumerate(["s1", "s2", "s3"]):
        await begun(store, name, at_ms=NOW_MS + number)
    await begun(store, "of bob", user="id-bob")
    await store.end_session("id-alice", "s2", lifetimes(), event(Action.SIGN_OUT))
    assert [session.id for session in await store.sessions_of("id-alice", NOW_MS)] == ["s3", "s1"]
    assert await store.sessions_of("id-alice", NOW_MS + 61 * MINUTE_MS) == []


@pytest.mark.row("U3")
async def test_refreshing_lengthens_the_session_and_replaces_the_token(store: Store) -> None:
    await verified(store)
    await begun(store, "s1")
    later = lifetimes(NOW_MS + MINUTE_MS)
    rotated = await store.rotate("refresh of s1", "r2", later, event(Action.REFRESH))
    assert rotated.rotation is Rotation.ROTATED
    assert rotated.session is not None
    assert rotated.session.expires_ms == later.session_expires_ms
    assert rotated.session == await store.session("s1")
    assert (await store.rotate("r2", "r3", later, event(Action.REFRESH))).rotation is Rotation.ROTATED


@pytest.mark.row("U3")
async def test_using_a_refresh_token_again_ends_the_session(store: Store) -> None:
    await verified(store)
    await begun(store, "s1")
    await store.rotate("refresh of s1", "r2", lifetimes(), event(Action.REFRESH))
    reused = await store.rotate("refresh of s1", "r3", lifetimes(), event(Action.REFRESH))
    assert reused.rotation is Rotation.REUSED
    assert reused.revocation is not None
    assert reused.revocation.subject == "s1"
    assert list(await store.revocations_after(0, 10)) == [reused.revocation]
    for token in ("r2", "r3", "refresh of s1"):
        assert (await store.rotate(token, "r4", lifetimes(), event(Action.REFRESH))).session is None
    assert await store.sessions_of("id-alice", NOW_MS) == []


@pytest.mark.row("U3")
async def test_of_two_uses_of_a_refresh_token_at_once_one_succeeds_and_the_session_ends(store: Store) -> None:
    await verified(store)
    await begun(store, "s1")
    outcomes = await asyncio.gather(
        *(store.rotate("refresh of s1", f"r{n}", lifetimes(), event(Action.REFRESH)) for n in range(2))
    )
    assert {outcome.rotation for outcome in outcomes} == {Rotation.ROTATED, Rotation.REUSED}
    assert await store.sessions_of("id-alice", NOW_MS) == []


@pytest.mark.row("U3")
async def test_refresh_tokens_that_are_unknown_or_of_expired_sessions_do_nothing(store: Store) -> None:
    await verified(store)
    await begun(store, "s1")
    unknown = await store.rotate("no such", "r2", lifetimes(), event(Action.REFRESH))
    late = await store.rotate("refresh of s1", "r2", lifetimes(NOW_MS + 60 * MINUTE_MS), event(Action.REFRESH))
    assert (unknown.rotation, late.rotation) == (Rotation.UNKNOWN, Rotation.ENDED)
    assert await store.newest_cursor() == 0


@pytest.mark.row("D15")
async def test_ending_a_session_writes_a_revocation_that_outlives_its_access_tokens(store: Store) -> None:
    await verified(store)
    session = await begun(store, "s1")
    revocation = await store.end_session("id-alice", "s1", lifetimes(), event(Action.SIGN_OUT))
    assert revocation is not None
    assert (revocation.kind, revocation.subject, revocation.cursor) == (Subject.SESSION, "s1", 1)
    assert revocation.expires_ms > session.access_expires_ms
    assert list(await store.revocations_after(0, 10)) == [revocation]
    assert list(await store.revocations_after(1, 10)) == []
    assert await store.end_session("id-alice", "s1", lifetimes(), event(Action.SIGN_OUT)) is None


@pytest.mark.row("U3")
async def test_somebody_elses_session_cannot_be_ended(store: Store) -> None:
    await verified(store)
    await verified(store, "bob")
    await begun(store, "s1")
    assert await store.end_session("id-bob", "s1", lifetimes(), event(Action.SIGN_OUT)) is None
    assert len(await store.sessions_of("id-alice", NOW_MS)) == 1


@pytest.mark.row("D15")
async def test_revocations_become_visible_in_the_order_of_their_cursors(store: Store) -> None:
    await verified(store)
    names = [f"s{number}" for number in range(20)]
    for name in names:
        await begun(store, name)
    seen: list[int] = []

    async def follow() -> None:
        while len(seen) < len(names):
            newest = await store.newest_cursor()
            found = await store.revocations_after(seen[-1] if seen else 0, 100)
            seen.extend(revocation.cursor for revocation in found)
            assert newest <= (seen[-1] if seen else 0), "a cursor was told whose revocation could not be seen"
            await asyncio.sleep(0)  # the fake gives nobody else a turn

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        group.create_task(follow())
        for name in names:
            group.create_task(store.end_session("id-alice", name, lifetimes(), event(Action.SIGN_OUT)))
    assert seen == list(range(1, len(names) + 1))


async def test_signing_keys_come_back_newest_first(store: Store) -> None:
    old, new = StoredKey("k1", NOW_MS, b"\x00\x01", b"\xff"), StoredKey("k2", NOW_MS + 1, b"\x02", b"\xfe")
    await store.add_signing_key(old)
    await store.add_signing_key(new)
    assert list(await store.signing_keys()) == [new, old]


@pytest.mark.row("U3")
async def test_of_first_signing_keys_that_are_added_at_once_one_is_kept(store: Store) -> None:
    keys = [StoredKey(f"k{n}", NOW_MS + n, bytes([n]), b"\xff") for n in range(8)]
    await asyncio.gather(*(store.add_first_signing_key(key) for key in keys))
    (kept,) = await store.signing_keys()
    assert kept in keys
    await store.add_first_signing_key(StoredKey("late", NOW_MS + 9, b"\x09", b"\xff"))
    assert list(await store.signing_keys()) == [kept]


async def test_a_tally_that_is_full_lets_nothing_through_until_its_window_is_over(store: Store) -> None:
    limits = {"a": Limit(2, MINUTE_MS), "b": Limit(3, MINUTE_MS)}
    assert [await store.count(limits, NOW_MS) for _ in range(3)] == [0, 0, MINUTE_MS]
    assert await store.count({"b": limits["b"]}, NOW_MS) == 0, "what was refused is not counted elsewhere"
    assert await store.count({"b": limits["b"]}, NOW_MS + 1) == MINUTE_MS - 1
    assert await store.count(limits, NOW_MS + MINUTE_MS) == 0


async def test_tries_at_the_same_moment_cannot_slip_through_together(store: Store) -> None:
    outcomes = await asyncio.gather(*(store.count({"a": Limit(5, MINUTE_MS)}, NOW_MS) for _ in range(20)))
    assert sum(wait_ms == 0 for wait_ms in outcomes) == 5


async def test_tallies_are_released(store: Store) -> None:
    limits = {"a": Limit(1, MINUTE_MS), "b": Limit(1, MINUTE_MS), "c": Limit(1, MINUTE_MS)}
    assert await store.count(limits, NOW_MS) == 0
    await store.release(["a"], ["b", "never counted"])
    assert [await store.count({key: limit}, NOW_MS) for key, limit in limits.items()] == [0, 0, MINUTE_MS]


async def test_sweeping_takes_what_has_expired_and_nothing_else(store: Store) -> None:
    await verified(store)
    await store.register(account("carol"), verification("of carol"), event())
    for name in ("ended", "alive"):
        await begun(store, name)
    await store.end_session("id-alice", "ended", lifetimes(), event(Action.SIGN_OUT))
    await store.count({"a": Limit(5, MINUTE_MS)}, NOW_MS)
    assert not any((await store.sweep(NOW_MS + MINUTE_MS)).values())
    assert len(await store.revocations_after(0, 10)) == 1
    swept = await store.sweep(NOW_MS + 12 * MINUTE_MS)
    assert swept == {"sessions": 1, "revocations": 1, "tallies": 0, "accounts": 0}
    assert await store.newest_cursor() == 1, "cursors never begin anew"
    swept = await store.sweep(NOW_MS + UNCONFIRMED_KEPT_MS)
    assert swept == {"sessions": 1, "revocations": 0, "tallies": 1, "accounts": 1}
    assert await store.account("id-alice") is not None
    assert await store.account("id-carol") is None
