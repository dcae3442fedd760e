"""Who may delete an account, with time and chance handed in."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from wherry.user.v1 import user_service_pb2 as pb
from wherry_chassis.identity import Caller, Peer, UserClaims, set_caller
from wherry_chassis.pseudonyms import random_pseudonym
from wherry_fakes.user_ports import FakeClock, Numbered, quick_hasher
from wherry_fakes.user_store import MemoryUserStore
from wherry_user.accounts import Account
from wherry_user.audit import Action, Origin
from wherry_user.deletion import AccountDeletion
from wherry_user.errors import CursorUnknown, FollowerUnclear, PasswordWrong, SignInThrottled, UserNotFound
from wherry_user.passwords import Argon2Hasher
from wherry_user.revocations import Follower, Revocation, RevocationFeed, Subject
from wherry_user.servicer import RevocationServicer
from wherry_user.throttle import PER_ACCOUNT, account_key

ORIGIN = Origin("192.0.2.1", "/O=Wherry/CN=client")
PASSWORD = "correct horse"
U6 = pytest.mark.row("U6", missing="export of one's data")


@dataclass
class World:
    store: MemoryUserStore = field(default_factory=MemoryUserStore)
    clock: FakeClock = field(default_factory=FakeClock)
    refused_here: list[Revocation] = field(default_factory=list)
    hasher: Argon2Hasher = field(default_factory=quick_hasher)

    def __post_init__(self) -> None:
        self.feed = RevocationFeed(self.store, self.refused_here.append)
        self.deletion = AccountDeletion(
            self.store,
            self.hasher,
            self.feed,
            margin_ms=60_000,
            clock=self.clock,
            new_pseudonym=Numbered("deleted"),
        )

    async def add(self, name: str) -> None:
        hashed = await self.hasher.hash(PASSWORD)
        self.store.accounts[name] = Account(name, f"{name}@example.org", name, hashed, 0, verified_ms=1)

    def outcomes(self) -> list[str]:
        return [event.outcome for event in self.store.audit if event.action is Action.DELETE_ACCOUNT]


@pytest.fixture
async def world() -> World:
    world = World()
    await world.add("alice")
    await world.add("bob")
    return world


@U6
async def test_with_the_password_an_account_goes_and_its_user_is_refused_here_at_once(world: World) -> None:
    await world.deletion.delete("alice", PASSWORD, ORIGIN)
    assert set(world.store.accounts) == {"bob"}
    (revocation,) = world.refused_here
    assert (revocation.kind, revocation.subject) == (Subject.USER, "alice")
    assert revocation.expires_ms == world.clock.now_ms + 60_000
    assert world.outcomes() == ["DONE"]
    assert {event.user_id for event in world.store.audit} == {"deleted-1"}


@U6
async def test_without_it_nothing_goes_and_the_try_is_written_down(world: World) -> None:
    with pytest.raises(PasswordWrong):
        await world.deletion.delete("alice", "wrong", ORIGIN)
    assert set(world.store.accounts) == {"alice", "bob"}
    assert world.refused_here == []
    assert world.outcomes() == ["PASSWORD_WRONG"]


@U6
async def test_whoever_has_a_session_cannot_try_passwords_for_ever(world: World) -> None:
    for _ in range(PER_ACCOUNT.count):
        with pytest.raises(PasswordWrong):
            await world.deletion.delete("alice", "wrong", ORIGIN)
    with pytest.raises(SignInThrottled) as caught:
        await world.deletion.delete("alice", PASSWORD, Origin("198.51.100.7", ORIGIN.peer))
    assert caught.value.metadata == {"retry_after_s": "900"}
    assert "alice" in world.store.accounts
    assert world.outcomes()[-1] == "SIGN_IN_THROTTLED"
    await world.deletion.delete("bob", PASSWORD, ORIGIN)
    world.clock.pass_by(seconds=900)
    await world.deletion.delete("alice", PASSWORD, ORIGIN)


@U6
async def test_failures_to_sign_in_and_to_delete_count_together(world: World) -> None:
    await world.store.count({account_key("alice@example.org"): PER_ACCOUNT}, world.clock.now_ms)
    for _ in range(PER_ACCOUNT.count - 1):
        with pytest.raises(PasswordWrong):
            await world.deletion.delete("alice", "wrong", ORIGIN)
    with pytest.raises(SignInThrottled):
        await world.deletion.delete("alice", PASSWORD, ORIGIN)


@U6
async def test_an_account_that_is_gone_is_not_found(world: World) -> None:
    await world.deletion.delete("alice", PASSWORD, ORIGIN)
    with pytest.raises(UserNotFound):
        await world.deletion.delete("alice", PASSWORD, ORIGIN)


@U6
async def test_an_account_that_goes_while_its_password_is_checked_is_not_found(world: World) -> None:
    verify = world.hasher.verify

    async def slowly(stored: str | None, password: str) -> bool:
        world.hasher.verify = verify  # type: ignore[method-assign]  # as it was
        await world.deletion.delete("alice", PASSWORD, ORIGIN)
        return await verify(stored, password)

    world.hasher.verify = slowly  # type: ignore[method-assign]  # something comes in between
    with pytest.raises(UserNotFound):
        await world.deletion.delete("alice", PASSWORD, ORIGIN)
    assert len(world.refused_here) == 1


def test_pseudonyms_fit_where_users_ids_stand_and_are_never_the_same() -> None:
    made = {random_pseudonym() for _ in range(100)}
    assert len(made) == 100
    assert all(name.startswith("deleted-") and len(name) <= 36 for name in made)


def calling_with(*roles: str) -> None:
    peer = Peer("/O=Wherry/CN=somebody", "00", frozenset(roles))
    set_caller(Caller(peer, UserClaims("users/alice", "session-1", 0), "ipv4:192.0.2.1:1"))


@U6
async def test_a_follower_confirms_for_itself_alone(world: World) -> None:
    await world.deletion.delete("alice", PASSWORD, ORIGIN)
    servicer = RevocationServicer(world.feed)
    calling_with("site")
    await servicer.ConfirmRevocations(pb.ConfirmRevocationsRequest(cursor=1), None)
    assert world.store.confirmed == {Follower.SITE: 1, Follower.QUEUE: 0}
    with pytest.raises(CursorUnknown):
        await servicer.ConfirmRevocations(pb.ConfirmRevocationsRequest(cursor=2), None)


@U6
@pytest.mark.parametrize("roles", [("site", "queue"), ("operator",), ()])
async def test_nobody_confirms_who_is_not_one_follower(world: World, roles: tuple[str, ...]) -> None:
    await world.deletion.delete("alice", PASSWORD, ORIGIN)
    calling_with(*roles)
    with pytest.raises(FollowerUnclear):
        await RevocationServicer(world.feed).ConfirmRevocations(pb.ConfirmRevocationsRequest(cursor=1), None)
    assert set(world.store.confirmed.values()) == {0}
