"""What accounts decide, with time and chance handed in."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from wherry_chassis.errors import InvalidFields
from wherry_fakes.user_ports import FakeClock, FakeMailer, Numbered, quick_hasher
from wherry_fakes.user_store import MemoryUserStore
from wherry_testing.waiting import PATIENCE_S, until
from wherry_user.accounts import Accounts, email_key
from wherry_user.audit import Action, Origin
from wherry_user.errors import MailUnavailable, UserNotFound, VerificationTokenInvalid
from wherry_user.mail import Mail, MailTexts

ORIGIN = Origin("192.0.2.1", "/O=Wherry/CN=client")
EMAIL = "Alice@Example.org"
TTL_S = 3600


@dataclass
class World:
    store: MemoryUserStore = field(default_factory=MemoryUserStore)
    mailer: FakeMailer = field(default_factory=FakeMailer)
    clock: FakeClock = field(default_factory=FakeClock)

    def __post_init__(self) -> None:
        self.hasher = quick_hasher()
        self.accounts = Accounts(
            self.store,
            self.hasher,
            self.mailer,
            MailTexts("Test deployment", "https://wherry.example.org/verify/{token}"),
            verification_ttl_ms=TTL_S * 1000,
            clock=self.clock,
            new_id=Numbered("user"),
            new_secret=Numbered("secret"),
        )

    async def register(self, password: str = "correct horse", email: str = EMAIL, name: str = "Alice") -> None:
        await self.accounts.register(email, password, name, ORIGIN)

    async def verify(self, token: str) -> None:
        await self.accounts.verify_email(token, ORIGIN)


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.row("U1")
async def test_the_mail_goes_to_the_address_and_carries_the_token(world: World) -> None:
    await world.register()
    (mail,) = world.mailer.sent
    assert mail.to == EMAIL
    assert "wherry verify secret-1" in mail.text
    assert "https://wherry.example.org/verify/secret-1" in mail.text
    assert "within 60 minutes" in mail.text
    await world.verify("secret-1")
    assert (await world.accounts.get("user-1")).verified_ms == world.clock.now_ms


@pytest.mark.row("U1")
async def test_a_known_address_is_told_by_mail_alone_and_the_mail_goes_where_the_account_is(world: World) -> None:
    await world.register()
    await world.verify("secret-1")
    await world.register("another password", email=" aLICE@eXAMPLE.ORG ")
    assert [mail.to for mail in world.mailer.sent] == [EMAIL, EMAIL]
    assert "registered already" in world.mailer.sent[1].subject
    assert "secret" not in world.mailer.sent[1].text
    assert len(world.store.accounts) == 1
    assert await world.hasher.verify(world.store.accounts["user-1"].password_hash, "correct horse")


@pytest.mark.row("U1")
@pytest.mark.parametrize("known", [False, True])
async def test_a_known_address_costs_one_hash_and_one_mail_like_an_unknown_one(world: World, known: bool) -> None:
    if known:
        await world.register()
        await world.verify("secret-1")
    hashes = 0
    hash_one = world.hasher.hash

    async def counting(password: str) -> str:
        nonlocal hashes
        hashes += 1
        return await hash_one(password)

    world.hasher.hash = counting  # type: ignore[method-assign]  # counts what the real one does
    before = len(world.mailer.sent)
    await world.register()
    assert (hashes, len(world.mailer.sent) - before) == (1, 1)


@pytest.mark.row("U1")
async def test_no_account_is_left_when_the_mail_fails(world: World) -> None:
    world.mailer.fails = True
    with pytest.raises(MailUnavailable):
        await world.register()
    assert world.store.accounts == {}
    assert world.store.verifications == {}
    assert [event.outcome for event in world.store.audit][-1] == "MAIL_UNAVAILABLE"


@pytest.mark.row("U1")
async def test_no_account_is_left_when_the_caller_leaves_before_the_mail_is_out(world: World) -> None:
    sending = asyncio.Event()

    class Slow(FakeMailer):
        async def send(self, mail: Mail) -> None:
            sending.set()
            await asyncio.Event().wait()

    world.mailer = Slow()
    world.__post_init__()
    registering = asyncio.create_task(world.register())
    await asyncio.wait_for(sending.wait(), PATIENCE_S)
    assert len(world.store.accounts) == 1
    registering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await registering
    assert world.store.accounts == {}


@pytest.mark.row("U1")
async def test_a_verified_account_survives_a_failing_mail_to_it(world: World) -> None:
    await world.register()
    await world.verify("secret-1")
    world.mailer.fails = True
    with pytest.raises(MailUnavailable):
        await world.register()
    assert (await world.accounts.get("user-1")).verified_ms is not None


async def test_who_registered_somebody_elses_address_before_gains_nothing(world: World) -> None:
    await world.register("the thief's password")
    await world.register("the owner's password")
    await world.verify("secret-2")
    stored = (await world.accounts.get("user-1")).password_hash
    assert await world.hasher.verify(stored, "the owner's password")
    assert not await world.hasher.verify(stored, "the thief's password")
    with pytest.raises(VerificationTokenInvalid):
        await world.verify("secret-1")


async def test_who_registers_somebody_elses_address_after_gains_nothing(world: World) -> None:
    await world.register("the owner's password")
    await world.register("the thief's password")
    await world.verify("secret-1")
    stored = (await world.accounts.get("user-1")).password_hash
    assert await world.hasher.verify(stored, "the owner's password")


@pytest.mark.row("U2")
async def test_a_verification_token_works_once(world: World) -> None:
    await world.register()
    await world.verify("secret-1")
    with pytest.raises(VerificationTokenInvalid):
        await world.verify("secret-1")


@pytest.mark.row("U2")
async def test_a_verification_token_expires_and_another_can_be_had(world: World) -> None:
    await world.register()
    world.clock.pass_by(seconds=TTL_S)
    with pytest.raises(VerificationTokenInvalid):
        await world.verify("secret-1")
    world.accounts.request_resend(EMAIL.upper(), ORIGIN)
    await delivered(world, 2)
    assert "wherry verify secret-2" in world.mailer.sent[1].text
    await world.verify("secret-2")


@pytest.mark.row("U2")
async def test_a_resend_that_fails_stops_no_later_one(world: World) -> None:
    await world.register()
    world.mailer.fails = True
    world.accounts.request_resend(EMAIL, ORIGIN)
    await delivered(world, 2)
    with pytest.raises(VerificationTokenInvalid):
        await world.verify("secret-2")
    world.mailer.fails = False
    world.accounts.request_resend(EMAIL, ORIGIN)
    await delivered(world, 3)
    await world.verify("secret-3")


@pytest.mark.row("U2")
async def test_nobody_can_have_an_address_flooded_with_mail(world: World) -> None:
    for _ in range(8):
        await world.register()
    assert len(world.mailer.sent) == 5
    assert world.store.audit[-1].outcome == "MAIL_LIMIT"
    world.clock.pass_by(seconds=3600)
    await world.register()
    assert len(world.mailer.sent) == 6


async def test_mails_that_failed_do_not_count_as_a_flood(world: World) -> None:
    world.mailer.fails = True
    for _ in range(8):
        with pytest.raises(MailUnavailable):
            await world.register()


@pytest.mark.row("U1")
@pytest.mark.parametrize("email", ["", "alice", "@example.org", "alice@", "a\nb@example.org", "a\0b@example.org"])
async def test_addresses_that_are_none_are_refused(world: World, email: str) -> None:
    with pytest.raises(InvalidFields) as caught:
        await world.register(email=email)
    assert [problem.field for problem in caught.value.field_problems] == ["email"]
    assert world.mailer.sent == []


async def test_names_with_control_characters_are_refused(world: World) -> None:
    with pytest.raises(InvalidFields):
        await world.register(name="Alice\r\nBcc: bob@example.org")


async def test_a_name_is_taken_from_the_address_if_none_is_given(world: World) -> None:
    await world.register(name=" ")
    assert (await world.accounts.get("user-1")).display_name == "Alice"


async def test_an_account_that_is_not_there_is_not_found(world: World) -> None:
    with pytest.raises(UserNotFound):
        await world.accounts.get("nobody")


async def test_the_audit_log_tells_who_did_what_from_where_and_no_secret(world: World) -> None:
    await world.register()
    await world.verify("secret-1")
    assert [(event.action, event.user_id, event.outcome) for event in world.store.audit] == [
        (Action.REGISTER, "user-1", "DONE"),
        (Action.VERIFY_EMAIL, "user-1", "DONE"),
    ]
    assert all(event.origin == ORIGIN for event in world.store.audit)
    assert "secret" not in repr(world.store.audit)
    assert "correct horse" not in repr(world.store.audit)


@pytest.mark.parametrize(("one", "other"), [("A@B.org", "a@b.ORG"), (" a@b.org ", "a@b.org")])
def test_case_and_space_around_make_no_other_address(one: str, other: str) -> None:
    assert email_key(one) == email_key(other)


async def delivered(world: World, attempts: int) -> None:
    """Lets the background work run until the mailer has been asked so often in all."""
    working = asyncio.create_task(world.accounts.deliver_resends())
    await until(lambda: world.mailer.attempts == attempts)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
