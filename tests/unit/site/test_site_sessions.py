"""Signing in and out, with fake sites."""

from __future__ import annotations

import datetime as dt
import itertools
import pickle
import time
from collections.abc import Sequence
from typing import Any

import pytest
import sqlalchemy as sa
from wherry_fakes.site_sign_in import FakeCa, FakeSignIn, FakeSite, shared_key
from wherry_site.authorities import Authority
from wherry_site.egress import Egress, HostUnknown, NameServiceFailed
from wherry_site.errors import (
    AddressNotAllowed,
    SignInRefused,
    SiteAnswerUnusable,
    SiteNotFound,
    SiteNotTrusted,
    SiteSessionNotFound,
    SiteUnreachable,
)
from wherry_site.issued import IssuedProxies, IssuedProxy
from wherry_site.models import AuditRow, SessionRow
from wherry_site.registry import Actor, SiteRegistry
from wherry_site.sessions import SiteSessions, credential_from_pem, credential_to_pem
from wherry_site.sign_in import IssuedCredential, Password
from wherry_site.sites import Site, SiteDraft
from wherry_site.store import Store
from wherry_site.vault import Sealed, Vault
from wherry_testing.site_store import VAULT, a_session, an_event

S5 = pytest.mark.row("S5", missing="VOMS")
ALICE = Actor("users/alice", "ipv4:192.0.2.1:7")


class Names:
    """Everything is at home, but for what is told otherwise."""

    def __init__(self) -> None:
        self.answer: Sequence[str] | Exception = ["127.0.0.1"]

    async def resolve(self, host: str) -> Sequence[str]:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class House:
    """Sessions at one fake site."""

    def __init__(self, store: Store, vault: Vault = VAULT) -> None:
        self.store = store
        self.site = FakeSite("here", {"alice": "secret of alice"}, host="localhost")
        self.names = Names()
        self.ahead_s = 0.0
        self.issued = IssuedProxies()
        numbers = itertools.count()
        egress = Egress(self.names, ["127.0.0.0/8"])
        self.sessions = SiteSessions(
            registry=SiteRegistry(store, egress, now_ms=self.now_ms, new_id=lambda: "e1"),
            store=store,
            egress=egress,
            sign_in=FakeSignIn(self.site),
            vault=vault,
            issued=self.issued,
            now_ms=self.now_ms,
            new_id=lambda: f"session-{next(numbers)}",
        )

    def now_ms(self) -> int:
        return int((time.time() + self.ahead_s) * 1000)

    async def register(self, *, authority: FakeCa | None = None, namespace: str = "/O=here/*") -> None:
        ca = authority or self.site.ca
        draft = SiteDraft(
            "Here", public=True, auth_address="localhost:7512", authorities=[Authority(ca.pem, (namespace,))]
        )
        await self.store.add_site(Site("here", "users/owner", draft, (), 1, 1), an_event())

    async def enter(self, password: str = "secret of alice", lifetime_s: int | None = None) -> Any:
        return await self.sessions.create(ALICE, "here", "alice", Password(password), lifetime_s)

    async def rows(self, table: Any) -> list[dict[str, Any]]:
        return await self.store._database.read(
            lambda connection: [dict(row) for row in connection.execute(sa.select(table.__table__)).mappings()]
        )


@pytest.fixture
def house(store: Store) -> House:
    return House(store)


@S5
async def test_a_sign_in_is_kept_sealed_and_opens_for_that_user_and_site(house: House) -> None:
    await house.register()
    session = await house.enter()
    (row,) = await house.rows(SessionRow)
    assert (row["user"], row["site_id"], row["username"]) == ("users/alice", "here", "alice")
    sealed = Sealed(row["key_id"], row["wrapped_key"], row["ciphertext"])
    credential = credential_from_pem(VAULT.open(sealed, user="users/alice", site="sites/here"))
    assert credential.certificate.public_key() == credential.key.public_key()
    assert session.subject == "/O=here/OU=Users/CN=alice"
    assert "secret of alice" not in repr(row)


@S5
async def test_twelve_hours_are_asked_for_unless_told_otherwise(house: House) -> None:
    await house.register()
    assert abs((await house.enter()).expire_ms - house.now_ms() - 12 * 3600_000) < 60_000
    short = await house.enter(lifetime_s=600)
    assert abs(short.expire_ms - house.now_ms() - 600_000) < 60_000
    assert not short.lifetime_shortened
    house.site.max_life = dt.timedelta(minutes=5)
    assert (await house.enter(lifetime_s=600)).lifetime_shortened


@S5
async def test_a_refused_sign_in_is_written_down_and_changes_nothing(house: House) -> None:
    await house.register()
    first = await house.enter()
    with pytest.raises(SignInRefused):
        await house.enter("wrong")
    assert await house.sessions.live("users/alice") == [first]
    assert [row["action"] for row in await house.rows(AuditRow)][1:] == [
        "site_session.created",
        "site_session.refused",
    ]
    assert "wrong" not in repr(await house.rows(AuditRow))


@S5
async def test_failures_are_told_apart(house: House) -> None:
    with pytest.raises(SiteNotFound):
        await house.enter()
    await house.register()
    house.site.down = True
    with pytest.raises(SiteUnreachable):
        await house.enter()
    for problem in (HostUnknown(), NameServiceFailed()):
        house.names.answer = problem
        with pytest.raises(SiteUnreachable):
            await house.enter()
    house.names.answer = ["10.0.0.1"]
    with pytest.raises(AddressNotAllowed):
        await house.enter()


@S5
async def test_a_server_of_other_authorities_is_not_trusted(house: House) -> None:
    await house.register(authority=FakeCa("elsewhere"))
    with pytest.raises(SiteNotTrusted):
        await house.enter()


@S5
async def test_a_certificate_outside_the_sites_namespace_is_not_kept(house: House) -> None:
    await house.register(namespace="/O=here/OU=Hosts/*")
    with pytest.raises(SiteAnswerUnusable, match="may not sign /O=here/OU=Users/CN=alice"):
        await house.enter()
    assert not await house.rows(SessionRow)


@S5
async def test_a_sign_in_that_has_ended_is_gone(house: House) -> None:
    await house.register()
    await house.enter(lifetime_s=600)
    house.ahead_s = 601
    assert await house.sessions.live("users/alice") == []
    with pytest.raises(SiteSessionNotFound):
        await house.sessions.get("users/alice", "here")
    with pytest.raises(SiteSessionNotFound):
        await house.sessions.delete(ALICE, "here")
    assert not await house.rows(SessionRow)


@S5
async def test_what_has_ended_is_deleted_with_its_credential_and_nothing_else(house: House) -> None:
    await house.register()
    await house.enter(lifetime_s=600)
    await house.store.put_session(a_session("here", user="users/bob"), an_event())
    assert await house.sessions.expire() == 0
    house.ahead_s = 601
    assert await house.sessions.expire() == 1
    assert await house.sessions.expire() == 0
    assert [row["user"] for row in await house.rows(SessionRow)] == ["users/bob"]


@pytest.mark.row("S6")
async def test_sweeping_wraps_data_keys_anew_and_leaves_alone_what_does_not_open(house: House) -> None:
    old, new, lost = b"o" * 32, b"n" * 32, b"l" * 32
    await house.register()
    for user, key in (("users/alice", old), ("users/bob", new), ("users/carol", lost)):
        await house.store.put_session(a_session("here", user=user, vault=Vault([key])), an_event())
    later = House(house.store, Vault([new, old]))
    await later.sessions.sweep()
    await later.sessions.sweep()
    for kept in await house.store.sealed_with([Vault([new]).seal(b"", user="", site="").key_id], 10):
        assert Vault([new]).open(kept.sealed, user=kept.session.user, site="sites/here")
    rows = {row["user"]: row["key_id"] for row in await house.rows(SessionRow)}
    assert rows["users/alice"] == rows["users/bob"] != rows["users/carol"]


@S5
async def test_signing_out_deletes_the_credential_here_and_in_memory(house: House) -> None:
    await house.register()
    session = await house.enter()
    house.issued.put(session.id, "ab", IssuedProxy("c", b"pem", 0, 1e12))
    await house.sessions.delete(ALICE, "here")
    assert not await house.rows(SessionRow)
    assert house.issued.get(session.id, "ab") is None
    assert (await house.rows(AuditRow))[-1]["action"] == "site_session.deleted"
    with pytest.raises(SiteSessionNotFound):
        await house.sessions.delete(ALICE, "here")


@S5
async def test_a_site_that_is_deleted_during_the_sign_in_is_not_found(house: House) -> None:
    await house.register()
    site = await house.store.site("here")
    assert site is not None

    class Deleting(FakeSignIn):
        async def sign_in(self, *arguments: Any) -> IssuedCredential:
            assert site is not None
            await house.store.remove_site(site, an_event())
            return await super().sign_in(*arguments)

    house.sessions._sign_in = Deleting(house.site)
    with pytest.raises(SiteNotFound):
        await house.enter()
    assert not await house.rows(SessionRow)


@S5
def test_a_password_shows_itself_nowhere() -> None:
    password = Password("correct horse")
    for text in (repr(password), str(password), f"{password}", f"{password!r}", "%s" % password):  # noqa: UP031  # each way
        assert "horse" not in text
    with pytest.raises(TypeError):
        pickle.dumps(password)
    assert password.reveal() == "correct horse"


@pytest.mark.row("S6")
def test_what_is_sealed_is_key_certificate_and_chain() -> None:
    ca = FakeCa("here")
    key = shared_key("person")
    credential = IssuedCredential(key, ca.issue("alice", key, dt.timedelta(hours=1)), [ca.certificate])
    again = credential_from_pem(credential_to_pem(credential))
    assert again.key.private_numbers() == key.private_numbers()
    assert [again.certificate, *again.chain] == [credential.certificate, *credential.chain]
    assert "Private" not in repr(again)
