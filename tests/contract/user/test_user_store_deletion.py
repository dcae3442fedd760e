"""Deleting an account, and the outbox that remembers it: the fake, SQLite and PostgreSQL alike."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from wherry_fakes.user_store import MemoryUserStore
from wherry_testing.user_store import (
    MINUTE_MS,
    NOW_MS,
    ORIGIN,
    Store,
    account,
    begun,
    event,
    lifetimes,
    verification,
    verified,
)
from wherry_user.audit import Action
from wherry_user.models import AuditRow, RefreshTokenRow, SessionRow, VerificationRow
from wherry_user.revocations import Follower, Revocation, Subject
from wherry_user.sessions import Rotation, Session

U6 = pytest.mark.row("U6", missing="export of one's data")
DAYS_MS = 86_400_000
SIZE = {"sessions": SessionRow, "tokens": RefreshTokenRow, "verifications": VerificationRow}


async def deleted(store: Store, user_id: str = "id-alice", pseudonym: str = "deleted-1") -> Revocation:
    revocation = await store.delete_account(user_id, pseudonym, MINUTE_MS, event(Action.DELETE_ACCOUNT))
    assert revocation is not None
    return revocation


async def sizes(store: Store) -> dict[str, int]:
    if isinstance(store, MemoryUserStore):
        return {"sessions": len(store.sessions), "tokens": len(store.tokens), "verifications": len(store.verifications)}

    def count(connection: Connection) -> dict[str, int]:
        counts = {kind: sa.select(sa.func.count()).select_from(table) for kind, table in SIZE.items()}
        return {kind: int(connection.execute(query).scalar_one()) for kind, query in counts.items()}

    return await store._database.read(count)


async def audit(store: Store) -> list[tuple[str, str | None, str | None, str]]:
    """Returns what was done, by whom, in which session, from where."""
    if isinstance(store, MemoryUserStore):
        return [(line.action.value, line.user_id, line.session_id, line.origin.address) for line in store.audit]
    query = sa.select(AuditRow.action, AuditRow.user_id, AuditRow.session_id, AuditRow.address).order_by(AuditRow.id)
    rows = await store._database.read(lambda connection: connection.execute(query).all())
    return [(row.action, row.user_id, row.session_id, row.address) for row in rows]


@U6
async def test_a_deleted_account_leaves_nothing_of_the_person_and_nobody_elses_goes(store: Store) -> None:
    await verified(store)
    await verified(store, "bob")
    await begun(store, "s1")
    await begun(store, "s2")
    await begun(store, "of bob", user="id-bob")
    await store.rotate("refresh of s1", "r2", lifetimes(), event(Action.REFRESH))
    await deleted(store)
    assert await store.account("id-alice") is None
    assert await store.account_by_email("alice@example.org") is None
    assert await store.session("s1") is None
    assert await sizes(store) == {"sessions": 1, "tokens": 1, "verifications": 0}
    assert (await store.rotate("r2", "r3", lifetimes(), event(Action.REFRESH))).rotation is Rotation.UNKNOWN
    assert [session.id for session in await store.sessions_of("id-bob", NOW_MS)] == ["of bob"]


@U6
async def test_the_audit_log_says_what_a_deleted_user_did_and_not_who_and_where(store: Store) -> None:
    await verified(store)
    await verified(store, "bob")
    for user in ("id-alice", "id-bob"):
        await store.record(replace(event(Action.SIGN_IN), user_id=user, session_id=f"session of {user}"))
    await deleted(store)
    lines = await audit(store)
    hers = [line for line in lines if line[1] == "deleted-1"]
    assert [action for action, *_ in hers] == ["REGISTER", "VERIFY_EMAIL", "SIGN_IN", "DELETE_ACCOUNT"]
    assert {line[2:] for line in hers} == {(None, "")}
    assert {user for _, user, _, _ in lines} == {"deleted-1", "id-bob"}
    assert ("SIGN_IN", "id-bob", "session of id-bob", ORIGIN.address) in lines


@U6
async def test_a_deleted_user_is_revoked_for_as_long_as_a_token_of_theirs_can_live(store: Store) -> None:
    await verified(store)
    session = await begun(store, "s1")
    later = lifetimes(NOW_MS + 5 * MINUTE_MS)
    await store.rotate("refresh of s1", "r2", later, event(Action.REFRESH))
    revocation = await deleted(store)
    assert (revocation.kind, revocation.subject, revocation.cursor) == (Subject.USER, "id-alice", 1)
    assert revocation.expires_ms == later.access_expires_ms + MINUTE_MS > session.access_expires_ms
    assert list(await store.revocations_after(0, 10)) == [revocation]


@U6
async def test_an_account_is_deleted_once(store: Store) -> None:
    await verified(store)
    outcomes = await asyncio.gather(
        *(store.delete_account("id-alice", f"d{n}", MINUTE_MS, event(Action.DELETE_ACCOUNT)) for n in range(5))
    )
    assert sum(outcome is not None for outcome in outcomes) == 1
    assert await store.newest_cursor() == 1
    assert [action for action, *_ in await audit(store)].count("DELETE_ACCOUNT") == 1


@U6
async def test_an_address_whose_account_was_deleted_is_free(store: Store) -> None:
    await verified(store)
    await deleted(store)
    holder = await store.register(account(id="another"), verification("t2"), event())
    assert (holder.id, holder.verified_ms) == ("another", None)
    assert await store.verify("t2", NOW_MS + 1, event(Action.VERIFY_EMAIL))


@U6
async def test_who_signs_in_while_their_account_is_deleted_gets_no_session(store: Store) -> None:
    await verified(store)
    await deleted(store)
    times = lifetimes()
    late = Session("late", "id-alice", NOW_MS, times.session_expires_ms, times.access_expires_ms)
    assert await store.start_session(late, "refresh of late", event(Action.SIGN_IN)) is None
    await store.replace_password_hash("id-alice", "hash-1", "hash-2")
    assert await sizes(store) == {"sessions": 0, "tokens": 0, "verifications": 0}


@U6
async def test_of_sign_ins_at_the_moment_of_the_deletion_none_outlives_it(store: Store) -> None:
    await verified(store)

    async def sign_in(number: int) -> Session | None:
        times = lifetimes()
        session = Session(f"s{number}", "id-alice", NOW_MS, times.session_expires_ms, times.access_expires_ms)
        return await store.start_session(session, f"r{number}", event(Action.SIGN_IN))

    await asyncio.gather(*(sign_in(n) for n in range(5)), deleted(store), *(sign_in(n) for n in range(5, 10)))
    assert await sizes(store) == {"sessions": 0, "tokens": 0, "verifications": 0}


@U6
async def test_a_deletion_is_kept_until_every_follower_has_confirmed_it_however_long_one_is_away(store: Store) -> None:
    await verified(store)
    revocation = await deleted(store)
    expired_ms = revocation.expires_ms
    for late_ms in (expired_ms, expired_ms + 30 * DAYS_MS):
        await store.sweep(late_ms)
        assert list(await store.revocations_after(0, 10)) == [revocation]
    assert await store.confirm(Follower.SITE, 1)
    await store.sweep(expired_ms + 60 * DAYS_MS)
    assert list(await store.revocations_after(0, 10)) == [revocation]
    assert await store.confirm(Follower.QUEUE, 1)
    await store.sweep(expired_ms - 1)
    assert list(await store.revocations_after(0, 10)) == [revocation], "a token of theirs could still live"
    swept = await store.sweep(expired_ms)
    assert swept["revocations"] == 1
    assert list(await store.revocations_after(0, 10)) == []
    assert await store.newest_cursor() == 1


@U6
async def test_followers_confirm_up_to_a_cursor_and_nothing_behind_it(store: Store) -> None:
    for name in ("alice", "bob", "carol"):
        await verified(store, name)
    for name in ("alice", "bob", "carol"):
        last = await deleted(store, f"id-{name}")
    await store.confirm(Follower.SITE, 3)
    await store.confirm(Follower.QUEUE, 2)
    await store.confirm(Follower.QUEUE, 1)
    await store.sweep(last.expires_ms)
    assert [revocation.subject for revocation in await store.revocations_after(0, 10)] == ["id-carol"]


@U6
async def test_sessions_that_ended_are_not_kept_for_followers_that_are_away(store: Store) -> None:
    await verified(store)
    await begun(store, "s1")
    ended = await store.end_session("id-alice", "s1", lifetimes(), event(Action.SIGN_OUT))
    assert ended is not None
    kept = await deleted(store)
    await store.sweep(max(ended.expires_ms, kept.expires_ms))
    assert list(await store.revocations_after(0, 10)) == [kept]


@U6
async def test_a_cursor_that_was_not_given_yet_confirms_nothing(store: Store) -> None:
    await verified(store)
    revocation = await deleted(store)
    for follower in Follower:
        assert not await store.confirm(follower, 2)
    await store.sweep(revocation.expires_ms)
    assert list(await store.revocations_after(0, 10)) == [revocation]
