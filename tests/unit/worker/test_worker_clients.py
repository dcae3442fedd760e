"""The worker's clients against scripted services over real mTLS: what travels, and what each refusal becomes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from wherry.queue.v1 import job_service_pb2 as job_pb
from wherry.queue.v1 import lease_service_pb2 as pb
from wherry.queue.v1 import lease_service_pb2_grpc
from wherry.site.v1 import site_service_pb2 as site_pb
from wherry.site.v1 import site_service_pb2_grpc
from wherry.type.v1 import data_channel_pb2, entry_pb2
from wherry_chassis.tls import ServiceChannels, server_credentials
from wherry_fakes.scripted_leases import ScriptedServices
from wherry_testing.pki import TestPki
from wherry_worker import packing, reading
from wherry_worker.access import SiteAccess
from wherry_worker.engine.messages import Entry, Problem, Protection
from wherry_worker.engine.paths import to_text
from wherry_worker.filtering import Filters
from wherry_worker.ports import (
    CredentialRefused,
    LeaseLost,
    QueueUnavailable,
    SettlementRefused,
    SiteSessionExpired,
    SiteUnavailable,
)
from wherry_worker.queue_client import QueueClient
from wherry_worker.site_client import SiteClient
from wherry_worker.work import (
    ChangeModeOfDirectory,
    ChangeModes,
    ChunkItem,
    CleanUp,
    CopyChunk,
    CopyRules,
    DestinationFile,
    EndedSession,
    Found,
    ItemFailure,
    ItemResult,
    LeaseRef,
    ListOne,
    MakeOneDirectory,
    Outcome,
    RemoveChunk,
    RemoveOneDirectory,
    RenameOne,
    Settlement,
    SumChunk,
    TaskProgress,
    WalkCopy,
    WalkRemove,
    WalkTree,
    Work,
    WorkClass,
)

REF = LeaseRef("jobs/j-1/tasks/7", 3)
Refusal = Callable[[], Awaitable[None]]


@asynccontextmanager
async def served(pki: TestPki) -> AsyncIterator[tuple[ScriptedServices, str]]:
    services = ScriptedServices()
    server = grpc.aio.server()
    lease_service_pb2_grpc.add_LeaseServiceServicer_to_server(services, server)
    site_service_pb2_grpc.add_CredentialServiceServicer_to_server(services, server)
    port = server.add_secure_port("localhost:0", server_credentials(pki.material("queue")))
    await server.start()
    yield services, f"localhost:{port}"
    await server.stop(None)


@pytest.fixture
async def services(pki: TestPki) -> AsyncIterator[tuple[ScriptedServices, QueueClient, SiteClient]]:
    async with served(pki) as (services, address):
        channels = ServiceChannels([address], pki.material("worker"))
        yield services, QueueClient(channels, "worker-1", "1.0"), SiteClient(channels)
        await channels.close()


Wired = tuple[ScriptedServices, QueueClient, SiteClient]


def lease_message(**work: Any) -> pb.Lease:
    message = pb.Lease(
        lease=pb.LeaseRef(task=REF.task, fence=REF.fence),
        lease_token="token",
        work_class=pb.WORK_CLASS_INTERACTIVE,
        user="users/1",
        source_site="sites/a",
        attempt=2,
        **work,
    )
    message.time_left.FromSeconds(20)
    return message


async def test_a_stream_carries_leases_renewals_cancels_and_a_drain(services: Wired) -> None:
    scripted, queue, _ = services
    opened = pb.StreamOpened(lost=[pb.LeaseRef(task=REF.task, fence=1)])
    opened.heartbeat_interval.FromSeconds(10)
    opened.lease_ttl.FromSeconds(30)
    rest = pb.StreamLeasesResponse(leases=[lease_message(list=pb.ListWork(path=b"/p\xff"))])
    rest.renewed.add(lease=pb.LeaseRef(task=REF.task, fence=3), lease_token="new").time_left.FromSeconds(8)
    rest.cancelled.add(lease=pb.LeaseRef(task=REF.task, fence=2), reason="JOB_CANCELLED")
    rest.drain_grace.FromSeconds(60)
    rest.ended_sessions.add(user="users/1", site="sites/b")
    scripted.down = [pb.StreamLeasesResponse(opened=opened), rest]
    before = time.monotonic()
    async with queue.stream([REF]) as stream:
        events = aiter(stream.events())
        first, second = await anext(events), await anext(events)
        await stream.capacity(2, 3)
        await stream.progress([TaskProgress(REF, 1000.5, 10, 1)])
        await stream.drain()
        (lease,) = second.leases
        assert first.opened is not None
        assert (first.opened.heartbeat_s, first.opened.ttl_s) == (10, 30)
        assert list(first.opened.lost) == [LeaseRef(REF.task, 1)]
        assert (lease.ref, lease.work, lease.work_class) == (REF, ListOne("/p\udcff"), WorkClass.INTERACTIVE)
        assert (lease.destination_site, lease.token, lease.attempt) == ("sites/a", "token", 2)
        assert before + 16 < lease.deadline < time.monotonic() + 20  # some time is kept back
        assert second.renewed[0].token == "new"
        assert before + 4 < second.renewed[0].deadline < time.monotonic() + 7
        assert list(second.cancelled) == [(LeaseRef(REF.task, 2), "JOB_CANCELLED")]
        assert second.drain_grace_s == 60
        assert list(second.ended_sessions) == [EndedSession("users/1", "sites/b")]
    assert scripted.said[0].open.worker == "worker-1"
    assert [held.fence for held in scripted.said[0].open.held] == [3]
    assert scripted.said[0].open.version == "1.0"


async def test_work_that_this_release_cannot_read_is_given_back(services: Wired) -> None:
    scripted, queue, _ = services
    garbage = pb.CopyFilesWork(chunk=pb.EntryChunk(payload=b"no chunk"))
    leases = [lease_message(), lease_message(copy_files=garbage), lease_message(list=pb.ListWork(path=b"/"))]
    scripted.down = [pb.StreamLeasesResponse(leases=leases)]
    async with queue.stream([]) as stream:
        event = await anext(aiter(stream.events()))
    assert [lease.work for lease in event.leases] == [ListOne("/")]
    assert [item.outcome for item in scripted.settled[0].settlements] == [pb.OUTCOME_RETURNED] * 2


async def test_a_stream_that_breaks_says_so(services: Wired) -> None:
    scripted, queue, _ = services
    scripted.refusals = [(grpc.StatusCode.UNAVAILABLE, "MAX_AGE", {})]
    async with queue.stream([]) as stream:
        with pytest.raises(QueueUnavailable):
            await anext(aiter(stream.events()))


@pytest.mark.row("W1")
async def test_a_stream_and_settlements_that_fail_together_go_on_to_the_replica_that_is_there(pki: TestPki) -> None:
    async def streams(queue: QueueClient) -> None:
        async with queue.stream([]) as stream:
            await anext(aiter(stream.events()))

    async with served(pki) as (scripted, address):
        scripted.down = [pb.StreamLeasesResponse()]
        channels = ServiceChannels(["localhost:1", address], pki.material("worker"))
        queue = QueueClient(channels, "worker-1", "1.0")
        word = Settlement(REF, Outcome.COMPLETED)
        failures = await asyncio.gather(
            streams(queue), queue.settle([word]), queue.settle([word]), queue.settle([word]), return_exceptions=True
        )
        assert [type(failure) for failure in failures] == [QueueUnavailable] * 4
        assert await queue.settle([word]) == {REF}
        await streams(queue)
        await channels.close()


async def test_settlements_travel_with_all_they_say(services: Wired) -> None:
    scripted, queue, _ = services
    problem = Problem("REASON", "words", "destination_site", retryable=True, help="do")
    settlement = Settlement(
        REF,
        Outcome.RETURNED,
        problem,
        done=b"\x05",
        files_done=2,
        bytes_done=14,
        failures=(ItemFailure(1, "/d/odd\udcff", problem, 7),),
        results=(ItemResult(0, 7, "0bcb02fc", 1.5, adopted=True),),
        retry_after_s=2.5,
        log="a line",
        sign_in_site="sites/b",
    )
    assert await queue.settle([settlement]) == {REF}
    (sent,) = scripted.settled[0].settlements
    assert (sent.outcome, sent.done, sent.files_done, sent.bytes_done) == (pb.OUTCOME_RETURNED, b"\x05", 2, 14)
    assert (sent.failure.reason, sent.failure.party) == ("REASON", entry_pb2.PARTY_DESTINATION_SITE)
    assert (sent.failure.retryable, sent.failure.help, sent.log) == (True, "do", "a line")
    assert (sent.failures[0].raw_path, sent.failures[0].index) == (b"/d/odd\xff", 1)
    assert sent.failures[0].path == "/d/odd\N{REPLACEMENT CHARACTER}"
    assert sent.sign_in_site == "sites/b"
    assert sent.retry_after.ToTimedelta().total_seconds() == 2.5
    (result,) = pb.ChunkResults.FromString(zstandard.ZstdDecompressor().decompress(sent.results)).results
    assert (result.size_bytes, result.adopted) == (7, True)
    assert (result.checksum.algorithm, result.checksum.value) == ("adler32", "0bcb02fc")


async def test_an_unfit_settlement_is_told_from_an_unreachable_queue(services: Wired) -> None:
    scripted, queue, _ = services
    scripted.refusals = [
        (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELDS", {}),
        (grpc.StatusCode.UNAVAILABLE, "X", {}),
    ]
    with pytest.raises(SettlementRefused):
        await queue.settle([Settlement(REF, Outcome.COMPLETED)])
    with pytest.raises(QueueUnavailable):
        await queue.settle([Settlement(REF, Outcome.COMPLETED)])


CHUNK_WITH_DESTINATION = (
    ChunkItem("a\udcff", "new", 5, 6, 0o644),
    ChunkItem("b", "", 1, destination=DestinationFile(0, 0)),
)


async def test_batches_are_reported_again_from_the_first_after_a_break(services: Wired) -> None:
    scripted, queue, _ = services
    scripted.refusals = [(grpc.StatusCode.UNAVAILABLE, "RESTART", {})]
    batches = [
        Found("", "b", (CHUNK_WITH_DESTINATION,), ("b",), directories_done=1),
        Found("b", "c", failures=(ItemFailure(0, "/c", Problem("WHY", "")),), remove_directory=True),
    ]
    await queue.report(REF, batches)
    assert [request.cursor for request in scripted.reported[-2:]] == [b"b", b"c"]
    first, second = scripted.reported[-2:]
    assert packing.unpack_chunk(first.chunks[0]) == batches[0].chunks[0]
    assert (first.chunks[0].entry_count, first.chunks[0].total_bytes) == (2, 6)
    assert (first.after, list(first.directories), first.directories_done) == (b"", [b"b"], 1)
    assert (second.remove_directory, second.failures[0].failure.reason) == (True, "WHY")


async def test_a_listings_entries_travel_with_their_names_whole(services: Wired) -> None:
    scripted, queue, _ = services
    entries = (Entry("ä", "directory", 0, 9, 0o755), Entry("odd\udcff", "unlistable", problem=Problem("WHY", "words")))
    await queue.report(REF, [Found("", "odd\udcff", entries=entries)])
    first, second = scripted.reported[0].entries
    assert (first.name, first.raw_name, first.kind, first.mode) == ("ä", b"", entry_pb2.ENTRY_KIND_DIRECTORY, 0o755)
    assert first.modify_time.seconds == 9
    assert (second.raw_name, second.kind, second.failure.reason) == (b"odd\xff", entry_pb2.ENTRY_KIND_UNLISTABLE, "WHY")


@pytest.mark.row("W2")
async def test_a_report_for_a_lost_lease_is_told_as_such(services: Wired) -> None:
    scripted, queue, _ = services
    scripted.refusals = [(grpc.StatusCode.FAILED_PRECONDITION, "LEASE_LOST", {})]
    with pytest.raises(LeaseLost):
        await queue.report(REF, [Found("", "a")])


def credential(proxy: bytes = b"PEM") -> site_pb.SiteCredential:
    message = site_pb.SiteCredential(
        site="sites/a",
        endpoints=[site_pb.Endpoint(scheme="gsiftp", host="h", port=2811)],
        certificate_authorities=[site_pb.CertificateAuthority(certificate_pem="CA", namespaces=["/O=x/*"])],
        credential_id="c1",
        proxy_pem=proxy,
    )
    message.expire_time.FromSeconds(1_000)
    message.session_expire_time.FromSeconds(2_000)
    return message


async def test_credentials_come_whole_or_stay_as_they_are_held(services: Wired) -> None:
    scripted, _, sites = services
    scripted.credentials.sites.append(credential())
    (access,) = await sites.fetch("token", [])
    assert (access.proxy_pem, access.credential_id, access.endpoints[0].root_path) == (b"PEM", "c1", "/")
    assert access.authorities[0].namespaces == ("/O=x/*",)
    assert access.expires is not None
    assert access.expires.timestamp() == 1_000
    assert access.session_expires is not None
    assert access.session_expires.timestamp() == 2_000
    scripted.credentials.sites[0].CopyFrom(credential(b""))
    assert await sites.fetch("token", [access]) == [access]
    assert [list(request.have) for request in scripted.asked] == [[], ["c1"]]
    with pytest.raises(CredentialRefused):
        await sites.fetch("token", [replace(access, credential_id="another")])


@pytest.mark.row("J1")
async def test_what_a_site_demands_of_its_data_channels_comes_with_every_answer(services: Wired) -> None:
    scripted, _, sites = services
    scripted.credentials.sites.append(credential())
    (access,) = await sites.fetch("token", [])
    assert access.data_channel is None
    demanded: list[tuple[data_channel_pb2.DataChannel.ValueType, Protection]] = [
        (data_channel_pb2.DATA_CHANNEL_CLEAR, "clear"),
        (data_channel_pb2.DATA_CHANNEL_AUTHENTICATED, "authenticated"),
        (data_channel_pb2.DATA_CHANNEL_ENCRYPTED, "encrypted"),
    ]
    for value, protection in demanded:
        # Also where the credential itself is held already.
        scripted.credentials.sites[0].CopyFrom(credential(b""))
        scripted.credentials.sites[0].data_channel = value
        assert await sites.fetch("token", [access]) == [replace(access, data_channel=protection)]


@pytest.mark.row("J1")
async def test_a_demand_that_this_release_does_not_know_is_not_taken_for_none(services: Wired) -> None:
    scripted, _, sites = services
    later = site_pb.SiteCredential.FromString(credential().SerializeToString() + b"\x40\x09")  # data_channel: 9
    scripted.credentials.sites.append(later)
    with pytest.raises(CredentialRefused, match="does not know"):
        await sites.fetch("token", [])


@pytest.mark.row("S6")
@pytest.mark.parametrize(
    ("code", "reason", "error"),
    [
        (grpc.StatusCode.PERMISSION_DENIED, "LEASE_TOKEN_INVALID", CredentialRefused),
        (grpc.StatusCode.PERMISSION_DENIED, "LEASE_SUPERSEDED", CredentialRefused),
        (grpc.StatusCode.FAILED_PRECONDITION, "SITE_SESSION_EXPIRED", SiteSessionExpired),
        (grpc.StatusCode.UNAVAILABLE, "DOWN", SiteUnavailable),
    ],
)
async def test_each_refusal_of_credentials_is_told_apart(
    services: Wired, code: grpc.StatusCode, reason: str, error: type[Exception]
) -> None:
    scripted, _, sites = services
    scripted.refusals = [(code, reason, {"site": "sites/a"})]
    with pytest.raises(error) as refused:
        await sites.fetch("secret token", [])
    assert "secret" not in str(refused.value)


CHUNK = packing.pack_chunk([ChunkItem("f", "", 1, 2, 3)])
ITEMS = (ChunkItem("f", "", 1, 2, 3),)
WORKS: Sequence[tuple[dict[str, Any], Work]] = [
    (
        {
            "walk_copy": pb.WalkCopyWork(
                source_path=b"/a",
                destination_path=b"/b",
                root=True,
                recursive=True,
                cursor=b"c",
                path_below=b"x/y",
                overwrite=job_pb.OVERWRITE_POLICY_IF_DIFFERENT,
                options=job_pb.CopyOptions(
                    comparison=job_pb.COMPARISON_CHECKSUM,
                    verification=job_pb.VERIFICATION_SIZE,
                    checksum_algorithm="md5",
                    symlinks=job_pb.SYMLINK_POLICY_FOLLOW,
                    keep_modify_times=False,
                    include=["*.dat"],
                    exclude=["tmp"],
                    data_channel=data_channel_pb2.DATA_CHANNEL_ENCRYPTED,
                    delete_extraneous=True,
                    dry_run=True,
                ),
            )
        },
        WalkCopy(
            "/a",
            "/b",
            root=True,
            recursive=True,
            cursor="c",
            path_below="x/y",
            rules=CopyRules(
                overwrite="if_different",
                comparison="checksum",
                verification="size",
                algorithm="md5",
                follow_links=True,
                keep_times=False,
                filters=Filters(("*.dat",), ("tmp",)),
                protection="encrypted",
                delete_extraneous=True,
                dry_run=True,
            ),
        ),
    ),
    (
        {"walk_tree": pb.WalkTreeWork(path=b"/a", root=True, recursive=True, cursor=b"c", directories_too=True)},
        WalkTree("/a", root=True, recursive=True, cursor="c", directories_too=True),
    ),
    (
        {"change_mode_of_files": pb.ChangeModeOfFilesWork(directory=b"/a", chunk=CHUNK, done=b"\x01", mode=0o640)},
        ChangeModes("/a", ITEMS, b"\x01", 0o640),
    ),
    (
        {"change_mode_of_directory": pb.ChangeModeOfDirectoryWork(path=b"/a", mode=0o750)},
        ChangeModeOfDirectory("/a", 0o750),
    ),
    (
        {"checksum_files": pb.ChecksumFilesWork(directory=b"/a", chunk=CHUNK, done=b"\x01")},
        SumChunk("/a", ITEMS, b"\x01", "adler32"),
    ),
    (
        {"walk_remove": pb.WalkRemoveWork(path=b"/a", root=True, cursor=b"\xff")},
        WalkRemove("/a", root=True, recursive=False, cursor="\udcff"),
    ),
    (
        {"walk_remove": pb.WalkRemoveWork(path=b"/a", recursive=True, dry_run=True)},
        WalkRemove("/a", root=False, recursive=True, cursor="", dry_run=True),
    ),
    (
        {
            "copy_files": pb.CopyFilesWork(
                source_directory=b"/a",
                destination_directory=b"/b",
                chunk=CHUNK,
                done=b"\x01",
                overwrite=job_pb.OVERWRITE_POLICY_ALWAYS,
                make_parents=True,
            )
        },
        CopyChunk("/a", "/b", ITEMS, b"\x01", CopyRules("always"), make_parents=True),
    ),
    ({"remove_files": pb.RemoveFilesWork(directory=b"/a", chunk=CHUNK)}, RemoveChunk("/a", ITEMS, b"")),
    ({"remove_directory": pb.RemoveDirectoryWork(path=b"/a")}, RemoveOneDirectory("/a")),
    ({"make_directory": pb.MakeDirectoryWork(path=b"/a", parents=True)}, MakeOneDirectory("/a", parents=True)),
    ({"rename": pb.RenameWork(source_path=b"/a", destination_path=b"/b")}, RenameOne("/a", "/b")),
    ({"list": pb.ListWork(path=b"/a")}, ListOne("/a")),
    (
        {"remove_temporaries": pb.RemoveTemporariesWork(task=REF.task, fence=2, destination_directory=b"/a")},
        CleanUp(REF.task, 2, "/a"),
    ),
    (
        {"remove_temporaries": pb.RemoveTemporariesWork(task=REF.task, destination_directory=b"/a", chunk=CHUNK)},
        CleanUp(REF.task, 0, "/a", ITEMS),
    ),
]


@pytest.mark.parametrize(("message", "work"), WORKS, ids=[next(iter(message)) for message, _ in WORKS])
def test_every_kind_of_work_is_understood(message: dict[str, Any], work: Work) -> None:
    assert reading.lease_of(lease_message(**message), 3).work == work


def test_every_kind_of_work_that_the_contract_has_is_tested() -> None:
    assert {field.name for field in pb.Lease.DESCRIPTOR.oneofs_by_name["work"].fields} == {
        next(iter(m)) for m, _ in WORKS
    }


@given(st.lists(st.tuples(st.binary(max_size=255), st.integers(0, 2**62), st.integers(0, 0o7777)), max_size=100))
def test_chunks_keep_every_byte_and_stay_within_the_contracts_bound(files: list[tuple[bytes, int, int]]) -> None:
    items = tuple(ChunkItem(to_text(name), "", size, 0, mode) for name, size, mode in files)
    items = tuple(item for item in items if sum(i.size_bytes for i in items) < 2**63)
    packed = packing.pack_chunk(items)
    assert packing.unpack_chunk(packed) == items
    assert len(packed.payload) <= 262144


def test_a_payload_that_would_unpack_to_too_much_is_refused() -> None:
    bomb = zstandard.ZstdCompressor().compress(b"\0" * (9 << 20))
    with pytest.raises(ValueError, match="too large"):
        packing.unpack_chunk(pb.EntryChunk(payload=bomb))


def test_a_short_lease_keeps_most_of_itself() -> None:
    message = lease_message(list=pb.ListWork(path=b"/"))
    message.time_left.FromMilliseconds(400)
    left = reading.lease_of(message, 3).deadline - time.monotonic()
    assert 0.25 < left <= 0.3


def test_what_a_site_gave_is_not_shown() -> None:
    assert "SECRET" not in repr(SiteAccess("sites/a", (), (), "c", None, b"SECRET"))
