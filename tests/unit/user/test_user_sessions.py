"""What sessions decide, with time and chance handed in."""

from __future__ import annotations

from dataclasses import dataclass, field

import argon2
import jwt
import pytest
from wherry_fakes.user_ports import FakeClock, Numbered, quick_hasher
from wherry_fakes.user_store import MemoryUserStore
from wherry_user.accounts import Account, Verification
from wherry_user.audit import DONE, Action, AuditEvent, Origin
from wherry_user.clock import token_hash
from wherry_user.errors import (
    EmailNotVerified,
    RefreshTokenInvalid,
    SessionNotFound,
    SignInRefused,
    SignInThrottled,
)
from wherry_user.passwords import Argon2Hasher
from wherry_user.revocations import Revocation, RevocationFeed
from wherry_user.sessions import Sessions, TokenPair
from wherry_user.signing import AccessTokens, KeyRing, KeySeal

ORIGIN = Origin("192.0.2.1", "/O=Wherry/CN=client")
EMAIL, PASSWORD = "alice@example.org", "correct horse"
ACCESS_TTL_S, REFRESH_TTL_S, MARGIN_S = 600, 86_400, 60


@dataclass
class World:
    store: MemoryUserStore = field(default_factory=MemoryUserStore)
    clock: FakeClock = field(default_factory=FakeClock)
    refused_here: list[Revocation] = field(default_factory=list)
    hasher: Argon2Hasher = field(default_factory=quick_hasher)

    def __post_init__(self) -> None:
        self.ring = KeyRing(
            self.store, KeySeal(bytes(32)), token_life_ms=660_000, clock=self.clock, new_id=Numbered("key")
        )
        self.sessions = Sessions(
            self.store,
            self.hasher,
            AccessTokens(self.ring, "wherry", "wherry", ACCESS_TTL_S * 1000),
            RevocationFeed(self.store, self.refused_here.append),
            refresh_ttl_ms=REFRESH_TTL_S * 1000,
            margin_ms=MARGIN_S * 1000,
            clock=self.clock,
            new_id=Numbered("session"),
            new_secret=Numbered("refresh"),
        )

    async def add(self, name: str = "alice", *, verified: bool = True, hasher: Argon2Hasher | None = None) -> None:
        hashed = await (hasher or self.hasher).hash(PASSWORD)
        now_ms = self.clock.now_ms
        event = AuditEvent(now_ms, Action.REGISTER, DONE, ORIGIN)
        account = Account(f"id-{name}", f"{name}@example.org", name, hashed, now_ms)
        await self.store.register(account, Verification(name, hashed, name, now_ms, now_ms + 1), event)
        if verified:
            await self.store.verify(name, now_ms, event)

    async def sign_in(self, email: str = EMAIL, password: str = PASSWORD, address: str = "192.0.2.1") -> TokenPair:
        _, _, pair = await self.sessions.sign_in(email, password, Origin(address, ORIGIN.peer))
        return pair

    async def fail(self, times: int, email: str = EMAIL, address: str = "192.0.2.1") -> None:
        for _ in range(times):
            with pytest.raises(SignInRefused):
                await self.sign_in(email, "wrong", address)

    def outcomes(self, action: Action) -> list[str]:
        return [event.outcome for event in self.store.audit if event.action is action]


@pytest.fixture
async def world() -> World:
    world = World()
    await world.ring.open()
    await world.add()
    return world


@pytest.mark.row("U3")
async def test_an_access_token_says_who_which_session_and_until_when(world: World) -> None:
    pair = await world.sign_in("Alice@Example.Org")
    claims = jwt.decode(pair.access, options={"verify_signature": False})
    now_s = world.clock.now_ms // 1000
    assert claims == {
        "iss": "wherry",
        "aud": "wherry",
        "sub": "id-alice",
        "sid": "session-1",
        "iat": now_s,
        "exp": now_s + ACCESS_TTL_S,
    }
    assert jwt.get_unverified_header(pair.access) == {"alg": "EdDSA", "typ": "JWT", "kid": "key-1"}
    assert pair.access_expires_ms == (now_s + ACCESS_TTL_S) * 1000


@pytest.mark.row("U3")
async def test_refresh_tokens_are_kept_hashed(world: World) -> None:
    pair = await world.sign_in()
    assert list(world.store.tokens) == [token_hash(pair.refresh)]


@pytest.mark.row("U3")
async def test_unknown_addresses_and_wrong_passwords_are_refused_alike(world: World) -> None:
    messages = set()
    for email, password in ((EMAIL, "wrong"), ("nobody@example.org", PASSWORD), ("a\0b", PASSWORD)):
        with pytest.raises(SignInRefused) as caught:
            await world.sign_in(email, password)
        messages.add((str(caught.value), tuple(caught.value.metadata)))
    assert len(messages) == 1
    assert world.outcomes(Action.SIGN_IN) == ["SIGN_IN_REFUSED"] * 3


@pytest.mark.row("U2")
async def test_an_unverified_address_is_told_after_the_right_password_only(world: World) -> None:
    await world.add("bob", verified=False)
    with pytest.raises(SignInRefused):
        await world.sign_in("bob@example.org", "wrong")
    with pytest.raises(EmailNotVerified):
        await world.sign_in("bob@example.org")
    assert world.store.sessions == {}


@pytest.mark.row("U3")
async def test_each_sign_in_remembers_the_one_before(world: World) -> None:
    first_ms = world.clock.now_ms
    await world.sign_in()
    world.clock.pass_by(days=1)
    account, session, _ = await world.sessions.sign_in(EMAIL, PASSWORD, ORIGIN)
    assert session.previous_sign_in_ms == first_ms
    assert await world.sessions.previous_sign_in_ms(session.id) == first_ms
    assert world.store.accounts[account.id].last_sign_in_ms == world.clock.now_ms


@pytest.mark.row("U3")
async def test_a_session_lives_as_long_as_it_is_refreshed(world: World) -> None:
    pair = await world.sign_in()
    for _ in range(3):
        world.clock.pass_by(seconds=REFRESH_TTL_S - 1)
        pair = await world.sessions.refresh(pair.refresh, ORIGIN)
    world.clock.pass_by(seconds=REFRESH_TTL_S)
    with pytest.raises(RefreshTokenInvalid):
        await world.sessions.refresh(pair.refresh, ORIGIN)
    assert await world.sessions.live("id-alice") == []


@pytest.mark.row("U3")
async def test_a_replayed_refresh_token_ends_its_session_and_no_other(world: World) -> None:
    stolen, other = await world.sign_in(), await world.sign_in()
    rightful = await world.sessions.refresh(stolen.refresh, ORIGIN)
    with pytest.raises(RefreshTokenInvalid):
        await world.sessions.refresh(stolen.refresh, ORIGIN)
    with pytest.raises(RefreshTokenInvalid):
        await world.sessions.refresh(rightful.refresh, ORIGIN)
    assert [revocation.subject for revocation in world.refused_here] == ["session-1"]
    assert [session.id for session in await world.sessions.live("id-alice")] == ["session-2"]
    await world.sessions.refresh(other.refresh, ORIGIN)
    assert world.outcomes(Action.REFRESH) == ["REUSED"]


@pytest.mark.row("D15")
async def test_a_sign_out_is_refused_here_at_once_and_until_no_token_can_live(world: World) -> None:
    await world.sign_in()
    world.clock.pass_by(seconds=100)
    await world.sessions.end("id-alice", "session-1", ORIGIN)
    (revocation,) = world.refused_here
    assert revocation.subject == "session-1"
    begun_ms = world.clock.now_ms - 100_000
    assert revocation.expires_ms == begun_ms + (ACCESS_TTL_S + MARGIN_S) * 1000
    with pytest.raises(SessionNotFound):
        await world.sessions.end("id-alice", "session-1", ORIGIN)
    assert world.outcomes(Action.SIGN_OUT) == ["DONE"]


async def test_an_access_token_does_not_outlive_a_session_that_is_shorter(world: World) -> None:
    world.sessions = Sessions(
        world.store,
        world.hasher,
        AccessTokens(world.ring, "wherry", "wherry", ACCESS_TTL_S * 1000),
        RevocationFeed(world.store, world.refused_here.append),
        refresh_ttl_ms=5000,
        margin_ms=0,
        clock=world.clock,
        new_id=Numbered("session"),
        new_secret=Numbered("refresh"),
    )
    pair = await world.sign_in()
    assert pair.access_expires_ms <= pair.refresh_expires_ms == world.clock.now_ms + 5000


@pytest.mark.row("U3")
async def test_ten_failures_for_an_account_close_it_for_a_quarter_of_an_hour(world: World) -> None:
    await world.fail(10)
    with pytest.raises(SignInThrottled) as caught:
        await world.sign_in(address="198.51.100.7")
    assert caught.value.metadata == {"retry_after_s": "900"}
    world.clock.pass_by(seconds=899)
    with pytest.raises(SignInThrottled):
        await world.sign_in()
    world.clock.pass_by(seconds=1)
    await world.sign_in()
    assert world.outcomes(Action.SIGN_IN)[-2:] == ["SIGN_IN_THROTTLED", "DONE"]


@pytest.mark.row("U3")
async def test_thirty_failures_from_an_address_close_it_for_every_account(world: World) -> None:
    for number in range(30):
        await world.fail(1, email=f"guess-{number}@example.org", address="198.51.100.7")
    with pytest.raises(SignInThrottled):
        await world.sign_in(address="198.51.100.7")
    await world.sign_in(address="192.0.2.1")


@pytest.mark.row("U3")
async def test_signing_in_clears_the_accounts_failures_but_not_the_addresss(world: World) -> None:
    for _ in range(3):
        await world.fail(9)
        await world.sign_in()
    await world.fail(3)
    with pytest.raises(SignInThrottled):
        await world.sign_in()


@pytest.mark.row("U3")
async def test_while_throttled_no_password_is_looked_at(world: World) -> None:
    await world.fail(10)
    looked_at = 0
    verify = world.hasher.verify

    async def counting(stored: str | None, password: str) -> bool:
        nonlocal looked_at
        looked_at += 1
        return await verify(stored, password)

    world.hasher.verify = counting  # type: ignore[method-assign]  # counts what the real one does
    with pytest.raises(SignInThrottled):
        await world.sign_in()
    assert looked_at == 0


@pytest.mark.row("D17")
async def test_an_outdated_hash_is_renewed_at_the_next_sign_in(world: World) -> None:
    weaker = Argon2Hasher(argon2.PasswordHasher(time_cost=1, memory_cost=16, parallelism=1))
    await world.add("bob", hasher=weaker)
    before = world.store.accounts["id-bob"].password_hash
    await world.sign_in("bob@example.org")
    after = world.store.accounts["id-bob"].password_hash
    assert before != after
    assert not world.hasher.is_outdated(after)
    await world.sign_in("bob@example.org")
