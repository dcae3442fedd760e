"""The credential desk: what it hands out, to whom, and what it writes down."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from wherry_chassis.identity import Peer
from wherry_fakes.site_sign_in import shared_key
from wherry_fakes.token_issuers import FakeLeaseKeys
from wherry_site.audit import AuditEvent
from wherry_site.credentials import CredentialDesk, SiteCredential
from wherry_site.errors import LeaseSuperseded, LeaseTokenInvalid, SiteSessionExpired
from wherry_site.issued import IssuedProxies
from wherry_site.key_pool import KeyPool
from wherry_site.leases import LeaseClaims, LeaseVerifier
from wherry_site.models import AuditRow, FenceRow
from wherry_site.sessions import SealedSession
from wherry_site.sites import Site
from wherry_site.store import Store
from wherry_site.vault import Vault
from wherry_testing.site_store import VAULT, a_session, a_site, an_event

S6 = pytest.mark.row("S6")
WORKER = Peer("/O=Wherry/CN=worker-1", "ab" * 32, frozenset({"worker"}))
OTHER = Peer("/O=Wherry/CN=worker-1", "cd" * 32, frozenset({"worker"}))


class Clock:
    """A clock that tests turn forward."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now_ms(self) -> int:
        return int((time.time() + self.ahead_s) * 1000)


class Desk:
    """A desk with its queue, its store and its clock; two sites, Alice signed in at both."""

    def __init__(self, store: Store, vault: Vault = VAULT) -> None:
        self.store = store
        self.queue = FakeLeaseKeys()
        self.clock = Clock()
        self.keys_made = 0
        self.issued = IssuedProxies()
        numbers = itertools.count(1)
        pool = itertools.cycle([shared_key(f"pool {number}") for number in range(4)])

        def next_key() -> Any:
            self.keys_made += 1
            return next(pool)

        self.desk = CredentialDesk(
            verifier=LeaseVerifier(self, lambda: self.clock.now_ms() / 1000),
            store=store,
            vault=vault,
            keys=KeyPool(generate=next_key),
            issued=self.issued,
            now_ms=self.clock.now_ms,
            new_id=lambda: f"credential-{next(numbers)}",
        )

    async def get(self, kid: str) -> Ed25519PublicKey | None:
        return next((signer.key.public_key() for signer in self.queue.signers if signer.kid == kid), None)

    async def set_up(self, life: dt.timedelta = dt.timedelta(hours=12)) -> Desk:
        for site in ("a", "b"):
            await self.store.add_site(a_site(site), an_event())
            await self.store.put_session(a_session(site, life=life), an_event())
        return self

    def token(self, **changes: Any) -> str:
        claims = {"thumbprint": WORKER.thumbprint, "user": "users/alice", "sites": ["sites/a"]} | changes
        token = self.queue.claims(**claims)
        for name in ("iat", "exp"):
            token[name] += int(self.clock.ahead_s)
        return self.queue.signers[-1].sign(token)

    async def fetch(self, *have: str, worker: Peer = WORKER, **changes: Any) -> Sequence[SiteCredential]:
        token = self.token(**({"thumbprint": worker.thumbprint} | changes))
        return await self.desk.fetch(token, have, worker, "ipv4:192.0.2.1:7")

    async def audit(self) -> list[dict[str, Any]]:
        query = sa.select(AuditRow.__table__).where(AuditRow.action.like("credential.%")).order_by(AuditRow.seq)
        return await self.store._database.read(
            lambda connection: [dict(row) for row in connection.execute(query).mappings()]
        )


@pytest.fixture
async def desk(store: Store) -> Desk:
    return await Desk(store).set_up()


@S6
async def test_a_credential_is_a_proxy_with_a_fresh_key_and_never_the_persons_own(desk: Desk) -> None:
    (credential,) = await desk.fetch()
    proxy, person = x509.load_pem_x509_certificates(credential.pem)
    assert proxy.issuer == person.subject
    assert person.public_key() == shared_key("a users/alice").public_key()
    assert proxy.public_key() != person.public_key()
    assert credential.pem.count(b"BEGIN RSA PRIVATE KEY") == 1
    assert credential.expire_ms == int(proxy.not_valid_after_utc.timestamp() * 1000)


@S6
async def test_the_worker_that_shows_a_token_has_to_be_the_one_that_it_was_given_to(desk: Desk) -> None:
    token = desk.token(thumbprint=WORKER.thumbprint)
    assert await desk.desk.fetch(token, [], WORKER)
    with pytest.raises(LeaseTokenInvalid):
        await desk.desk.fetch(token, [], OTHER)


@S6
async def test_a_lease_that_has_ended_opens_nothing(desk: Desk) -> None:
    token = desk.token(ttl_s=30)
    assert await desk.desk.fetch(token, [], WORKER)
    desk.clock.ahead_s = 40
    with pytest.raises(LeaseTokenInvalid):
        await desk.desk.fetch(token, [], WORKER)


@S6
async def test_a_fence_below_the_highest_seen_opens_nothing_and_is_not_written_down_as_issued(desk: Desk) -> None:
    await desk.fetch(fence=5)
    issued = await desk.audit()
    with pytest.raises(LeaseSuperseded):
        await desk.fetch(fence=4)
    assert await desk.audit() == issued
    assert await desk.fetch(fence=5), "the newest goes on"
    assert await desk.fetch(fence=4, task="jobs/j1/tasks/2"), "fences belong to tasks"


@S6
async def test_a_fence_counts_as_seen_also_where_nobody_is_signed_in(desk: Desk) -> None:
    with pytest.raises(SiteSessionExpired):
        await desk.fetch(fence=5, sites=["sites/gone"])
    with pytest.raises(LeaseSuperseded):
        await desk.fetch(fence=4)


@S6
async def test_a_lease_that_is_superseded_while_its_credential_is_made_gets_none(desk: Desk) -> None:
    class Slow:
        """The store, where a newer lease comes in between."""

        async def open_lease(
            self, claims: LeaseClaims, now_ms: int
        ) -> tuple[Mapping[str, Site], Mapping[str, SealedSession]]:
            found = await desk.store.open_lease(claims, now_ms)
            if claims.fence == 1:
                await desk.fetch(fence=2)
            return found

        async def record_issue(self, claims: LeaseClaims, events: Sequence[AuditEvent]) -> None:
            await desk.store.record_issue(claims, events)

        async def forget_fences(self, before_ms: int) -> int:
            return await desk.store.forget_fences(before_ms)

    slow = Desk(desk.store)
    slow.queue = desk.queue
    slow.desk._store = Slow()
    with pytest.raises(LeaseSuperseded):
        await slow.fetch(fence=1)
    assert [event["fence"] for event in await desk.audit()] == [2]


@S6
async def test_what_cannot_be_written_down_does_not_leave(desk: Desk) -> None:
    class Full(Exception):
        """The disk is full."""

    async def refuse(claims: LeaseClaims, events: Sequence[AuditEvent]) -> None:
        raise Full

    desk.store.record_issue = refuse  # type: ignore[method-assign]  # the one that fails
    with pytest.raises(Full):
        await desk.fetch()


@S6
async def test_each_issue_is_written_down_with_task_fence_worker_and_credential(desk: Desk) -> None:
    (first, second) = await desk.fetch(sites=["sites/b", "sites/a"], fence=9, task="jobs/j7/tasks/3")
    await desk.fetch(first.credential_id, sites=["sites/b"], fence=10, task="jobs/j7/tasks/3")
    events = await desk.audit()
    assert [(e["action"], e["site"], e["fence"], e["credential_id"]) for e in events] == [
        ("credential.issued", "sites/b", 9, first.credential_id),
        ("credential.issued", "sites/a", 9, second.credential_id),
        ("credential.confirmed", "sites/b", 10, first.credential_id),
    ]
    for event in events:
        assert (event["user"], event["task"]) == ("users/alice", "jobs/j7/tasks/3")
        assert (event["worker"], event["worker_thumbprint"]) == (WORKER.subject, WORKER.thumbprint)
        assert event["address"] == "ipv4:192.0.2.1:7"


@S6
async def test_a_worker_gets_the_same_proxy_until_half_its_life_is_over(desk: Desk) -> None:
    (first,) = await desk.fetch(task="jobs/j1/tasks/1")
    desk.clock.ahead_s = 29 * 60
    (warm,) = await desk.fetch(first.credential_id, task="jobs/j1/tasks/2")
    assert (warm.credential_id, warm.pem) == (first.credential_id, b"")
    (again,) = await desk.fetch("another", task="jobs/j1/tasks/2")
    assert (again.credential_id, again.pem) == (first.credential_id, first.pem)
    desk.clock.ahead_s = 31 * 60
    (renewed,) = await desk.fetch(first.credential_id, task="jobs/j1/tasks/2")
    assert renewed.credential_id != first.credential_id
    assert renewed.pem
    assert renewed.expire_ms > first.expire_ms


@S6
async def test_a_proxy_that_ends_with_its_session_is_not_renewed_in_vain(store: Store) -> None:
    desk = await Desk(store).set_up(dt.timedelta(minutes=20))
    (first,) = await desk.fetch()
    assert first.expire_ms == first.session_expire_ms
    desk.clock.ahead_s = 19 * 60
    assert [one.credential_id for one in await desk.fetch(first.credential_id)] == [first.credential_id]
    desk.clock.ahead_s = 21 * 60
    with pytest.raises(SiteSessionExpired):
        await desk.fetch(first.credential_id)


@S6
async def test_another_worker_and_another_sign_in_get_other_proxies(desk: Desk) -> None:
    (first,) = await desk.fetch()
    (others,) = await desk.fetch(worker=OTHER, task="jobs/j1/tasks/2")
    await desk.store.put_session(a_session("a", session_id="signed in again"), an_event())
    (later,) = await desk.fetch(task="jobs/j1/tasks/3")
    assert len({one.credential_id for one in (first, others, later)}) == 3
    assert len({one.pem for one in (first, others, later)}) == 3


@S6
async def test_two_questions_at_once_are_answered_alike(desk: Desk) -> None:
    answers = await asyncio.gather(*(desk.fetch(task=f"jobs/j1/tasks/{number}") for number in range(5)))
    assert len({one.credential_id for (one,) in answers}) == 1


@S6
async def test_a_credential_that_does_not_open_means_signing_in_again(store: Store) -> None:
    desk = await Desk(store, vault=Vault([b"another key, as after a loss!!!!"])).set_up()
    with pytest.raises(SiteSessionExpired) as caught:
        await desk.fetch()
    assert caught.value.metadata == {"site": "sites/a"}


@S6
async def test_a_site_that_the_user_no_longer_sees_opens_nothing(store: Store) -> None:
    desk = Desk(store)
    await store.add_site(a_site("a", owner="users/bob", public=True), an_event())
    await store.put_session(a_session("a"), an_event())
    assert await desk.fetch()
    site = await store.site("a")
    assert site is not None
    hidden = dataclasses.replace(site, draft=dataclasses.replace(site.draft, public=False), revision=2)
    await store.replace_site(hidden, an_event())
    with pytest.raises(SiteSessionExpired):
        await desk.fetch()


@S6
async def test_fences_are_remembered_longer_than_any_token_lives_and_then_swept(desk: Desk) -> None:
    await desk.fetch(fence=5)
    desk.clock.ahead_s = 24.5 * 3600
    await desk.desk.sweep()
    with pytest.raises(LeaseSuperseded):
        await desk.fetch(fence=4)
    desk.clock.ahead_s = 26 * 3600
    await desk.desk.sweep()
    query = sa.select(sa.func.count()).select_from(FenceRow)
    assert await desk.store._database.read(lambda connection: connection.execute(query).scalar_one()) == 0
    assert desk.issued.get("a users/alice", WORKER.thumbprint) is None


@S6
async def test_nothing_shows_a_credential(desk: Desk) -> None:
    (credential,) = await desk.fetch()
    proxy = desk.issued.get("a users/alice", WORKER.thumbprint)
    assert "PRIVATE" not in repr(credential) + repr(proxy) + repr(a_session())
