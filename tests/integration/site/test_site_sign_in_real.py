"""Signing in at real sites, out, and what is told when it fails."""

from __future__ import annotations

import base64
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from wherry.site.v1 import site_service_pb2 as pb
from wherry_site.vault import Sealed, Vault, VaultLocked
from wherry_testing.sites import RealSite, free_ports

TwoSites = tuple[RealSite, RealSite]
Read = Callable[[grpc.aio.AioRpcError], tuple[grpc.StatusCode, str, dict[str, str], list[str]]]
S5 = pytest.mark.row("S5", missing="VOMS")


@S5
async def test_a_person_signs_in_sees_it_and_signs_out(centre: Any, two_sites: TwoSites, reason_of: Read) -> None:
    await centre.register(two_sites[0])
    session = await centre.sign_in(two_sites[0])
    assert session.name == "users/alice/siteSessions/site-a"
    assert (session.site, session.username) == ("sites/site-a", "alice")
    assert session.subject == "/O=site-a/OU=Users/CN=alice"
    assert not session.lifetime_shortened
    assert 11.9 * 3600 < session.expire_time.ToSeconds() - time.time() < 12.1 * 3600

    mine = centre.as_user()
    listed = await centre.sessions.ListSiteSessions(pb.ListSiteSessionsRequest(parent="users/me"), **mine)
    assert list(listed.site_sessions) == [session]
    name = "users/me/siteSessions/site-a"
    assert await centre.sessions.GetSiteSession(pb.GetSiteSessionRequest(name=name), **mine) == session

    await centre.sessions.DeleteSiteSession(pb.DeleteSiteSessionRequest(name=name), **mine)
    for call in (
        centre.sessions.GetSiteSession(pb.GetSiteSessionRequest(name=name), **mine),
        centre.sessions.DeleteSiteSession(pb.DeleteSiteSessionRequest(name=name), **mine),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert reason_of(caught.value)[:2] == (grpc.StatusCode.NOT_FOUND, "SITE_SESSION_NOT_FOUND")


@S5
async def test_a_second_sign_in_takes_the_place_of_the_first(centre: Any, two_sites: TwoSites) -> None:
    await centre.register(two_sites[0])
    await centre.sign_in(two_sites[0], account="alice")
    await centre.sign_in(two_sites[0], account="bob")
    listed = await centre.sessions.ListSiteSessions(pb.ListSiteSessionsRequest(parent="users/me"), **centre.as_user())
    assert [session.username for session in listed.site_sessions] == ["bob"]


@S5
async def test_a_wrong_password_and_an_unknown_user_are_told_alike(
    centre: Any, two_sites: TwoSites, reason_of: Read
) -> None:
    site = two_sites[0]
    site.accounts["nobody-there"] = "x"
    told = set()
    await centre.register(site)
    for account, password in (("alice", "wrong"), ("nobody-there", "wrong"), ("../alice", "wrong")):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await centre.sign_in(site, account=account, password=password)
        code, reason, metadata, _ = reason_of(caught.value)
        told.add((code, reason, caught.value.details(), *metadata.items()))
    del site.accounts["nobody-there"]
    assert told == {
        (
            grpc.StatusCode.FAILED_PRECONDITION,
            "SITE_SIGN_IN_REFUSED",
            "sites/site-a refused the sign-in: unknown user or wrong password.",
            ("site", "sites/site-a"),
        )
    }


@S5
async def test_a_server_that_is_down_is_told_apart(centre: Any, two_sites: TwoSites, reason_of: Read) -> None:
    site = two_sites[0]
    await centre.register(site)
    await _change(centre, auth_address=f"localhost:{free_ports(1)[0]}")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await centre.sign_in(site)
    assert reason_of(caught.value)[:2] == (grpc.StatusCode.UNAVAILABLE, "SITE_UNREACHABLE")


@S5
async def test_a_server_of_another_authority_is_told_apart(centre: Any, two_sites: TwoSites, reason_of: Read) -> None:
    site_a, site_b = two_sites
    await centre.register(site_a)
    await _change(centre, auth_address=f"localhost:{site_b.myproxy_port}")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await centre.sign_in(site_a)
    assert reason_of(caught.value)[:2] == (grpc.StatusCode.FAILED_PRECONDITION, "SITE_NOT_TRUSTED")
    assert "password was not sent" in (caught.value.details() or "")


async def _change(centre: Any, *, auth_address: str) -> None:
    site = pb.Site(name="sites/site-a", auth_address=auth_address)
    await centre.sites.UpdateSite(pb.UpdateSiteRequest(site=site), **centre.as_user())


@S5
async def test_a_lifetime_that_the_site_cuts_short_is_shown(centre: Any, two_sites: TwoSites) -> None:
    await centre.register(two_sites[0])
    request = pb.CreateSiteSessionRequest(
        parent="users/me",
        site="sites/site-a",
        username="alice",
        password=two_sites[0].accounts["alice"],
        lifetime=Duration(seconds=30 * 86400),
    )
    session = await centre.sessions.CreateSiteSession(request, **centre.as_user())
    assert session.lifetime_shortened
    assert session.expire_time.ToSeconds() - time.time() < 4 * 86400
    request.lifetime.FromSeconds(600)
    short = await centre.sessions.CreateSiteSession(request, **centre.as_user())
    assert not short.lifetime_shortened
    assert 500 < short.expire_time.ToSeconds() - time.time() <= 601


@S5
async def test_line_breaks_in_names_and_passwords_are_refused(
    centre: Any, two_sites: TwoSites, reason_of: Read
) -> None:
    await centre.register(two_sites[0])
    for username, password, field in (
        ("alice\nLIFETIME=1", "x", "username"),
        ("alice", "x\0y", "password"),
    ):
        request = pb.CreateSiteSessionRequest(
            parent="users/me", site="sites/site-a", username=username, password=password
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await centre.sessions.CreateSiteSession(request, **centre.as_user())
        assert reason_of(caught.value)[0] is grpc.StatusCode.INVALID_ARGUMENT
        assert reason_of(caught.value)[3] == [field]


@S5
async def test_sign_ins_are_ones_own(centre: Any, two_sites: TwoSites, reason_of: Read) -> None:
    await centre.register(two_sites[0])
    await centre.sign_in(two_sites[0])
    bob = centre.as_user("users/bob")
    listed = await centre.sessions.ListSiteSessions(pb.ListSiteSessionsRequest(parent="users/me"), **bob)
    assert not listed.site_sessions
    for call in (
        centre.sessions.ListSiteSessions(pb.ListSiteSessionsRequest(parent="users/alice"), **bob),
        centre.sessions.GetSiteSession(pb.GetSiteSessionRequest(name="users/alice/siteSessions/site-a"), **bob),
        centre.sessions.GetSiteSession(pb.GetSiteSessionRequest(name="users/me/siteSessions/site-a"), **bob),
        centre.sessions.DeleteSiteSession(pb.DeleteSiteSessionRequest(name="users/alice/siteSessions/site-a"), **bob),
        centre.sessions.CreateSiteSession(
            pb.CreateSiteSessionRequest(parent="users/alice", site="sites/site-a", username="x", password="y"), **bob
        ),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert reason_of(caught.value)[0] is grpc.StatusCode.NOT_FOUND


@S5
async def test_secrets_are_in_no_log_and_not_in_the_database(
    centre: Any,
    two_sites: TwoSites,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    site = two_sites[0]
    await centre.register(site)
    await centre.sign_in(site)
    with pytest.raises(grpc.aio.AioRpcError):
        await centre.sign_in(site, password="not-the-password-but-nearly")
    lease = centre.lease(site)
    answer = await centre.fetch(lease)
    access = centre.service.as_user("users/alice")[0][1].removeprefix("Bearer ")
    key_line = answer.sites[0].proxy_pem.decode().partition("PRIVATE KEY-----\n")[2].splitlines()[3]
    secrets = [site.accounts["alice"], "not-the-password-but-nearly", lease, access, key_line]

    logged = "".join(capfd.readouterr()) + caplog.text
    assert "CreateSiteSession" in logged, "nothing was captured"
    assert "myproxy_refused" in logged, "nothing was captured"
    stored = _content(tmp_path)
    assert b"users/alice" in stored, "nothing was stored"
    for secret in secrets:
        assert secret not in logged
        assert secret.encode() not in stored


def _content(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.glob("site.db*"))


@S5
@pytest.mark.row("S6")
async def test_a_stolen_database_opens_no_credential(centre: Any, two_sites: TwoSites, tmp_path: Path) -> None:
    await centre.register(two_sites[0])
    await centre.sign_in(two_sites[0])
    with sqlite3.connect(f"file:{tmp_path}/site.db?mode=ro", uri=True) as database:
        dump = "\n".join(database.iterdump())
        sealed = Sealed(*database.execute("select key_id, wrapped_key, ciphertext from site_session").fetchone())
    database.close()
    assert "PRIVATE KEY" not in dump
    ours = Vault.from_secret((tmp_path / "key-encryption-key").read_bytes())
    opened = ours.open(sealed, user="users/alice", site="sites/site-a")
    assert b"PRIVATE KEY" in opened, "the key that is not in the database opens it"
    for line in opened.splitlines():
        assert line not in sealed.ciphertext + sealed.wrapped_key
    with pytest.raises(VaultLocked):
        Vault([b"\0" * 32]).open(sealed, user="users/alice", site="sites/site-a")
    with pytest.raises(VaultLocked, match="seal is broken"):
        ours.open(sealed, user="users/mallory", site="sites/site-a")
    assert base64.b64decode((tmp_path / "key-encryption-key").read_bytes()) not in sealed.ciphertext
