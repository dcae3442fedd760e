"""What goes with somebody's account, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from wherry_chassis.sql import Database
from wherry_site.audit import Action
from wherry_site.deletion import UserDeletion
from wherry_site.issued import IssuedProxies, IssuedProxy
from wherry_site.models import AuditRow, AuthorityRow, EndpointRow, SessionRow, SiteRow
from wherry_site.session_changes import ChangeKind
from wherry_site.store import Store
from wherry_testing.site_store import NOW_MS, a_session, a_site, an_event, sqlite_store

ALICE, BOB, CAROL = "users/alice", "users/bob", "users/carol"
PSEUDONYM = "users/deleted-1"
U6 = pytest.mark.row("U6", missing="export of one's data")


@pytest.fixture(params=["sqlite", "postgresql"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """An empty store on each database."""
    if request.param == "sqlite":
        async with sqlite_store(tmp_path) as opened:
            yield opened
        return
    fresh: Callable[[str], str] = request.getfixturevalue("fresh_postgres")
    database = Database(fresh("wherry_site"), threads=6)
    try:
        yield Store(database)
    finally:
        database.close()


@pytest.fixture
async def peopled(store: Store) -> Store:
    """Alice owns `hers` (public) and `hidden`, Bob owns `his`; both and Carol are signed in here and there."""
    await store.add_site(a_site("hers", owner=ALICE, public=True), an_event(user=ALICE, site="sites/hers"))
    await store.add_site(a_site("hidden", owner=ALICE), an_event(user=ALICE, site="sites/hidden"))
    await store.add_site(a_site("his", owner=BOB, public=True), an_event(user=BOB, site="sites/his"))
    for site, user in (("hers", BOB), ("hidden", ALICE), ("his", ALICE), ("his", BOB), ("his", CAROL)):
        event = an_event(Action.SIGNED_IN, user, f"sites/{site}")
        assert await store.put_session(a_session(site, user=user, session_id=f"{site} {user}"), event)
    return store


async def rows(store: Store, *columns: Any) -> list[tuple[Any, ...]]:
    query = sa.select(*columns)
    found = await store._database.read(lambda connection: connection.execute(query).all())
    return sorted(tuple(row) for row in found)


async def trail(store: Store, *columns: Any) -> Sequence[tuple[Any, ...]]:
    """Returns columns of the audit trail, in its order."""
    query = sa.select(*columns).order_by(AuditRow.seq)
    found = await store._database.read(lambda connection: connection.execute(query).all())
    return [tuple(row) for row in found]


@U6
async def test_a_users_sites_go_with_their_doors_and_everybodys_sessions_there(peopled: Store) -> None:
    gone = await peopled.forget_user(ALICE, PSEUDONYM, NOW_MS)
    assert gone.sites == 2
    assert await rows(peopled, SiteRow.id) == [("his",)]
    assert await rows(peopled, EndpointRow.site_id) == [("his",)]
    assert await rows(peopled, AuthorityRow.site_id) == [("his",)]
    assert await rows(peopled, SessionRow.site_id, SessionRow.user) == [("his", BOB), ("his", CAROL)]


@U6
async def test_each_session_that_goes_is_told_and_is_named(peopled: Store) -> None:
    before = await peopled.newest_change()
    gone = await peopled.forget_user(ALICE, PSEUDONYM, NOW_MS)
    ended = [("hers", BOB), ("hidden", ALICE), ("his", ALICE)]
    assert sorted(gone.session_ids) == sorted(f"{site} {user}" for site, user in ended)
    changes = await peopled.changes_after(before, 100)
    assert sorted((change.site_id, change.user) for change in changes) == ended
    assert {change.kind for change in changes} == {ChangeKind.SIGNED_OUT}


@U6
async def test_the_trail_has_a_pseudonym_in_the_users_place_and_none_of_their_addresses(peopled: Store) -> None:
    before = await trail(peopled, AuditRow.seq, AuditRow.at_ms, AuditRow.action, AuditRow.site)
    await peopled.forget_user(ALICE, PSEUDONYM, NOW_MS)
    after = await trail(peopled, AuditRow.seq, AuditRow.at_ms, AuditRow.action, AuditRow.site)
    assert after[: len(before)] == before, "all else stays"
    assert [(action, site) for _, _, action, site in after[len(before) :]] == [
        ("site.deleted", "sites/hers"),
        ("site.deleted", "sites/hidden"),
        ("account.deleted", ""),
    ]
    of_whom = await trail(peopled, AuditRow.user, AuditRow.address)
    assert {user for user, _ in of_whom} == {PSEUDONYM, BOB, CAROL}
    assert {address for user, address in of_whom if user == PSEUDONYM} == {""}
    assert "" not in {address for user, address in of_whom if user != PSEUDONYM}


@U6
async def test_what_was_told_of_a_users_sessions_names_them_no_longer_after_the_second_time(peopled: Store) -> None:
    await peopled.forget_user(ALICE, PSEUDONYM, NOW_MS)
    await peopled.forget_user(ALICE, PSEUDONYM, NOW_MS + 60_000)
    assert ALICE not in {change.user for change in await peopled.changes_after(0, 100)}


@U6
async def test_the_second_time_nothing_is_there_and_nothing_is_written(peopled: Store) -> None:
    await peopled.forget_user(ALICE, PSEUDONYM, NOW_MS)
    newest, lines = await peopled.newest_change(), await trail(peopled, AuditRow.user, AuditRow.action)
    gone = await peopled.forget_user(ALICE, "users/deleted-2", NOW_MS)
    assert (gone.sites, list(gone.session_ids)) == (0, [])
    assert await peopled.newest_change() == newest
    assert await trail(peopled, AuditRow.user, AuditRow.action) == lines


@U6
async def test_what_came_in_between_goes_the_second_time(peopled: Store) -> None:
    await peopled.forget_user(ALICE, PSEUDONYM, NOW_MS)
    await peopled.put_session(a_session("his", user=ALICE), an_event(Action.SIGNED_IN, ALICE, "sites/his"))
    await peopled.add_site(a_site("late", owner=ALICE), an_event(user=ALICE, site="sites/late"))
    await peopled.forget_user(ALICE, "users/deleted-2", NOW_MS)
    assert await rows(peopled, SiteRow.id) == [("his",)]
    assert ALICE not in {user for (user,) in await rows(peopled, SessionRow.user)}
    assert ALICE not in {user for (user,) in await rows(peopled, AuditRow.user)}


@U6
async def test_several_replicas_at_once_do_it_once(peopled: Store) -> None:
    outcomes = await asyncio.gather(*(peopled.forget_user(ALICE, f"{PSEUDONYM}{n}", NOW_MS) for n in range(6)))
    assert sum(gone.sites for gone in outcomes) == 2
    assert sum(len(gone.session_ids) for gone in outcomes) == 3
    actions = [action for (action,) in await trail(peopled, AuditRow.action)]
    assert actions.count("account.deleted") == 1


@U6
async def test_two_users_who_are_signed_in_at_each_others_sites_go_at_the_same_moment(peopled: Store) -> None:
    await asyncio.gather(
        *(peopled.forget_user(user, f"users/deleted-{n}", NOW_MS) for n in range(4) for user in (ALICE, BOB))
    )
    assert await rows(peopled, SiteRow.id) == []
    assert await rows(peopled, SessionRow.user) == []


@U6
async def test_credentials_in_workers_hands_are_given_again_to_nobody(peopled: Store) -> None:
    issued = IssuedProxies()
    for site, user in (("his", ALICE), ("hers", BOB), ("his", BOB)):
        issued.put(f"{site} {user}", "worker", IssuedProxy("c", b"", 0, 4_000_000_000))
    await UserDeletion(peopled, issued, now_ms=lambda: NOW_MS).forget([CAROL, ALICE])
    assert issued.get(f"his {ALICE}", "worker") is None
    assert issued.get(f"hers {BOB}", "worker") is None
    assert issued.get(f"his {BOB}", "worker") is not None
    assert await rows(peopled, SessionRow.site_id, SessionRow.user) == [("his", BOB)]


@U6
@pytest.mark.row("S6")
@pytest.mark.parametrize(
    "change",
    [
        "\"user\" = 'users/bob', address = ''",
        "\"user\" = 'users/deleted-1'",
        "\"user\" = 'users/deleted-1', address = '', site = 'sites/b'",
        "\"user\" = 'users/deleted-1', address = '', expire_ms = 1",
        "address = ''",
    ],
)
async def test_the_trail_lets_nothing_be_changed_but_a_users_name_into_a_pseudonym(store: Store, change: str) -> None:
    await store.record(an_event(Action.SIGNED_IN))
    before = await trail(store, *AuditRow.__table__.c)
    with pytest.raises(DBAPIError, match="only added to"):
        await store._database.write(lambda connection: connection.execute(sa.text(f"update audit_event set {change}")))
    assert await trail(store, *AuditRow.__table__.c) == before


@U6
async def test_a_pseudonym_does_not_become_another(store: Store) -> None:
    await store.record(an_event(Action.SIGNED_IN))
    await store.forget_user(ALICE, PSEUDONYM, NOW_MS)
    with pytest.raises(DBAPIError, match="only added to"):
        await store.forget_user(PSEUDONYM, "users/deleted-2", NOW_MS)
