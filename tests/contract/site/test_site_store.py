"""What the store promises, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.exc import DBAPIError
from wherry_chassis import migrations
from wherry_chassis.errors import DomainError, InvalidFields
from wherry_fakes.site_sign_in import FakeCa
from wherry_site.audit import Action
from wherry_site.authorities import Authority
from wherry_site.errors import EtagMismatch, LeaseSuperseded, SiteExists, TitleTaken
from wherry_site.leases import LeaseClaims
from wherry_site.models import AuditRow, Base, SessionRow
from wherry_site.sites import Endpoint, Site
from wherry_site.store import Store
from wherry_site.vault import Vault
from wherry_testing.site_store import NOW_MS, VAULT, a_session, a_site, an_event

ALICE, BOB = "users/alice", "users/bob"
MUCH_LATER_MS = 4_000_000_000_000
S2 = pytest.mark.row("S2")
S3 = pytest.mark.row("S3", missing="token, macaroon and anonymous sites, VOMS")
S4 = pytest.mark.row("S4")
S5 = pytest.mark.row("S5", missing="VOMS")
S6 = pytest.mark.row("S6")
O1 = pytest.mark.row("O1", missing="MariaDB")


def changed(site: Site, *, endpoints: tuple[Endpoint, ...] | None = None, **draft: Any) -> Site:
    return dataclasses.replace(
        site,
        draft=dataclasses.replace(site.draft, **draft),
        endpoints=site.endpoints if endpoints is None else endpoints,
        revision=site.revision + 1,
        update_ms=site.update_ms + 1,
    )


def lease(fence: int, *, task: str = "jobs/j/tasks/1", user: str = ALICE, sites: tuple[str, ...] = ("sites/a",)) -> Any:
    return LeaseClaims(task, fence, user, sites, "ab" * 32, 0)


async def count(store: Store, query: Any) -> int:
    return int(await store._database.read(lambda connection: connection.execute(query).scalar_one()))


async def audit(store: Store) -> list[tuple[str, str]]:
    query = sa.select(AuditRow.action, AuditRow.site).order_by(AuditRow.seq)
    return await store._database.read(lambda connection: [(row[0], row[1]) for row in connection.execute(query)])


@S3
@O1
async def test_a_site_comes_back_as_it_was_given(store: Store) -> None:
    site = a_site()
    await store.add_site(site, an_event())
    assert await store.site("a") == site
    assert await store.site("b") is None
    assert await audit(store) == [("site.created", "sites/a")]


@S3
@O1
async def test_what_a_site_demands_of_its_data_channels_is_kept_and_changed(store: Store) -> None:
    site = changed(a_site(), data_channel="authenticated")
    await store.add_site(site, an_event())
    await store.put_session(a_session(), an_event(Action.SIGNED_IN))
    for demand in ("encrypted", "clear", ""):
        assert await store.site("a") == site
        site = changed(site, data_channel=demand)
        await store.replace_site(site, an_event(Action.SITE_UPDATED))
    assert await store.site("a") == site
    assert await count(store, sa.select(sa.func.count()).select_from(SessionRow)) == 1, "nobody is signed out for it"


@S2
async def test_public_sites_and_ones_own_are_listed_by_id_from_where_one_left_off(store: Store) -> None:
    for name, owner, public in (("c", ALICE, False), ("a", BOB, True), ("b", BOB, False), ("a-b", ALICE, True)):
        await store.add_site(a_site(name, owner=owner, public=public), an_event())
    assert [site.id for site in await store.visible_sites(ALICE, limit=10)] == ["a", "a-b", "c"]
    assert [site.id for site in await store.visible_sites(BOB, limit=10)] == ["a", "a-b", "b"]
    assert [site.id for site in await store.visible_sites(ALICE, limit=2)] == ["a", "a-b"]
    assert [site.id for site in await store.visible_sites(ALICE, after="a-b", limit=2)] == ["c"]


@S3
async def test_an_id_is_given_once(store: Store) -> None:
    await store.add_site(a_site(), an_event())
    with pytest.raises(SiteExists):
        await store.add_site(a_site(owner=BOB, title="Another"), an_event(user=BOB))
    assert await audit(store) == [("site.created", "sites/a")], "what did not happen is not in the trail"


@S3
async def test_a_title_is_taken_by_public_sites_and_by_ones_own(store: Store) -> None:
    await store.add_site(a_site("a", public=True, title="Same"), an_event())
    with pytest.raises(TitleTaken):
        await store.add_site(a_site("b", owner=BOB, title="S a m e"), an_event())
    await store.add_site(a_site("c", owner=BOB, title="Hidden"), an_event())
    with pytest.raises(TitleTaken):
        await store.add_site(a_site("d", owner=BOB, title="hidden"), an_event())
    hers = a_site("e", owner=ALICE, title="hidden")
    await store.add_site(hers, an_event())
    his = await store.site("c")
    assert his is not None
    await store.replace_site(changed(his, public=True), an_event())
    with pytest.raises(TitleTaken):
        await store.replace_site(changed(hers, public=True), an_event())


@S3
async def test_of_rivals_for_a_title_or_an_id_one_wins(store: Store) -> None:
    for sites in (
        [a_site(f"t{number}", owner=f"users/u{number}", public=True, title="Rivals") for number in range(5)],
        [a_site("same", owner=f"users/u{number}", title=f"Rival {number}") for number in range(5)],
    ):
        outcomes = await asyncio.gather(*(store.add_site(site, an_event()) for site in sites), return_exceptions=True)
        assert sum(outcome is None for outcome in outcomes) == 1
        assert all(isinstance(outcome, (TitleTaken, SiteExists)) for outcome in outcomes if outcome is not None)


@S3
async def test_a_ca_subject_belongs_to_one_key(store: Store) -> None:
    await store.add_site(a_site("a"), an_event())
    impostor = Authority(FakeCa("O-a", key=FakeCa("O-b").key).pem, ("/O=O-a/*",))
    other = a_site("b", owner=BOB)
    with pytest.raises(InvalidFields) as caught:
        await store.add_site(
            dataclasses.replace(other, draft=dataclasses.replace(other.draft, authorities=(impostor,))), an_event()
        )
    assert caught.value.field_problems[0].field == "site.certificate_authorities[0].certificate_pem"
    same = Authority(a_site("a").draft.authorities[0].pem, ("/O=O-a/*",))
    await store.add_site(
        dataclasses.replace(other, draft=dataclasses.replace(other.draft, authorities=(same,))), an_event()
    )


@S3
async def test_a_change_replaces_all_and_only_of_the_revision_that_was_read(store: Store) -> None:
    site = a_site()
    await store.add_site(site, an_event())
    doors = (Endpoint("e2", "gsiftp", "h2", 1), *site.endpoints, Endpoint("e3", "gsiftp", "h3", 3, "/x"))
    cas = (*site.draft.authorities, Authority(FakeCa("More").pem, ("/O=More/*", "/O=Even more/*")))
    after = changed(site, endpoints=doors, title="New", public=True, authorities=cas, default_path="/x")
    await store.replace_site(after, an_event(Action.SITE_UPDATED))
    assert await store.site("a") == after
    with pytest.raises(EtagMismatch):
        await store.replace_site(changed(site, title="Too late"), an_event())
    with pytest.raises(EtagMismatch):
        await store.replace_site(changed(a_site("gone")), an_event())
    assert await store.site("a") == after
    fewer = changed(after, endpoints=doors[2:], authorities=cas[1:])
    await store.replace_site(fewer, an_event(Action.SITE_UPDATED))
    assert await store.site("a") == fewer


@S3
async def test_of_changes_at_the_same_time_one_counts(store: Store) -> None:
    site = a_site()
    await store.add_site(site, an_event())
    outcomes = await asyncio.gather(
        *(store.replace_site(changed(site, title=f"T{number}"), an_event()) for number in range(5)),
        return_exceptions=True,
    )
    assert sum(outcome is None for outcome in outcomes) == 1
    assert all(isinstance(outcome, EtagMismatch) for outcome in outcomes if outcome is not None)


@S3
async def test_sessions_end_when_the_site_is_signed_in_at_elsewhere_or_believed_by_others(store: Store) -> None:
    site = a_site()
    await store.add_site(site, an_event())
    for change in (
        {"auth_address": "elsewhere:7512"},
        {"authorities": (Authority(FakeCa("Other").pem, ("/O=Other/*",)),)},
    ):
        await store.put_session(a_session(), an_event())
        retitled = changed(site, title="Only the title")
        await store.replace_site(retitled, an_event())
        assert await store.sessions(ALICE, NOW_MS)
        site = changed(retitled, **change)
        await store.replace_site(site, an_event())
        assert not await store.sessions(ALICE, NOW_MS)


@S4
async def test_deleting_takes_doors_cas_and_sessions_along(store: Store) -> None:
    site = a_site(public=True)
    await store.add_site(site, an_event())
    await store.put_session(a_session(user=BOB), an_event())
    with pytest.raises(EtagMismatch):
        await store.remove_site(changed(site), an_event())
    await store.remove_site(site, an_event(Action.SITE_DELETED))
    assert await store.site("a") is None
    for table in ("endpoint", "authority", "site_session"):
        assert await count(store, sa.text(f"select count(*) from {table}")) == 0, table
    with pytest.raises(EtagMismatch):
        await store.remove_site(site, an_event())


@S5
async def test_there_is_one_session_for_each_user_and_site(store: Store) -> None:
    for site in ("a", "b"):
        await store.add_site(a_site(site, public=True), an_event())
    first, second = a_session("a", session_id="first"), a_session("a", session_id="second")
    assert await store.put_session(first, an_event(Action.SIGNED_IN))
    assert await store.put_session(second, an_event(Action.SIGNED_IN))
    others = a_session("b", user=BOB)
    assert await store.put_session(others, an_event(Action.SIGNED_IN))
    assert await store.sessions(ALICE, NOW_MS) == [second.session]
    assert await store.sessions(BOB, NOW_MS) == [others.session]
    assert await store.sessions(ALICE, MUCH_LATER_MS) == []
    assert not await store.put_session(a_session("gone"), an_event())


@S5
async def test_signing_in_at_once_from_two_places_leaves_one_session(store: Store) -> None:
    await store.add_site(a_site(), an_event())
    sessions = [a_session(session_id=f"s{number}") for number in range(6)]
    assert await asyncio.gather(*(store.put_session(session, an_event()) for session in sessions)) == [True] * 6
    assert len(await store.sessions(ALICE, NOW_MS)) == 1


@S5
async def test_removing_a_session_tells_which_it_was(store: Store) -> None:
    await store.add_site(a_site(), an_event())
    kept = a_session()
    await store.put_session(kept, an_event(Action.SIGNED_IN))
    assert await store.remove_session(BOB, "a", an_event()) is None
    assert await store.remove_session(ALICE, "a", an_event(Action.SIGNED_OUT)) == kept.session
    assert await store.remove_session(ALICE, "a", an_event()) is None
    assert [action for action, _ in await audit(store)][1:] == ["site_session.created", "site_session.deleted"]


@S5
async def test_only_what_has_ended_is_swept(store: Store) -> None:
    await store.add_site(a_site(public=True), an_event())
    short, long = a_session(life=dt.timedelta(hours=1)), a_session(user=BOB)
    for session in (short, long):
        await store.put_session(session, an_event())
    assert await store.remove_expired(short.session.expire_ms - 1) == 0
    assert await store.remove_expired(short.session.expire_ms) == 1
    assert await store.sessions(BOB, NOW_MS) == [long.session]


@S6
async def test_data_keys_are_wrapped_anew_in_place(store: Store) -> None:
    await store.add_site(a_site(public=True), an_event())
    for user in (ALICE, BOB):
        await store.put_session(a_session(user=user), an_event())
    vault = Vault([b"n" * 32, b"k" * 32])
    found = await store.sealed_with(vault.older_key_ids, 1)
    assert len(found) == 1
    kept = found[0]
    resealed = vault.rewrap(kept.sealed, user=kept.session.user, site="sites/a")
    await store.reseal(kept.session.id, kept.sealed, resealed)
    left = await store.sealed_with(vault.older_key_ids, 10)
    assert [one.session.user for one in left] == [({ALICE, BOB} - {kept.session.user}).pop()]
    await store.put_session(a_session(user=kept.session.user, session_id="newer"), an_event())
    await store.reseal(kept.session.id, kept.sealed, resealed)
    opened = await store.sealed_with(vault.older_key_ids, 10)
    assert len(opened) == 2, "a session that was replaced meanwhile is left alone"
    for one in opened:
        assert VAULT.open(one.sealed, user=one.session.user, site="sites/a")


@S2
async def test_the_queue_gets_visible_sites_and_live_sessions(store: Store) -> None:
    await store.add_site(a_site("a", public=True), an_event())
    await store.add_site(a_site("b", owner=BOB), an_event())
    await store.put_session(a_session("a"), an_event())
    sites, sessions = await store.resolve(ALICE, ["a", "b", "c"], NOW_MS)
    assert (set(sites), set(sessions)) == ({"a"}, {"a"})
    sites, sessions = await store.resolve(BOB, ["a", "b", "c"], NOW_MS)
    assert (set(sites), set(sessions)) == ({"a", "b"}, set())
    assert (await store.resolve(ALICE, ["a"], MUCH_LATER_MS))[1] == {}


@S6
async def test_a_lease_opens_the_sites_and_sessions_that_it_names_and_no_others(store: Store) -> None:
    for site in ("a", "b"):
        await store.add_site(a_site(site), an_event())
        await store.put_session(a_session(site), an_event())
    sites, sessions = await store.open_lease(lease(1), NOW_MS)
    assert (set(sites), set(sessions)) == ({"a"}, {"a"})
    assert VAULT.open(sessions["a"].sealed, user=ALICE, site="sites/a")
    assert await store.open_lease(lease(1, task="jobs/j/tasks/2", user=BOB), NOW_MS) == ({}, {})
    assert (await store.open_lease(lease(2), MUCH_LATER_MS))[1] == {}, "what has ended opens nothing"


@S6
async def test_the_highest_fence_of_a_task_is_remembered(store: Store) -> None:
    await store.open_lease(lease(5), NOW_MS)
    await store.open_lease(lease(5), NOW_MS)
    await store.open_lease(lease(1, task="jobs/j/tasks/2"), NOW_MS)
    with pytest.raises(LeaseSuperseded):
        await store.open_lease(lease(4), NOW_MS)
    await store.open_lease(lease((1 << 62) + 1), NOW_MS)
    with pytest.raises(LeaseSuperseded):
        await store.record_issue(lease(5), [an_event(Action.CREDENTIAL_ISSUED)])
    assert await audit(store) == []
    await store.record_issue(lease((1 << 62) + 1), [an_event(Action.CREDENTIAL_ISSUED)] * 2)
    assert await audit(store) == [("credential.issued", "sites/a")] * 2


@S6
async def test_of_leases_that_come_at_once_no_older_one_gets_through_after_a_newer(store: Store) -> None:
    order: list[int] = []

    async def open_one(fence: int) -> None:
        try:
            await store.open_lease(lease(fence), NOW_MS)
        except LeaseSuperseded:
            return
        order.append(fence)

    await asyncio.gather(*(open_one(fence) for fence in (3, 1, 4, 1, 5, 9, 2, 6)))
    assert 9 in order
    for fence in range(1, 9):
        with pytest.raises(LeaseSuperseded):
            await store.open_lease(lease(fence), NOW_MS)


@S6
async def test_fences_are_forgotten_by_when_they_were_last_seen(store: Store) -> None:
    await store.open_lease(lease(5), NOW_MS)
    await store.open_lease(lease(5, task="jobs/j/tasks/2"), NOW_MS)
    await store.open_lease(lease(5), NOW_MS + 1000)
    assert await store.forget_fences(NOW_MS + 500) == 1
    with pytest.raises(LeaseSuperseded):
        await store.open_lease(lease(4), NOW_MS)


@S6
@pytest.mark.parametrize("statement", ["update audit_event set at_ms = 0", "delete from audit_event"])
async def test_the_audit_trail_is_only_added_to(store: Store, statement: str) -> None:
    await store.record(an_event(Action.SIGNED_IN))
    with pytest.raises(DBAPIError, match="only added to"):
        await store._database.write(lambda connection: connection.execute(sa.text(statement)))
    assert await audit(store) == [("site_session.created", "sites/a")]


@S5
async def test_a_work_that_fails_leaves_nothing_behind_not_even_for_those_beside_it(store: Store) -> None:
    """On SQLite several works share a commit: one that fails must not take the others along, nor leave half of it."""
    await store.add_site(a_site("a"), an_event())
    works = [store.put_session(a_session("a", user=f"users/u{number}"), an_event()) for number in range(10)]
    clashes = [store.add_site(a_site("a", title=f"T{number}"), an_event()) for number in range(10)]
    outcomes = await asyncio.gather(
        *(work for pair in zip(works, clashes, strict=True) for work in pair), return_exceptions=True
    )
    assert outcomes[::2] == [True] * 10
    assert all(isinstance(outcome, DomainError) for outcome in outcomes[1::2])
    assert await count(store, sa.select(sa.func.count()).select_from(SessionRow)) == 10


@O1
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_migrations_make_the_schema_that_the_models_say(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/m.db" if kind == "sqlite" else request.getfixturevalue("postgres_url")
    migrations.upgrade(url, "wherry_site")
    migrations.upgrade(url, "wherry_site")
    migrations.require_current(url, "wherry_site")
    engine = sa.create_engine(url)
    try:
        with engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    finally:
        engine.dispose()
