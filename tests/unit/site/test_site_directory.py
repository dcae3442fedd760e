"""What the queue is told of sites and sessions."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
from wherry_site.directory import SiteDirectory
from wherry_site.vault import Vault
from wherry_testing.site_store import NOW_MS, VAULT, a_session, a_site, an_event, sqlite_store

ALICE = "users/alice"
S6 = pytest.mark.row("S6")


@S6
@pytest.mark.parametrize("damage", ["another key-encryption key", "a broken seal"])
async def test_a_session_whose_credential_does_not_open_is_told_as_none(damage: str, tmp_path: Path) -> None:
    async with sqlite_store(tmp_path) as store:
        lost = a_session("a", vault=Vault([os.urandom(32)])) if damage.startswith("another") else a_session("a")
        if damage == "a broken seal":
            cut = dataclasses.replace(
                lost.sealed, ciphertext=lost.sealed.ciphertext[:-1] + bytes([lost.sealed.ciphertext[-1] ^ 1])
            )
            lost = dataclasses.replace(lost, sealed=cut)
        await store.add_site(a_site("a"), an_event())
        await store.add_site(a_site("b"), an_event())
        await store.put_session(lost, an_event())
        await store.put_session(a_session("b"), an_event())
        directory = SiteDirectory(store, VAULT, now_ms=lambda: NOW_MS)
        gone, there = await directory.resolve(ALICE, ["sites/a", "sites/b"])
        assert gone.session_expire_ms is None
        assert gone.default_path == "/data"  # as for one who is not signed in
        assert there.session_expire_ms is not None
