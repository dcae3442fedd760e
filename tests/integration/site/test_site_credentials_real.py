"""Credentials for workers: from a real sign-in to a real listing, and never without a live lease."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest
from wherry.site.v1 import site_service_pb2 as pb
from wherry.site.v1 import site_service_pb2_grpc as stubs
from wherry.type.v1 import data_channel_pb2
from wherry_fakes.token_issuers import Signer
from wherry_testing.sites import RealSite

TwoSites = tuple[RealSite, RealSite]
Read = Callable[[grpc.aio.AioRpcError], tuple[grpc.StatusCode, str, dict[str, str], list[str]]]

_GFAL2_LISTING = """
import json, os, sys
import gfal2
url, credential = sys.argv[1:]
context = gfal2.creat_context()
for kind in ("X509_CERT", "X509_KEY"):
    context.cred_set(url[: url.index("/", 9) + 1], context.cred_new(kind, credential))
print(json.dumps(context.listdir(url)), flush=True)
os._exit(0)  # gfal2's plugins may crash while the interpreter takes itself apart
"""


@pytest.fixture
async def signed_in(centre: Any, two_sites: TwoSites) -> Any:
    """The centre with both sites registered, and Alice signed in at them."""
    for site in two_sites:
        await centre.register(site)
        await centre.sign_in(site)
    return centre


async def refusal(centre: Any, reason_of: Read, token: str) -> tuple[grpc.StatusCode, str, dict[str, str]]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await centre.fetch(token)
    return reason_of(caught.value)[:3]


INVALID: tuple[grpc.StatusCode, str, dict[str, str]] = (grpc.StatusCode.PERMISSION_DENIED, "LEASE_TOKEN_INVALID", {})


def write_private(file: Path, content: bytes) -> Path:
    file.touch(mode=0o600)
    file.write_bytes(content)
    return file


def listing_environment(site: RealSite) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "X509_CERT_DIR": str(site.trust_dir)}


@pytest.mark.row("S6")
async def test_globus_lists_a_directory_with_what_a_worker_with_a_live_lease_gets(
    signed_in: Any, two_sites: TwoSites, tmp_path: Path
) -> None:
    site, _ = two_sites
    (site.data_dir("alice") / "found-by-globus").write_text("hello")
    site.own("alice")
    answer = await signed_in.fetch(signed_in.lease(site))
    proxy = write_private(tmp_path / "proxy.pem", answer.sites[0].proxy_pem)
    done = await asyncio.to_thread(
        subprocess.run,
        ["globus-url-copy", "-list", site.url("alice") + "/"],
        env=listing_environment(site) | {"X509_USER_PROXY": str(proxy)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "found-by-globus" in done.stdout


@pytest.mark.row("S6")
async def test_gfal2_lists_a_directory_with_what_a_worker_with_a_live_lease_gets(
    signed_in: Any, two_sites: TwoSites, tmp_path: Path
) -> None:
    _, site = two_sites
    (site.data_dir("alice") / "found-by-gfal2").write_text("hello")
    site.own("alice")
    answer = await signed_in.fetch(signed_in.lease(site))
    proxy = write_private(tmp_path / "proxy.pem", answer.sites[0].proxy_pem)
    done = await asyncio.to_thread(
        subprocess.run,
        ["/usr/bin/python3", "-c", _GFAL2_LISTING, site.url("alice") + "/", str(proxy)],
        env=listing_environment(site),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "found-by-gfal2" in json.loads(done.stdout)


@pytest.mark.row("S6")
async def test_a_worker_gets_doors_authorities_and_ends_for_each_site_source_first(
    signed_in: Any, two_sites: TwoSites
) -> None:
    site_a, site_b = two_sites
    answer = await signed_in.fetch(signed_in.lease(site_b, site_a))
    assert [one.site for one in answer.sites] == ["sites/site-b", "sites/site-a"]
    for one, site in zip(answer.sites, (site_b, site_a), strict=True):
        assert [(door.scheme, door.host, door.port) for door in one.endpoints] == [
            ("gsiftp", "localhost", site.gridftp_port)
        ]
        assert [ca.certificate_pem.strip() for ca in one.certificate_authorities] == [
            site.host_ca_pem.strip(),
            site.user_ca_pem.strip(),
        ]
        left_s = one.expire_time.ToSeconds() - time.time()
        assert 3500 < left_s <= 3601, "a proxy lives an hour at most"
        assert one.session_expire_time.ToSeconds() - time.time() > 11 * 3600


@pytest.mark.row("J1")
async def test_a_worker_learns_what_each_site_demands_of_its_data_channels_as_soon_as_it_is_said(
    signed_in: Any, two_sites: TwoSites
) -> None:
    token = signed_in.lease(*two_sites)
    before = await signed_in.fetch(token)
    assert [one.data_channel for one in before.sites] == [data_channel_pb2.DATA_CHANNEL_UNSPECIFIED] * 2
    demanding = pb.Site(name=f"sites/{two_sites[1].name}", data_channel=data_channel_pb2.DATA_CHANNEL_ENCRYPTED)
    await signed_in.sites.UpdateSite(pb.UpdateSiteRequest(site=demanding), **signed_in.as_user())
    after = await signed_in.fetch(token, *(one.credential_id for one in before.sites))
    assert [one.data_channel for one in after.sites] == [
        data_channel_pb2.DATA_CHANNEL_UNSPECIFIED,
        data_channel_pb2.DATA_CHANNEL_ENCRYPTED,
    ]
    held = [one.credential_id for one in before.sites]
    assert [one.credential_id for one in after.sites] == held, "nobody has to sign in again for it"


@pytest.mark.row("S6")
async def test_a_worker_without_a_lease_gets_no_credential(signed_in: Any, reason_of: Read) -> None:
    assert await refusal(signed_in, reason_of, "no token at all") == INVALID
    assert (await refusal(signed_in, reason_of, ""))[0] is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.row("S6")
async def test_a_lease_opens_nothing_after_its_deadline(signed_in: Any, two_sites: TwoSites, reason_of: Read) -> None:
    assert await refusal(signed_in, reason_of, signed_in.lease(two_sites[0], ttl_s=-6)) == INVALID


@pytest.mark.row("S6")
async def test_another_workers_lease_opens_nothing(signed_in: Any, two_sites: TwoSites, reason_of: Read) -> None:
    stolen = signed_in.lease(two_sites[0], worker="queue")
    assert await refusal(signed_in, reason_of, stolen) == INVALID
    async with signed_in.service.channel("worker") as rightful:
        request = pb.FetchCredentialsRequest(lease_token=signed_in.lease(two_sites[0]))
        assert (await stubs.CredentialServiceStub(rightful).FetchCredentials(request)).sites


@pytest.mark.row("S6")
async def test_a_forged_lease_opens_nothing(signed_in: Any, two_sites: TwoSites, reason_of: Read) -> None:
    good = signed_in.service.queue.claims(
        thumbprint=signed_in.service.thumbprint("worker"), user="users/alice", sites=["sites/site-a"]
    )
    forger = Signer("forgers-key")
    real = signed_in.service.queue.signers[0]
    forgeries = {
        "signed by another key under the queue's key id": forger.sign(good, kid=real.kid),
        "signed by a key that the queue does not know": forger.sign(good),
        "not signed": jwt.encode(good, "", algorithm="none", headers={"kid": real.kid}),
        "for another audience": real.sign(good | {"aud": "wherry"}),
        "by another issuer": real.sign(good | {"iss": "wherry"}),
        "signed with the public key as a secret": jwt.encode(
            good, real.public, algorithm="HS256", headers={"kid": real.kid}
        ),
        "with the user changed after signing": _with_payload(real.sign(good), good | {"user": "users/bob"}),
        "a user's access token": signed_in.service.users.token("users/alice"),
    }
    for what, token in forgeries.items():
        assert await refusal(signed_in, reason_of, token) == INVALID, what


def _with_payload(token: str, payload: dict[str, Any]) -> str:
    header, _, signature = token.split(".")
    return ".".join([header, jwt.utils.base64url_encode(json.dumps(payload).encode()).decode(), signature])


@pytest.mark.row("S6")
async def test_a_lease_opens_nothing_once_a_newer_one_of_its_task_was_seen(
    signed_in: Any, two_sites: TwoSites, reason_of: Read
) -> None:
    site = two_sites[0]
    older, newer = signed_in.lease(site, fence=7), signed_in.lease(site, fence=8)
    assert (await signed_in.fetch(older)).sites
    assert (await signed_in.fetch(newer)).sites
    assert await refusal(signed_in, reason_of, older) == (
        grpc.StatusCode.PERMISSION_DENIED,
        "LEASE_SUPERSEDED",
        {"task": "jobs/j1/tasks/1"},
    )
    assert (await signed_in.fetch(signed_in.lease(site, fence=1, task="jobs/j1/tasks/2"))).sites, "another task's"


@pytest.mark.row("S6")
@pytest.mark.parametrize("role", ["client", "queue", "operator", "gateway", "user", "stranger"])
async def test_only_workers_fetch_credentials(signed_in: Any, two_sites: TwoSites, reason_of: Read, role: str) -> None:
    request = pb.FetchCredentialsRequest(lease_token=signed_in.lease(two_sites[0], worker=role))
    async with signed_in.service.channel(role) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stubs.CredentialServiceStub(channel).FetchCredentials(
                request, metadata=signed_in.service.as_user("users/alice")
            )
    assert reason_of(caught.value)[:2] == (grpc.StatusCode.PERMISSION_DENIED, "ACCESS_DENIED")


@pytest.mark.row("S6")
async def test_the_same_question_is_answered_alike_and_what_the_worker_has_is_not_sent_again(
    signed_in: Any, two_sites: TwoSites
) -> None:
    token = signed_in.lease(*two_sites)
    first, again = await signed_in.fetch(token), await signed_in.fetch(token)
    assert first == again
    ids = [one.credential_id for one in first.sites]
    warm = await signed_in.fetch(signed_in.lease(*two_sites, fence=2, task="jobs/j2/tasks/5"), *ids)
    assert [one.credential_id for one in warm.sites] == ids
    assert [one.proxy_pem for one in warm.sites] == [b"", b""]
    assert [one.expire_time for one in warm.sites] == [one.expire_time for one in first.sites]


@pytest.mark.row("S6")
async def test_two_workers_get_different_keys(signed_in: Any, two_sites: TwoSites) -> None:
    first = await signed_in.fetch(signed_in.lease(two_sites[0]))
    # A second certificate of the same subject: a role belongs to the subject, a lease to the certificate.
    signed_in.service.pki.issue("worker")
    async with signed_in.service.channel("worker") as channel:
        request = pb.FetchCredentialsRequest(lease_token=signed_in.lease(two_sites[0]))
        second = await stubs.CredentialServiceStub(channel).FetchCredentials(request)
    assert first.sites[0].credential_id != second.sites[0].credential_id
    assert first.sites[0].proxy_pem != second.sites[0].proxy_pem


@pytest.mark.row("S6")
async def test_after_signing_out_a_lease_opens_nothing_at_that_site(
    signed_in: Any, two_sites: TwoSites, reason_of: Read
) -> None:
    token = signed_in.lease(*two_sites)
    await signed_in.fetch(token)
    await signed_in.sessions.DeleteSiteSession(
        pb.DeleteSiteSessionRequest(name="users/me/siteSessions/site-b"), **signed_in.as_user()
    )
    assert await refusal(signed_in, reason_of, token) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "SITE_SESSION_EXPIRED",
        {"site": "sites/site-b"},
    )
    await signed_in.sign_in(two_sites[1])
    assert (await signed_in.fetch(token)).sites, "signed in again, the same lease goes on"


@pytest.mark.row("S6")
async def test_a_lease_opens_no_other_users_session(signed_in: Any, two_sites: TwoSites, reason_of: Read) -> None:
    code, reason, _ = await refusal(signed_in, reason_of, signed_in.lease(two_sites[0], user="users/bob"))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "SITE_SESSION_EXPIRED")


@pytest.mark.row("S6")
async def test_each_issue_of_a_credential_is_in_the_audit_trail(
    signed_in: Any, two_sites: TwoSites, tmp_path: Path
) -> None:
    answer = await signed_in.fetch(signed_in.lease(two_sites[0], fence=3, task="jobs/j9/tasks/4"))
    credential_id = answer.sites[0].credential_id
    await signed_in.fetch(signed_in.lease(two_sites[0], fence=4, task="jobs/j9/tasks/4"), credential_id)
    with sqlite3.connect(f"file:{tmp_path}/site.db?mode=ro", uri=True) as database:
        rows = database.execute(
            "select action, user, site, task, fence, worker, worker_thumbprint, credential_id from audit_event "
            "where action like 'credential.%' order by seq"
        ).fetchall()
    database.close()
    who = ("/O=Wherry test/CN=worker", signed_in.service.thumbprint("worker"), credential_id)
    assert rows == [
        ("credential.issued", "users/alice", "sites/site-a", "jobs/j9/tasks/4", 3, *who),
        ("credential.confirmed", "users/alice", "sites/site-a", "jobs/j9/tasks/4", 4, *who),
    ]


@pytest.mark.row("S6")
async def test_a_new_replica_of_the_queue_signs_leases_that_count_at_once(signed_in: Any, two_sites: TwoSites) -> None:
    await signed_in.fetch(signed_in.lease(two_sites[0]))
    signed_in.service.queue.signers.append(Signer("lease-key-2"))
    assert (await signed_in.fetch(signed_in.lease(two_sites[0], fence=2))).sites


@pytest.mark.row("S6")
async def test_keys_are_asked_for_once_and_serve_while_the_queue_is_away(signed_in: Any, two_sites: TwoSites) -> None:
    for fence in range(1, 6):
        await signed_in.fetch(signed_in.lease(two_sites[0], fence=fence))
    assert signed_in.service.queue.asked == 1
