"""Streams of a real service on the chassis, through the gateway: messages as they come, ends, errors, and leaving."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, TypeVar

import pytest
import pytest_asyncio
from google.protobuf import json_format
from google.rpc import error_details_pb2, status_pb2
from wherry.queue.v1 import job_service_pb2 as pb
from wherry_chassis.errors import DatabaseUnavailable, DomainError, Kind
from wherry_chassis.revocations import Revocations
from wherry_testing.access_tokens import TokenMaker
from wherry_testing.chassis_service import Jobs, chassis_service
from wherry_testing.gateway import Edge
from wherry_testing.gateway_callers import Answer, ended, trailers_of
from wherry_testing.pki import TestPki
from wherry_testing.waiting import PATIENCE_S

pytestmark = pytest.mark.asyncio(loop_scope="module")

_WATCH = "/wherry.queue.v1.JobService/WatchJob"
_GET = "/wherry.queue.v1.JobService/GetJob"
_JOB = pb.WatchJobRequest(name="jobs/1").SerializeToString()
_WITHIN_S = PATIENCE_S
_T = TypeVar("_T")
_NDJSON, _EVENTS = "application/json", "text/event-stream"


class _Gone(DomainError):
    """There is no job {job}."""

    kind = Kind.NOT_FOUND
    reason = "JOB_NOT_FOUND"


class _Watched(Jobs):
    """A job service whose streams a test fills: a message goes out, an error ends them, None is the end."""

    def __init__(self) -> None:
        super().__init__()
        self.news: asyncio.Queue[pb.WatchJobResponse | Exception | None] = asyncio.Queue()

    async def WatchJob(  # noqa: N802  # the contract's name
        self, request: pb.WatchJobRequest, context: Any
    ) -> AsyncIterator[pb.WatchJobResponse]:
        waiting, ended = self.news, self.watch_ended  # of this test, though the stream may outlive it
        try:
            while (news := await waiting.get()) is not None:
                if isinstance(news, Exception):
                    raise news
                yield news
        finally:
            ended.set()

    def forget(self) -> None:
        """Begins anew."""
        self.callers, self.news, self.watch_ended = [], asyncio.Queue(), asyncio.Event()


class _Bench:
    """The gateway, and the job service behind it."""

    def __init__(self, edge: Edge, jobs: _Watched, address: str) -> None:
        self.edge = edge
        self.jobs = jobs
        self.address = address

    def send(self, *news: pb.WatchJobResponse | Exception | None) -> None:
        for it in news:
            self.jobs.news.put_nowait(it)

    async def whole(self, way: str) -> Answer:
        """Watches a job to the end of the stream."""
        headers = self.edge.bearer()
        if way == "grpc":
            return await asyncio.to_thread(self.edge.grpc, _WATCH, _JOB, headers)
        if way == "grpc-web":
            return await asyncio.to_thread(self.edge.grpc_web, _WATCH, _JOB, headers)
        return await asyncio.to_thread(self.edge.http.ask, "GET", "/v1/jobs/1:watch", None, {**headers, "accept": way})


@contextlib.asynccontextmanager
async def _aside(manager: contextlib.AbstractContextManager[_T]) -> AsyncIterator[_T]:
    """Opens and closes on a thread: the service that answers runs on this one."""
    value = await asyncio.to_thread(manager.__enter__)
    try:
        yield value
    finally:
        await asyncio.to_thread(manager.__exit__, None, None, None)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def standing(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[_Bench]:
    folder = tmp_path_factory.mktemp("streams")
    pki, tokens, jobs = TestPki(folder / "mesh"), TokenMaker(), _Watched.create()
    for name in ("gateway", "client", "queue"):
        pki.files(name)
    async with chassis_service(pki, folder, tokens.verifier(Revocations()), jobs=jobs) as address:
        edge = Edge(folder, queue=[address], pki=pki)
        edge.tokens, edge.published = tokens, [tokens]
        await asyncio.to_thread(edge.__enter__)
        try:
            yield _Bench(edge, jobs, address)
        finally:
            await asyncio.to_thread(edge.__exit__, None, None, None)


@pytest.fixture
def bench(standing: _Bench) -> _Bench:
    standing.jobs.forget()
    return standing


def _messages(answer: Answer, way: str) -> list[dict[str, Any]]:
    """Reads a stream in JSON."""
    assert answer.http_status == 200, answer
    kind = (answer.header("content-type") or "").partition(";")[0]
    if way == _EVENTS:
        assert kind == _EVENTS
        events = [event for event in answer.body.decode().split("\n\n") if event]
        assert all(event.startswith("data: ") for event in events), answer.body
        return [json.loads(event.removeprefix("data: ")) for event in events]
    assert answer.body.endswith(b"\n")
    return [json.loads(line) for line in answer.body.splitlines()]


def _job(name: str = "jobs/1", **fields: Any) -> pb.WatchJobResponse:
    return pb.WatchJobResponse(job=pb.Job(name=name), **fields)


@pytest.mark.row("J5")
@pytest.mark.parametrize("way", [_NDJSON, _EVENTS])
async def test_a_stream_in_json_is_one_message_a_line_or_an_event(bench: _Bench, way: str) -> None:
    awkward = 'jobs/1"\n\n\u2028data: x'
    bench.send(_job(), _job(awkward), _job(last=True), None)
    found = _messages(await bench.whole(way), way)
    assert [it["job"]["name"] for it in found] == ["jobs/1", awkward, "jobs/1"]
    assert [it["last"] for it in found] == [False, False, True]
    assert all("error" not in it for it in found)


@pytest.mark.row("D18")
@pytest.mark.parametrize("way", [_NDJSON, _EVENTS])
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_a_message_arrives_when_it_is_sent_and_not_when_the_stream_ends(
    bench: _Bench, way: str, encoding: str
) -> None:
    headers = {**bench.edge.bearer(), "accept": way, "accept-encoding": encoding}
    bench.send(_job("jobs/first"))
    async with _aside(bench.edge.http.lines("/v1/jobs/1:watch", headers)) as (response, lines):
        assert b"jobs/first" in await asyncio.to_thread(_next_message, lines)
        assert not bench.jobs.watch_ended.is_set()
        bench.send(_job("jobs/second"))
        assert b"jobs/second" in await asyncio.to_thread(_next_message, lines)
        assert response.status == 200


def _next_message(lines: Iterator[bytes]) -> bytes:
    return next(line for line in lines if line.strip())


@pytest.mark.row("J5")
@pytest.mark.parametrize("way", [_NDJSON, _EVENTS])
async def test_a_stream_in_json_that_breaks_says_so_in_its_last_message(bench: _Bench, way: str) -> None:
    bench.send(_job(), _Gone(job="jobs/1"))
    first, last = _messages(await bench.whole(way), way)
    assert (first["job"]["name"], first["last"]) == ("jobs/1", False)
    assert last["last"] is True
    assert "job" not in last
    status = json_format.ParseDict(last["error"], status_pb2.Status())
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (status.code, status.message, info.reason, info.domain) == (
        5,
        "There is no job jobs/1.",
        "JOB_NOT_FOUND",
        "wherry",
    )
    assert dict(info.metadata) == {"job": "jobs/1"}


@pytest.mark.parametrize("way", [_NDJSON, _EVENTS])
async def test_what_nobody_foresaw_is_an_incident_in_the_last_message(bench: _Bench, way: str) -> None:
    bench.send(_job(), RuntimeError("hunter2"))
    answer = await bench.whole(way)
    last = _messages(answer, way)[-1]
    assert last["error"]["details"][0]["reason"] == "INTERNAL"
    assert b"hunter2" not in answer.body


@pytest.mark.parametrize("way", ["grpc", "grpc-web"])
async def test_grpc_and_grpc_web_get_the_real_status_of_a_stream_that_breaks(bench: _Bench, way: str) -> None:
    bench.send(_job(), _Gone(job="jobs/1"))
    answer = await bench.whole(way)
    assert answer.refusal == ("NOT_FOUND", "JOB_NOT_FOUND")
    (only,) = answer.messages
    assert pb.WatchJobResponse.FromString(only) == _job()


@pytest.mark.parametrize("way", [_NDJSON, _EVENTS, "grpc", "grpc-web"])
async def test_an_error_before_the_first_message_is_an_error_like_any(bench: _Bench, way: str) -> None:
    bench.send(DatabaseUnavailable())
    answer = await bench.whole(way)
    assert answer.refusal == ("UNAVAILABLE", "DATABASE_UNAVAILABLE")
    assert answer.http_status == {"grpc": 0, "grpc-web": 200}.get(way, 503)


@pytest.mark.row("J7")
@pytest.mark.parametrize("way", [_NDJSON, _EVENTS, "grpc", "grpc-web"])
async def test_a_caller_who_leaves_ends_the_handler(bench: _Bench, way: str) -> None:
    headers = bench.edge.bearer()
    bench.send(_job())
    if way == "grpc":
        call = bench.edge.native.stream(_WATCH, _JOB, headers)
        await asyncio.to_thread(next, call)
        call.cancel()
    elif way == "grpc-web":
        async with _aside(bench.edge.http.web_stream(_WATCH, _JOB, headers)) as frames:
            await asyncio.to_thread(next, frames)
    else:
        async with _aside(bench.edge.http.lines("/v1/jobs/1:watch", {**headers, "accept": way})) as (_, lines):
            await asyncio.to_thread(next, lines)
    async with asyncio.timeout(_WITHIN_S):
        await bench.jobs.watch_ended.wait()


async def test_the_status_of_a_grpc_web_stream_comes_in_a_frame_behind_its_messages(bench: _Bench) -> None:
    bench.send(_job(), _Gone(job="jobs/1"))
    async with _aside(bench.edge.http.web_stream(_WATCH, _JOB, bench.edge.bearer())) as frames:
        flags, contents = zip(*await asyncio.to_thread(list, frames), strict=True)
    assert flags == (0, 0x80)
    assert trailers_of(contents[1])["grpc-status"] == "5"


async def test_who_only_says_that_it_was_json_is_not_fooled_by_a_message_in_place_of_the_status(bench: _Bench) -> None:
    """The header by which the chassis knows JSON is taken away at the edge."""
    bench.send(_job(), _Gone(job="jobs/1"))
    headers = {**bench.edge.bearer(), "x-envoy-original-path": "/v1/jobs/1:watch"}
    answer = await asyncio.to_thread(bench.edge.grpc, _WATCH, _JOB, headers)
    assert answer.refusal == ("NOT_FOUND", "JOB_NOT_FOUND")
    assert len(answer.messages) == 1


@pytest.mark.parametrize("way", ["grpc", "grpc-web"])
@pytest.mark.parametrize("garbage", [b"\xff\xff\xff", b"\x0a\x05ab", b"\x0a\x02\xff\xfe", b"\x12\x02\x0a\x00garbage"])
async def test_what_is_no_message_is_told_so_without_a_class_name(bench: _Bench, way: str, garbage: bytes) -> None:
    ask = bench.edge.grpc if way == "grpc" else bench.edge.grpc_web
    answer = await asyncio.to_thread(ask, _GET, garbage, bench.edge.bearer())
    assert answer.refusal == ("INVALID_ARGUMENT", "MALFORMED_REQUEST")
    shown = f"{answer.message} {answer.details} {answer.headers}"
    assert not [word for word in ("DecodeError", "Exception", "Traceback", "protobuf.message", "_pb2") if word in shown]


async def test_fields_are_held_against_their_rules_behind_the_gateway_too(bench: _Bench) -> None:
    body = {"priority": 77}
    answer = await asyncio.to_thread(bench.edge.json, "POST", "/v1/jobs", body, bench.edge.bearer())
    assert answer.refusal == ("INVALID_ARGUMENT", "INVALID_FIELDS")
    assert answer.http_status == 400
    assert "job.priority" in answer.message


@pytest.mark.row("A1")
@pytest.mark.parametrize("way", ["json", "grpc", "grpc-web"])
async def test_a_service_takes_where_a_call_comes_from_from_the_gateway(bench: _Bench, way: str) -> None:
    forged = {**bench.edge.bearer(), "x-forwarded-for": "203.0.113.9"}
    if way == "json":
        answer = await asyncio.to_thread(bench.edge.json, "GET", "/v1/jobs/1", None, forged)
    else:
        ask = bench.edge.grpc if way == "grpc" else bench.edge.grpc_web
        message = pb.GetJobRequest(name="jobs/1").SerializeToString()
        answer = await asyncio.to_thread(ask, _GET, message, forged)
    assert answer.code == "OK", answer
    (caller,) = bench.jobs.callers
    assert "203.0.113.9" not in caller.address
    assert caller.address.startswith(("ipv4:", "ipv6:"))
    assert caller.address.endswith(":0")  # from the header, which has no port
    assert caller.peer.roles == {"gateway"}
    assert caller.user_name == "users/alice"


@pytest.mark.row("A1")
@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ("203.0.113.9", "ipv4:203.0.113.9:0"),
        ("198.51.100.1, 203.0.113.9", "ipv4:203.0.113.9:0"),
        ("forged,2001:db8::7", "ipv6:[2001:db8::7]:0"),
    ],
)
async def test_only_the_gateways_word_counts_and_of_it_the_last(bench: _Bench, forwarded: str, address: str) -> None:
    headers = tuple({**bench.edge.bearer(), "x-forwarded-for": forwarded}.items())
    request = pb.GetJobRequest(name="jobs/1")
    for name in ("gateway", "client"):
        async with bench.edge.pki.channel(name, bench.address) as channel:
            method: Any = channel.unary_unary(
                _GET, request_serializer=pb.GetJobRequest.SerializeToString, response_deserializer=pb.Job.FromString
            )
            await method(request, metadata=headers, timeout=_WITHIN_S)
    of_gateway, of_client = bench.jobs.callers
    assert of_gateway.address == address
    assert of_client.address.startswith("ipv4:127.0.0.1:")


async def test_streams_end_whole_when_many_are_open(bench: _Bench) -> None:
    """More than one connection of HTTP/1.1 has room for, as a page with many tabs."""
    calls = [bench.edge.native.stream(_WATCH, _JOB, bench.edge.bearer()) for _ in range(30)]
    bench.send(*(_job() for _ in calls))
    bench.send(*(None for _ in calls))
    answers = await asyncio.gather(*(asyncio.to_thread(lambda it: ended(it, list(it)), call) for call in calls))
    assert {answer.code for answer in answers} == {"OK"}
    assert sum(len(answer.messages) for answer in answers) == 30
