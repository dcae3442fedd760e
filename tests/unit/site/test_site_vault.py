"""Envelope encryption: what opens, and what does not."""

from __future__ import annotations

import base64
import dataclasses
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wherry_site.vault import Sealed, Vault, VaultLocked

ALICE_AT_A = {"user": "users/alice", "site": "sites/a"}
S6 = pytest.mark.row("S6")


@S6
@given(st.binary(max_size=5000))
def test_what_is_sealed_opens_again(credential: bytes) -> None:
    vault = Vault([b"k" * 32])
    assert vault.open(vault.seal(credential, **ALICE_AT_A), **ALICE_AT_A) == credential


@S6
def test_sealing_twice_gives_nothing_in_common() -> None:
    vault = Vault([os.urandom(32)])
    one, two = vault.seal(b"credential", **ALICE_AT_A), vault.seal(b"credential", **ALICE_AT_A)
    assert one.wrapped_key != two.wrapped_key
    assert one.ciphertext[:12] != two.ciphertext[:12]
    assert b"credential" not in one.ciphertext


@S6
@pytest.mark.parametrize(
    "owner",
    [
        {"user": "users/bob", "site": "sites/a"},
        {"user": "users/alice", "site": "sites/b"},
        {"user": "users/alice\0sites", "site": "/a"},
    ],
)
def test_a_row_that_is_moved_to_another_user_or_site_does_not_open(owner: dict[str, str]) -> None:
    vault = Vault([os.urandom(32)])
    sealed = vault.seal(b"credential", **ALICE_AT_A)
    with pytest.raises(VaultLocked):
        vault.open(sealed, **owner)


@S6
def test_the_data_key_is_bound_too() -> None:
    """A wrapped key of one user put beside another's ciphertext must not unwrap."""
    vault = Vault([os.urandom(32)])
    alices = vault.seal(b"alice's", **ALICE_AT_A)
    bobs = vault.seal(b"bob's", user="users/bob", site="sites/a")
    for mixed in (
        dataclasses.replace(alices, wrapped_key=bobs.wrapped_key),
        dataclasses.replace(alices, ciphertext=bobs.ciphertext),
    ):
        with pytest.raises(VaultLocked):
            vault.open(mixed, **ALICE_AT_A)


@S6
def test_without_the_key_encryption_key_nothing_opens() -> None:
    sealed = Vault([os.urandom(32)]).seal(b"credential", **ALICE_AT_A)
    for other in (Vault([os.urandom(32)]), _named_alike(sealed)):
        with pytest.raises(VaultLocked):
            other.open(sealed, **ALICE_AT_A)


def _named_alike(sealed: Sealed) -> Vault:
    """Returns a vault whose key has the id of another."""
    vault = Vault([os.urandom(32)])
    vault._keys[0] = dataclasses.replace(vault._keys[0], id=sealed.key_id)
    return vault


@S6
@pytest.mark.parametrize("column", ["wrapped_key", "ciphertext"])
def test_damage_is_noticed(column: str) -> None:
    vault = Vault([os.urandom(32)])
    sealed = vault.seal(b"credential", **ALICE_AT_A)
    whole: bytes = getattr(sealed, column)
    for damaged in (b"", whole[:5], whole[:-1], bytes([*whole[:-1], whole[-1] ^ 1]), bytes([whole[0] ^ 1, *whole[1:]])):
        values = dataclasses.asdict(sealed) | {column: damaged}
        with pytest.raises(VaultLocked):
            vault.open(Sealed(**values), **ALICE_AT_A)


@S6
def test_a_new_key_seals_the_old_one_still_opens_and_rewrapping_leaves_the_credential_alone() -> None:
    old, new = os.urandom(32), os.urandom(32)
    sealed = Vault([old]).seal(b"credential", **ALICE_AT_A)
    both = Vault([new, old])
    assert both.open(sealed, **ALICE_AT_A) == b"credential"
    assert both.older_key_ids == [sealed.key_id]
    rewrapped = both.rewrap(sealed, **ALICE_AT_A)
    assert rewrapped.ciphertext == sealed.ciphertext
    assert Vault([new]).open(rewrapped, **ALICE_AT_A) == b"credential"
    with pytest.raises(VaultLocked):
        Vault([old]).open(rewrapped, **ALICE_AT_A)


@S6
def test_keys_come_from_base64_lines_and_faults_do_not_repeat_them() -> None:
    first, second = os.urandom(32), os.urandom(32)
    secret = b"\n".join([base64.b64encode(first), base64.b64encode(second), b""])
    assert Vault.from_secret(secret).older_key_ids == Vault([first, second]).older_key_ids
    for bad in (b"", b"not base64 at all!", base64.b64encode(b"short"), b"hunter2hunter2hunter2hunter2hunt"):
        with pytest.raises(ValueError, match="32 bytes in base64") as caught:
            Vault.from_secret(bad)
        assert "hunter" not in str(caught.value)


@S6
def test_nothing_shows_a_key() -> None:
    key = b"0123456789abcdef0123456789abcdef"
    vault = Vault([key])
    assert "0123456789" not in repr(vault) + repr(vars(vault))
