"""What becomes of sign-ins is told, in order, once, and only if it happened: on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from wherry_fakes.site_sign_in import FakeCa
from wherry_site.audit import Action, AuditEvent
from wherry_site.authorities import Authority
from wherry_site.change_rows import append_change, end_sessions
from wherry_site.errors import EtagMismatch
from wherry_site.models import SessionRow
from wherry_site.session_changes import ChangeKind
from wherry_site.store import Store
from wherry_testing.site_store import NOW_MS, a_session, a_site, an_event

ALICE, BOB = "users/alice", "users/bob"
S5 = pytest.mark.row("S5", missing="VOMS")
W4 = pytest.mark.row("W4")
Told = tuple[str, str, ChangeKind, int]
SIGNED_IN, RENEWED, EXPIRED, SIGNED_OUT = ChangeKind


def at(at_ms: int) -> AuditEvent:
    return dataclasses.replace(an_event(Action.SIGNED_IN), at_ms=at_ms)


async def told(store: Store, behind: int = 0) -> list[Told]:
    changes = await store.changes_after(behind, 1000)
    assert [change.cursor for change in changes] == sorted({change.cursor for change in changes})
    return [(change.user, change.site_id, change.kind, change.expires_ms) for change in changes]


async def public_sites(store: Store, *names: str) -> None:
    for name in names or ("a",):
        await store.add_site(a_site(name, public=True), an_event())


@S5
@W4
async def test_a_sign_in_its_renewal_and_the_sign_out_are_told_in_order(store: Store) -> None:
    await public_sites(store)
    first, second = a_session(session_id="1"), a_session(session_id="2", life=dt.timedelta(hours=24))
    await store.put_session(first, an_event(Action.SIGNED_IN))
    await store.put_session(second, an_event(Action.SIGNED_IN))
    await store.remove_session(ALICE, "a", an_event(Action.SIGNED_OUT))
    assert await store.remove_session(ALICE, "a", an_event(Action.SIGNED_OUT)) is None
    await store.put_session(first, an_event(Action.SIGNED_IN))
    assert await told(store) == [
        (ALICE, "a", SIGNED_IN, first.session.expire_ms),
        (ALICE, "a", RENEWED, second.session.expire_ms),
        (ALICE, "a", SIGNED_OUT, NOW_MS),
        (ALICE, "a", SIGNED_IN, first.session.expire_ms),
    ]
    assert await store.newest_change() == 4
    assert await told(store, 3) == [(ALICE, "a", SIGNED_IN, first.session.expire_ms)]


@W4
async def test_the_end_of_a_session_is_told_once_however_many_replicas_look(store: Store) -> None:
    await public_sites(store, "a", "b")
    short, long = a_session("a", life=dt.timedelta(hours=1)), a_session("b")
    for session in (short, long):
        await store.put_session(session, an_event(Action.SIGNED_IN))
    end_ms = short.session.expire_ms
    assert await store.remove_expired(end_ms - 1) == 0
    assert sum(await asyncio.gather(*(store.remove_expired(end_ms + 5000) for _ in range(6)))) == 1
    assert await told(store, 2) == [(ALICE, "a", EXPIRED, end_ms)]
    left = await store._database.read(lambda connection: connection.execute(sa.select(SessionRow.site_id)).all())
    assert [row.site_id for row in left] == ["b"], "the sealed credential goes with the session"


@W4
async def test_many_that_end_together_are_all_told(store: Store) -> None:
    await public_sites(store)
    sessions = [a_session(user=f"users/u{number}", session_id=f"s{number}") for number in range(25)]
    await asyncio.gather(*(store.put_session(session, an_event()) for session in sessions))
    await store.remove_expired(max(session.session.expire_ms for session in sessions))
    ended = (await told(store))[25:]
    assert sorted(user for user, *_ in ended) == sorted(session.session.user for session in sessions)
    assert {kind for _, _, kind, _ in ended} == {EXPIRED}


@S5
async def test_a_sign_in_after_the_end_is_none_that_renews(store: Store) -> None:
    await public_sites(store)
    short, long = a_session(session_id="1", life=dt.timedelta(hours=1)), a_session(session_id="2")
    await store.put_session(short, an_event())
    await store.put_session(long, at(short.session.expire_ms))
    assert await told(store, 1) == [
        (ALICE, "a", EXPIRED, short.session.expire_ms),
        (ALICE, "a", SIGNED_IN, long.session.expire_ms),
    ]
    assert await store.remove_expired(short.session.expire_ms) == 0


@S5
@pytest.mark.row("S4")
async def test_deleting_a_site_signs_everybody_out(store: Store) -> None:
    await public_sites(store, "a", "b")
    for session in (a_session("a"), a_session("a", user=BOB), a_session("b")):
        await store.put_session(session, an_event())
    site = a_site("a", public=True)
    with pytest.raises(EtagMismatch):
        await store.remove_site(dataclasses.replace(site, revision=7), an_event())
    assert len(await told(store)) == 3, "what did not happen is not told"
    await store.remove_site(site, an_event(Action.SITE_DELETED))
    assert await told(store, 3) == [(ALICE, "a", SIGNED_OUT, NOW_MS), (BOB, "a", SIGNED_OUT, NOW_MS)]


@S5
async def test_moving_the_sign_in_elsewhere_signs_everybody_out(store: Store) -> None:
    await public_sites(store)
    await store.put_session(a_session(), an_event())
    site = await store.site("a")
    assert site is not None
    retitled = dataclasses.replace(site, revision=2, draft=dataclasses.replace(site.draft, title="Only the title"))
    await store.replace_site(retitled, an_event())
    assert len(await told(store)) == 1
    other = (Authority(FakeCa("Other").pem, ("/O=Other/*",)),)
    moved = dataclasses.replace(retitled, revision=3, draft=dataclasses.replace(retitled.draft, authorities=other))
    await store.replace_site(moved, an_event())
    assert await told(store, 1) == [(ALICE, "a", SIGNED_OUT, NOW_MS)]


@S5
async def test_what_fails_is_not_told(store: Store) -> None:
    def work(connection: Connection) -> None:
        append_change(connection, user=ALICE, site_id="a", kind=SIGNED_OUT, expires_ms=NOW_MS, at_ms=NOW_MS)
        raise RuntimeError("undo")

    with pytest.raises(RuntimeError):
        await store._database.write(work)
    assert not await store.put_session(a_session("gone"), an_event())
    assert (await told(store), await store.newest_change()) == ([], 0)


@S5
async def test_all_sessions_of_an_account_can_be_ended_with_it(store: Store) -> None:
    await public_sites(store, "a", "b")
    for session in (a_session("a"), a_session("b"), a_session("a", user=BOB)):
        await store.put_session(session, an_event())
    ended = await store._database.write(
        lambda connection: end_sessions(connection, SessionRow.user == ALICE, at_ms=NOW_MS)
    )
    assert ended == 2
    assert await told(store, 3) == [(ALICE, "a", SIGNED_OUT, NOW_MS), (ALICE, "b", SIGNED_OUT, NOW_MS)]
    assert await store.sessions(BOB, NOW_MS)


@S5
async def test_no_change_becomes_visible_behind_a_later_one(store: Store) -> None:
    """A follower that reads while others write must not be given a cursor with an earlier one still to come."""
    names = [f"s{number}" for number in range(8)]  # sign-ins at one site wait for each other anyway
    await public_sites(store, *names)
    sessions = [a_session(name, user=f"users/u{user}") for user in range(5) for name in names]
    writing = asyncio.gather(*(store.put_session(session, an_event()) for session in sessions))
    seen: list[int] = []
    async with asyncio.timeout(30):
        while len(seen) < len(sessions):
            behind = seen[-1] if seen else 0
            newest = await store.newest_change()
            found = await store.changes_after(behind, 1000)
            assert [change.cursor for change in found][: newest - behind] == list(range(behind + 1, newest + 1))
            seen += [change.cursor for change in found]
    await writing
    assert seen == list(range(1, len(sessions) + 1))


@S5
async def test_old_changes_go_and_their_cursors_are_not_given_again(store: Store) -> None:
    await public_sites(store)
    await store.put_session(a_session(), an_event())
    await store.remove_session(ALICE, "a", at(NOW_MS + 1000))
    assert await store.forget_changes(NOW_MS + 1) == 1
    assert await told(store) == [(ALICE, "a", SIGNED_OUT, NOW_MS + 1000)]
    await store.forget_changes(NOW_MS + 1001)
    assert (await told(store), await store.newest_change()) == ([], 2)
    await store.put_session(a_session(), an_event())
    assert [change.cursor for change in await store.changes_after(0, 10)] == [3]
