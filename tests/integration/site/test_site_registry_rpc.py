"""Registering, seeing, changing and deleting sites, over mutual TLS."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from wherry.site.v1 import site_service_pb2 as pb
from wherry.site.v1 import site_service_pb2_grpc as stubs
from wherry.type.v1 import data_channel_pb2
from wherry_fakes.site_sign_in import FakeCa
from wherry_testing.pki import TestPki
from wherry_testing.site_service import running_site_service
from wherry_testing.sites import RealSite

TwoSites = tuple[RealSite, RealSite]
Read = Callable[[grpc.aio.AioRpcError], tuple[grpc.StatusCode, str, dict[str, str], list[str]]]
S3 = pytest.mark.row("S3", missing="token, macaroon and anonymous sites, VOMS")


def site_named(title: str, *, public: bool = False, port: int = 2811) -> pb.Site:
    organisation = title.replace(" ", "")
    return pb.Site(
        title=title,
        public=public,
        auth_kind=pb.AUTH_KIND_MYPROXY,
        auth_address="localhost:7512",
        certificate_authorities=[pb.CertificateAuthority(certificate_pem=FakeCa(organisation).pem)],
        default_path="/data",
        endpoints=[pb.Endpoint(scheme="gsiftp", host="localhost", port=port)],
    )


async def create(centre: Any, site_id: str, site: pb.Site, user: str = "users/alice") -> pb.Site:
    request = pb.CreateSiteRequest(site_id=site_id, site=site)
    created: pb.Site = await centre.sites.CreateSite(request, **centre.as_user(user))
    return created


async def failure(call: Any, reason_of: Read) -> tuple[grpc.StatusCode, str, list[str]]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    code, reason, _, fields = reason_of(caught.value)
    return code, reason, fields


@pytest.mark.row("S2")
async def test_one_sees_public_sites_and_ones_own_and_others_do_not_exist(centre: Any, reason_of: Read) -> None:
    await create(centre, "a-public", site_named("A public", public=True))
    await create(centre, "b-hidden", site_named("B hidden"))
    await create(centre, "c-bobs", site_named("C bobs"), user="users/bob")
    for user, visible in (
        ("users/alice", ["a-public", "b-hidden"]),
        ("users/bob", ["a-public", "c-bobs"]),
        ("users/carol", ["a-public"]),
    ):
        listed = await centre.sites.ListSites(pb.ListSitesRequest(), **centre.as_user(user))
        assert [site.name for site in listed.sites] == [f"sites/{name}" for name in visible]
    found = await centre.sites.GetSite(pb.GetSiteRequest(name="sites/b-hidden"), **centre.as_user())
    assert found.endpoints[0].port == 2811
    for name in ("sites/b-hidden", "sites/no-such"):
        call = centre.sites.GetSite(pb.GetSiteRequest(name=name), **centre.as_user("users/bob"))
        assert await failure(call, reason_of) == (grpc.StatusCode.NOT_FOUND, "SITE_NOT_FOUND", [])


@pytest.mark.row("S2")
async def test_sites_are_listed_in_pages(centre: Any, reason_of: Read) -> None:
    for number in range(5):
        await create(centre, f"s{number}", site_named(f"Site {number}"))
    names, token = [], ""
    while True:
        request = pb.ListSitesRequest(page_size=2, page_token=token)
        page = await centre.sites.ListSites(request, **centre.as_user())
        assert len(page.sites) <= 2
        names += [site.name for site in page.sites]
        token = page.next_page_token
        if not token:
            break
    assert names == [f"sites/s{number}" for number in range(5)]
    bad = centre.sites.ListSites(pb.ListSitesRequest(page_token="!!"), **centre.as_user())
    assert await failure(bad, reason_of) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS", ["page_token"])


@S3
async def test_a_real_site_is_registered_as_the_kit_describes_it(centre: Any, two_sites: TwoSites) -> None:
    site = await centre.register(two_sites[0])
    assert site.name == "sites/site-a"
    assert site.owner == "users/alice"
    assert site.certificate_authorities[1].namespaces == ["/O=site-a/OU=Users/*"]
    assert site.endpoints[0].name.startswith("sites/site-a/endpoints/")
    assert site.endpoints[0].root_path == "/"
    assert site.etag
    assert site == await centre.sites.GetSite(pb.GetSiteRequest(name=site.name), **centre.as_user("users/bob"))


@S3
async def test_all_unfit_fields_of_a_site_are_named_at_once(centre: Any, reason_of: Read) -> None:
    site = pb.Site(
        title=" \u200b ",
        auth_kind=pb.AUTH_KIND_UNSPECIFIED,
        auth_address="no port",
        certificate_authorities=[
            pb.CertificateAuthority(certificate_pem="nonsense"),
            pb.CertificateAuthority(certificate_pem=FakeCa("X").pem, namespaces=["/O=X/*", "*", "/O=X'\"/*", "O=X"]),
        ],
        default_path="relative",
    )
    code, reason, fields = await failure(create(centre, "x", site), reason_of)
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS")
    assert sorted(fields) == sorted(
        [
            "site.title",
            "site.auth_kind",
            "site.auth_address",
            "site.default_path",
            "site.certificate_authorities[0].certificate_pem",
            "site.certificate_authorities[1].namespaces[1]",
            "site.certificate_authorities[1].namespaces[2]",
            "site.certificate_authorities[1].namespaces[3]",
        ]
    )


@S3
async def test_all_unfit_fields_of_doors_are_named_at_once(centre: Any, reason_of: Read) -> None:
    site = site_named("Doors")
    del site.endpoints[:]
    site.endpoints.add(scheme="ftp", host="bad host", port=0, root_path="/a/../b")
    site.endpoints.add(scheme="gsiftp", host="localhost", port=1)
    site.endpoints.add(scheme="gsiftp", host="LOCALHOST", port=1)
    code, reason, fields = await failure(create(centre, "x", site), reason_of)
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS")
    first = [f"site.endpoints[0].{name}" for name in ("scheme", "host", "port", "root_path")]
    assert fields == [*first, "site.endpoints[2]"]


@S3
async def test_duplicates_are_refused_with_the_field_named(centre: Any, reason_of: Read) -> None:
    await create(centre, "first", site_named("First Site", public=True))
    exists = grpc.StatusCode.ALREADY_EXISTS
    again = create(centre, "first", site_named("Another"), user="users/bob")
    assert await failure(again, reason_of) == (exists, "SITE_EXISTS", ["site_id"])
    alike = create(centre, "second", site_named("FIRST  site!"), user="users/bob")
    assert await failure(alike, reason_of) == (exists, "SITE_TITLE_TAKEN", ["site.title"])
    door = pb.CreateEndpointRequest(
        parent="sites/first", endpoint=pb.Endpoint(scheme="gsiftp", host="Localhost", port=2811)
    )
    call = centre.sites.CreateEndpoint(door, **centre.as_user())
    assert await failure(call, reason_of) == (exists, "ENDPOINT_EXISTS", ["endpoint"])


@S3
async def test_a_ca_whose_subject_is_known_under_another_key_is_refused(centre: Any, reason_of: Read) -> None:
    first, second = site_named("One"), site_named("Two")
    await create(centre, "one", first)
    impostor = FakeCa("One", key=FakeCa("Two").key)
    assert impostor.name == FakeCa("One").name
    second.certificate_authorities[0].certificate_pem = impostor.pem
    code, _, fields = await failure(create(centre, "two", second, user="users/bob"), reason_of)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert fields == ["site.certificate_authorities[0].certificate_pem"]


@S3
async def test_private_and_loopback_addresses_are_refused_unless_the_operator_allows_them(
    pki: TestPki, database_url: str, tmp_path: Path, reason_of: Read
) -> None:
    async with (
        running_site_service(pki, database_url, tmp_path, allow=["192.0.2.0/24"]) as service,
        service.channel("client") as channel,
    ):
        stub = stubs.SiteServiceStub(channel)
        for host in ("localhost", "127.0.0.1", "10.1.2.3", "169.254.169.254", "2130706433", "0x7f.1"):
            site = site_named("Inside")
            site.auth_address = f"{host}:7512"
            call = stub.CreateSite(
                pb.CreateSiteRequest(site_id="inside", site=site), metadata=service.as_user("users/alice")
            )
            denied = (grpc.StatusCode.PERMISSION_DENIED, "ADDRESS_NOT_ALLOWED", ["site.auth_address"])
            assert await failure(call, reason_of) == denied, host
        site = site_named("Inside")
        site.auth_address = "192.0.2.1:7512"
        site.endpoints[0].host = "[::ffff:127.0.0.1]"
        call = stub.CreateSite(
            pb.CreateSiteRequest(site_id="inside", site=site), metadata=service.as_user("users/alice")
        )
        assert (await failure(call, reason_of))[2] == ["site.endpoints[0].host"]
        site.endpoints[0].host = "::ffff:127.0.0.1"
        call = stub.CreateSite(
            pb.CreateSiteRequest(site_id="inside", site=site), metadata=service.as_user("users/alice")
        )
        denied = (grpc.StatusCode.PERMISSION_DENIED, "ADDRESS_NOT_ALLOWED", ["site.endpoints[0].host"])
        assert await failure(call, reason_of) == denied
        site.endpoints[0].host = "192.0.2.2"
        request = pb.CreateSiteRequest(site_id="inside", site=site)
        assert (await stub.CreateSite(request, metadata=service.as_user("users/alice"))).name == "sites/inside"


@S3
async def test_an_owner_changes_what_the_mask_names_and_nothing_else(centre: Any, reason_of: Read) -> None:
    before = await create(centre, "mine", site_named("Mine"))
    change = pb.Site(name="sites/mine", title="Renamed", description="ignored", etag=before.etag)
    request = pb.UpdateSiteRequest(site=change, update_mask=FieldMask(paths=["title"]))
    after = await centre.sites.UpdateSite(request, **centre.as_user())
    expected = copy.deepcopy(before)
    expected.title, expected.etag = "Renamed", after.etag
    expected.update_time.CopyFrom(after.update_time)
    assert after == expected
    assert after.etag != before.etag
    stale = centre.sites.UpdateSite(request, **centre.as_user())
    assert await failure(stale, reason_of) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH", [])


@S3
async def test_what_a_site_demands_of_its_data_channels_is_said_changed_and_taken_back(centre: Any) -> None:
    site = site_named("Mine")
    site.data_channel = data_channel_pb2.DATA_CHANNEL_AUTHENTICATED
    assert (await create(centre, "mine", site)).data_channel == data_channel_pb2.DATA_CHANNEL_AUTHENTICATED
    others = await create(centre, "other", site_named("Other"))
    assert others.data_channel == data_channel_pb2.DATA_CHANNEL_UNSPECIFIED

    async def after(change: pb.Site, *mask: str) -> data_channel_pb2.DataChannel.ValueType:
        change.name = "sites/mine"
        request = pb.UpdateSiteRequest(site=change, update_mask=FieldMask(paths=mask))
        answered = await centre.sites.UpdateSite(request, **centre.as_user())
        assert answered == await centre.sites.GetSite(pb.GetSiteRequest(name="sites/mine"), **centre.as_user())
        changed: data_channel_pb2.DataChannel.ValueType = answered.data_channel
        return changed

    encrypted = data_channel_pb2.DATA_CHANNEL_ENCRYPTED
    assert await after(pb.Site(data_channel=encrypted), "data_channel") == encrypted
    assert await after(pb.Site(title="Renamed")) == encrypted, "what was not given stays"
    assert await after(pb.Site(data_channel=data_channel_pb2.DATA_CHANNEL_CLEAR)) == data_channel_pb2.DATA_CHANNEL_CLEAR
    assert await after(pb.Site(), "data_channel") == data_channel_pb2.DATA_CHANNEL_UNSPECIFIED


@S3
@pytest.mark.parametrize(
    ("change", "mask", "field"),
    [
        (pb.Site(title="x"), ["owner"], "update_mask"),
        (pb.Site(auth_address="nowhere"), ["auth_address"], "site.auth_address"),
        (pb.Site(auth_address="nowhere.invalid:7512"), ["auth_address"], "site.auth_address"),
        (pb.Site(), ["title"], "site.title"),
        (pb.Site(), ["certificate_authorities"], "site.certificate_authorities"),
        (pb.Site(default_path="x"), [], "site.default_path"),
        (pb.Site.FromString(b"\x70\x09"), ["data_channel"], "site.data_channel"),  # a value that there is not
    ],
)
async def test_an_unfit_change_is_refused_with_the_field_named(
    centre: Any, reason_of: Read, change: pb.Site, mask: list[str], field: str
) -> None:
    before = await create(centre, "mine", site_named("Mine"))
    change = copy.deepcopy(change)
    change.name = "sites/mine"
    request = pb.UpdateSiteRequest(site=change, update_mask=FieldMask(paths=mask))
    call = centre.sites.UpdateSite(request, **centre.as_user())
    assert await failure(call, reason_of) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS", [field])
    assert before == await centre.sites.GetSite(pb.GetSiteRequest(name="sites/mine"), **centre.as_user())


@S3
async def test_doors_are_added_changed_and_removed(centre: Any, reason_of: Read) -> None:
    await create(centre, "mine", site_named("Mine"))
    added = await centre.sites.CreateEndpoint(
        pb.CreateEndpointRequest(
            parent="sites/mine", endpoint=pb.Endpoint(scheme="gsiftp", host="localhost", port=2812, root_path="/x")
        ),
        **centre.as_user(),
    )
    changed = await centre.sites.UpdateEndpoint(
        pb.UpdateEndpointRequest(endpoint=pb.Endpoint(name=added.name, port=2813)), **centre.as_user()
    )
    assert (changed.port, changed.root_path) == (2813, "/x")
    clash = centre.sites.UpdateEndpoint(
        pb.UpdateEndpointRequest(endpoint=pb.Endpoint(name=added.name, port=2811)), **centre.as_user()
    )
    assert (await failure(clash, reason_of))[0] is grpc.StatusCode.ALREADY_EXISTS
    site = await centre.sites.GetSite(pb.GetSiteRequest(name="sites/mine"), **centre.as_user())
    assert [door.port for door in site.endpoints] == [2811, 2813]
    await centre.sites.DeleteEndpoint(pb.DeleteEndpointRequest(name=added.name), **centre.as_user())
    site = await centre.sites.GetSite(pb.GetSiteRequest(name="sites/mine"), **centre.as_user())
    assert [door.port for door in site.endpoints] == [2811]
    gone = centre.sites.DeleteEndpoint(pb.DeleteEndpointRequest(name=added.name), **centre.as_user())
    assert (await failure(gone, reason_of))[:2] == (grpc.StatusCode.NOT_FOUND, "ENDPOINT_NOT_FOUND")


@S3
@pytest.mark.row("S4")
async def test_what_is_somebody_elses_cannot_be_changed_and_is_not_found(centre: Any, reason_of: Read) -> None:
    site = await create(centre, "mine", site_named("Mine", public=True))
    bob = centre.as_user("users/bob")
    door = site.endpoints[0]
    for call in (
        centre.sites.UpdateSite(pb.UpdateSiteRequest(site=pb.Site(name="sites/mine", title="His")), **bob),
        centre.sites.DeleteSite(pb.DeleteSiteRequest(name="sites/mine"), **bob),
        centre.sites.CreateEndpoint(pb.CreateEndpointRequest(parent="sites/mine", endpoint=door), **bob),
        centre.sites.UpdateEndpoint(pb.UpdateEndpointRequest(endpoint=door), **bob),
        centre.sites.DeleteEndpoint(pb.DeleteEndpointRequest(name=door.name), **bob),
    ):
        assert await failure(call, reason_of) == (grpc.StatusCode.NOT_FOUND, "SITE_NOT_FOUND", [])
    assert site == await centre.sites.GetSite(pb.GetSiteRequest(name="sites/mine"), **centre.as_user())


@pytest.mark.row("S4")
async def test_deleting_a_site_takes_its_doors_and_everybodys_sessions_along(
    centre: Any, two_sites: TwoSites, reason_of: Read
) -> None:
    real = two_sites[0]
    site = await centre.register(real)
    await centre.sign_in(real)
    await centre.sign_in(real, user="users/bob", account="bob")
    wrong = centre.sites.DeleteSite(pb.DeleteSiteRequest(name=site.name, etag="other"), **centre.as_user())
    assert (await failure(wrong, reason_of))[1] == "ETAG_MISMATCH"
    await centre.sites.DeleteSite(pb.DeleteSiteRequest(name=site.name, etag=site.etag), **centre.as_user())
    for user in ("users/alice", "users/bob"):
        get = centre.sites.GetSite(pb.GetSiteRequest(name=site.name), **centre.as_user(user))
        assert (await failure(get, reason_of))[1] == "SITE_NOT_FOUND"
        sessions = await centre.sessions.ListSiteSessions(
            pb.ListSiteSessionsRequest(parent="users/me"), **centre.as_user(user)
        )
        assert not sessions.site_sessions
    # One of the same id is another site: nobody is signed in there.
    await centre.register(real)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await centre.fetch(centre.lease(real))
    assert reason_of(caught.value)[1] == "SITE_SESSION_EXPIRED"


@pytest.mark.row("S2")
async def test_the_queue_learns_what_a_user_sees_and_until_when_they_are_signed_in(
    centre: Any, two_sites: TwoSites, reason_of: Read
) -> None:
    await centre.register(two_sites[0])
    await centre.register(two_sites[1], owner="users/bob", public=False)
    session = await centre.sign_in(two_sites[0])
    request = pb.ResolveSitesRequest(user="users/alice", sites=["sites/site-b", "sites/site-a", "sites/none"])
    async with centre.service.channel("queue") as channel:
        stub = stubs.SiteDirectoryServiceStub(channel)
        resolved = await stub.ResolveSites(request)
        assert [site.site for site in resolved.sites] == ["sites/site-a"]
        assert resolved.sites[0].title == "Site site-a"
        assert resolved.sites[0].schemes == ["gsiftp"]
        assert resolved.sites[0].default_path == "/data/alice"
        assert resolved.sites[0].session_expire_time == session.expire_time
        request.user = "users/bob"
        resolved = await stub.ResolveSites(request)
        assert [site.site for site in resolved.sites] == ["sites/site-b", "sites/site-a"]
        assert not any(site.HasField("session_expire_time") for site in resolved.sites)
        assert resolved.sites[0].default_path == "/data"
    for role in ("worker", "client", "operator"):
        async with centre.service.channel(role) as channel:
            call = stubs.SiteDirectoryServiceStub(channel).ResolveSites(request)
            assert (await failure(call, reason_of))[:2] == (grpc.StatusCode.PERMISSION_DENIED, "ACCESS_DENIED")


@pytest.mark.row("A1", missing="all roles at all RPCs")
async def test_without_a_valid_token_nobody_is_a_user(centre: Any, reason_of: Read) -> None:
    call = centre.sites.ListSites(pb.ListSitesRequest())
    assert (await failure(call, reason_of))[:2] == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING")
    call = centre.sites.ListSites(pb.ListSitesRequest(), metadata=[("authorization", "Bearer x.y.z")])
    assert (await failure(call, reason_of))[:2] == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_INVALID")


@pytest.mark.row("U3", missing="session length, idle time-out")
async def test_a_session_that_is_revoked_is_refused_within_seconds(centre: Any, reason_of: Read) -> None:
    mine = {"metadata": centre.service.as_user("users/alice", "doomed"), "timeout": 5}
    await centre.sites.ListSites(pb.ListSitesRequest(), **mine)
    centre.service.users.revoke("doomed")

    async def list_until_refused() -> None:
        while True:
            await centre.sites.ListSites(pb.ListSitesRequest(), **mine)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(list_until_refused(), 5)
    assert reason_of(caught.value)[:2] == (grpc.StatusCode.UNAUTHENTICATED, "SESSION_ENDED")
    await centre.sites.ListSites(pb.ListSitesRequest(), **centre.as_user())
