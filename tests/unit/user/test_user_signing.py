"""Signing keys: wrapped at rest, rotated without a gap."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from wherry_chassis.errors import SessionEnded, TokenInvalid
from wherry_chassis.revocations import Revocations
from wherry_chassis.tokens import TokenVerifier
from wherry_fakes.user_ports import FakeClock, Numbered
from wherry_fakes.user_store import MemoryUserStore
from wherry_user.clock import system_clock
from wherry_user.signing import AccessTokens, KeyRing, KeySeal, SealBroken, StoredKey, base64url

SEAL = KeySeal(bytes(range(32)))
LIFE_MS = 600_000


def ring_on(store: MemoryUserStore, clock: FakeClock, ids: Numbered | None = None) -> KeyRing:
    return KeyRing(store, SEAL, token_life_ms=LIFE_MS, clock=clock, new_id=ids or Numbered("key"))


async def test_the_first_start_makes_a_key_and_later_ones_find_it() -> None:
    store, clock = MemoryUserStore(), FakeClock()
    first, second = ring_on(store, clock), ring_on(store, clock)
    await first.open()
    await second.open()
    assert len(store.keys) == 1
    assert first.signer()[0] == second.signer()[0]
    assert first.signer()[1].private_bytes_raw() == second.signer()[1].private_bytes_raw()


@pytest.mark.row("U3")
async def test_replicas_that_start_at_once_on_an_empty_database_sign_with_one_key() -> None:
    store, clock, ids = MemoryUserStore(), FakeClock(), Numbered("key")
    rings = [ring_on(store, clock, ids) for _ in range(3)]
    read = store.signing_keys
    all_have_read = asyncio.Barrier(len(rings))

    async def together() -> Sequence[StoredKey]:
        found = await read()
        await all_have_read.wait()
        return found

    store.signing_keys = together  # type: ignore[method-assign]  # no replica goes on before all have looked
    await asyncio.gather(*(ring.open() for ring in rings))
    assert len({ring.signer()[0] for ring in rings}) == 1
    assert all([key.kid for key in ring.published()] == [rings[0].signer()[0]] for ring in rings)


async def test_the_private_half_is_not_in_the_database() -> None:
    store = MemoryUserStore()
    ring = ring_on(store, FakeClock())
    await ring.open()
    private = ring.signer()[1].private_bytes_raw()
    (row,) = store.keys
    assert private not in row.wrapped
    assert row.public == ring.signer()[1].public_key().public_bytes_raw()
    assert "wrapped" not in repr(row)


async def test_another_wrapping_key_opens_nothing() -> None:
    store = MemoryUserStore()
    await ring_on(store, FakeClock()).open()
    stranger = KeyRing(store, KeySeal(bytes(32)), token_life_ms=1, clock=FakeClock(), new_id=Numbered("key"))
    with pytest.raises(SealBroken):
        await stranger.open()


def test_a_wrapped_key_is_bound_to_its_id() -> None:
    wrapped = SEAL.wrap(b"secret", "key-1")
    assert SEAL.unwrap(wrapped, "key-1") == b"secret"
    for broken, kid in ((wrapped, "key-2"), (wrapped[:-1] + b"\x00", "key-1"), (b"short", "key-1")):
        with pytest.raises(SealBroken):
            SEAL.unwrap(broken, kid)


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_a_wrapping_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="32"):
        KeySeal(bytes(length))


async def test_after_a_rotation_the_new_key_signs_and_the_old_one_is_published_while_its_tokens_live() -> None:
    store, clock = MemoryUserStore(), FakeClock()
    ring = ring_on(store, clock)
    await ring.open()
    clock.pass_by(days=30)
    await ring.rotate()
    assert ring.signer()[0] == "key-2"
    assert [key.kid for key in ring.published()] == ["key-2", "key-1"]
    assert await ring.get("key-1") is not None
    clock.pass_by(seconds=LIFE_MS / 1000)
    assert await ring.get("key-1") is not None, "a replica may have signed with it for another minute"
    clock.pass_by(seconds=121)
    assert [key.kid for key in ring.published()] == ["key-2"]
    assert await ring.get("key-1") is None


async def test_a_replica_verifies_with_the_key_that_another_has_just_made() -> None:
    store, clock, ids = MemoryUserStore(), FakeClock(), Numbered("key")
    one, two = ring_on(store, clock, ids), ring_on(store, clock, ids)
    await one.open()
    await two.open()
    clock.pass_by(seconds=10)
    await one.rotate()
    assert await two.get(one.signer()[0]) is not None
    assert two.signer()[0] == one.signer()[0]


async def test_invented_key_ids_do_not_reach_the_database_each_time() -> None:
    store, clock = MemoryUserStore(), FakeClock()
    ring = ring_on(store, clock)
    await ring.open()
    clock.pass_by(seconds=10)
    reads = 0
    read = store.signing_keys

    async def counting() -> object:
        nonlocal reads
        reads += 1
        return await read()

    store.signing_keys = counting  # type: ignore[method-assign,assignment]  # counts what the fake does
    for number in range(50):
        assert await ring.get(f"invented-{number}") is None
    assert reads == 1


@pytest.mark.row("U3")
async def test_the_chassis_verifies_what_is_signed_here_until_it_is_revoked() -> None:
    ring = KeyRing(MemoryUserStore(), SEAL, token_life_ms=LIFE_MS, clock=system_clock, new_id=Numbered("key"))
    await ring.open()
    revocations = Revocations()
    verifier = TokenVerifier(ring, issuer="wherry", audience="wherry", revocations=revocations)
    now_ms = system_clock()
    tokens = AccessTokens(ring, "wherry", "wherry", 600_000)
    claims = await verifier.verify(tokens.sign("alice", "session-1", now_ms, now_ms + 600_000))
    assert (claims.user, claims.session_id) == ("users/alice", "session-1")
    refused = {
        "expired": tokens.sign("alice", "session-1", now_ms - 700_000, now_ms - 100_000),
        "of another issuer": AccessTokens(ring, "other", "wherry", 1).sign("alice", "s", now_ms, now_ms + 600_000),
        "for another audience": AccessTokens(ring, "wherry", "other", 1).sign("alice", "s", now_ms, now_ms + 600_000),
    }
    for token in refused.values():
        with pytest.raises(TokenInvalid):
            await verifier.verify(token)
    revocations.add("session-1", now_ms / 1000 + 600)
    with pytest.raises(SessionEnded):
        await verifier.verify(tokens.sign("alice", "session-1", now_ms, now_ms + 600_000))


def test_public_keys_are_written_without_padding() -> None:
    public = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    assert len(base64url(public)) == 43
    assert not set(base64url(public)) & set("+/=")
