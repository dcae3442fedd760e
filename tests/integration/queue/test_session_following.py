"""Following users' sign-ins over real connections that break."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest
from sqlalchemy.engine import Connection
from wherry.site.v1 import site_service_pb2 as pb
from wherry.site.v1 import site_service_pb2_grpc as stubs
from wherry_chassis.access import build_table
from wherry_chassis.buildout import Access
from wherry_chassis.errors import DatabaseUnavailable
from wherry_chassis.interceptors import chain
from wherry_chassis.server import Service, running
from wherry_chassis.sql import Database
from wherry_chassis.tls import ServiceChannels
from wherry_fakes.site_directory import FakeSiteDirectory
from wherry_queue.session_follower import SessionFollower
from wherry_queue.sign_ins import ChangeKind, Pair, SessionChange, SignInNews
from wherry_testing.access_tokens import TokenMaker
from wherry_testing.pki import TestPki
from wherry_testing.waiting import until

ALICE, BOB = "users/alice", "users/bob"
W4 = pytest.mark.row("W4")


class Kept:
    """What has been taken in. The transactions around it are real, and one at a time."""

    def __init__(self, reached: int = 0) -> None:
        self.reached = reached
        self.changes: list[SessionChange] = []
        self.away = 0

    def cursor(self, connection: Connection) -> int:
        return self.reached

    def apply(self, connection: Connection, changes: Sequence[SessionChange], cursor: int) -> SignInNews:
        if self.away:
            self.away -= 1
            raise DatabaseUnavailable
        self.reached = cursor
        self.changes += changes
        return (
            SignInNews(opened=[1]) if any(change.kind is ChangeKind.SIGNED_IN for change in changes) else SignInNews()
        )

    @property
    def said(self) -> list[tuple[str, str, ChangeKind]]:
        return [(change.user, change.site, change.kind) for change in self.changes]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(f"sqlite:///{tmp_path}/queue.db", threads=2)
    yield opened
    opened.close()


@contextlib.asynccontextmanager
async def serving(
    directory: FakeSiteDirectory, pki: TestPki, folder: Path, listen: str = "127.0.0.1:0"
) -> AsyncIterator[str]:
    pki.files("queue")
    service = Service(
        name="site",
        register=lambda server: stubs.add_SiteDirectoryServiceServicer_to_server(directory, server),
        service_names=["wherry.site.v1.SiteDirectoryService"],
        interceptors=chain(build_table(Access(roles=pki.roles)), TokenMaker().verifier()),
        database=Database(f"sqlite:///{folder}/site.db"),
    )
    async with running(service, listen, pki.material("site"), grace_s=0.1) as port:
        yield f"127.0.0.1:{port}"


@contextlib.asynccontextmanager
async def following(
    address: str,
    pki: TestPki,
    database: Database,
    store: Kept,
    news: list[SignInNews],
    ended: list[Pair] | None = None,
) -> AsyncIterator[None]:
    """A replica's following; `ended` gets what it would tell its workers."""
    channels = ServiceChannels([address], pki.material("queue"))
    told: list[Pair] = [] if ended is None else ended
    task = asyncio.create_task(SessionFollower(channels, database, store, news.append, told.extend).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await channels.close()


@W4
async def test_sign_ins_are_followed_from_the_durable_cursor_over_a_restart_of_the_site_service(
    pki: TestPki, tmp_path: Path, database: Database
) -> None:
    directory, store, news = FakeSiteDirectory(), Kept(), list[SignInNews]()
    directory.sign_out(ALICE, "sites/a", expired=True)
    async with contextlib.AsyncExitStack() as stack:
        async with serving(directory, pki, tmp_path) as address:
            await stack.enter_async_context(following(address, pki, database, store, news))
            await until(lambda: store.said == [(ALICE, "sites/a", ChangeKind.EXPIRED)])
            assert news == [], "nobody is told where nothing has changed"
            directory.sign_in(ALICE, "sites/a")
            await until(lambda: news == [SignInNews(opened=[1])])
            assert store.changes[-1].until_ms == round(directory.ends_s[ALICE, "sites/a"] * 1000)
        directory.sign_out(BOB, "sites/b")
        directory.sign_in(BOB, "sites/b")
        directory.sign_in(BOB, "sites/b")
        async with serving(directory, pki, tmp_path, address):
            await until(lambda: store.reached == 5)
    assert [kind for _, _, kind in store.said[2:]] == [
        ChangeKind.SIGNED_OUT,
        ChangeKind.SIGNED_IN,
        ChangeKind.RENEWED,
    ]
    assert directory.watched[0] == 0
    assert directory.watched[-1] == 2, "what has been taken in is not asked for again"


@W4
async def test_of_several_replicas_one_takes_each_change_in(pki: TestPki, tmp_path: Path, database: Database) -> None:
    directory, store, news = FakeSiteDirectory(), Kept(), list[SignInNews]()
    async with contextlib.AsyncExitStack() as stack:
        address = await stack.enter_async_context(serving(directory, pki, tmp_path))
        for _ in range(3):
            await stack.enter_async_context(following(address, pki, database, store, news))
        await until(lambda: len(directory.watched) == 3)
        for number in range(30):
            directory.sign_in(f"users/u{number}", "sites/a")
            await asyncio.sleep(0)
        await until(lambda: store.reached == 30)
    assert [change.user for change in store.changes] == [f"users/u{number}" for number in range(30)]


@W4
async def test_every_replica_tells_its_workers_of_what_has_ended_whoever_takes_it_in(
    pki: TestPki, tmp_path: Path, database: Database
) -> None:
    directory, store = FakeSiteDirectory(), Kept()
    told: list[list[Pair]] = [[], [], []]
    async with contextlib.AsyncExitStack() as stack:
        address = await stack.enter_async_context(serving(directory, pki, tmp_path))
        for each in told:
            await stack.enter_async_context(following(address, pki, database, store, [], each))
        await until(lambda: len(directory.watched) == 3)
        directory.sign_in(ALICE, "sites/a")
        directory.sign_out(ALICE, "sites/a")
        directory.sign_out(BOB, "sites/b", expired=True)
        directory.sign_in(BOB, "sites/b")
        both = [(ALICE, "sites/a"), (BOB, "sites/b")]
        await until(lambda: told == [both] * 3)
    assert len(store.changes) == 4, "taken in once"


@W4
async def test_a_replica_that_was_cut_off_hears_of_what_others_have_taken_in_meanwhile(
    pki: TestPki, tmp_path: Path, database: Database
) -> None:
    directory, store, told = FakeSiteDirectory(), Kept(), list[Pair]()
    async with contextlib.AsyncExitStack() as stack:
        async with serving(directory, pki, tmp_path) as address:
            directory.sign_out(ALICE, "sites/a")
            await stack.enter_async_context(following(address, pki, database, store, [], told))
            await until(lambda: told == [(ALICE, "sites/a")])
        directory.sign_out(BOB, "sites/b")
        store.reached = 2  # the other replica, which was not cut off
        async with serving(directory, pki, tmp_path, address):
            await until(lambda: told == [(ALICE, "sites/a"), (BOB, "sites/b")])
            directory.sign_in(BOB, "sites/b")
            await until(lambda: store.reached == 3)
    assert directory.watched[-1] == 1
    assert store.said == [(ALICE, "sites/a", ChangeKind.SIGNED_OUT), (BOB, "sites/b", ChangeKind.SIGNED_IN)]


@W4
async def test_workers_are_told_of_what_has_ended_also_while_the_database_is_away(
    pki: TestPki, tmp_path: Path, database: Database
) -> None:
    directory, store, told = FakeSiteDirectory(), Kept(), list[Pair]()
    directory.sign_out(ALICE, "sites/a")
    store.away = 1_000
    async with serving(directory, pki, tmp_path) as address, following(address, pki, database, store, [], told):
        await until(lambda: told == [(ALICE, "sites/a")])


@W4
async def test_what_the_database_did_not_take_is_asked_for_again(
    pki: TestPki, tmp_path: Path, database: Database
) -> None:
    directory, store = FakeSiteDirectory(), Kept()
    directory.sign_out(ALICE, "sites/a")
    store.away = 1
    async with serving(directory, pki, tmp_path) as address, following(address, pki, database, store, []):
        await until(lambda: store.said == [(ALICE, "sites/a", ChangeKind.SIGNED_OUT)])
    assert directory.watched == [0, 0]


async def test_a_site_service_that_was_restored_from_a_backup_is_followed_from_its_beginning(
    pki: TestPki, tmp_path: Path, database: Database
) -> None:
    directory, store = FakeSiteDirectory(), Kept(reached=500)
    directory.sign_out(ALICE, "sites/a")
    async with (
        serving(directory, pki, tmp_path) as address,
        following(address, pki, database, store, []),
        following(address, pki, database, store, []),
    ):
        await until(lambda: store.reached == 1)
        directory.sign_in(ALICE, "sites/a")
        await until(lambda: store.reached == 2)
    assert [kind for _, _, kind in store.said] == [ChangeKind.SIGNED_OUT, ChangeKind.SIGNED_IN]


async def test_a_backup_is_noticed_by_a_replica_that_had_heard_less_than_the_one_that_has_died_since(
    pki: TestPki, tmp_path: Path, database: Database
) -> None:
    directory, store, told = FakeSiteDirectory(), Kept(), list[Pair]()
    async with contextlib.AsyncExitStack() as stack:
        async with serving(directory, pki, tmp_path) as address:
            for _ in range(10):
                directory.sign_in(ALICE, "sites/a")
            await stack.enter_async_context(following(address, pki, database, store, [], told))
            await until(lambda: store.reached == 10)
        store.reached = 500  # another replica was first, and is no more
        store.changes.clear()
        directory.changes.clear()
        directory.sign_out(ALICE, "sites/a")
        async with serving(directory, pki, tmp_path, address):
            await until(lambda: store.reached == 1)
            directory.sign_in(ALICE, "sites/a")
            await until(lambda: store.reached == 2)
    assert [kind for _, _, kind in store.said] == [ChangeKind.SIGNED_OUT, ChangeKind.SIGNED_IN]
    assert told == [(ALICE, "sites/a")]


async def test_a_kind_of_change_that_is_not_known_ends_nothing(
    pki: TestPki, tmp_path: Path, database: Database
) -> None:
    directory, store = FakeSiteDirectory(), Kept()
    directory.changes.append(pb.SessionChange(cursor=1, user=ALICE, site="sites/a", kind=99))  # type: ignore[arg-type]  # a later contract's
    directory.sign_out(ALICE, "sites/a")
    async with serving(directory, pki, tmp_path) as address, following(address, pki, database, store, []):
        await until(lambda: store.reached == 2)
    assert store.said == [(ALICE, "sites/a", ChangeKind.SIGNED_OUT)]
